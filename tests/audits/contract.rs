//! Drives what `vqtok audit` and `vqtok diff` promise whatever they find: no input is lost, rows that
//! can't be read count, an exit code has a reason, the JSON file is as described. Must not know: how
//! anything is found.

use crate::support::weights;
use crate::support::*;

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Int32Array, RecordBatch, StringArray, StructArray,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

/// Nine images as `A` and `B`, of a model `model`.
fn two_outputs() -> Job {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --model model --out A");
    job.expect(0, "tokenize images --model model --out B");
    job
}

fn read(job: &Job, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(job.path(file)).unwrap()).unwrap()
}

fn parquet(job: &Job, file: &str, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, column)| (name, column, true)),
    );
    let (batch, file) = (batch.unwrap(), std::fs::File::create(job.path(file)).unwrap());
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Rows of four tokens each.
fn fours(codes: Vec<i32>) -> ArrayRef {
    let field = Arc::new(Field::new("item", DataType::Int32, true));
    let codes: ArrayRef = Arc::new(Int32Array::from(codes));
    Arc::new(FixedSizeListArray::try_new(field, 4, codes, None).unwrap())
}

fn keys(keys: Vec<Option<&str>>) -> ArrayRef {
    Arc::new(StringArray::from(keys))
}

#[test]
fn no_result_takes_the_place_of_what_is_read() {
    let job = two_outputs();
    std::fs::copy(job.path("A/tokens/part-00000.parquet"), job.path("x.parquet")).unwrap();
    std::os::unix::fs::symlink("A", job.path("link")).unwrap();
    std::os::unix::fs::symlink("images/0000.png", job.path("linked.png")).unwrap();
    job.run("audit A --model model --save-index i.idx");
    let all = job.files(".");
    let weights = job.files("model").into_iter().map(|(name, _)| name);
    let weights = weights.max_by_key(|name| name.ends_with(".safetensors")).unwrap();
    let on_model = format!("audit A --model model --json model/{weights}");
    for (line, words) in [
        ("audit A --json A/plan.parquet", ["--json A/plan.parquet", "a file of the input A"]),
        ("audit A --json ./A/../A/dataset.json", ["--json", "a file of the input A"]),
        ("audit A --remove-list link/codebook.parquet", ["--remove-list", "a file of the input A"]),
        ("audit A/tokens --json A/plan.parquet", ["--json", "a file of the input A/tokens"]),
        ("audit A --against B --json B/plan-00001.parquet", ["--json", "a file of the input B"]),
        ("audit A --json A/tokens/part-00000.parquet", ["--json", "a file of the input A"]),
        ("audit x.parquet --json ./x.parquet", ["--json", "the input x.parquet itself"]),
        ("diff A B --json B/plan.parquet", ["--json", "a file of the input B"]),
        ("diff A x.parquet --json x.parquet", ["--json", "the input x.parquet itself"]),
        (&on_model, ["--json", "a file of the model model"]),
        ("audit A --source images --json images/0000.png", ["--json", "of the --source images"]),
        ("audit A --source linked.png --json images/0000.png", ["--json", "--source linked.png"]),
        (
            "audit A --model model --source images --code-pictures images/0000.png",
            ["--code-pictures", "of the --source images"],
        ),
        (
            "audit A --model model --against i.idx --save-index ./i.idx",
            ["--save-index ./i.idx", "the input i.idx itself"],
        ),
        ("audit A --json new --remove-list ./new", ["--remove-list ./new", "--json is written"]),
        ("audit A --json A/new --remove-list link/new", ["--remove-list", "--json is written"]),
        ("audit A --json -", ["--json -", "./-"]),
        ("audit A --remove-list -", ["--remove-list -", "./-"]),
        ("diff A B --json -", ["--json -", "./-"]),
    ] {
        for flag in ["", " --overwrite"] {
            let done = job.run(&format!("{line}{flag}"));
            assert_eq!(done.code, 2, "{line}{flag}: {}", done.stderr);
            done.assert_one_line(&words);
            assert!(!done.stderr.contains("or --overwrite"), "{}", done.stderr);
        }
    }
    assert!(job.files(".") == all, "a file has changed");
    // Beside what is read there is room, and a comparison's own file gives way to the next.
    job.run("audit A --source images --json A/audit.json --html page.html");
    for _ in 0..2 {
        job.expect(0, "diff A B --json model/diff.json");
    }
    job.expect(0, "verify A");
}

