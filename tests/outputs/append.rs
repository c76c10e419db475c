//! Drives `tokenize --append`: images that come later into an output that is there already. Must not
//! know: how any of it is done.

use crate::support::appends;
use crate::support::containers;
use crate::support::*;
use appends::*;
use containers::{compressed, members, samples, tar};

use std::fs;
use std::time::{Duration, SystemTime};

#[test]
fn a_grown_folder_is_appended_and_what_was_there_stays() {
    let job = begun();
    let before = job.files("out");
    arrive(&job, 10..18);
    let refused = job.expect(2, &format!("tokenize images --out out {FLAGS}"));
    refused.assert_one_line(&["8 new ('", "0 gone, 0 changed", "--append adds new images"]);
    let done = job.expect(0, &append("images", "out"));
    assert_eq!(appended(&done), [8, 10, 0]);
    must_stay(&job, "out", &before);
    job.expect(0, &format!("tokenize images --out fresh {FLAGS}"));
    let all = codes(&job, "out");
    assert_eq!((all.len(), &all), (18, &codes(&job, "fresh")));
    let (out, fresh) = (dataset(&job, "out"), dataset(&job, "fresh"));
    assert_eq!((&out["schema"], &fresh["schema"]), (&"dataset.v2".into(), &"dataset.v1".into()));
    assert_eq!(out["codebook"]["levels"], fresh["codebook"]["levels"]);
    assert_eq!(out["totals"], fresh["totals"]);
    let plan = &out["appended"][0];
    assert_eq!((&plan["rows"], &plan["partitions"]), (&8.into(), &2.into()));
    assert_eq!((&plan["first_ordinal"], &plan["first_partition"]), (&10.into(), &3.into()));
    assert_eq!(plan["file"]["path"], "plan-00001.parquet");
    job.expect(0, "verify out");
    let told = job.expect(0, &append("images", "out").replace("--json", ""));
    assert!(told.stdout.ends_with("\n0 new, 18 there already\n"), "{}", told.stdout);
    assert!(
        told.stderr.contains("18 images in 5 partitions, none skipped: 0 new"),
        "{}",
        told.stderr
    );
}

#[test]
fn appends_follow_each_other_and_nothing_new_changes_no_byte() {
    let job = begun();
    for (count, range) in [(1, 10..11), (5, 11..16), (2, 16..18)] {
        let before = job.files("out");
        arrive(&job, range.clone());
        let done = job.expect(0, &append("images", "out"));
        assert_eq!(appended(&done), [count, range.start as u64, 0]);
        must_stay(&job, "out", &before);
        let whole = job.files("out");
        assert_eq!(appended(&job.expect(0, &append("images", "out"))), [0, range.end as u64, 0]);
        job.expect(0, &format!("tokenize images --out out {FLAGS}"));
        job.expect(0, "finalize out");
        assert!(job.files("out") == whole);
    }
    job.expect(0, &format!("tokenize images --out fresh {FLAGS}"));
    assert_eq!(codes(&job, "out"), codes(&job, "fresh"));
    job.expect(0, "verify out");
    job.expect(0, "inspect out");
    job.expect(0, "plan images --diff out");
    job.expect(0, "report out --out page.html");
    job.expect(0, "decode out --model model --out pictures");
    assert_eq!(job.files("pictures").len(), 18);
    // The new ones alone, in a folder of their own.
    fs::create_dir_all(job.path("more/new")).unwrap();
    fs::copy(job.path("images/0000.png"), job.path("more/new/x.png")).unwrap();
    assert_eq!(appended(&job.expect(0, &append("more", "out"))), [1, 0, 0]);
    assert_eq!(appended(&job.expect(0, &append("more images", "out"))), [0, 19, 0]);
    job.expect(0, "verify out");
}

#[test]
fn the_first_run_makes_the_output_as_ever() {
    let job = Job::new(9).trained();
    job.expect(0, &append("images", "out"));
    job.expect(0, &format!("tokenize images --out plain {FLAGS}"));
    job.assert_same("out", "plain");
}

