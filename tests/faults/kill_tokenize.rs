//! Kills the binary at random moments, alone and beside a competitor, and flips random bits of what
//! it wrote: after the same command again, or `repair`, an output is byte for byte what an
//! undisturbed job leaves. (`tests/io_faults.rs` kills at every write, sync, link and rename.)
//!
//! A usual run makes 20 rounds of each. The long one, whose table is in `benches/results/`:
//! `VQTOK_FAULT_ROUNDS=200 cargo test --release --test faults kill_tokenize -- --nocapture`.

use crate::support::random::{Random, rounds};
use crate::support::*;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// Many shards in little time: most of it goes into what a kill can hit.
const LINE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2 --threads 1";
const SHARDS: usize = 16;

/// Pictures, one of them broken, and the output of an undisturbed job, with the time that it took.
fn scene() -> (Job, Duration) {
    let job = Job::new(63).trained();
    std::fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
    let started = Instant::now();
    job.expect(1, &format!("{LINE} --out whole"));
    let whole = started.elapsed();
    assert_eq!(shards(&job, "whole"), Some(SHARDS));
    (job, whole)
}

/// Shards that can be seen; None before there is a plan.
fn shards(job: &Job, out: &str) -> Option<usize> {
    if !job.path(out).join("plan.parquet").exists() {
        return None;
    }
    let seen = |name: &str| job.path(out).join("tokens").join(name).exists();
    Some((0..SHARDS).filter(|n| seen(&format!("part-{n:05}.parquet"))).count())
}

fn start(job: &Job, out: &str) -> Child {
    let mut command = job.command(&format!("{LINE} --out {out}"));
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What stands at a kill: how often.
#[derive(Default)]
struct Table(BTreeMap<&'static str, usize>);

impl Table {
    fn count(&mut self, job: &Job, out: &str) {
        let at = match shards(job, out) {
            None => "1: no plan yet",
            Some(0) => "2: a plan and no shard",
            Some(n) if n < SHARDS => "3: some of the shards",
            Some(_) if !job.path(out).join("dataset.json").exists() => "4: every shard, no fold",
            Some(_) => "5: finished",
        };
        *self.0.entry(at).or_default() += 1;
    }

    fn kills(&self) -> usize {
        self.0.values().sum()
    }

    fn print(&self, what: &str) {
        println!("{what}: {} kills, every output the same afterwards", self.kills());
        self.0.iter().for_each(|(at, times)| println!("  {at}: {times}"));
    }
}

/// What can be seen after a kill is whole; after the same command again all is there.
fn must_recover(job: &Job, out: &str, round: usize) {
    if shards(job, out).is_some() {
        let seen = job.run(&format!("verify {out} --partial"));
        assert_eq!(seen.code, 0, "round {round}: {}{}", seen.stdout, seen.stderr);
    }
    job.expect(1, &format!("{LINE} --out {out}"));
    job.assert_same("whole", out);
    std::fs::remove_dir_all(job.path(out)).unwrap();
}

#[test]
fn a_kill_at_a_random_moment_costs_nothing() {
    let (job, mut whole) = scene();
    let (mut random, mut table) = (Random(0x5eed), Table::default());
    for round in 0.. {
        let out = format!("cut{round}");
        // Up to three kills on the way of one output.
        for _ in 0..=random.below(3) {
            let mut child = start(&job, &out);
            std::thread::sleep(whole.mul_f64(random.below(1000) as f64 / 1000.0));
            if child.try_wait().unwrap().is_some() {
                whole = whole.mul_f64(0.95); // It was faster: this was no kill.
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            table.count(&job, &out);
        }
        must_recover(&job, &out, round);
        if table.kills() >= rounds(20) {
            break;
        }
    }
    table.print("one worker");
}

#[test]
fn a_kill_of_one_of_two_workers_or_of_both_costs_nothing() {
    let (job, mut whole) = scene();
    let (mut random, mut table) = (Random(0xc0ffee), Table::default());
    for round in 0.. {
        let out = format!("cut{round}");
        let mut workers = [start(&job, &out), start(&job, &out)];
        let both = random.below(3) == 0;
        // Two at once on few cores take longer.
        std::thread::sleep(whole.mul_f64(random.below(1500) as f64 / 1000.0));
        let over = workers[0].try_wait().unwrap().is_some();
        workers[0].kill().unwrap();
        if both {
            workers[1].kill().unwrap();
        }
        match over {
            true => whole = whole.mul_f64(0.95), // It was faster: this was no kill.
            false => table.count(&job, &out),
        }
        let [_, survivor] = workers.each_mut().map(|worker| worker.wait().unwrap());
        // It may have ended before; else it does all that is left, the other's share included.
        if !both {
            assert_eq!(survivor.code(), Some(1), "round {round}: the survivor failed");
            assert_eq!(shards(&job, &out), Some(SHARDS), "round {round}");
        }
        must_recover(&job, &out, round);
        if table.kills() >= rounds(20) {
            break;
        }
    }
    table.print("two workers");
}

#[test]
fn a_flipped_bit_anywhere_is_found_and_mended() {
    let (job, _) = scene();
    let whole = job.files("whole");
    let total: usize = whole.iter().map(|(_, bytes)| bytes.len()).sum();
    let (mut random, mut table) = (Random(0xb17), BTreeMap::<String, usize>::new());
    for round in 0..rounds(20) {
        // Half of the rounds by place, where shards prevail; half by file, so that none is spared.
        let (name, bytes) = match round % 2 {
            0 => {
                let mut place = random.below(total);
                let within = |(_, bytes): &&(String, Vec<u8>)| {
                    let here = place < bytes.len();
                    place = if here { place } else { place - bytes.len() };
                    here
                };
                whole.iter().find(within).unwrap()
            }
            _ => &whole[random.below(whole.len())],
        };
        let (byte, bit) = (random.below(bytes.len()), random.below(8));
        let mut bad = bytes.clone();
        bad[byte] ^= 1 << bit;
        std::fs::write(job.path("whole").join(name), bad).unwrap();
        let place = format!("round {round}: bit {bit} of byte {byte} of {name}");
        let found = job.run("verify whole");
        assert_eq!(found.code, 1, "{place} goes unseen: {}{}", found.stdout, found.stderr);
        let mended = job.run("repair whole --model model");
        assert_eq!(mended.code, 1, "{place}: {}{}", mended.stdout, mended.stderr);
        assert!(whole == job.files("whole"), "{place} is not mended");
        let folder = name.split_once('/').map_or(name.as_str(), |(folder, _)| folder);
        *table.entry(folder.to_string()).or_default() += 1;
    }
    println!("flipped bits, all found by verify and mended by repair to the same bytes: {table:?}");
}
