//! Owns one question: how many images a second can the main job feed to a card that computes 64 of them
//! in no time, where decoding isn't what binds? Pictures of 256x256 pixels that are hardly work to decode
//! go through the whole pipeline to shards; what each of its threads needs for an image is measured by
//! the system.
//!
//! `cargo bench --bench pipeline -- [IMAGES] [FOLDER]` (default: 20,000, in the system's temporary
//! folder; Linux). Exits with 1 where the engine's and the writer's threads need 250 us or more in sum.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use vqtok::Result;
use vqtok::internals::config::Recipe;
use vqtok::internals::pipeline;
use vqtok::internals::tokens::{CommitMode, Plan, PlanRow};

#[path = "common/null_engine.rs"]
mod null_engine;

use null_engine::{F16_GRIDS, NullCard};

const CODES: u32 = 16_384;
const BATCH: usize = 64;
/// Images a partition, the program's own default.
const SHARD_ROWS: usize = 4096;
/// Different pictures.
const PICTURES: usize = 64;
/// The thread that looks at the others.
const WATCH: &str = "watch";
/// What an image may cost the two threads that can't be more than one.
const BUDGET_US: f64 = 250.0;

fn main() -> Result<ExitCode> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let images: i64 = words.first().map_or(20_000, |word| word.parse().expect("a number"));
    let scratch = match words.get(1) {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let scratch = scratch.expect("a scratch folder");
    let recipe = Recipe::parse(F16_GRIDS, "the bench")?;
    let pictures = drawn(scratch.path());
    let mut engine = NullCard::of(&recipe, CODES);
    let identity = pipeline::identity(&engine, &recipe.preparation(), SHARD_ROWS)?;
    let rows = (0..images).map(|ordinal| Ok(row(ordinal, &pictures)));
    let plan = Plan::create_or_open(&scratch.path().join("out"), &identity, rows, SHARD_ROWS)?;
    let settings = pipeline::Settings {
        preparation: recipe.preparation(),
        batch_size: BATCH,
        on_error: pipeline::OnError::Record,
        mode: CommitMode::New,
        sizes: pipeline::Sizes::Planned,
        decode_time_max: pipeline::DECODE_TIME_MAX,
    };
    let partitions: Vec<usize> = (0..plan.partitions()).collect();
    let started = Instant::now();
    let (summary, threads) =
        watched(|| pipeline::run(&settings, &plan, &partitions, &mut engine, &mut ()));
    let seconds = started.elapsed().as_secs_f64();
    assert_eq!(summary?.written, images as u64);
    Ok(report(images as f64, seconds, &threads))
}

/// Pictures as uncompressed files.
fn drawn(folder: &Path) -> Vec<PathBuf> {
    let draw = |index: usize| {
        let path = folder.join(format!("{index}.ppm"));
        let at = |x: u32, y: u32| {
            let word = (x * 31 + y * 17 + index as u32 * 101).wrapping_mul(2_654_435_761);
            image::Rgb([(word >> 8) as u8, (word >> 16) as u8, (word >> 24) as u8])
        };
        image::RgbImage::from_fn(256, 256, at).save(&path).expect("a picture");
        path
    };
    (0..PICTURES).map(draw).collect()
}

fn row(ordinal: i64, pictures: &[PathBuf]) -> PlanRow {
    let path = &pictures[ordinal as usize % pictures.len()];
    PlanRow {
        ordinal,
        key: format!("class/{ordinal:09}.ppm"),
        uri: format!("file://{}", path.display()),
        bytes: path.metadata().expect("a picture").len() as i64,
        ..PlanRow::default()
    }
}

/// Seconds on a processor by thread: what `work` took, and the same of all threads of a name together.
fn watched<T>(work: impl FnOnce() -> T) -> (T, BTreeMap<String, f64>) {
    let over = &AtomicBool::new(false);
    // Of threads that were there before, the main one alone does something.
    let before = seconds_of_threads();
    let (done, mut by_thread) = std::thread::scope(|scope| {
        let watch = std::thread::Builder::new().name(WATCH.into()).spawn_scoped(scope, move || {
            let mut latest = BTreeMap::new();
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
                latest.extend(seconds_of_threads());
            }
            latest
        });
        let watch = watch.expect("a thread");
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, watch.join().expect("the watch"))
    });
    for (thread, seconds) in before {
        by_thread.entry(thread).and_modify(|now| *now -= seconds);
    }
    let mut by_name = BTreeMap::new();
    by_thread.retain(|(_, name), _| name != WATCH);
    for ((_, name), seconds) in by_thread {
        *by_name.entry(name).or_default() += seconds;
    }
    (done, by_name)
}

/// By number and name.
fn seconds_of_threads() -> BTreeMap<(u64, String), f64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task").expect("Linux").flatten() {
        let number: u64 = entry.file_name().to_string_lossy().parse().expect("a thread");
        let name = std::fs::read_to_string(entry.path().join("comm"));
        let times = std::fs::read_to_string(entry.path().join("schedstat"));
        // A thread may have ended in between.
        let (Ok(name), Ok(times)) = (name, times) else { continue };
        let Some(nanoseconds) = times.split(' ').next().and_then(|word| word.parse::<f64>().ok())
        else {
            continue;
        };
        let main = number == u64::from(std::process::id());
        let name = if main { "writer".to_owned() } else { name.trim().to_owned() };
        found.insert((number, name), nanoseconds * 1e-9);
    }
    found
}

fn report(images: f64, seconds: f64, threads: &BTreeMap<String, f64>) -> ExitCode {
    println!("{images} images in {seconds:.2} s: {:.0} images/s", images / seconds);
    println!("| threads | us of a processor an image | alone, images/s |");
    println!("|---|---|---|");
    for (name, seconds) in threads {
        let us = seconds / images * 1e6;
        if us >= 0.5 {
            println!("| {name} | {us:.1} | {:.0} |", 1e6 / us);
        }
    }
    let of = |name: &str| threads.get(name).copied().unwrap_or(0.0) / images * 1e6;
    let sum = of("vqtok-engine") + of("writer");
    println!("engine and writer: {sum:.1} us an image of {BUDGET_US:.0}");
    // A name that isn't found would be a thread that costs nothing.
    let measured = of("vqtok-engine") > 0.0 && of("writer") > 0.0;
    if measured && sum < BUDGET_US { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