#[test]
fn a_list_of_its_own_gives_way_and_a_users_file_does_not() {
    let job = two_outputs();
    std::fs::copy(job.path("images/0000.png"), job.path("images/dog/copy.png")).unwrap();
    job.expect(0, "tokenize images --model model --out C");
    for _ in 0..2 {
        job.expect(1, "audit C --remove-list gone.txt");
        let gone = std::fs::read_to_string(job.path("gone.txt")).unwrap();
        assert_eq!(gone, "dog/copy.png\n");
    }
    for mine in ["dog/copy.png\nbuy milk\n", "dog/copy.png", "b\na\n"] {
        std::fs::write(job.path("gone.txt"), mine).unwrap();
        let done = job.run("audit C --remove-list gone.txt");
        done.assert_one_line(&["gone.txt", "--overwrite"]);
        assert_eq!(std::fs::read_to_string(job.path("gone.txt")).unwrap(), mine);
    }
    job.expect(1, "audit C --remove-list gone.txt --overwrite");
    let mut empty = job.command("audit C");
    let done = empty.args(["--keep", ""]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.code() == Some(2) && said.contains("--keep is empty"), "{said}");
}

#[test]
fn rows_that_cannot_be_read_count_and_are_said() {
    let job = Job::new(0);
    let side = |sides: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(sides)) };
    let columns = vec![
        ("key", keys(vec![Some("a"), None, Some("c")])),
        ("tokens", fours((0..12).collect())),
        ("grid_height", side(vec![2, 2, 3])),
        ("grid_width", side(vec![2, 2, 3])),
    ];
    parquet(&job, "odd.parquet", columns);
    let done = job.expect(1, "audit odd.parquet --fail-on failures --json odd.json");
    assert!(done.stdout.contains("2 rows: can't be read, and in no other number"));
    let (found, unreadable) = (read(&job, "odd.json"), "unreadable");
    assert_eq!((&found["images"], &found["failures"][unreadable]["rows"]), (&json!(1), &json!(2)));
    let list = found["failures"][unreadable]["list"].as_array().unwrap();
    let holds = |at: usize, words: &str| list[at].as_str().unwrap().contains(words);
    assert!(holds(0, "row 1: its key is missing (null)"), "{list:?}");
    assert!(holds(1, "row 2 ('c'): has 4 tokens for a grid of 3 x 3"), "{list:?}");
    job.expect(0, "audit odd.parquet --fail-on duplicates");
    // Neither command can be told another column or grid, so that they don't advise it.
    parquet(&job, "other.parquet", vec![("codes", fours(vec![0; 4]))]);
    let label = StringArray::from(vec!["x"]);
    let label = (Arc::new(Field::new("name", DataType::Utf8, true)), Arc::new(label) as ArrayRef);
    let label: ArrayRef = Arc::new(StructArray::from(vec![label]));
    parquet(&job, "label.parquet", vec![("tokens", fours(vec![0; 4])), ("label", label.clone())]);
    parquet(&job, "struct.parquet", vec![("tokens", label)]);
    job.expect(0, "audit label.parquet --fail-on failures");
    for line in ["audit", "diff other.parquet"] {
        let done = job.run(&format!("{line} other.parquet"));
        done.assert_one_line(&["no column 'tokens' (it has: codes)"]);
        assert!(!done.stderr.contains("--column"), "{}", done.stderr);
        let done = job.run(&format!("{line} struct.parquet"));
        assert!(!done.stderr.contains("--column"), "{}", done.stderr);
    }
}

#[test]
fn a_cut_shard_and_a_foreign_code_count_as_unreadable() {
    let job = two_outputs();
    job.expect(0, "tokenize images --model model --out C --shard-rows 3");
    let shard = job.path("C/tokens/part-00001.parquet");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() - 40]).unwrap();
    let done = job.expect(1, "audit C --fail-on failures --json C.json --html C.html");
    assert!(done.stdout.contains(": can't be read"), "{}", done.stdout);
    let unreadable = &read(&job, "C.json")["failures"]["unreadable"];
    let list = unreadable["list"].to_string();
    assert!(unreadable["rows"].as_u64() > Some(0) && list.contains("part-00001.parquet"), "{list}");
    let page = std::fs::read_to_string(job.path("C.html")).unwrap();
    assert!(
        page.contains("can't be used, and are in no number here") && page.contains("id=unusable")
    );
    // What says nothing of its codes is held to those of the model.
    let bare = vec![
        ("key", keys(vec![Some("a"), Some("b")])),
        ("tokens", fours(vec![1, 2, 3, 4, 1, 2, 3, 600])),
    ];
    parquet(&job, "bare.parquet", bare);
    job.expect(0, "audit bare.parquet --fail-on failures");
    job.expect(1, "audit bare.parquet --model model --fail-on failures --json bare.json");
    let unreadable = &read(&job, "bare.json")["failures"]["unreadable"];
    let list = unreadable["list"].to_string();
    assert!(unreadable["rows"] == 1 && list.contains("('b')") && list.contains("600"), "{list}");
    let unreadable = &read(&job, "C.json")["failures"]["unreadable"];
    // Nor does a comparison with it pass for whole.
    let done = job.expect(1, "audit B --against C --fail-on failures --json BC.json");
    assert!(done.stdout.contains(": can't be read in the other output"), "{}", done.stdout);
    let failures = &read(&job, "BC.json")["failures"];
    assert_eq!(
        (&failures["unreadable"]["rows"], &failures["unreadable_against"]),
        (&json!(0), unreadable)
    );
}

