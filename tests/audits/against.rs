//! Drives `vqtok audit` over two outputs that aren't quite comparable: other labels, another model, rows
//! that don't say their sizes, a source without their images.

use crate::support::*;

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

fn read(job: &Job, file: &str) -> Value {
    serde_json::from_slice(&std::fs::read(job.path(file)).unwrap()).unwrap()
}

/// Rows of keys and tokens, with sizes where they are told.
fn rows(job: &Job, file: &str, count: i32, sized: bool) {
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let codes = (0..count).flat_map(|row| (0..64).map(move |at| (row * 41 + at * at * 7) % 256));
    let codes: ArrayRef = Arc::new(Int32Array::from_iter_values(codes));
    let keys = StringArray::from_iter_values((0..count).map(|row| format!("{row}.png")));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(keys)),
        ("tokens", Arc::new(FixedSizeListArray::try_new(item, 64, codes, None).unwrap())),
    ];
    for side in ["image_width", "image_height"].into_iter().filter(|_| sized) {
        columns.push((side, Arc::new(Int32Array::from(vec![32; count as usize]))));
    }
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(job.path(file)).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_leak_under_another_label_is_a_label_conflict() {
    let job = Job::new(9).trained();
    std::fs::create_dir_all(job.path("test/dog")).unwrap();
    std::fs::copy(job.path("images/cat/0001.bmp"), job.path("test/dog/new.bmp")).unwrap();
    job.expect(0, "tokenize images --model model --out out");
    job.expect(0, "tokenize test --model model --out test-out");
    let line = "audit out --against test-out --json a.json --overwrite --fail-on label-conflicts";
    let done = job.expect(1, line);
    assert!(done.stdout.contains("1 leak: under another label"), "{}", done.stdout);
    assert_eq!(read(&job, "a.json")["leaks"][0]["label_conflict"], true);
    // The same under the same label is a leak alone.
    std::fs::create_dir_all(job.path("alike/cat")).unwrap();
    std::fs::copy(job.path("images/cat/0001.bmp"), job.path("alike/cat/new.bmp")).unwrap();
    job.expect(0, "tokenize alike --model model --out alike-out");
    let alike = line.replace("test-out", "alike-out");
    job.expect(0, &alike);
    job.expect(1, &alike.replace("label-conflicts", "leaks"));
}

#[test]
fn codes_of_another_model_are_not_compared() {
    let job = Job::new(9).trained();
    let other = std::fs::read_to_string(job.path("tiny.toml")).unwrap();
    let other = other.replace("steps = 4", "steps = 5");
    std::fs::write(job.path("other.toml"), other).unwrap();
    job.expect(0, "train images --model other --recipe other.toml");
    for model in ["model", "other"] {
        job.expect(0, &format!("tokenize images --model {model} --out out-{model}"));
    }
    let line = "audit out-model --against out-other --json a.json --overwrite --fail-on none";
    let done = job.expect(0, line);
    assert!(done.stdout.contains("made by another model"), "{}", done.stdout);
    assert!(!done.stdout.contains("deviations"), "{}", done.stdout);
    let found = read(&job, "a.json");
    assert_eq!(found["codebook"][0]["against"], Value::Null);
    assert!(found["leaks"].as_array().unwrap().iter().all(|leak| leak["kind"] == "exact-file"));
    let same = job.expect(0, &line.replace("out-other", "out-model"));
    assert!(!same.stdout.contains("another model"), "{}", same.stdout);
}

#[test]
fn sizes_that_one_output_alone_says_are_told_instead_of_no_leak() {
    let job = Job::new(1);
    rows(&job, "sized.parquet", 8, true);
    rows(&job, "plain.parquet", 8, false);
    for (here, there, leaks, told) in [
        ("sized", "plain", 0, true),
        ("plain", "sized", 0, true),
        ("plain", "plain", 8, false),
        ("sized", "sized", 8, false),
    ] {
        let line = format!("audit {here}.parquet --against {there}.parquet --fail-on none");
        let done = job.expect(0, &format!("{line} --json a.json --overwrite"));
        let found = read(&job, "a.json")["leaks"].as_array().unwrap().len();
        let says = done.stdout.contains("doesn't say the sizes of its images");
        assert_eq!((found, says), (leaks, told), "{here} {there}: {}", done.stdout);
    }
}

#[test]
fn precision_of_no_image_is_no_success() {
    let job = Job::new(6).trained();
    job.expect(0, "tokenize images --model model --out out");
    std::fs::create_dir(job.path("others")).unwrap();
    picture(77).save(job.path("others/else.png")).unwrap();
    let line = "audit out --model model --source others --precision-audit cpu --fail-on none";
    let done = job.expect(0, line);
    assert!(done.stdout.contains("no image was encoded again"), "{}", done.stdout);
    assert!(!done.stdout.contains("every token the same"), "{}", done.stdout);
}
