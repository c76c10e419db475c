//! Drives the binary over `tests/data/v1`, an output of the last version that wrote `tokens.v1`: it is
//! read, mended and continued byte for byte. Beside it, what an output of today has instead.
//! Must not know: how any of it is done.

use crate::support::*;

use std::fs;
use std::path::Path;

use sha2::Digest;

use vqtok::internals::audit::TokenFile;

/// Where the images lay that the output was made of.
const PLANNED: &str = "/data/v1/images";

/// The output and its model, with the images that it was made of: 24, of which one is cut short.
fn old() -> Job {
    let job = Job::new(0);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/v1");
    copy(&data, &job.path(""));
    for index in 0..24_usize {
        let folder = job.path(["images", "images/cat", "images/dog"][index % 3]);
        fs::create_dir_all(&folder).unwrap();
        let bytes = picture_file(index);
        let whole = if index == 7 { &bytes[..40] } else { &bytes };
        fs::write(folder.join(format!("{index:04}.ppm")), whole).unwrap();
    }
    job
}

/// A PPM file, made without any encoder: its bytes are part of what was written.
fn picture_file(index: usize) -> Vec<u8> {
    let (width, height) = (16 + index * 7 % 25, 16 + index * 11 % 25);
    let mut bytes = format!("P6\n{width} {height}\n255\n").into_bytes();
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let pixel = |c| x * (1 + index % 5 + c) * 3 + y * (1 + index % 7) * 2 + index * 29 + c * 70;
        bytes.extend((0..3).map(|c| (pixel(c) % 256) as u8));
    }
    bytes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

/// The schema words of an output's shards, each with what stands behind the column `label`.
fn shards(job: &Job, out: &str) -> Vec<(String, String)> {
    let files = job.files(&format!("{out}/tokens")).into_iter();
    let shard = |(name, _): (String, _)| {
        let file = fs::File::open(job.path(&format!("{out}/tokens/{name}"))).unwrap();
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
        let schema = reader.unwrap().schema().clone();
        let behind = schema.field(schema.index_of("label").unwrap() + 1).name().clone();
        (schema.metadata()["vqtok.schema"].clone(), behind)
    };
    files.map(shard).collect()
}

fn v1(count: usize) -> Vec<(String, String)> {
    vec![("tokens.v1".to_string(), "caption".to_string()); count]
}

fn v2(count: usize) -> Vec<(String, String)> {
    vec![("tokens.v2".to_string(), "label_id".to_string()); count]
}