#[test]
fn an_exit_code_has_a_reason_on_stdout_and_as_an_event() {
    let job = Job::new(9);
    std::fs::write(job.path("images/broken.png"), b"no image").unwrap();
    let job = job.trained();
    job.expect(1, "tokenize images --model model --out A");
    let why = "1 image: failed to be tokenized (1 in decode)";
    for line in ["audit A", "audit A --fail-on failures"] {
        let done = job.expect(1, line);
        assert!(done.stdout.lines().any(|line| line == why), "{}", done.stdout);
        assert!(!done.stderr.contains("failed to be tokenized"), "{}", done.stderr);
    }
    let events = job.expect(1, "audit A --fail-on failures --events").events("finding");
    assert!(events.iter().any(|event| event["message"] == why), "{events:?}");
    let outliers = job.run("audit A --model model --fail-on outliers");
    assert_eq!(outliers.code == 1, outliers.stdout.contains(": least like the others"));
}

#[test]
fn images_that_leak_are_counted_once_and_keys_that_both_have_are_no_news() {
    let job = two_outputs();
    for copy in ["one.png", "two.png"] {
        std::fs::create_dir_all(job.path("test")).unwrap();
        std::fs::copy(job.path("images/0000.png"), job.path("test").join(copy)).unwrap();
    }
    job.expect(0, "tokenize test --model model --out T");
    let done = job.expect(1, "audit A --against T --fail-on leaks --json A.json --html A.html");
    assert!(done.stdout.contains("1 image: in the other output as well"), "{}", done.stdout);
    assert_eq!(read(&job, "A.json")["leaks"].as_array().unwrap().len(), 2);
    let page = std::fs::read_to_string(job.path("A.html")).unwrap();
    assert!(page.contains("1 image is in T as well."));
    let copies = job.expect(1, "audit T").stdout;
    assert!(copies.contains("2 images in 1 group: the same file"), "{copies}");
    let twice = vec![Some("a"), Some("a"), Some("b")];
    parquet(&job, "twice.parquet", vec![("key", keys(twice)), ("tokens", fours(vec![1; 12]))]);
    let once = vec![Some("a"), Some("b")];
    parquet(&job, "once.parquet", vec![("key", keys(once)), ("tokens", fours(vec![1; 8]))]);
    let done = job.expect(1, "diff once.parquet twice.parquet --json d.json");
    let due = "1 row: further rows of keys that both have, in the second";
    assert!(done.stdout.contains(due), "{}", done.stdout);
    let found = read(&job, "d.json");
    assert_eq!((&found["further_rows"], &found["added"]["count"]), (&json!([0, 1]), &json!(0)));
}

#[test]
fn what_was_not_compared_has_no_threshold_and_what_is_padded_was_not_enlarged() {
    let job = two_outputs();
    std::fs::create_dir(job.path("alone")).unwrap();
    std::fs::copy(job.path("images/0000.png"), job.path("alone/a.png")).unwrap();
    job.expect(0, "tokenize alone --model model --out alone-out");
    for (line, told) in
        [("A", false), ("alone-out --model model", false), ("A --model model", true)]
    {
        let done = job.run(&format!("audit {line} --json t.json"));
        let found = read(&job, "t.json");
        assert_eq!(found["threshold"].is_number(), told, "{line}");
        assert_eq!(found["expected_false_pairs"].is_number(), told, "{line}");
        assert_eq!(done.stdout.contains("similarity from"), told, "{}", done.stdout);
        let near = done.stdout.contains("nearly the same");
        assert_eq!(done.stdout.contains("are chance"), told && near, "{}", done.stdout);
    }
    for (resize, enlarged) in [("pad", false), ("bicubic", true)] {
        let line =
            format!("tokenize images --model model --out {resize} --size 64 --resize {resize}");
        job.expect(0, &line);
        let done = job.run(&format!("audit {resize} --json t.json"));
        assert_eq!(done.stdout.contains("enlarged"), enlarged, "{}", done.stdout);
        assert_eq!(read(&job, "t.json")["sizes"]["upscaled"]["count"] != 0, enlarged);
    }
}