#[test]
fn a_kill_at_any_file_operation_of_an_append_costs_nothing() {
    let job = begun();
    arrive(&job, 10..16);
    copy(&job, "out", "whole");
    job.expect(0, &append("images", "whole"));
    let then = dataset(&job, "out");
    let mut unfinished = 0;
    for nth in 1.. {
        copy(&job, "out", "cut");
        let mut command = job.command(&append("images", "cut"));
        let killed = command.env("VQTOK_FAILPOINT", format!("any:{nth}")).output().unwrap();
        if killed.status.success() {
            assert!(nth > 40, "only {nth} operations were met");
            break;
        }
        // What was finished is described until more is.
        let now = dataset(&job, "cut");
        assert!(now == then || now == dataset(&job, "whole"), "any:{nth}");
        let seen = job.run("verify cut --partial");
        assert_eq!(seen.code, 0, "any:{nth}: {}{}", seen.stdout, seen.stderr);
        unfinished += i32::from(job.run("verify cut").code == 1);
        job.expect(0, &append("images", "cut"));
        job.assert_same("whole", "cut");
        fs::remove_dir_all(job.path("cut")).unwrap();
    }
    assert!(unfinished > 10, "{unfinished}");
}

#[test]
fn an_append_that_is_not_finished_says_so_and_demands_its_images() {
    let job = begun();
    arrive(&job, 10..18);
    let line = append("images", "out");
    let part = job.expect(0, &format!("{line} --partition 0/2"));
    assert_eq!(part.events("waiting")[0]["missing"], 1);
    assert_eq!(dataset(&job, "out")["schema"], "dataset.v1");
    let seen = job.expect(1, "verify out");
    assert!(
        seen.stdout.contains("UNFINISHED, 4 of 5 partitions there, 14 images"),
        "{}",
        seen.stdout
    );
    job.expect(0, "verify out --partial");
    assert!(job.expect(0, "inspect out").stdout.contains("unfinished, 4 of 5"));
    let decoded = job.expect(0, "decode out --model model --out some").stderr;
    assert!(decoded.contains("4 of 5 shards are there"), "{decoded}");
    job.expect(75, "finalize out").assert_one_line(&["1 of 5 partitions are not there yet"]);
    // Others can't come in before it is finished.
    fs::create_dir(job.path("more")).unwrap();
    fs::copy(job.path("images/0000.png"), job.path("more/x.png")).unwrap();
    let refused = job.expect(2, &append("more", "out"));
    refused
        .assert_one_line(&["plan-00001.parquet isn't finished, and 8 images of it aren't", "('"]);
    let name = &names_of(18)[10];
    let bytes = fs::read(job.path("images").join(name)).unwrap();
    fs::remove_file(job.path("images").join(name)).unwrap();
    let words = ["1 image of it isn't among the inputs", name];
    job.expect(2, &line).assert_one_line(&words);
    fs::write(job.path("images").join(name), bytes).unwrap();
    // With them, a plain run finishes it too.
    job.expect(0, &format!("tokenize images --out out {FLAGS}"));
    job.expect(0, &append("more", "out"));
    job.expect(0, "verify out");
    assert_eq!(codes(&job, "out").len(), 19);
}

#[test]
fn an_append_finishes_what_was_begun_before_it() {
    let job = begun();
    job.expect(0, &format!("tokenize images --out cut --partition 0/2 {FLAGS}"));
    arrive(&job, 10..18);
    let done = job.expect(0, &append("images", "cut"));
    assert_eq!(appended(&done), [8, 10, 0]);
    job.expect(0, &append("images", "out"));
    job.assert_same("out", "cut");
}

