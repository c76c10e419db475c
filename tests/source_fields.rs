//! What settings name beside images and no image has is said, whatever the source.

#[path = "support/containers.rs"]
mod containers;
mod support;
use containers::{members, samples, tar, zip};
use support::*;

use std::fs;

/// A folder, a list, a tar and a zip of the same images.
fn sources() -> Job {
    let job = Job::new(4);
    let files = job.files("images");
    let samples = samples(files.clone());
    fs::write(job.path("t.tar"), tar(&members(&samples))).unwrap();
    let metadata = ("cat/metadata.csv".to_string(), b"file_name,label\n0.png,x\n".to_vec());
    let members: Vec<_> = files.iter().cloned().chain([metadata]).collect();
    fs::write(job.path("z.zip"), zip(&members)).unwrap();
    let row =
        |(name, _): &(String, Vec<u8>)| format!("{{\"path\":\"images/{name}\",\"id\":null}}\n");
    fs::write(job.path("l.jsonl"), files.iter().map(row).collect::<String>()).unwrap();
    job
}

#[test]
fn what_no_image_has_is_named_for_every_source() {
    let job = sources();
    for source in ["images", "l.jsonl", "t.tar", "z.zip"] {
        let silent = job.expect(0, &format!("plan {source}"));
        assert!(!silent.stderr.contains("names"), "{source}: {}", silent.stderr);
        for flag in ["--label-column", "--caption-column", "--pass"] {
            let done = job.expect(0, &format!("plan {source} {flag} nothing"));
            let line = format!("no image has the \"nothing\" that {flag} names");
            assert!(done.stderr.contains(&line), "{source}: {}", done.stderr);
        }
        let keyed = job.expect(0, &format!("plan {source} --key-column id"));
        let line = match source {
            "l.jsonl" => {
                "rows without the \"id\" that --key-column names: 4 (the first: l.jsonl:1)"
            }
            _ => "images are called by their paths; --key-column is for tables",
        };
        assert!(keyed.stderr.contains(line), "{source}: {}", keyed.stderr);
    }
}

#[test]
fn what_is_there_is_no_remark() {
    let job = sources();
    fs::write(job.path("images/0000.json"), "{\"score\": 3}").unwrap();
    let done = job.expect(0, "plan images --pass score");
    assert!(!done.stderr.contains("--pass"), "{}", done.stderr);
    let done = job.expect(0, "plan t.tar --label-column cls --caption-column txt");
    assert!(!done.stderr.contains("names"), "{}", done.stderr);
}

#[test]
fn metadata_of_a_folder_in_an_archive_is_no_silent_loss() {
    let done = sources().expect(0, "plan z.zip");
    assert!(done.stderr.contains("(the first: cat/metadata.csv)"), "{}", done.stderr);
}
