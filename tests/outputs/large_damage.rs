//! Drives resuming, `verify` and `repair` over a large output (see `large_outputs`) whose plan was lost or
//! exchanged, while the limits that made it are set no more: how it lies on the disk is how it stays.

use crate::support::*;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const LINE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2 --threads 1";
const REPAIR: &str = "repair out --model model";

fn run(job: &Job, scale: &str, line: &str) -> Done {
    let mut command: Command = job.command(line);
    Done::of(command.env("VQTOK_SCALE", scale).output().unwrap())
}

/// 40 pictures, `out` of them in folders of two and a plan of several files, and `flat` in one folder.
fn scene() -> Job {
    let job = Job::new(40).trained();
    assert_eq!(run(&job, "3:2", &format!("{LINE} --out out")).code, 0);
    job.expect(0, &format!("{LINE} --out flat"));
    job
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}

#[test]
fn a_lost_plan_is_made_again_as_its_shards_lie() {
    let job = scene();
    let whole = job.files("out");
    let limits = ["10000:1000", "5:4", "2:2"];
    for (scale, line) in limits
        .iter()
        .flat_map(|scale| [(scale, format!("{LINE} --out out")), (scale, REPAIR.into())])
    {
        fs::remove_file(job.path("out/plan.parquet")).unwrap();
        let done = run(&job, scale, &line);
        assert_eq!(done.code, 0, "{scale} {line}: {}{}", done.stdout, done.stderr);
        assert!(job.files("out") == whole, "{scale} {line}");
    }
    // An output that isn't finished: its first shards decide.
    fs::remove_file(job.path("out/dataset.json")).unwrap();
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    for partition in 3..10 {
        let name = format!("out/tokens/{:05}/part-{partition:05}.parquet", partition / 2);
        fs::remove_file(job.path(&name)).unwrap();
    }
    job.expect(0, &format!("{LINE} --out out"));
    assert!(job.files("out") == whole);
    // Small ones stay in one folder, whatever the limits are.
    let flat = job.files("flat");
    fs::remove_file(job.path("flat/plan.parquet")).unwrap();
    assert_eq!(run(&job, "1:1", &format!("{LINE} --out flat")).code, 0);
    assert!(job.files("flat") == flat);
}

#[test]
fn where_the_files_of_a_lost_plan_are_lost_too_its_shards_stay_where_they_are() {
    let job = scene();
    let tokens = job.files("out/tokens");
    for line in [&*format!("{LINE} --out out"), REPAIR] {
        fs::remove_file(job.path("out/plan.parquet")).unwrap();
        // It is one file from the first time on.
        fs::remove_dir_all(job.path("out/plan")).unwrap_or_default();
        job.expect(0, line);
        assert!(job.files("out/tokens") == tokens, "{line}");
        job.expect(0, "verify out");
    }
}

#[test]
fn an_exchanged_plan_is_found_and_nothing_is_made_beside_what_is_there() {
    let job = scene();
    let [out, flat] = ["out", "flat"].map(|out| job.files(out));
    copy(&job.path("flat/plan.parquet"), &job.path("out/plan.parquet"));
    for finished in [true, false] {
        if !finished {
            fs::remove_file(job.path("out/dataset.json")).unwrap();
        }
        let words = ["plan.parquet", "tokens/", "00000/part-00000.parquet", "vqtok repair"];
        job.expect(2, &format!("{LINE} --out out")).assert_one_line(&words);
        let append = LINE.replace("images", "images --append");
        job.expect(2, &format!("{append} --out out")).assert_one_line(&words);
        let mut worker = job.command("worker --model model --out out");
        Done::of(worker.stdin(Stdio::null()).output().unwrap()).assert_one_line(&words);
        let seen = job.expect(1, "verify out --partial");
        assert!(seen.stdout.contains("bad: plan.parquet is of an output"), "{}", seen.stdout);
        assert!(!seen.stdout.contains("remove it"), "{}", seen.stdout);
    }
    job.expect(2, "finalize out").assert_one_line(&["plan.parquet", "vqtok repair"]);
    job.expect(0, REPAIR);
    assert!(job.files("out") == out);
    // The other way round.
    for (name, _) in out.iter().filter(|(name, _)| name.starts_with("plan")) {
        copy(&job.path("out").join(name), &job.path("flat").join(name));
    }
    job.expect(2, &format!("{LINE} --out flat")).assert_one_line(&["folders of 2", "part-00000"]);
    job.expect(1, "verify flat");
    job.expect(0, "repair flat --model model");
    assert!(job.files("flat") == flat);
    // A plan of folders of another size.
    assert_eq!(run(&job, "3:3", &format!("{LINE} --out other --plan-only")).code, 0);
    copy(&job.path("other/plan.parquet"), &job.path("out/plan.parquet"));
    job.expect(2, &format!("{LINE} --out out")).assert_one_line(&["folders of 3"]);
    job.expect(0, REPAIR);
    assert!(job.files("out") == out);
}

