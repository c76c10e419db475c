//! Owns one question: what grows with the data set? Tokenizes few and many small images with the
//! same tiny model, and prints of each process the peak resident set, the most file descriptors and
//! threads it had at a time, and the bytes it logged.
//!
//! `cargo bench --bench memory` (2,000 and 20,000 images), `cargo bench --bench memory -- 200000`
//! for another number. Every tenth image is broken, so that failures are among what might grow.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[path = "../tests/support/mod.rs"]
mod support;
use support::{TINY_RECIPE, picture};

const FEW: u32 = 2_000;
/// Broken ones: one in so many.
const BROKEN: u32 = 10;
const ROUNDS: usize = 3;

/// What a process had at most.
#[derive(Clone, Copy, Debug, Default)]
struct Peak {
    resident_kib: u64,
    descriptors: usize,
    threads: usize,
    log_bytes: u64,
    seconds: f64,
}

fn main() {
    // cargo passes `--bench`.
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let many = words.next().map_or(20_000, |word| word.parse().expect("a number of images"));
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    std::fs::write(dir.join("tiny.toml"), TINY_RECIPE).expect("recipe");
    [FEW, many].into_iter().for_each(|images| draw(dir, images));
    watch(dir, "train images-2000 --model model --recipe tiny.toml", 0);
    println!("| images | peak MiB | descriptors | threads | log bytes | log bytes, --json | s |");
    println!("|---|---|---|---|---|---|---|");
    let peaks = [FEW, many].map(|images| {
        let out = format!("out-{images}");
        let line = format!("tokenize images-{images} --model model --out {out} --shard-rows 1000");
        let run = |line: &str| {
            let _ = std::fs::remove_dir_all(dir.join(&out));
            watch(dir, line, 1)
        };
        let json = run(&format!("{line} --json")).log_bytes;
        let mut peaks: Vec<Peak> = (0..ROUNDS).map(|_| run(&line)).collect();
        peaks.sort_by_key(|peak| peak.resident_kib);
        let Peak { resident_kib, log_bytes, seconds, .. } = peaks[ROUNDS / 2];
        let descriptors = peaks.iter().map(|peak| peak.descriptors).max().unwrap_or(0);
        let threads = peaks.iter().map(|peak| peak.threads).max().unwrap_or(0);
        let resident = resident_kib as f64 / 1024.0;
        println!(
            "| {images} | {resident:.1} | {descriptors} | {threads} | {log_bytes} | {json} | \
             {seconds:.1} |"
        );
        resident
    });
    println!("ratio of the peaks, medians of {ROUNDS}: {:.3}", peaks[1] / peaks[0]);
}

/// `images` small pictures in a hundred folders: a thousand different ones, the rest copies.
fn draw(dir: &Path, images: u32) {
    let pictures: Vec<Vec<u8>> = (0..images.min(1000))
        .map(|index| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            picture(index).write_to(&mut bytes, image::ImageFormat::Png).expect("a picture");
            bytes.into_inner()
        })
        .collect();
    for index in 0..images {
        let folder = dir.join(format!("images-{images}/{:02}", index % 100));
        std::fs::create_dir_all(&folder).expect("folder");
        let bytes = &pictures[index as usize % pictures.len()];
        let length = if index % BROKEN == 7 { bytes.len() / 3 } else { bytes.len() };
        let path = folder.join(format!("{index:06}.png"));
        std::fs::write(path, &bytes[..length]).expect("picture");
    }
}

/// Runs the binary with `line` in `dir`, looking at it all the while.
fn watch(dir: &Path, line: &str, code: i32) -> Peak {
    let log = dir.join("log");
    let file = std::fs::File::create(&log).expect("a log");
    let started = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_vqtok"))
        .args(line.split_whitespace())
        .current_dir(dir)
        .stdout(Stdio::from(file.try_clone().expect("a log")))
        .stderr(Stdio::from(file))
        .spawn()
        .expect("the binary starts");
    let mut peak = Peak::default();
    let status = loop {
        look(&child, &mut peak);
        match child.try_wait().expect("a child of ours") {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    peak.seconds = started.elapsed().as_secs_f64();
    peak.log_bytes = std::fs::metadata(&log).expect("a log").len();
    assert_eq!(status.code(), Some(code), "vqtok {line}");
    peak
}

/// The system keeps the peak of memory itself; descriptors and threads are counted as they are.
fn look(child: &Child, peak: &mut Peak) {
    let process = Path::new("/proc").join(child.id().to_string());
    let count = |what: &str| std::fs::read_dir(process.join(what)).map_or(0, Iterator::count);
    peak.descriptors = peak.descriptors.max(count("fd"));
    peak.threads = peak.threads.max(count("task"));
    let status = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    peak.resident_kib = peak.resident_kib.max(kib.unwrap_or(0));
}
