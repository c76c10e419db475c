//! What settings name beside images and no image has is said, whatever the source.

use crate::support::containers;
use crate::support::*;
use containers::{members, samples, tar, zip};

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
        let kinds = [("label-column", "label"), ("caption-column", "caption"), ("pass", "value")];
        for (flag, what) in kinds {
            let done = job.expect(0, &format!("plan {source} --{flag} nothing"));
            let line = format!("note: \"nothing\", which --{flag} names, gives no image a {what}");
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
fn a_field_of_one_container_alone_is_there() {
    let job = sources();
    let members = [("0.png", fs::read(job.path("images/0000.png")).unwrap())];
    let members = members.map(|(name, bytes)| (name.to_string(), bytes));
    let score = ("0.json".to_string(), b"{\"score\":3}".to_vec());
    fs::write(job.path("a.tar"), tar(&members)).unwrap();
    fs::write(job.path("b.tar"), tar(&[&members[..], &[score]].concat())).unwrap();
    for (sources, said) in [("a.tar b.tar", false), ("b.tar images", false), ("a.tar", true)] {
        let done = job.expect(0, &format!("plan {sources} --pass score"));
        assert_eq!(done.stderr.contains("--pass"), said, "{sources}: {}", done.stderr);
    }
}

#[test]
fn no_password_in_an_address_is_kept() {
    let job = Job::new(4).trained();
    fs::write(job.path("u.txt"), "http://user:feedface@127.0.0.1:9/x.png\nimages/0000.png\n")
        .unwrap();
    let done = job.expect(1, "tokenize u.txt --out out --model model");
    assert!(done.stderr.contains("credentials don't belong into addresses"), "{}", done.stderr);
    for (name, bytes) in job.files("out") {
        assert!(!bytes.windows(8).any(|part| part == b"feedface"), "{name}");
    }
}

#[test]
fn metadata_of_a_folder_in_an_archive_is_no_silent_loss() {
    let done = sources().expect(0, "plan z.zip");
    assert!(done.stderr.contains("(the first: cat/metadata.csv)"), "{}", done.stderr);
}

#[test]
fn what_stays_closed_in_archives_and_beside_them_is_told() {
    let job = sources();
    let picture = fs::read(job.path("images/0000.png")).unwrap();
    let member = |name: &str| (name.to_string(), picture.clone());
    fs::write(job.path("nested.tar"), tar(&[member("./n01.tar"), member("./n02.tar")])).unwrap();
    let closed =
        ["2 archive that isn't opened", "(the first: 'nested.tar: ./n01.tar')", "unpack them"];
    job.expect(2, "plan nested.tar").assert_one_line(&closed);
    fs::create_dir(job.path("packed")).unwrap();
    let members = ["a/0.png", ".h/1.png", "@eaDir/2.png", "b.0.png", "b.1.png"].map(member);
    fs::write(job.path("packed/a.tar"), tar(&members)).unwrap();
    for name in ["b.tar.lz4", "c.7z", "d.TAR.Z", "e.txt"] {
        fs::write(job.path("packed").join(name), "x").unwrap();
    }
    let done = job.expect(0, "plan packed");
    let skipped =
        "6 skipped (1 other extension, 2 hidden, 3 archive that isn't opened); --hidden takes";
    assert!(done.stdout.contains("3 images in 1 container"), "{}", done.stdout);
    assert!(done.stdout.contains(skipped), "{}", done.stdout);
    assert!(done.stdout.contains("(the first: 'b.tar.lz4')"), "{}", done.stdout);
    assert!(done.stdout.contains("b.0: ") && done.stdout.contains("b.1: "), "{}", done.stdout);
    let done = job.expect(0, "plan packed --hidden");
    assert!(done.stdout.contains("5 images in 1 container"), "{}", done.stdout);
}