#[test]
fn workers_share_an_append() {
    let job = begun();
    arrive(&job, 10..18);
    copy(&job, "out", "whole");
    job.expect(0, &append("images", "whole"));
    let start = |share: &str| {
        let mut command = job.command(&format!("{} --partition {share}", append("images", "out")));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    for mut worker in ["0/3", "1/3", "2/3"].map(start) {
        assert!(worker.wait().unwrap().success());
    }
    // Where the last two ended at once, neither saw the other's end.
    job.expect(0, "finalize out");
    job.assert_same("whole", "out");
}

#[test]
fn a_changed_image_keeps_its_rows_and_is_told() {
    let job = begun();
    let before = codes(&job, "out");
    arrive(&job, 10..12);
    let bytes = fs::read(job.path("images/0000.png")).unwrap();
    fs::write(job.path("images/0000.png"), [&bytes[..], b"x"].concat()).unwrap();
    fs::remove_file(job.path("images/cat/0001.bmp")).unwrap();
    let done = job.expect(0, &append("images", "out"));
    assert_eq!(appended(&done), [2, 9, 1]);
    let told = &done.events("changed")[0]["examples"][0];
    let words = format!("'0000.png' had {} bytes and now has {}", bytes.len(), bytes.len() + 1);
    assert_eq!(told, &words);
    let after = codes(&job, "out");
    assert!(before.iter().all(|(key, codes)| after[key] == *codes) && after.len() == 12);
    let told = job.expect(0, &append("images", "out").replace("--json", "")).stderr;
    assert!(
        told.contains(&format!("their rows stay: 1 image ({words}); `vqtok plan --diff`")),
        "{told}"
    );
    let diff = job.expect(1, "plan images --diff out").stdout;
    assert!(diff.contains("0 new, 1 gone (cat/0001.bmp), 1 changed"), "{diff}");
    job.expect(2, &format!("tokenize images --out out {FLAGS}")).assert_one_line(&[&words]);
    job.expect(0, "verify out");
}

#[test]
fn another_file_of_the_same_name_is_refused_and_a_moved_one_is_not() {
    let job = begun();
    fs::create_dir(job.path("other")).unwrap();
    for bytes in
        [fs::read(job.path("later/10")).unwrap(), fs::read(job.path("images/0000.png")).unwrap()]
    {
        fs::write(job.path("other/0000.png"), bytes).unwrap();
        let refused = job.expect(2, &append("other", "out"));
        let words = ["two images would have the key '0000.png'", "/images/0000.png and file:///"];
        refused.assert_one_line(&words);
        refused.assert_one_line(&["/other/0000.png; a key is the path below its INPUT"]);
    }
    let whole = job.files("out");
    // The same size and place in the folder, but another content.
    fs::rename(job.path("images"), job.path("moved")).unwrap();
    let mut bytes = fs::read(job.path("moved/dog/0002.ppm")).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(job.path("moved/dog/0002.ppm"), &bytes).unwrap();
    let words = ["the key 'dog/0002.ppm'", "/images/dog/0002.ppm", "/moved/dog/0002.ppm"];
    job.expect(2, &append("moved", "out")).assert_one_line(&words);
    bytes[last] ^= 1;
    fs::write(job.path("moved/dog/0002.ppm"), &bytes).unwrap();
    let done = job.expect(0, &append("moved", "out"));
    assert_eq!(appended(&done), [0, 10, 0]);
    let moved = &done.events("plan")[0]["moved"];
    assert!(moved["from"].as_str().unwrap().contains("/images/"), "{moved}");
    assert!(job.files("out") == whole);
}

#[test]
fn damage_anywhere_is_found_and_mended() {
    let job = begun();
    arrive(&job, 10..14);
    job.expect(0, &append("images", "out"));
    arrive(&job, 14..18);
    job.expect(0, &append("images", "out"));
    let whole = job.files("out");
    let new = |name: &str| {
        ["plan", "tokens/part-00003", "failures/part-00003", "codebook", "dataset"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    for (name, bytes) in whole.iter().filter(|(name, _)| new(name)) {
        for gone in [false, true] {
            let path = job.path("out").join(name);
            let mut bad = bytes.clone();
            let at = bad.len() / 3;
            bad[at] ^= 4;
            match gone {
                true if name == "dataset.json" => continue, // Unfinished, not damaged.
                true => fs::remove_file(&path).unwrap(),
                false => fs::write(&path, bad).unwrap(),
            }
            let found = job.run("verify out");
            assert_eq!(found.code, 1, "{name} {gone}: {}", found.stdout);
            assert!(!found.stdout.contains("stray"), "{name} {gone}: {}", found.stdout);
            let mended = job.run("repair out --model model");
            assert_eq!(mended.code, 0, "{name} {gone}: {}{}", mended.stdout, mended.stderr);
            assert!(whole == job.files("out"), "{name} {gone} is not mended");
        }
    }
    fs::copy(job.path("out/plan.parquet"), job.path("out/plan-00007.parquet")).unwrap();
    assert_eq!(job.run("verify out").code, 1);
    job.expect(2, &append("images", "out")).assert_one_line(&["plan-00003.parquet: it is missing"]);
}

#[test]
fn failures_of_an_append_are_retried() {
    let job = begun();
    arrive(&job, 10..12);
    let good = fs::read(job.path("later/13")).unwrap();
    fs::write(job.path("images/broken.bmp"), &good[..good.len() / 2]).unwrap();
    job.expect(1, &append("images", "out"));
    assert_eq!(codes(&job, "out").len(), 12);
    fs::write(job.path("images/broken.bmp"), &good).unwrap();
    // Of another size than was planned, which is no change while it has no tokens.
    let again = job.expect(1, &append("images", "out"));
    assert_eq!(appended(&again), [0, 13, 0]);
    job.expect(0, &format!("tokenize images --out out {FLAGS} --retry-failed"));
    assert_eq!(codes(&job, "out").len(), 13);
    assert_eq!(appended(&job.expect(0, &append("images", "out"))), [0, 13, 0]);
    job.expect(0, "verify out");
}

/// Sets a file's time of last writing to so many hours ago.
fn age(job: &Job, name: &str, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(3600 * hours);
    fs::File::options().write(true).open(job.path(name)).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_tar_that_comes_into_a_folder_of_tars_is_appended() {
    let job = Job::new(16).trained();
    let samples = samples(job.files("images"));
    fs::create_dir(job.path("tars")).unwrap();
    let put = |name: &str, bytes: Vec<u8>| {
        fs::write(job.path("tars").join(name), bytes).unwrap();
        age(&job, &format!("tars/{name}"), 2);
    };
    put("b.tar", tar(&members(&samples[..5])));
    put("d.tar.gz", compressed("gz", &tar(&members(&samples[5..10]))));
    job.expect(0, &format!("tokenize tars --out out {FLAGS}"));
    put("a.tar.gz", compressed("gz", &tar(&members(&samples[10..13]))));
    put("c.tar", tar(&members(&samples[13..])));
    let unchanged = |done: &Done| done.events("plan")[0]["unchanged_containers"].as_u64().unwrap();
    let done = job.expect(0, &append("tars", "out"));
    assert_eq!((appended(&done), unchanged(&done)), ([6, 10, 0], 2));
    let whole = job.files("out");
    let done = job.expect(0, &append("tars", "out"));
    assert_eq!((appended(&done), unchanged(&done)), ([0, 16, 0], 4));
    assert!(job.files("out") == whole);
    job.expect(0, &format!("tokenize tars --out fresh {FLAGS}"));
    assert_eq!(codes(&job, "out"), codes(&job, "fresh"));
    job.expect(0, "verify out");
    // One that grows at its end: what it had is there, what is new comes in.
    let more = containers::Sample { key: "more".into(), ..samples[0].clone() };
    let grown = [samples[13..].to_vec(), vec![more]].concat();
    fs::write(job.path("tars/c.tar"), tar(&members(&grown))).unwrap();
    let done = job.expect(0, &append("tars", "out"));
    assert_eq!((appended(&done), unchanged(&done)), ([1, 16, 0], 3));
    let done = job.expect(0, &append("tars", "out"));
    assert_eq!((appended(&done), unchanged(&done)), ([0, 17, 0], 3));
    // A key of another tar.
    put("e.tar", tar(&members(&samples[..1])));
    let refused = job.expect(2, &append("tars", "out"));
    refused.assert_one_line(&[
        "two images would have the key",
        "b.tar and '",
        "e.tar; keys must differ",
    ]);
}
