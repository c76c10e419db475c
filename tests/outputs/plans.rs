//! Drives the binary over plans of containers: reruns that list nothing again, what they refuse, and
//! `vqtok plan`. Must not know: how any of it is done.

use crate::support::containers;
use crate::support::*;
use containers::{Layout, Sample, compressed, members, samples, table, tar, tar_of_time, zip};

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const FLAGS: &str = "--model model --shard-rows 10 --json";

/// Sets a file's time of last writing to so many hours ago.
fn age(job: &Job, name: &str, hours: u64) {
    let time = SystemTime::now() - Duration::from_secs(3600 * hours);
    fs::File::options().write(true).open(job.path(name)).unwrap().set_modified(time).unwrap();
}

/// What only a listing would notice: other bytes, as many and as old as before.
fn spoil(job: &Job, name: &str) {
    let bytes = fs::read(job.path(name)).unwrap();
    fs::write(job.path(name), vec![7; bytes.len()]).unwrap();
    age(job, name, 2);
}

const CONTAINERS: [&str; 4] = ["a.tar", "b.tar.gz", "c.parquet", "d.zip"];
const INPUTS: &str = "a.tar b.tar.gz c.parquet d.zip";

/// 40 images in four containers that were written two hours ago.
fn packed() -> Job {
    let job = Job::new(40).trained();
    let samples = samples(job.files("images"));
    let files = |samples: &[Sample]| -> Vec<(String, Vec<u8>)> {
        let name = |s: &Sample| (format!("{}.{}", s.key, s.extension), s.bytes.clone());
        samples.iter().map(name).collect()
    };
    fs::write(job.path("a.tar"), tar(&members(&samples[..12]))).unwrap();
    fs::write(job.path("b.tar.gz"), compressed("gz", &tar(&members(&samples[12..23])))).unwrap();
    table(&job.path("c.parquet"), &samples[23..30], Layout::Struct, 3);
    fs::write(job.path("d.zip"), zip(&files(&samples[30..]))).unwrap();
    CONTAINERS.iter().for_each(|name| age(&job, name, 2));
    job
}

/// Containers that a run found unchanged.
fn unchanged(done: &Done) -> u64 {
    done.events("plan")[0]["unchanged_containers"].as_u64().unwrap()
}

#[test]
fn containers_that_look_unchanged_are_not_opened_again() {
    let job = packed();
    let line = format!("tokenize {INPUTS} --out out {FLAGS}");
    assert_eq!(unchanged(&job.expect(0, &line)), 0);
    let whole = job.files("out");
    let one = format!("tokenize d.zip --out one {FLAGS}").replace("--json", "");
    job.expect(0, &one);
    let told = job.expect(0, &one).stderr;
    assert!(told.contains("1 container unchanged since it was planned"), "{told}");
    assert_eq!(unchanged(&job.expect(0, &line)), 4);
    CONTAINERS.iter().for_each(|name| spoil(&job, name));
    assert_eq!(unchanged(&job.expect(0, &line)), 4);
    assert!(job.files("out") == whole);
    let told = job.expect(0, &line.replace("--json", "")).stderr;
    assert!(told.contains("40 images in 6 partitions"), "{told}");
    assert!(told.contains("4 containers unchanged since they were planned"), "{told}");
    // One that was written to after it was planned is looked into, whatever its size.
    age(&job, "c.parquet", 0);
    let refused = job.expect(2, &line);
    refused.assert_one_line(&["the input of out has changed"]);
    job.expect(0, "verify out");
}

#[test]
fn a_run_that_goes_on_lists_nothing_again_and_ends_with_the_same_bytes() {
    let job = packed();
    let line = |out: &str| format!("tokenize {INPUTS} --out {out} {FLAGS}");
    job.expect(0, &line("whole"));
    job.expect(0, &format!("{} --partition 0/2", line("out")));
    assert_eq!(unchanged(&job.expect(0, &line("out"))), 4);
    job.assert_same("whole", "out");
    // Files among containers are looked at all the same.
    fs::rename(job.path("images/0000.png"), job.path("images/x.png")).unwrap();
    fs::rename(job.path("images/0003.qoi"), job.path("images/y.qoi")).unwrap();
    let mixed = "tokenize a.tar images/x.png d.zip images/y.qoi --out mixed --model model --json \
                 --shard-rows 10";
    job.expect(0, mixed);
    assert_eq!(unchanged(&job.expect(0, mixed)), 2);
    let bytes = fs::read(job.path("images/x.png")).unwrap();
    fs::write(job.path("images/x.png"), [&bytes[..], b"x"].concat()).unwrap();
    job.expect(2, mixed).assert_one_line(&["1 changed ('x.png' had"]);
}

