//! Kills the binary at random moments while it reads tars, compressed tars, Parquet files and zips:
//! after the same command again an output is byte for byte what an undisturbed job leaves.
//!
//! A usual run makes a few rounds of each. The long one:
//! `VQTOK_FAULT_ROUNDS=100 cargo test --release --test faults kill_sources -- --nocapture`.

use crate::support::containers;
use crate::support::random::{Random, rounds};
use crate::support::*;
use containers::{Layout, compressed, members, samples, table, tar, zip};

use std::process::Stdio;
use std::time::{Duration, Instant};

const FLAGS: &str = "--model model --shard-rows 4 --batch-size 2 --threads 2";

/// Kills and reruns a job on `input` again and again; `code` is how it ends.
fn survives(job: &Job, input: &str, code: i32, seed: u64) {
    let line = |out: &str| format!("tokenize {input} --out {out} {FLAGS}");
    let started = Instant::now();
    job.expect(code, &line("whole"));
    let whole = started.elapsed();
    let (mut random, mut killed, mut unfinished) = (Random(seed), 0, 0);
    for round in 0..rounds(5) {
        // Some rounds are killed twice on their way.
        for _ in 0..1 + round % 2 {
            let mut command = job.command(&line("out"));
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let micros = random.below(whole.as_micros() as usize + 1);
            std::thread::sleep(Duration::from_micros(micros as u64));
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
        }
        if job.path("out/plan.parquet").exists() {
            let seen = job.run("verify out --partial");
            assert_eq!(seen.code, 0, "{input}, round {round}: {}{}", seen.stdout, seen.stderr);
            unfinished += usize::from(!job.path("out/dataset.json").exists());
        }
        job.expect(code, &line("out"));
        job.assert_same("whole", "out");
        std::fs::remove_dir_all(job.path("out")).unwrap();
    }
    println!(
        "{input}: {killed} kills ({unfinished} in the midst), every output the same afterwards"
    );
    std::fs::remove_dir_all(job.path("whole")).unwrap();
}

#[test]
fn kills_cost_nothing_whatever_holds_the_images() {
    let job = Job::new(40).trained();
    let samples = samples(job.files("images"));
    let halves = [tar(&members(&samples[..25])), tar(&members(&samples[25..]))];
    for (name, half) in ["a.tar", "b.tar"].iter().zip(&halves) {
        std::fs::write(job.path(name), half).unwrap();
        std::fs::write(job.path(&format!("{name}.gz")), compressed("gz", half)).unwrap();
    }
    let mut cut = halves[1].clone();
    cut.truncate(cut.len() / 2 + 100); // in the midst of a block
    std::fs::write(job.path("cut.tar"), cut).unwrap();
    table(&job.path("t.parquet"), &samples, Layout::Struct, 7);
    std::fs::write(job.path("z.zip"), zip(&job.files("images"))).unwrap();
    survives(&job, "a.tar b.tar", 0, 1);
    survives(&job, "a.tar.gz b.tar.gz", 0, 2);
    survives(&job, "a.tar cut.tar", 1, 3);
    survives(&job, "t.parquet", 0, 4);
    survives(&job, "z.zip", 0, 5);
}
