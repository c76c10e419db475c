//! Owns one question: what does an output of very many images cost, but for the images? Plans rows of a
//! null source, fills their shards from a null engine (a grid of six codes each, every seventh fails),
//! finishes the output, proves it and opens it again. Each step is a process of its own, which prints the
//! time it took and the memory it had at most.
//!
//! `cargo bench --bench plan` (1,000,000 images, 500 to a shard), `cargo bench --bench plan -- 10000000
//! 500` for others; a third word names the folder to work in, which must not exist. What the steps cost
//! is linear in images or in shards: `benches/results/2026-11-plan.md` says what comes of it for a
//! billion.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rayon::prelude::*;
use vqtok::internals::audit;
use vqtok::internals::tokens::{CommitMode, Plan, PlanRow, finalize};

#[path = "../tests/support/outputs.rs"]
mod outputs;

/// Names the step to the process that does it.
const STEP: &str = "VQTOK_BENCH_STEP";
const STEPS: [(&str, &str); 7] = [
    ("plan", "plan the rows, prove that keys differ"),
    ("same", "hold the same rows against the plan"),
    ("open", "open the plan and read the last partition (what each worker does)"),
    ("shards", "fill the shards from a null engine"),
    ("finalize", "finish the output"),
    ("again", "find it to be finished"),
    ("verify", "prove every row"),
];

fn main() {
    // cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with("--")).collect();
    let number =
        |at: usize, usual: i64| words.get(at).map_or(usual, |word| word.parse().expect("a number"));
    let (images, shard_rows) = (number(0, 1_000_000), number(1, 500));
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let out = words.get(2).map_or_else(|| scratch.path().join("out"), PathBuf::from);
    if let Ok(step) = std::env::var(STEP) {
        return take(&step, &out, images, shard_rows as u64);
    }
    println!("{images} images, {shard_rows} to a shard");
    println!("| step | s | peak MiB |");
    println!("|---|---|---|");
    for (step, words) in STEPS {
        let program = std::env::current_exe().expect("this program");
        let done = Command::new(program)
            .args([images.to_string(), shard_rows.to_string()])
            .arg(&out)
            .env(STEP, step)
            .output()
            .expect("the step starts");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
        println!("| {words} | {} |", said.trim());
    }
    count(&out);
}

/// One step, in a process of its own.
fn take(step: &str, out: &Path, images: i64, shard_rows: u64) {
    let started = Instant::now();
    match step {
        "plan" | "same" => drop(plan(out, images, shard_rows)),
        "open" => {
            let plan = Plan::open(out).expect("a plan");
            let last = plan.partition(plan.partitions() - 1).expect("a partition");
            assert_eq!(last.last().map(|row| row.ordinal), Some(images - 1));
        }
        "shards" => {
            let plan = Plan::open(out).expect("a plan");
            (0..plan.partitions()).into_par_iter().for_each(|partition| {
                outputs::write(&plan, partition, CommitMode::New).expect("a shard");
            });
        }
        "finalize" | "again" => {
            let dataset = finalize(out).expect("an output");
            assert_eq!(dataset.totals.planned, images as u64);
        }
        _ => {
            let report = audit::verify(out).expect("an output");
            assert!(report.complete(), "{:?}", report.findings.first());
            assert_eq!(report.planned, images as u64);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{seconds:.1} | {:.1}", peak_mib());
}

/// The plan of a source that has no files.
fn plan(out: &Path, images: i64, shard_rows: u64) -> Plan {
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("class/{ordinal}.png"),
        uri: format!("file:///data/class/{ordinal}.png"),
        bytes: 100 + ordinal,
        ..PlanRow::default()
    };
    let rows = (0..images).map(|ordinal| Ok(row(ordinal)));
    let identity = outputs::identity(shard_rows);
    Plan::create_or_open(out, &identity, rows, shard_rows as usize).expect("a plan")
}

/// The system keeps the peak of memory itself.
fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) / 1024.0
}

/// Files and bytes by folder of the output.
fn count(out: &Path) {
    let (mut folders, mut bytes) = (BTreeMap::<PathBuf, u64>::new(), BTreeMap::new());
    for entry in walkdir::WalkDir::new(out) {
        let entry = entry.expect("a readable output");
        if !entry.file_type().is_file() {
            continue;
        }
        *folders.entry(entry.path().parent().expect("a folder").to_path_buf()).or_default() += 1;
        let inner = entry.path().strip_prefix(out).expect("below the output");
        let top = inner.components().next().expect("a name").as_os_str().to_owned();
        let total: &mut (u64, u64) = bytes.entry(top).or_default();
        *total = (total.0 + 1, total.1 + entry.metadata().expect("a file").len());
    }
    println!("\n| in the output | files | bytes |\n|---|---|---|");
    for (name, (files, bytes)) in &bytes {
        println!("| {} | {files} | {bytes} |", name.display());
    }
    let most = folders.values().max().copied().unwrap_or(0);
    println!("\n{} folders, of which the fullest has {most} files", folders.len());
}
