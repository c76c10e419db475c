//! Drives `verify`, `repair`, `finalize` and `tokenize` over outputs that have lost several things at once:
//! what is left of an output tells how large it was, nothing that is good is lost, and what can't be
//! brought back is said in a line and left as it is.

use crate::support::*;

use std::fs;
use std::path::PathBuf;

pub(crate) const REPAIR: &str = "repair out --model model";
pub(crate) const SPARE: &str =
    "tokenize images --out out --model model --shard-rows 2 --batch-size 2 --threads 1";

/// Runs a line with these limits.
pub(crate) fn run(job: &Job, scale: &str, line: &str) -> Done {
    Done::of(job.command(line).env("VQTOK_SCALE", scale).output().unwrap())
}

pub(crate) fn expect(job: &Job, scale: &str, code: i32, line: &str) -> Done {
    let done = run(job, scale, line);
    assert_eq!(done.code, code, "vqtok {line}\n{}\n{}", done.stdout, done.stderr);
    done
}

/// `out` of 10 pictures with two appended plans, of 2 pictures and of 6: one and three partitions. With
/// `1:2` the last plan's rows lie in three files. The last pictures lie in `later` again.
pub(crate) fn appended(scale: &str) -> Job {
    let job = Job::new(18).trained();
    fs::create_dir(job.path("later")).unwrap();
    let names = names(&job, "images");
    put(&job, "images", "later", &names[10..]);
    expect(&job, scale, 0, SPARE);
    for which in [10..12, 12..18] {
        put(&job, "later", "images", &names[which]);
        expect(&job, scale, 0, &format!("{SPARE} --append"));
    }
    put(&job, "images", "later", &names[12..]);
    job
}

pub(crate) fn put(job: &Job, from: &str, to: &str, names: &[String]) {
    for name in names {
        let [from, to] = [from, to].map(|folder| job.path(folder).join(name));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(from, to).unwrap();
    }
}

pub(crate) fn names(job: &Job, folder: &str) -> Vec<String> {
    job.files(folder).into_iter().map(|(name, _)| name).collect()
}

pub(crate) fn remove(job: &Job, names: &[&str]) {
    names.iter().for_each(|name| fs::remove_file(job.path("out").join(name)).unwrap());
}