#[test]
fn an_edited_tar_of_the_same_size_is_refused_by_what_has_changed() {
    let job = packed();
    let line = format!("tokenize {INPUTS} --out out {FLAGS}");
    job.expect(0, &line);
    let mut bytes = fs::read(job.path("a.tar")).unwrap();
    let at = bytes.windows(9).position(|w| w == b"picture 7").unwrap();
    bytes[at..at + 9].copy_from_slice(b"picture 8");
    fs::write(job.path("a.tar"), &bytes).unwrap();
    let refused = job.expect(2, &line);
    refused.assert_one_line(&[
        "0 new, 0 gone, 1 changed",
        "was 'picture 7, 猫' and is now 'picture 8, 猫'",
    ]);
    // Touched and the same: listed, and found so.
    bytes[at..at + 9].copy_from_slice(b"picture 7");
    fs::write(job.path("a.tar"), &bytes).unwrap();
    assert_eq!(unchanged(&job.expect(0, &line)), 3);
}

#[test]
fn another_order_other_flags_and_missing_containers_are_named() {
    let job = packed();
    let line = |inputs: &str| format!("tokenize {inputs} --out out {FLAGS}");
    job.expect(0, &line(INPUTS));
    let other = job.expect(2, &line("b.tar.gz a.tar c.parquet d.zip"));
    other.assert_one_line(&["the same images in another order", "image 0 was '0000'"]);
    let fewer = job.expect(2, &line("a.tar b.tar.gz c.parquet"));
    fewer.assert_one_line(&["0 new, 10 gone ('", "0 changed"]);
    let fewer = job.expect(2, &line("a.tar c.parquet d.zip"));
    fewer.assert_one_line(&["0 new, 11 gone ('", "0 changed"]);
    put_twice(&job);
    let more = job.expect(2, &line(&format!("{INPUTS} e.tar")));
    more.assert_one_line(&["2 new ('e0', 'e1')", "0 gone, 0 changed"]);
    let more = job.expect(2, &line(&format!("e.tar {INPUTS}")));
    more.assert_one_line(&["2 new ('e0', 'e1')", "0 gone, 0 changed"]);
    let flags = job.expect(2, &format!("{} --label-column caption", line(INPUTS)));
    flags.assert_one_line(&["has changed", "the label of '0000' was 'cat' and is now none"]);
    // Below another folder a container is called otherwise, and so may be its images.
    fs::create_dir_all(job.path("in/sub")).unwrap();
    fs::rename(job.path("c.parquet"), job.path("in/sub/c.parquet")).unwrap();
    let line = |input: &str| format!("tokenize {input} --out keys {FLAGS}");
    job.expect(0, &line("in"));
    assert_eq!(unchanged(&job.expect(0, &line("in"))), 1);
    assert_eq!(unchanged(&job.expect(0, &line("in/sub"))), 0);
}

fn put_twice(job: &Job) {
    let png = fs::read(job.path("images/0000.png")).unwrap();
    let members = [("e0.png".to_string(), png.clone()), ("e1.png".to_string(), png)];
    fs::write(job.path("e.tar"), tar(&members)).unwrap();
}

