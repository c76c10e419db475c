//! Drives `vqtok diff`: two outputs of the same images, of images that came, went, changed or failed,
//! of other settings, in another order, and of anybody's Parquet.

use crate::support::*;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

fn read(job: &Job, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(job.path(file)).unwrap()).unwrap()
}

/// A Parquet file of rows with two tokens each, twice.
fn write(job: &Job, file: &str, rows: &[(&str, [i32; 2])], keyed: bool) {
    let codes: ArrayRef =
        Arc::new(Int32Array::from_iter_values(rows.iter().flat_map(|row| [row.1, row.1].concat())));
    let field = Arc::new(Field::new("item", DataType::Int32, true));
    let tokens = FixedSizeListArray::try_new(field, 4, codes, None).unwrap();
    let keys = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let mut columns: Vec<(&str, ArrayRef)> = vec![("tokens", Arc::new(tokens))];
    if keyed {
        columns.push(("key", Arc::new(keys)));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(job.path(file)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn equal_outputs_are_equal_whatever_their_shards() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --model model --out a");
    job.expect(0, "tokenize images --model model --out b --shard-rows 2");
    let done = job.expect(0, "diff a b --json d.json");
    assert!(done.stdout.contains("9 rows: equal in both"), "{}", done.stdout);
    let said = read(&job, "d.json");
    assert_eq!((&said["equal"], &said["rows"]), (&json!(true), &json!([9, 9])));
    assert_eq!(said["settings"], json!([{"name": "shard_rows", "a": 4096, "b": 2}]));
    let shared = &said["shared"];
    assert_eq!((&shared["tokens"], &shared["equal_tokens"]), (&json!(144), &json!(144)));
    assert_eq!(shared["levels"][0]["places"][0]["differing"], json!(vec![0; 16]));
    assert_eq!(shared["by_share"][0], json!({"above": 0.0, "to": 0.0, "rows": 9}));
}

#[test]
fn images_that_came_went_changed_failed_and_were_mended_are_told_apart() {
    let job = Job::new(7);
    std::fs::write(job.path("images/broken.png"), b"no image").unwrap();
    std::fs::write(job.path("images/lost.png"), b"no image").unwrap();
    std::fs::write(job.path("images/never.png"), b"no image").unwrap();
    let job = job.trained();
    job.expect(1, "tokenize images --model model --out a --shard-rows 3");
    picture(40).save(job.path("images/broken.png")).unwrap();
    std::fs::remove_file(job.path("images/lost.png")).unwrap();
    std::fs::remove_file(job.path("images/cat/0001.bmp")).unwrap();
    picture(41).save(job.path("images/cat/new.png")).unwrap();
    picture(42).save(job.path("images/0000.png")).unwrap();
    std::fs::write(job.path("images/0006.ppm"), b"no image").unwrap();
    job.expect(1, "tokenize images --model model --out b --shard-rows 3");
    let done = job.expect(1, "diff a b --json d.json");
    let said = read(&job, "d.json");
    let keys = |name: &str| said[name]["keys"].clone();
    assert_eq!(keys("added"), json!(["cat/new.png"]));
    assert_eq!(keys("gone"), json!(["cat/0001.bmp"]));
    assert_eq!(keys("changed"), json!(["0000.png"]));
    assert_eq!(said["mended"][0]["key"], "broken.png");
    assert_eq!(said["broken"][0]["key"], "0006.ppm");
    assert!(said["broken"][0]["error"].as_str().unwrap().starts_with("decode: "));
    let counts = ["mended_count", "broken_count", "failed_in_both", "failed_in_one"];
    assert_eq!(
        counts.map(|name| said[name].clone()),
        [json!(1), json!(1), json!(1), json!([1, 0])]
    );
    assert_eq!((&said["shared"]["rows"], &said["settings"]), (&json!(5), &json!([])));
    assert_eq!(said["shared"]["differing_of_same_file"], 0);
    for line in [
        "5 rows in both: ",
        "1 image: in the second alone (cat/new.png)",
        "1 image: of another file than before (0000.png)",
        "1 image: given up in the second alone (0006.ppm)",
        "they differ: ",
    ] {
        assert!(done.stdout.contains(line), "{line}\n{}", done.stdout);
    }
}

#[test]
fn other_settings_models_and_views_are_said() {
    let job = Job::new(6).trained();
    std::fs::write(job.path("more.toml"), TINY_RECIPE.replace("codes = 16", "codes = 32")).unwrap();
    job.expect(0, "train images --model other --recipe more.toml");
    job.expect(0, "tokenize images --model model --out a");
    job.expect(0, "tokenize images --model model --out box --resize box");
    job.expect(0, "tokenize images --model model --out large --size 32");
    job.expect(0, "tokenize images --model model --out flips --views flips");
    job.expect(0, "tokenize images --model other --out fine");
    let said = |b: &str| {
        let done = job.expect(1, &format!("diff a {b} --json {b}.json --overwrite"));
        (done.stdout, read(&job, &format!("{b}.json")))
    };
    let (text, found) = said("box");
    assert!(text.contains("setting preprocessing.rule: bicubic | box"), "{text}");
    let shared = &found["shared"];
    let differing = shared["tokens"].as_u64().unwrap() - shared["equal_tokens"].as_u64().unwrap();
    let places = shared["levels"][0]["places"][0]["differing"].as_array().unwrap();
    assert!(differing > 0);
    assert_eq!(places.iter().map(|n| n.as_u64().unwrap()).sum::<u64>(), differing);
    let (text, found) = said("large");
    assert_eq!(
        (&found["shared"]["other_grid_rows"], &found["shared"]["tokens"]),
        (&json!(6), &json!(0))
    );
    assert!(text.contains("6 rows: grids of other sizes"), "{text}");
    let (_, found) = said("flips");
    assert_eq!(
        (&found["further_rows"], &found["shared"]["equal_rows"]),
        (&json!([0, 6]), &json!(6))
    );
    assert_eq!(found["added"]["count"], 0);
    let (text, found) = said("fine");
    assert!(text.contains("the codebooks have 16 and 32 codes"), "{text}");
    assert_eq!((&found["shared"]["rows"], &found["shared"]["tokens"]), (&json!(6), &json!(0)));
}

#[test]
fn foreign_rows_meet_in_any_order_and_duplicates_one_by_one() {
    let job = Job::new(0);
    let rows = [("b", [1, 2]), ("x", [3, 4]), ("a", [5, 6]), ("x", [7, 8]), ("c", [9, 10])];
    let mut turned = rows;
    turned.reverse();
    turned[2] = ("a", [5, 7]);
    write(&job, "a.parquet", &rows, true);
    write(&job, "b.parquet", &turned, true);
    write(&job, "numbers.parquet", &rows, false);
    write(&job, "shorter.parquet", &rows[..3], false);
    job.expect(0, "diff a.parquet a.parquet");
    job.expect(1, "diff a.parquet b.parquet --json d.json");
    let found = read(&job, "d.json");
    let shared = &found["shared"];
    // Of the two rows called x, the first of one stands against the first of the other.
    assert_eq!((&shared["rows"], &shared["equal_rows"]), (&json!(5), &json!(2)));
    assert_eq!((&shared["tokens"], &shared["equal_tokens"]), (&json!(20), &json!(10)));
    assert_eq!(shared["worst"][0]["key"], "x");
    let done = job.expect(1, "diff numbers.parquet shorter.parquet --json n.json");
    assert!(done.stdout.contains("rows without keys are compared by their numbers"));
    let found = read(&job, "n.json");
    assert_eq!(found["gone"], json!({"count": 2, "keys": ["3", "4"]}));
    job.run("diff a.parquet nowhere").assert_one_line(&["nowhere"]);
}

#[test]
fn its_description_names_what_it_holds() {
    let job = Job::new(4).trained();
    job.expect(0, "tokenize images --model model --out a");
    picture(9).save(job.path("images/0000.png")).unwrap();
    std::fs::write(job.path("images/0003.qoi"), b"no image").unwrap();
    job.expect(1, "tokenize images --model model --out b --size 16 --resize box");
    job.expect(1, "diff a b --json d.json");
    let schema: Value = serde_json::from_str(include_str!("../../schemas/diff.v1.json")).unwrap();
    let (found, defs) = (read(&job, "d.json"), &schema["$defs"]);
    let shared = &found["shared"];
    for (value, described) in [
        (&found, &schema),
        (&found["changed"], &defs["images"]),
        (&found["broken"][0], &defs["failure"]),
        (&found["settings"][0], &defs["setting"]),
        (shared, &defs["shared"]),
        (&shared["levels"][0], &defs["level"]),
        (&shared["levels"][0]["places"][0], &defs["place"]),
        (&shared["by_share"][0], &defs["by_share"]),
        (&shared["worst"][0], &defs["worst"]),
    ] {
        let names: BTreeSet<&String> = value.as_object().unwrap().keys().collect();
        let properties = described["properties"].as_object().unwrap();
        assert_eq!(names, properties.keys().collect());
        assert_eq!(described["required"].as_array().unwrap().len(), properties.len());
    }
    assert_eq!(found["schema"], schema["schema"]);
}
