//! Drives `audit`, `report` and `diff` on an output whose failures are lost: no image that was given up goes
//! unsaid.

use crate::support::*;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// `out` of 9 pictures in 5 partitions, and a broken one in the first, whose failures lie where is given.
fn scene() -> (Job, PathBuf) {
    let job = Job::new(9).trained();
    fs::write(job.path("images/0002a.png"), b"no image").unwrap();
    job.expect(1, "tokenize images --out out --model model --shard-rows 2");
    let of_failures = job.files("out/failures").into_iter();
    let (failures, _) = of_failures.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    assert!(failures.starts_with("part-00000-"), "{failures}");
    let path = job.path("out/failures").join(failures);
    (job, path)
}

fn audited(job: &Job, code: i32) -> Value {
    job.expect(code, "audit out --fail-on failures --json found.json");
    serde_json::from_slice(&fs::read(job.path("found.json")).unwrap()).unwrap()
}

#[test]
fn failures_that_are_lost_are_told_and_counted() {
    let (job, path) = scene();
    let found = audited(&job, 1);
    assert_eq!(
        (&found["failures"]["count"], &found["failures"]["unreadable"]["rows"]),
        (&1.into(), &0.into())
    );
    job.expect(0, "inspect out");
    let whole = fs::read(&path).unwrap();
    let other = job.path("out/failures");
    let other = fs::read_dir(other).unwrap().map(|entry| entry.unwrap().path());
    let other = other.into_iter().find(|of| *of != path).unwrap();
    let damages: [Damage<'_>; 5] = [
        ("it is missing", &|_| {}),
        ("it is missing", &|path| std::os::unix::fs::symlink("nowhere", path).unwrap()),
        ("it is a folder", &|path| fs::create_dir(path).unwrap()),
        ("isn't the file that its shard names", &|path| {
            fs::copy(&other, path).unwrap();
        }),
        ("not a readable Parquet file", &|path| fs::write(path, "PAR1").unwrap()),
    ];
    for (words, damage) in damages {
        fs::remove_file(&path).unwrap();
        damage(&path);
        let found = audited(&job, 1);
        let failures = &found["failures"];
        assert_eq!((&failures["count"], &failures["unreadable"]["rows"]), (&0.into(), &1.into()));
        let said = failures["unreadable"]["list"][0].as_str().unwrap();
        assert!(said.contains(words) && said.contains("part-00000-"), "{said}");
        let told = job.expect(1, "audit out");
        assert!(format!("{}{}", told.stdout, told.stderr).contains(words), "{}", told.stderr);
        let told = job.expect(1, "report out --out report.html --overwrite");
        assert!(told.stderr.contains(words), "{}", told.stderr);
        let told = job.expect(1, "diff out out --json difference.json");
        let difference: Value =
            serde_json::from_slice(&fs::read(job.path("difference.json")).unwrap()).unwrap();
        assert_eq!(difference["unreadable"], serde_json::json!([1, 1]), "{}", told.stdout);
        // By their names alone.
        let is_there = fs::symlink_metadata(&path).is_ok();
        let told = job.expect(i32::from(!is_there), "inspect out").stdout;
        assert_eq!(told.contains("missing: ") && told.contains("failures/part-00000-"), !is_there);
        match path.is_dir() {
            true => fs::remove_dir(&path).unwrap(),
            false => drop(fs::remove_file(&path)),
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn failures_of_a_shard_that_has_changed_are_told() {
    let (job, _) = scene();
    let shard = job.path("out/tokens/part-00000.parquet");
    let mut bytes = fs::read(&shard).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let failures = &audited(&job, 1)["failures"];
    assert_eq!(failures["count"], 0);
    let list = failures["unreadable"]["list"].as_array().unwrap();
    assert!(list.iter().any(|line| line.as_str().unwrap().contains("counts 1 image")), "{list:?}");
}