#[test]
fn shards_in_two_layouts_are_told() {
    let job = scene();
    copy(&job.path("flat/tokens/part-00005.parquet"), &job.path("out/tokens/part-00005.parquet"));
    job.expect(0, &format!("{LINE} --out out"));
    let seen = job.expect(1, "verify out");
    assert!(seen.stdout.contains("stray: tokens/part-00005.parquet"), "{}", seen.stdout);
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    let words = ["tokens", "part-00005.parquet", "move away"];
    job.expect(2, &format!("{LINE} --out out")).assert_one_line(&words);
    assert!(!job.path("out/plan.parquet").exists());
}

#[test]
fn what_a_lost_file_named_is_no_stray() {
    let job = scene();
    let whole = job.files("out");
    for (victim, whole_file) in
        [("plan.parquet", false), ("dataset.json", true), ("plan.parquet", true)]
    {
        fs::write(job.path("out/plan/notes.txt"), b"x").unwrap();
        let path = job.path("out").join(victim);
        match whole_file {
            true => fs::write(&path, b"damaged").unwrap(),
            false => fs::remove_file(&path).unwrap(),
        }
        let seen = job.expect(1, "verify out --json");
        let strays: Vec<_> = seen.events("stray").iter().map(|s| s["path"].clone()).collect();
        assert_eq!(strays, ["plan/notes.txt"], "{victim}: {}", seen.stdout);
        assert!(seen.stdout.contains(victim), "{}", seen.stdout);
        // Finishing an output anew removes what lies in `plan/` and isn't its own.
        let code = job.run(REPAIR).code;
        assert_eq!(code, i32::from(job.path("out/plan/notes.txt").exists()), "{victim}");
    }
    fs::remove_file(job.path("out/plan/notes.txt")).unwrap_or_default();
    assert!(job.files("out") == whole);
    job.expect(0, "verify out");
    // What was exchanged among the files beside shards is put back.
    let [a, b, c] = ["00000", "00001", "kept"].map(|name| job.path("out/codebook").join(name));
    fs::rename(&a, &c).unwrap();
    fs::rename(&b, &a).unwrap();
    fs::rename(&c, &b).unwrap();
    let done = job.expect(0, "repair out");
    assert!(!done.stderr.contains("not removed here"), "{}", done.stderr);
    assert!(job.files("out") == whole);
}

#[test]
fn commands_say_what_an_output_lacks() {
    let job = scene();
    let words = ["--list-only", "vqtok train"];
    job.expect(2, &format!("{LINE} --out new --list-only").replace("--model model", "--model NEW"))
        .assert_one_line(&words);
    assert!(!job.path("NEW").exists() && !job.path("new").exists());
    // A bit that no column shows: the digest does.
    let shard = job.path("out/tokens/00002/part-00004.parquet");
    let bytes = fs::read(&shard).unwrap();
    let mut bad = bytes.clone();
    let at = bytes.windows(6).position(|bytes| bytes == b"vqtok.").unwrap();
    bad[at] ^= 1;
    fs::write(&shard, &bad).unwrap();
    let done = job.expect(1, "report out --out page.html");
    let words = "tokens/00002/part-00004.parquet: its sha256 is not the one in dataset.json";
    assert!(done.stderr.contains(words), "{}", done.stderr);
    fs::write(&shard, &bytes).unwrap();
    job.expect(0, "report out --out page.html");
    fs::remove_file(job.path("out/plan.parquet")).unwrap();
    let done = job.expect(1, "inspect out");
    assert!(done.stdout.contains("missing: out/plan.parquet with 40 images"), "{}", done.stdout);
    fs::remove_file(job.path("out/dataset.json")).unwrap();
    job.expect(2, "inspect out").assert_one_line(&["out/plan.parquet", "vqtok repair"]);
}