#[test]
fn the_json_file_is_as_its_description_says() {
    let job = Job::new(9);
    std::fs::write(job.path("images/broken.png"), b"no image").unwrap();
    std::fs::copy(job.path("images/0000.png"), job.path("images/cat/0000.png")).unwrap();
    let blank = image::RgbImage::from_pixel(32, 32, image::Rgb([9; 3]));
    blank.save(job.path("images/blank.png")).unwrap();
    blank.save(job.path("images/tiny.png")).unwrap();
    let job = job.trained();
    job.expect(1, "tokenize images --model model --out A");
    job.expect(1, "tokenize images --model model --out B --shard-rows 3");
    let schema: Value = serde_json::from_str(include_str!("../../schemas/audit.v1.json")).unwrap();
    let line =
        "audit A --model model --against B --source images --precision-audit cpu --html p.html";
    let mut found = Value::Null;
    for line in [line, "audit A --against B"] {
        job.run(&format!("{line} --json found.json"));
        found = read(&job, "found.json");
        check(&found, &schema, &schema, "audit");
        let with_model = line.contains("--model");
        let parts = [&found["precision"], &found["reconstructions"], &found["code_pictures"]];
        assert_eq!(parts.map(Value::is_object), [with_model; 3]);
    }
    for name in ["duplicates", "leaks"] {
        assert!(!found[name].as_array().unwrap().is_empty(), "{name}");
    }
    // What the description must refuse, it refuses.
    found["duplicates"][0]["keep"] = json!(7);
    assert!(std::panic::catch_unwind(|| check(&found, &schema, &schema, "audit")).is_err());
    described(&schema);
}

#[test]
fn bits_are_as_the_description_says() {
    let job = Job::new(9);
    let model = weights::safetensors(&weights::infinity(40, 7));
    std::fs::write(job.path("m.safetensors"), model).unwrap();
    job.expect(0, "tokenize images --model m.safetensors --scales 1x1,8x8 --size 16 --out A");
    job.run("audit A --against A --json found.json");
    let schema: Value = serde_json::from_str(include_str!("../../schemas/audit.v1.json")).unwrap();
    let found = read(&job, "found.json");
    check(&found, &schema, &schema, "audit");
    assert_eq!(found["bits"][0]["ones"].as_array().unwrap().len(), 40);
}

/// Asserts that a value is as a schema says, as far as our schemas say anything.
fn check(value: &Value, schema: &Value, root: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/$defs/").unwrap();
        check(value, &root["$defs"][name], root, at);
    }
    if let Some(either) = schema["anyOf"].as_array() {
        let null = either.iter().any(|one| one["type"] == "null");
        let other = either.iter().find(|one| one["type"] != "null").unwrap();
        if !(null && value.is_null()) {
            check(value, other, root, at);
        }
    }
    if !schema["const"].is_null() {
        assert_eq!(value, &schema["const"], "{at}");
    }
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{at}: {value}");
    }
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null => return,
        kind => vec![kind.clone()],
    };
    assert!(kinds.iter().any(|kind| is(value, kind.as_str().unwrap())), "{at}: {value}");
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        check(item, &schema["items"], root, &format!("{at}[{i}]"));
    }
    let Some(members) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(members.contains_key(name.as_str().unwrap()), "{at} lacks {name}");
    }
    for (name, member) in members {
        let known = schema["properties"].get(name);
        let known = known.or(Some(&schema["additionalProperties"]).filter(|any| any.is_object()));
        let known = known.unwrap_or_else(|| panic!("{at}: {name} isn't described"));
        check(member, known, root, &format!("{at}.{name}"));
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    }
}

/// Asserts that every name is required and described.
fn described(schema: &Value) {
    for part in schema["$defs"].as_object().unwrap().values().chain([schema]) {
        let properties = part["properties"].as_object().unwrap();
        assert_eq!(part["required"].as_array().unwrap().len(), properties.len());
        for (name, property) in properties {
            let words = property["description"].as_str().unwrap_or_else(|| panic!("{name}"));
            assert!(words.len() > 3, "{name}: {words}");
        }
    }
}