#[test]
fn containers_that_moved_are_known_again_and_copies_are_looked_into() {
    let job = packed();
    job.expect(0, &format!("tokenize {INPUTS} --out out {FLAGS} --partition 0/2"));
    for folder in ["copy", "moved"] {
        fs::create_dir(job.path(folder)).unwrap();
    }
    for name in CONTAINERS {
        fs::copy(job.path(name), job.path(&format!("copy/{name}"))).unwrap();
        age(&job, &format!("copy/{name}"), 3);
    }
    let at = |folder: &str| {
        let inputs: Vec<_> = CONTAINERS.iter().map(|name| format!("{folder}/{name}")).collect();
        format!("tokenize {} --out out {FLAGS}", inputs.join(" "))
    };
    let copied = job.expect(0, &format!("{} --partition 0/2", at("copy")));
    assert_eq!(unchanged(&copied), 0, "the planned ones are still there");
    for name in CONTAINERS {
        fs::rename(job.path(name), job.path(&format!("moved/{name}"))).unwrap();
    }
    let moved = job.expect(0, &at("moved"));
    assert_eq!(unchanged(&moved), 4);
    let told = &moved.events("plan")[0]["moved"]["to"];
    assert!(told.as_str().unwrap().contains("/moved/"), "{told}");
    job.expect(0, "verify out");
}