fn classes(job: &Job, out: &str) -> serde_json::Value {
    let text = fs::read(job.path(out).join("dataset.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&text).unwrap()["classes"].take()
}

#[test]
fn an_old_output_is_whole_and_read() {
    let job = old();
    job.expect(0, "verify out");
    assert_eq!((shards(&job, "out"), classes(&job, "out")), (v1(3), serde_json::Value::Null));
    let done = job.expect(0, "decode out --model model --out png --json");
    assert_eq!(done.events("decoded")[0]["decoded"], 23);
    job.expect(0, "export out --to bin --out ids");
    job.expect(0, "export out --to mds --out mds");
    job.expect(0, "report out --out page.html");
    job.expect(0, "inspect out");
    // Its digests are found, as texts though they are.
    let done = job.expect(0, "diff out out");
    assert!(!done.stdout.contains("without the digest"), "{}", done.stdout);
    let rows = TokenFile::open(&job.path("out")).unwrap().map(Result::unwrap);
    assert_eq!(rows.filter(|row| row.levels[0].codes.len() == 16).count(), 23);
}

#[test]
fn lost_parts_of_an_old_output_are_made_again_as_they_were() {
    let job = old();
    copy(&job.path("out"), &job.path("whole"));
    let repair = format!("repair out --model model --moved {PLANNED}=images");
    for lost in ["tokens/part-00001.parquet", "plan.parquet", "dataset.json"] {
        fs::remove_file(job.path("out").join(lost)).unwrap();
        job.expect(1, "verify out");
        job.expect(1, &repair); // An image has failed.
        job.assert_same("out", "whole");
    }
}

#[test]
fn an_old_output_goes_on_as_it_was_begun() {
    let job = old();
    copy(&job.path("out"), &job.path("whole"));
    let line = "tokenize images --model model --out out --shard-rows 10 --json";
    // Interrupted; and with its plan lost, which the same images give again.
    for lost in [&["part-00000", "part-00002"][..], &["part-00001"]] {
        for shard in lost {
            fs::remove_file(job.path(&format!("out/tokens/{shard}.parquet"))).unwrap();
        }
        fs::remove_file(job.path("out/dataset.json")).unwrap();
        fs::remove_file(job.path("out/codebook.parquet")).unwrap();
        let done = job.expect(1, line);
        assert_eq!(done.events("plan")[0]["classes"], serde_json::Value::Null);
        job.assert_same("out", "whole");
    }
    // What is appended is of the same kind: readers want one schema in a folder.
    job.expect(1, &format!("{line} --retry-failed"));
    job.assert_same("out", "whole");
    fs::create_dir_all(job.path("more/emu")).unwrap();
    fs::write(job.path("more/emu/a.ppm"), picture_file(30)).unwrap();
    job.expect(1, &format!("{} --append", line.replace("images", "more")));
    assert_eq!((shards(&job, "out"), classes(&job, "out")), (v1(4), serde_json::Value::Null));
    job.expect(0, "verify out");
}

#[test]
fn a_plan_that_was_lost_with_its_shards_there_comes_back_of_their_kind() {
    let job = old();
    job.expect(1, "tokenize images --model model --out new --shard-rows 10");
    assert_eq!(shards(&job, "new"), v2(3));
    assert_eq!(classes(&job, "new"), serde_json::json!(["cat", "dog"]));
    job.expect(0, "verify new");
    copy(&job.path("new"), &job.path("whole"));
    fs::remove_file(job.path("new/plan.parquet")).unwrap();
    job.expect(1, "repair new --model model");
    job.assert_same("new", "whole");
    fs::remove_file(job.path("new/plan.parquet")).unwrap();
    fs::remove_file(job.path("new/tokens/part-00000.parquet")).unwrap();
    job.expect(1, "tokenize images --model model --out new --shard-rows 10");
    job.assert_same("new", "whole");
}

#[test]
fn ids_of_classes_stay_when_others_come() {
    let job = old();
    let line = "tokenize images --model model --out new --shard-rows 10 --json";
    assert_eq!(job.expect(1, line).events("plan")[0]["classes"], 2);
    for (folder, index) in [("emu", 30), ("ant", 31), ("dog", 32)] {
        fs::create_dir_all(job.path(&format!("images/{folder}"))).unwrap();
        let file = job.path(&format!("images/{folder}/{index}.ppm"));
        fs::write(file, picture_file(index)).unwrap();
    }
    assert_eq!(job.expect(1, &format!("{line} --append")).events("plan")[0]["classes"], 4);
    assert_eq!(classes(&job, "new"), serde_json::json!(["cat", "dog", "ant", "emu"]));
    assert_eq!(shards(&job, "new"), v2(4));
    job.expect(0, "verify new");
    job.expect(0, "export new --to webdataset --out tars");
    let ids: serde_json::Value =
        serde_json::from_slice(&fs::read(job.path("tars/labels.json")).unwrap()).unwrap();
    assert_eq!(ids, serde_json::json!({"cat": 0, "dog": 1, "ant": 2, "emu": 3}));
    let whole = job.files("new");
    // The appended plan and shard, lost together with the first shard.
    for lost in ["plan-00001.parquet", "tokens/part-00000.parquet"] {
        fs::remove_file(job.path("new").join(lost)).unwrap();
    }
    job.expect(1, "repair new --model model");
    assert!(job.files("new") == whole, "what was made again differs");
}

#[test]
fn too_many_classes_have_no_ids_and_that_is_said() {
    let job = old();
    let names = (0..65_537).map(|n| {
        format!("{{\"file_name\":\"images/0000.ppm\",\"key\":\"{n}\",\"label\":\"c{n}\"}}\n")
    });
    fs::write(job.path("list.jsonl"), names.collect::<String>()).unwrap();
    let plan = job.expect(
        0,
        "tokenize list.jsonl --model model --out out2 --shard-rows 65536 --partition 1/2 --json",
    );
    assert_eq!(plan.events("too-many-classes").len(), 1);
    assert_eq!(plan.events("plan")[0]["classes"], serde_json::Value::Null);
    assert_eq!(shards(&job, "out2"), v2(1));
    job.expect(0, "verify out2 --partial");
}

#[test]
fn an_output_of_a_later_version_is_left_to_it() {
    let job = old();
    let path = job.path("out/dataset.json");
    let now = fs::read_to_string(&path).unwrap().replace("\"dataset.v1\"", "\"dataset.v9\"");
    let body = &now[..now.rfind("  \"self_sha256\"").unwrap()];
    let digest = sha2::Sha256::digest(body);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(&path, format!("{body}  \"self_sha256\": \"{digest}\"\n}}\n")).unwrap();
    let before = job.files("out");
    for line in ["verify out", "repair out --model model"] {
        job.expect(2, line).assert_one_line(&["dataset.json", "'dataset.v9'", "use that one"]);
    }
    assert_eq!(job.files("out"), before);
}
