//! Drives the binary with stores on their bad days: what can be had is had, byte for byte; what can't
//! be had is one clear line, and never an image's fault. Needs moto's server: `VQTOK_MOTO` names it.

use crate::support::containers;
use crate::support::random::Random;
use crate::support::stores;
use crate::support::*;
use containers::{compressed, members, samples, tar};
use stores::{Cloud, Ended, Faults, Seen, expect};

use std::process::Stdio;
use std::time::{Duration, Instant};

const FLAGS: &str = "--model model --shard-rows 10 --batch-size 4";

/// A folder, a tar and a compressed tar of 24 images in a bucket, and what comes of each undisturbed.
fn scene() -> Option<Cloud> {
    let cloud = Cloud::of(Job::new(24).trained())?;
    cloud.upload("images", "photos");
    // Several blocks of what is asked for at once: between the images lies what is none.
    let mut random = Random(7);
    let mut noise = || (0..40_000).flat_map(|_| random.next().to_le_bytes()).collect::<Vec<_>>();
    let mut all = Vec::new();
    for sample in samples(cloud.job.files("images")) {
        all.extend(members(std::slice::from_ref(&sample)));
        all.push((format!("{}_.bin", sample.key), noise()));
    }
    let archive = tar(&all);
    cloud.put("all.tar", &archive);
    cloud.put("all.tar.zst", &compressed("zst", &archive));
    for (index, input) in INPUTS.iter().enumerate() {
        cloud.expect(0, &format!("tokenize {input} --out whole-{index} {FLAGS}"));
    }
    Some(cloud)
}

const INPUTS: [&str; 3] = ["@/photos", "@/all.tar", "@/all.tar.zst"];

/// What goes wrong costs time and nothing else.
fn survives(faults: &Faults, name: &str) {
    let Some(cloud) = scene() else { return };
    cloud.proxy.set(faults.clone());
    for (index, input) in INPUTS.iter().enumerate() {
        let out = format!("{name}-{index}");
        cloud.expect(0, &format!("tokenize {input} --out {out} {FLAGS}"));
        cloud.job.assert_same(&format!("whole-{index}"), &out);
    }
}

#[test]
fn a_busy_store_is_asked_again() {
    survives(&Faults { busy_every: 3, ..Faults::default() }, "busy");
}

#[test]
fn answers_that_end_too_early_are_asked_for_again() {
    survives(&Faults { cut_every: 4, ..Faults::default() }, "cut");
}