/// Puts `out` back as it was.
pub(crate) fn restore(job: &Job, files: &[(String, Vec<u8>)]) {
    fs::remove_dir_all(job.path("out")).unwrap();
    for (name, bytes) in files {
        let path = job.path("out").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The file below `out` whose path begins so.
pub(crate) fn named(job: &Job, start: &str) -> String {
    let files = job.files("out").into_iter();
    files.map(|(name, _)| name).find(|name| name.starts_with(start)).unwrap()
}

pub(crate) fn flip(path: PathBuf) {
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_output_that_lost_its_last_plan_is_not_taken_for_a_smaller_one() {
    for scale in ["1:2", "10000:1000"] {
        let job = appended(scale);
        let whole = job.files("out");
        assert_eq!(
            whole.iter().filter(|(name, _)| name.starts_with("plan/00002-")).count() > 0,
            scale == "1:2"
        );
        remove(&job, &["dataset.json", "plan-00002.parquet"]);
        let before = job.files("out");
        let seen = job.expect(1, "verify out").stdout;
        assert!(seen.contains("bad: plan-00002.parquet is missing: tokens/"), "{seen}");
        assert!(!seen.contains("remove it"), "{seen}");
        let words =
            ["out/plan-00002.parquet: it is missing: tokens/", "part-00006", "vqtok repair"];
        for line in
            ["finalize out", SPARE, &format!("{SPARE} --plan-only"), "finalize out --partition 0/2"]
        {
            job.expect(2, line).assert_one_line(&words);
            assert!(job.files("out") == before, "{line}");
        }
        // The sizes of files that lie elsewhere now stand in the plan's own files alone.
        let spread = scale == "1:2";
        if !spread {
            let words = ["out/plan-00002.parquet: it can't be rebuilt", "--append"];
            job.expect(2, REPAIR).assert_one_line(&words);
            assert!(job.files("out") == before);
            put(&job, "later", "images", &names(&job, "later"));
        }
        job.expect(0, REPAIR);
        assert!(job.files("out") == whole, "{scale}");
        // With a shard of it. What lies in the plan's own files comes back without that one, too.
        let shard =
            named(&job, if spread { "tokens/00003/part-00007" } else { "tokens/part-00007" });
        remove(&job, &["dataset.json", "plan-00002.parquet", &shard]);
        if spread {
            let words = ["the images of shard 7 aren't at their place", "later", "restore"];
            job.expect(2, REPAIR).assert_one_line(&words[..1]);
            assert!(job.path("out/plan-00002.parquet").exists());
            put(&job, "later", "images", &names(&job, "later"));
            job.expect(0, REPAIR);
        } else {
            let words =
                ["the rows of partition 7 are neither in it nor in a whole shard", "--append"];
            job.expect(2, REPAIR).assert_one_line(&words);
            job.expect(0, &format!("{SPARE} --append"));
        }
        assert!(job.files("out") == whole, "{scale}");
        job.expect(0, "verify out");
    }
}

#[test]
fn a_finished_state_before_the_lost_plan_does_not_hide_what_it_had() {
    let job = Job::new(12).trained();
    let names = names(&job, "images");
    put(&job, "images", "later", &names[8..]);
    job.expect(0, SPARE);
    let earlier = fs::read(job.path("out/dataset.json")).unwrap();
    put(&job, "later", "images", &names[8..]);
    job.expect(0, &format!("{SPARE} --append"));
    let whole = job.files("out");
    fs::write(job.path("out/dataset.json"), earlier).unwrap();
    remove(&job, &["plan-00001.parquet"]);
    let words = ["out/plan-00001.parquet: it is missing: tokens/part-00004.parquet"];
    job.expect(2, "finalize out").assert_one_line(&words);
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains("plan-00001.parquet is missing") && !seen.contains("remove"), "{seen}");
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
    // A shard that was made with other settings is somebody else's.
    job.expect(
        0,
        &SPARE.replace("--out out", "--out other").replace("--shard-rows 2", "--shard-rows 1"),
    );
    let foreign = "tokens/part-00006.parquet";
    fs::copy(job.path("other").join(foreign), job.path("out").join(foreign)).unwrap();
    job.expect(0, "finalize out");
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains(&format!("stray: {foreign}")), "{seen}");
}

#[test]
fn a_lost_file_beside_a_shard_never_costs_a_row() {
    let job = Job::new(12).trained();
    let line = SPARE.replace("--shard-rows 2", "--shard-rows 4");
    job.expect(0, &line);
    let whole = job.files("out");
    let [codebook, failures] =
        ["codebook/part-00001", "failures/part-00001"].map(|start| named(&job, start));
    let image = job.path("images").join(&names(&job, "images")[5]);
    let good = fs::read(&image).unwrap();
    // How often codes were used, and how far from them, is in no row.
    for damaged in [false, true] {
        match damaged {
            true => flip(job.path("out").join(&codebook)),
            false => remove(&job, &[&codebook]),
        }
        let before = job.files("out");
        for bad in [&b"no image"[..], &good[..good.len() - 1]] {
            fs::write(&image, bad).unwrap();
            let refused = job.expect(2, REPAIR);
            refused.assert_one_line(&[
                "out/tokens/part-00001.parquet",
                "it stays as it is",
                "restore",
            ]);
            assert!(job.files("out") == before);
        }
        job.expect(2, "repair out").assert_one_line(&["--model"]);
        fs::write(&image, &good).unwrap();
        job.expect(0, REPAIR);
        assert!(job.files("out") == whole);
    }
    // That there are no failures is known: it takes neither images nor a model.
    fs::rename(job.path("images"), job.path("away")).unwrap();
    remove(&job, &[&failures]);
    job.expect(0, "repair out");
    assert!(job.files("out") == whole);
    // What was moved is there.
    fs::create_dir(job.path("out/codebook/00003")).unwrap();
    let moved = job.path("out/codebook/00003").join(codebook.rsplit('/').next().unwrap());
    fs::rename(job.path("out").join(&codebook), moved).unwrap();
    job.expect(0, "repair out");
    assert!(job.files("out") == whole);
    fs::remove_dir(job.path("out/codebook/00003")).unwrap();
    job.expect(0, "verify out");
}

#[test]
fn a_lost_file_of_a_plan_is_named_and_not_its_root() {
    let job = Job::new(18).trained();
    expect(&job, "3:2", 0, SPARE);
    let part = named(&job, "plan/00000-00001-");
    remove(&job, &[&part, &named(&job, "tokens/00002/part-00004")]);
    let before = job.files("out");
    let file = format!("out/{part}");
    let seen = job.expect(1, "verify out").stdout;
    assert!(seen.contains(&format!("bad: {file}: it is missing; plan.parquet names it")), "{seen}");
    let words =
        [&*format!("vqtok: {file}: it is missing, and can't be rebuilt"), "remove plan.parquet"];
    job.expect(2, REPAIR).assert_one_line(&words);
    assert!(job.files("out") == before);
    let words = [&*format!("vqtok: {file}: it is missing, a file of its plan"), "vqtok repair"];
    fs::remove_file(job.path("out/dataset.json")).unwrap();
    job.expect(2, SPARE).assert_one_line(&words);
}

/// What lies in the way of a repair, and in whose place it stands.
pub(crate) fn in_the_way(job: &Job, name: &str) {
    let path = job.path("out").join(name);
    match path.is_dir() {
        true => {
            fs::remove_dir_all(&path).unwrap();
            fs::write(path, b"a file").unwrap();
        }
        false => {
            fs::remove_file(&path).unwrap();
            fs::create_dir(path).unwrap();
        }
    }
}

#[test]
fn what_is_in_the_way_is_found_before_anything_is_removed() {
    let job = Job::new(18).trained();
    expect(&job, "3:2", 0, SPARE);
    let whole = job.files("out");
    let starts = [
        "failures/00001/part-00003-",
        "codebook/00001/part-00003-",
        "tokens/00001/part-00003",
        "dataset/shards-00001",
        "dataset/codebook-00001",
        "codebook.parquet",
        "dataset.json",
        "plan/00000-00001-",
        "plan.parquet",
    ];
    let files = starts.map(|start| named(&job, start));
    let folders = ["failures", "codebook", "dataset"].map(str::to_string);
    for victim in files.iter().chain(&folders) {
        // Something is to be removed, and to be summed up anew.
        flip(job.path("out/tokens/00001/part-00002.parquet"));
        in_the_way(&job, victim);
        let before = job.files("out");
        let refused = job.expect(2, REPAIR);
        refused.assert_one_line(&[&format!("out/{victim}: it is a f"), "move it away"]);
        assert!(job.files("out") == before, "{victim}");
        restore(&job, &whole);
    }
    flip(job.path("out/tokens/00001/part-00002.parquet"));
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
}

#[test]
fn an_exchanged_plan_comes_back_in_the_files_that_it_had() {
    let job = Job::new(18).trained();
    let names = names(&job, "images");
    put(&job, "images", "later", &names[10..]);
    for (scale, out) in [("3:2", "out"), ("1:2", "other")] {
        expect(&job, scale, 0, &SPARE.replace("--out out", &format!("--out {out}")));
    }
    put(&job, "later", "images", &names[10..]);
    for (scale, out) in [("3:2", "out"), ("1:2", "other")] {
        let line = SPARE.replace("--out out", &format!("--out {out} --append"));
        expect(&job, scale, 0, &line);
    }
    let whole = job.files("out");
    let exchange = || {
        // The same rows in other files.
        for (name, bytes) in job.files("other") {
            if name.starts_with("plan-00001") || name.starts_with("plan/00001-") {
                fs::write(job.path("out").join(name), bytes).unwrap();
            }
        }
        flip(job.path("out/plan-00001.parquet"));
    };
    exchange();
    assert_eq!(names_of(&job, "plan/00001-").len(), 6);
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
    // Nothing says which of them it had.
    exchange();
    remove(&job, &["dataset.json"]);
    let before = job.files("out");
    let words =
        ["out/plan-00001.parquet: it can't be rebuilt: its rows are known", "plan/", "restore it"];
    job.expect(2, REPAIR).assert_one_line(&words);
    assert!(job.files("out") == before);
    // But what lies there does, where it is of one way.
    for name in names_of(&job, "plan/00001-") {
        if !whole.iter().any(|(known, _)| *known == name) {
            remove(&job, &[&name]);
        }
    }
    job.expect(0, REPAIR);
    assert!(job.files("out") == whole);
}

fn names_of(job: &Job, start: &str) -> Vec<String> {
    names(job, "out").into_iter().filter(|name| name.starts_with(start)).collect()
}