#[test]
fn what_would_be_planned_is_shown_without_a_model() {
    let job = packed();
    fs::write(job.path("images/note.md"), b"x").unwrap();
    let done = job.expect(0, "plan images --json");
    let planned = &done.events("planned")[0];
    assert_eq!((&planned["images"], &planned["containers"]), (&40.into(), &0.into()));
    assert_eq!((&planned["skipped"], done.events("image").len()), (&1.into(), 10));
    let bytes: u64 = job.files("images").iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(planned["bytes"], bytes - 1);
    let done = job.expect(0, &format!("plan {INPUTS} --rows 14 --json"));
    let planned = &done.events("planned")[0];
    assert_eq!((&planned["images"], &planned["containers"]), (&40.into(), &4.into()));
    let rows = done.events("image");
    assert_eq!((rows.len(), &rows[0]["key"]), (14, &"0000".into()));
    assert_eq!(
        (&rows[13]["label"], &rows[13]["caption"]),
        (&"dog".into(), &"picture 13, 猫".into())
    );
    assert!(rows[13]["uri"].as_str().unwrap().ends_with("/b.tar.gz"));
    let text = job.expect(0, &format!("plan {INPUTS} --rows 1")).stdout;
    assert!(text.starts_with("40 images in 4 containers, "), "{text}");
    assert!(text.contains("a.tar: 0000.png, label 'cat', caption 'picture 0, 猫'\n"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
    let mut cut = fs::read(job.path("a.tar")).unwrap();
    cut.truncate(cut.len() / 2 + 100); // in the midst of a block
    fs::write(job.path("cut.tar"), cut).unwrap();
    let text = job.expect(0, "plan cut.tar --rows 100").stdout;
    assert!(text.contains("1 of them can't be read"), "{text}");
    assert!(text.contains("; can't be read: damaged at byte"), "{text}");
    job.expect(2, "plan nowhere").assert_one_line(&["nowhere"]);
    fs::create_dir(job.path("empty")).unwrap();
    job.expect(2, "plan empty").assert_one_line(&["no image under empty"]);
    job.expect(2, "plan images --rows 2000000").assert_one_line(&["--rows", "2000000"]);
}

#[test]
fn changes_are_told_and_are_exit_code_1() {
    let job = packed();
    job.expect(0, &format!("tokenize {INPUTS} --out out {FLAGS}"));
    let text = job.expect(0, &format!("plan {INPUTS} --diff out")).stdout;
    assert_eq!(text, "out: 40 images planned, 40 today: nothing has changed\n");
    let text = job.expect(1, "plan d.zip a.tar b.tar.gz c.parquet --diff out").stdout;
    assert!(text.contains("the same ones in another order"), "{text}");
    put_twice(&job);
    let mut bytes = fs::read(job.path("a.tar")).unwrap();
    let at = bytes.windows(9).position(|w| w == b"picture 7").unwrap();
    bytes[at..at + 9].copy_from_slice(b"picture 8");
    fs::write(job.path("a.tar"), &bytes).unwrap();
    let line = "plan e.tar a.tar b.tar.gz c.parquet --diff out";
    let text = job.expect(1, line).stdout;
    assert!(text.contains("40 images planned, 32 today: 2 new (e0, e1), 10 gone ("), "{text}");
    assert!(text.contains(", ...), 1 changed (the caption of '"), "{text}");
    let done = job.expect(1, &format!("{line} --json"));
    let changes = &done.events("changes")[0];
    assert_eq!((&changes["new"]["count"], &changes["gone"]["count"]), (&2.into(), &10.into()));
    assert_eq!(changes["gone"]["examples"].as_array().unwrap().len(), 3);
    job.expect(2, "plan a.tar --diff images").assert_one_line(&["images", "plan.parquet"]);
    job.expect(2, "plan a.tar --diff out --rows 3");
}

#[test]
fn a_table_that_was_written_anew_is_never_read_as_the_planned_one() {
    let job = Job::new(12).trained();
    let mut all = samples(job.files("images"));
    for (index, sample) in all.iter_mut().enumerate() {
        sample.label = ["cat", "dog"][index / 6].into();
        sample.caption = "one".into();
    }
    let path = job.path("t.parquet");
    table(&path, &all, Layout::Struct, 12);
    let flags = "--model model --shard-rows 4";
    job.expect(0, &format!("tokenize t.parquet --out out {flags} --partition 0/3"));
    // The same names over other images.
    let images: Vec<_> = all.iter().rev().map(|s| (s.bytes.clone(), s.extension.clone())).collect();
    for (sample, (bytes, extension)) in all.iter_mut().zip(images) {
        (sample.bytes, sample.extension) = (bytes, extension);
    }
    all[3].bytes.extend([0; 9]);
    table(&path, &all, Layout::Struct, 12);
    let refused = job.expect(2, &format!("tokenize t.parquet --out out {flags}"));
    refused.assert_one_line(&["has changed: 't.parquet' had", "its images may be others"]);
    // Who makes the rest of it all the same gives no row the tokens of another image.
    let done = job.expect(1, "repair out --model model");
    assert!(
        done.stderr.contains("the Parquet file has changed since it was planned"),
        "{}",
        done.stderr
    );
    let done = job.expect(1, &format!("tokenize t.parquet --out out {flags} --append"));
    assert!(done.stdout.contains("8 failed"), "{}", done.stdout);
}

/// Samples of one size each, the images of the second half and the first changed for each other.
fn swapped(all: &[Sample]) -> Vec<Sample> {
    let half = all.len() / 2;
    let swap = |(index, sample): (usize, &Sample)| Sample {
        bytes: all[(index + half) % all.len()].bytes.clone(),
        ..sample.clone()
    };
    all.iter().enumerate().map(swap).collect()
}

/// Twelve PNG files of one size, under their names.
fn equal_sizes() -> (Job, Vec<Sample>) {
    let job = Job::new(12).trained();
    let mut all = samples(job.files("images"));
    for (index, sample) in all.iter_mut().enumerate() {
        let mut bytes = b"P6 16 16 255\n".to_vec();
        bytes.extend((0..768).map(|i| (i * (index + 1) % 251) as u8));
        (sample.bytes, sample.extension) = (bytes, "ppm".into());
    }
    (job, all)
}

/// Writes a container of each kind; a tar is of the time that it says.
fn write_container(job: &Job, name: &str, all: &[Sample], time: u8) {
    let path = job.path(name);
    let name_of = |s: &Sample| format!("{}.{}", s.key, s.extension);
    let files: Vec<_> = all.iter().map(|s| (name_of(s), s.bytes.clone())).collect();
    match name.rsplit_once('.').unwrap().1 {
        "parquet" => table(&path, all, Layout::Struct, 4),
        "zip" => fs::write(path, zip(&files)).unwrap(),
        _ => fs::write(path, tar_of_time(&files, time)).unwrap(),
    }
}

#[test]
fn another_container_of_equal_size_and_names_is_told() {
    let (job, all) = equal_sizes();
    for name in ["t.parquet", "t.zip", "t.tar"] {
        write_container(&job, name, &all, 1);
        let before = fs::read(job.path(name)).unwrap();
        let line = format!("tokenize {name} --out out-{name} --model model --shard-rows 4");
        job.expect(0, &format!("{line} --partition 0/3"));
        // Written anew with the same content it is the same.
        fs::write(job.path(name), &before).unwrap();
        job.expect(0, &format!("plan {name} --diff out-{name}"));
        write_container(&job, name, &swapped(&all), 2);
        let now = fs::read(job.path(name)).unwrap();
        assert!(before.len() == now.len() && before != now, "{name}");
        let told =
            [&*format!("'{name}' is another file of the same size: its images may be others")];
        job.expect(2, &line).assert_one_line(&told);
        let text = job.expect(1, &format!("plan {name} --diff out-{name}")).stdout;
        assert!(text.contains("0 new, 0 gone, 12 changed ("), "{text}");
        assert!(text.contains("may be another image: its file is another one now"), "{text}");
        let appended = job.expect(if name == "t.tar" { 0 } else { 1 }, &format!("{line} --append"));
        assert!(
            appended.stderr.contains("changed since they were planned, their rows stay: 12 images"),
            "{}",
            appended.stderr
        );
        // Rows and members of no header of their own are never read as the planned ones.
        let failed = if name == "t.tar" { "0 failed" } else { "8 failed" };
        assert!(appended.stdout.contains(failed), "{name}: {}", appended.stdout);
        fs::write(job.path(name), &before).unwrap();
        job.expect(0, &format!("{line} --retry-failed"));
    }
}

const OF_NINE: &str = "tokenize images --out out --model model --shard-rows 4";

/// An output of three shards, and a picture of the second: its path, its bytes, and as many of another.
fn of_nine() -> (Job, PathBuf, [Vec<u8>; 2]) {
    let job = Job::new(9).trained();
    job.expect(0, OF_NINE);
    let planned: Vec<_> = job.files("images").into_iter().map(|(name, _)| name).collect();
    let name = planned[4..8].iter().find(|name| name.ends_with(".ppm")).unwrap();
    let path = job.path("images").join(name);
    let good = fs::read(&path).unwrap();
    let mut other = good.clone();
    other.iter_mut().rev().take(30).for_each(|byte| *byte = !*byte);
    (job, path, [good, other])
}

fn lose(job: &Job) -> Vec<u8> {
    let shard = job.path("out/tokens/part-00001.parquet");
    let bytes = fs::read(&shard).unwrap();
    fs::remove_file(shard).unwrap();
    bytes
}

#[test]
fn a_repair_brings_back_what_was_there_or_touches_nothing() {
    let (job, path, [good, bytes]) = of_nine();
    let whole = job.files("out");
    let repair = "repair out --model model";
    for damaged in [false, true] {
        for (bad, why) in [(&bytes[..], ""), (b"no picture", "' fails now: ")] {
            let shard = lose(&job);
            if damaged {
                fs::write(job.path("out/tokens/part-00001.parquet"), &shard[1..]).unwrap();
            }
            fs::write(&path, bad).unwrap();
            let before = job.files("out");
            let (state, then) = match damaged {
                true => ("it is damaged", "; it stays as it is: restore"),
                false => ("it is lost", "; restore"),
            };
            job.expect(2, repair).assert_one_line(&[
                &format!(
                    "out/tokens/part-00001.parquet: {state} and can't be made again as it was"
                ),
                why,
                &format!("{then} the images or the shard"),
                "run the same `vqtok tokenize` again",
            ]);
            assert!(job.files("out") == before);
            fs::write(&path, &good).unwrap();
            let same = job.expect(0, repair);
            assert!(!same.stderr.contains("made again, but"), "{}", same.stderr);
            assert!(job.files("out") == whole);
        }
    }
}

#[test]
fn a_shard_that_is_made_again_otherwise_is_told() {
    let (job, path, [good, bytes]) = of_nine();
    let tokenize = OF_NINE;
    let shard = lose(&job);
    job.expect(0, tokenize);
    fs::write(&path, &bytes).unwrap();
    lose(&job);
    let other = job.expect(1, tokenize);
    let line = "made again, but not what dataset.json had: 1 shard, the first \
                tokens/part-00001.parquet: an image of it, or what the model computes here, has \
                changed since;";
    assert!(other.stderr.contains(line), "{}", other.stderr);
    job.expect(0, "verify out");
    fs::write(&path, &good).unwrap();
    lose(&job);
    job.expect(1, tokenize);
    assert!(fs::read(job.path("out/tokens/part-00001.parquet")).unwrap() == shard);
}