#[test]
fn a_store_may_be_away_for_ten_seconds() {
    let Some(cloud) = scene() else { return };
    cloud.proxy.set(Faults { delay: Duration::from_millis(100), ..Faults::default() });
    let mut command = cloud.command(&format!("tokenize @/photos --out away {FLAGS} --threads 1"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let before = cloud.proxy.requests();
    wait_until(|| cloud.proxy.requests() > before + 12);
    cloud.proxy.stop();
    std::thread::sleep(Duration::from_secs(10));
    cloud.proxy.again();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    cloud.job.assert_same("whole-0", "away");
}

fn wait_until(mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is() {
        assert!(Instant::now() < deadline, "it doesn't come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How many requests of an undisturbed command come before the first that is `wanted`.
fn before(cloud: &Cloud, line: &str, code: i32, wanted: impl Fn(&Seen) -> bool) -> usize {
    cloud.proxy.take_seen();
    cloud.expect(code, line);
    let seen = cloud.proxy.take_seen();
    seen.iter().position(wanted).unwrap_or_else(|| panic!("{line}: {seen:?}"))
}

/// An outage that lasts, from the first request that is `wanted`: the run ends, its images are no
/// failures, and it goes on when the store is back.
fn ends(cloud: &Cloud, index: usize, out: &str, wanted: impl Fn(&Seen) -> bool) {
    let line = |out: &str| format!("tokenize {} --out {out} {FLAGS}", INPUTS[index]);
    let requests = before(cloud, &line(&format!("{out}-before")), 0, wanted);
    cloud.proxy.set(Faults { busy_after: cloud.proxy.requests() + requests, ..Faults::default() });
    let ended = cloud.expect(75, &line(out));
    ended.assert_one_line(&["HTTP ", "run the same command again to go on"]);
    let (took, patience) = (ended.took, Duration::from_secs(6));
    assert!((patience..4 * patience).contains(&took), "{took:?}");
    cloud.proxy.set(Faults::default());
    cloud.expect(0, &line(out));
    cloud.job.assert_same(&format!("whole-{index}"), out);
}

#[test]
fn an_outage_among_images_ends_the_run_and_fails_no_image() {
    let Some(cloud) = scene().map(Cloud::impatient) else { return };
    ends(&cloud, 0, "image", |seen| seen.target.contains("/photos/cat/") && seen.method == "GET");
}

#[test]
fn an_outage_while_listing_ends_the_run_and_plans_no_less() {
    let Some(cloud) = scene().map(Cloud::impatient) else { return };
    ends(&cloud, 0, "list", |seen| {
        seen.target.contains("delimiter=") && seen.target.contains("dog")
    });
}

#[test]
fn an_outage_in_the_midst_of_a_tar_ends_the_run_and_fails_no_image() {
    let Some(cloud) = scene().map(Cloud::impatient) else { return };
    let third = |seen: &Seen| seen.range.as_ref().is_some_and(|r| r.starts_with("bytes=3145728-"));
    ends(&cloud, 1, "tar", third);
    ends(&cloud, 2, "compressed", third);
}

#[test]
fn a_training_ends_by_an_outage_too() {
    let Some(cloud) = scene().map(Cloud::impatient) else { return };
    let line = |model: &str| format!("train @/photos --model {model} --recipe tiny.toml");
    let image = |seen: &Seen| seen.target.contains("/photos/cat/") && seen.range.is_none();
    let requests = before(&cloud, &line("calm"), 0, image);
    cloud.proxy.set(Faults { busy_after: cloud.proxy.requests() + requests, ..Faults::default() });
    let ended: Ended = cloud.expect(75, &line("new"));
    ended.assert_one_line(&["HTTP ", "run the same command again"]);
}

/// Runs a command that can't work, with and without `--json`: one line, soon, exit code 2.
fn refused(cloud: &Cloud, set: &[(&str, Option<&str>)], line: &str, words: &[&str]) {
    for json in ["", " --json"] {
        let mut command = cloud.command(&format!("{line}{json}"));
        for (name, value) in set {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let ended = expect(2, command);
        ended.assert_one_line(words);
        assert!(ended.took < Duration::from_secs(20), "{line}: {:?}", ended.took);
    }
}

#[test]
fn what_is_not_there_is_said_in_one_line() {
    let Some(cloud) = scene() else { return };
    let line = |input: &str| format!("tokenize {input} --out no {FLAGS}");
    let no_bucket = line("s3://no-such-bucket-of-ours/x");
    refused(&cloud, &[], &no_bucket, &["s3://no-such-bucket-of-ours/x", "no such bucket"]);
    let nothing = "nothing lies at this address";
    refused(&cloud, &[], &line("@/nothing"), &["/nothing", nothing]);
    refused(&cloud, &[], &line("@/phot"), &["/phot", nothing]);
    refused(&cloud, &[], &line("@/all.tar/x"), &["/all.tar/x", nothing]);
    refused(&cloud, &[], &line("s3:///x"), &["names no bucket"]);
    refused(&cloud, &[], &line("ftp://h/x"), &["ftp://", "s3://"]);
    refused(&cloud, &[], &line("https://u:secretword@127.0.0.1/x"), &["credentials don't belong"]);
    refused(&cloud, &[], "plan @/nothing", &[nothing]);
    refused(&cloud, &[], "train @/nothing --model new", &[nothing]);
    refused(&cloud, &[], "reconstruct @/nothing --model model --out x.png", &[nothing]);
}

#[test]
fn credentials_that_are_wrong_or_missing_are_said_in_one_line() {
    let Some(cloud) = scene().map(Cloud::impatient) else { return };
    let line = format!("tokenize @/photos --out no {FLAGS}");
    cloud.proxy.set(Faults { deny: true, ..Faults::default() });
    refused(&cloud, &[], &line, &["/photos", "HTTP 403", "AWS_ACCESS_KEY_ID"]);
    cloud.proxy.set(Faults::default());
    let none = [("AWS_ACCESS_KEY_ID", None), ("AWS_SECRET_ACCESS_KEY", None)];
    refused(&cloud, &none, &line, &["/photos", "AWS_ACCESS_KEY_ID"]);
}

#[test]
fn an_endpoint_that_is_not_there_is_said_in_one_line() {
    let Some(cloud) = scene().map(Cloud::impatient) else { return };
    cloud.proxy.stop();
    let line = format!("tokenize @/photos --out no {FLAGS}");
    refused(&cloud, &[], &line, &["/photos", "Connection refused"]);
}

#[test]
fn signatures_of_addresses_are_not_shown() {
    let Some(cloud) = scene() else { return };
    let url = format!("http://127.0.0.1:{}/x.png?X-Amz-Signature=feedface", cloud.proxy.port());
    for line in [format!("tokenize {url} --out no {FLAGS}"), format!("plan {url}")] {
        let ended = cloud.expect(2, &line);
        // The signature goes, the reason behind it stays.
        ended.assert_one_line(&["/x.png?X-Amz-Signature=...: ", "HTTP 4"]);
        assert!(!ended.stderr.contains("feedface"), "{}", ended.stderr);
    }
}

#[test]
fn machines_are_told_no_secrets_either() {
    let Some(cloud) = scene() else { return };
    let list = "http://u:feedface@127.0.0.1:9/a.png?X-Amz-Signature=feedface&b=1\n\
                http://127.0.0.1:9/b.png?a=b#sig=feedface\n";
    std::fs::write(cloud.job.path("l.txt"), list).unwrap();
    for (code, line) in [
        (0, "plan l.txt --json".to_string()),
        (1, format!("tokenize l.txt --out no {FLAGS} --json")),
    ] {
        let ended = cloud.expect(code, &line);
        assert!(ended.stdout.contains("a.png?X-Amz-Signature=...&b=1"), "{}", ended.stdout);
        let told = ended.stdout + &ended.stderr;
        assert!(!told.contains("feedface"), "{told}");
    }
}

#[test]
fn an_endpoint_that_is_no_address_is_named() {
    let Some(cloud) = scene() else { return };
    for value in ["127.0.0.1:9", "not a url", ""] {
        let set = [("AWS_ENDPOINT_URL", Some(value))];
        refused(&cloud, &set, "plan @/photos", &["environment's AWS_ENDPOINT_URL is", "https://"]);
    }
}

#[test]
fn a_damaged_copy_of_a_model_is_fetched_again_or_named() {
    let Some(cloud) = scene() else { return };
    cloud.upload("model", "kept/model");
    let line =
        |out: &str| format!("tokenize images --out {out} --model @/kept/model --shard-rows 10");
    cloud.expect(0, &line("first"));
    let weights = || {
        let name = |(name, _): &(String, Vec<u8>)| name.ends_with("model.safetensors");
        let (name, _) = cloud.job.files("cache").into_iter().find(name).unwrap();
        cloud.job.path("cache").join(name)
    };
    let whole = std::fs::read(weights()).unwrap();
    std::fs::write(weights(), &whole[..100]).unwrap();
    cloud.expect(0, &line("cut"));
    std::fs::remove_file(weights()).unwrap();
    cloud.expect(0, &line("gone"));
    let mut other = whole.clone();
    let end = other.len();
    other[end - 20..].fill(9);
    std::fs::write(weights(), other).unwrap();
    let ended = cloud.expect(2, &line("other"));
    ended.assert_one_line(&["that is a copy of s3://", "/kept/model: remove it to fetch it again"]);
    for out in ["cut", "gone"] {
        cloud.job.assert_same("first", out);
    }
}

#[test]
fn marks_of_folders_are_nothing_and_objects_called_so_are_told() {
    let Some(cloud) = scene() else { return };
    cloud.put("photos/empty/", b"");
    let done = cloud.expect(0, &format!("tokenize @/photos --out marked {FLAGS}"));
    assert!(done.stderr.contains("none skipped"), "{}", done.stderr);
    cloud.put("photos/odd/", b"somebody's");
    let done = cloud.expect(1, &format!("tokenize @/photos --out odd {FLAGS}"));
    assert!(
        done.stderr.contains("an object of 10 bytes is called by this name"),
        "{}",
        done.stderr
    );
}

#[test]
fn a_list_in_a_store_names_no_local_files() {
    let Some(cloud) = scene() else { return };
    let here = cloud.job.path("images/0000.png");
    let list = format!("photos/0000.png\n{0}\nfile://{0}\n", here.display());
    cloud.put("list.txt", list.as_bytes());
    let done = cloud.expect(1, &format!("tokenize @/list.txt --out no {FLAGS}"));
    assert!(done.stdout.contains("1 written, 2 failed"), "{}", done.stdout);
    assert!(done.stderr.contains("names no files of this machine"), "{}", done.stderr);
}

#[test]
fn a_store_is_waited_for_a_minute_where_nobody_says_otherwise() {
    let Some(cloud) = scene() else { return };
    cloud.proxy.stop();
    let ended = cloud.expect(2, "plan @/photos");
    ended.assert_one_line(&["/photos", "Connection refused"]);
    assert!((60..75).contains(&ended.took.as_secs()), "{:?}", ended.took);
    for word in ["", "0", "soon", "99999"] {
        let set = [("VQTOK_STORE_PATIENCE", Some(word))];
        refused(&cloud, &set, "plan @/photos", &["environment's VQTOK_STORE_PATIENCE is", "86400"]);
    }
}

#[test]
fn a_store_that_lists_and_gives_nothing_ends_the_run_before_the_first_row() {
    let Some(cloud) = scene() else { return };
    let line = |out: &str| format!("tokenize @/photos --out {out} {FLAGS}");
    cloud.proxy.set(Faults { deny_reading: Some("/photos/"), ..Faults::default() });
    let ended = cloud.expect(75, &line("none"));
    ended.assert_one_line(&[
        "HTTP 403",
        "AWS_ACCESS_KEY_ID",
        "run the same command again to go on",
    ]);
    let rows = |out: &str| cloud.names(out).into_iter().filter(|name| name.contains('/')).count();
    assert_eq!(rows("none"), 0, "{:?}", cloud.names("none"));
    cloud.proxy.set(Faults::default());
    cloud.expect(0, &line("none"));
    cloud.job.assert_same("whole-0", "none");
    // What is refused among what is given is a row: the first image alone, or a folder.
    for (word, failed) in [("/photos/0000.png", "23 written, 1 failed"), ("/cat/", "16 written, 8")]
    {
        cloud.proxy.set(Faults { deny_reading: Some(word), ..Faults::default() });
        let out = format!("some-{}", word.len());
        let done = cloud.expect(1, &line(&out));
        assert!(done.stdout.contains(failed), "{}", done.stdout);
        cloud.proxy.set(Faults::default());
        cloud.expect(0, &format!("{} --retry-failed", line(&out)));
    }
}
