//! Drives `repair` over every pair of damages that a small output in folders can have, where each harms one
//! kind of file: one repair brings back equal bytes, or says what it can't and leaves the rest alone.

use crate::support::*;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use vqtok::{Repair, TokenizerOptions, verify};

/// By whose starts the files are found that are damaged: one of each kind, further ones of the same
/// partition and of the same folder, and of others.
const FILES: [&str; 13] = [
    "plan.parquet",
    "plan-00001.parquet",
    "plan/00000-00000-",
    "plan/00000-00001-",
    "dataset.json",
    "codebook.parquet",
    "dataset/shards-00000-",
    "dataset/codebook-00000-",
    "dataset/shards-00002-",
    "tokens/00000/part-00000",
    "failures/00000/part-00000",
    "codebook/00000/part-00000",
    "tokens/00002/part-00005",
];

/// Harms a file: it is lost, or a bit of it flipped.
fn harm(path: &Path, lost: bool) {
    if lost {
        return fs::remove_file(path).unwrap();
    }
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() / 3;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// `out` of 10 pictures and 2 that were appended, two to a shard and two shards to a folder, the rows of
/// the first plan in two files, one picture that fails.
fn scene() -> Job {
    let job = Job::new(12).trained();
    fs::write(job.path("images/cat/0001.bmp"), b"no picture").unwrap();
    fs::create_dir(job.path("later")).unwrap();
    let later = ["0009.bmp", "cat/0010.ppm"]
        .map(|name| (job.path("images").join(name), job.path("later").join(name)));
    fs::create_dir(job.path("later/cat")).unwrap();
    for (from, to) in &later {
        fs::rename(from, to).unwrap();
    }
    let line = "tokenize images --out out --model model --shard-rows 2 --threads 1";
    let run = |line: &str| Done::of(job.command(line).env("VQTOK_SCALE", "3:2").output().unwrap());
    assert_eq!(run(line).code, 1);
    for (from, to) in &later {
        fs::rename(to, from).unwrap();
    }
    assert_eq!(run(&format!("{line} --append")).code, 1);
    job
}

type Files = Vec<(String, Vec<u8>)>;

fn put(dir: &Path, whole: &Files) {
    let _ = fs::remove_dir_all(dir);
    for (name, bytes) in whole {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Every two files, each lost or not.
fn pairs(whole: &Files) -> Vec<[(String, bool); 2]> {
    let named = |start: &&str| {
        let (name, _) = whole.iter().find(|(name, _)| name.starts_with(start)).unwrap();
        name.clone()
    };
    let files: Vec<String> = FILES.iter().map(named).collect();
    let two = |a: usize| (a + 1..files.len()).map(move |b| (a, b));
    let ways = [[true, true], [true, false], [false, true], [false, false]];
    let pairs = (0..files.len()).flat_map(two).flat_map(|pair| ways.map(|way| (pair, way)));
    pairs.map(|((a, b), [c, d])| [(files[a].clone(), c), (files[b].clone(), d)]).collect()
}

/// What is wrong with a repair of `whole` from a pair of damages, in folder `name`.
fn wrong(job: &Job, name: &str, whole: &Files, pair: &[(String, bool); 2]) -> Option<String> {
    let dir = job.path(name);
    put(&dir, whole);
    pair.iter().for_each(|(file, lost)| harm(&dir.join(file), *lost));
    let damaged = job.files(name);
    let repair = Repair::new(&dir).model(job.path("model"), TokenizerOptions::new());
    let done = repair.run(&mut ());
    let now = job.files(name);
    match done {
        Ok(summary) if !summary.left.is_empty() => Some(format!("left {:?}", summary.left)),
        Ok(summary) if !summary.strays.is_empty() => Some(format!("strays {:?}", summary.strays)),
        Ok(_) if now != *whole => Some(format!("not equal {:?}", differ(whole, &now))),
        Ok(_) if !verify(&dir).unwrap().complete() => Some("not clean".into()),
        Ok(_) => None,
        Err(error) => {
            // What can't come back: the rows of a plan that stand nowhere else.
            let lost_rows = pair.iter().any(|(file, _)| file.starts_with("plan"));
            let harmed = damaged.iter().find(|file| whole.contains(file) && !now.contains(file));
            match harmed {
                None if lost_rows && error.to_string().contains("can't be rebuilt") => None,
                None => Some(format!("refused: {error}")),
                Some((file, _)) => Some(format!("took {file}: {error}")),
            }
        }
    }
}

#[test]
fn one_repair_brings_back_what_two_damages_took_or_says_what_it_cannot() {
    let job = scene();
    let whole = job.files("out");
    let pairs = pairs(&whole);
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = |name: &str| {
        while let Some(pair) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(problem) = wrong(&job, name, &whole, pair) {
                found.lock().unwrap().push(format!("{pair:?}: {problem}"));
            }
        }
    };
    std::thread::scope(|scope| {
        let work = &work;
        for name in ["a", "b", "c", "d"] {
            scope.spawn(move || work(name));
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{} of {}:\n{}", found.len(), pairs.len(), found.join("\n"));
}

fn differ(a: &Files, b: &Files) -> Vec<String> {
    let missing = a.iter().filter(|file| !b.contains(file)).map(|(name, _)| format!("-{name}"));
    let more = b.iter().filter(|file| !a.contains(file)).map(|(name, _)| format!("+{name}"));
    missing.chain(more).collect()
}
