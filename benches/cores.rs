//! Owns one question: of N times what one core encodes, how much does the main job reach on N cores? An engine
//! that waits on each of the pool's threads for as long as an image takes one core stands for the CPU engine;
//! all around it (reading, decoding, batches, writing) is real. What cores take from each other, such as memory,
//! is in no such figure.
//!
//! `cargo bench --bench cores -- [SECONDS] [CORES...]` (default: 0.215 s an image, the f16 VQGAN at 256 px on one
//! core with AVX2, and 2, 16 and 64 cores). Prints a table.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rayon::prelude::*;
use vqtok::Result;
use vqtok::internals::config::Recipe;
use vqtok::internals::engine::{Decoded, Encoded, Engine, PixelBatch, images_for_threads};
use vqtok::internals::model::config::ModelConfig;
use vqtok::internals::pipeline;
use vqtok::internals::tokens::{CommitMode, Plan, PlanRow};
use vqtok::internals::weights::digests::Digests;

#[path = "common/null_engine.rs"]
mod null_engine;

use null_engine::{F16_GRIDS, NullEngine};

/// Images a core encodes in a run.
const EACH: usize = 40;
/// Images a partition, the program's own default.
const SHARD_ROWS: usize = 4096;
/// By how much images differ in what they take: up to this share more or less.
const JITTER: f64 = 0.05;
/// The first word of a process that measures one number of cores.
const ONE: &str = "one";

/// Waits on as many threads as there are, an image on each.
struct WaitingEngine {
    engine: NullEngine,
    seconds: f64,
}

impl Engine for WaitingEngine {
    fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    fn digests(&self) -> Result<&Digests> {
        self.engine.digests()
    }

    fn device_kind(&self) -> &'static str {
        "cpu"
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.engine.grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let bytes = batch.height * batch.width * batch.channels;
        batch.pixels.par_chunks(bytes).for_each(|image| {
            // Some number from the picture, 0 to 1.
            let drawn = image.iter().step_by(97).fold(7_u8, |sum, byte| sum.wrapping_add(*byte));
            let share = 1.0 + JITTER * (f64::from(drawn) / 127.5 - 1.0);
            std::thread::sleep(Duration::from_secs_f64(self.seconds * share));
        });
        self.engine.encode(batch)
    }

    fn decode(&mut self, encoded: &Encoded) -> Result<Decoded> {
        self.engine.decode(encoded)
    }
}

/// Pictures of noise as JPEG files, as costly to decode as photos.
fn drawn(folder: &Path) -> Vec<PathBuf> {
    let draw = |index: usize| {
        let path = folder.join(format!("{index}.jpg"));
        let at = |x: u32, y: u32| {
            let word = (x / 3 * 31 + y / 3 * 17 + index as u32 * 101).wrapping_mul(2_654_435_761);
            image::Rgb([(word >> 8) as u8, (word >> 16) as u8, (word >> 24) as u8])
        };
        image::RgbImage::from_fn(320, 256, at).save(&path).expect("a picture");
        path
    };
    (0..64).map(draw).collect()
}

fn row(ordinal: usize, pictures: &[PathBuf]) -> PlanRow {
    let path = &pictures[ordinal % pictures.len()];
    PlanRow {
        ordinal: ordinal as i64,
        key: format!("class/{ordinal:09}.jpg"),
        uri: format!("file://{}", path.display()),
        bytes: path.metadata().expect("a picture").len() as i64,
        ..PlanRow::default()
    }
}

/// Seconds for `images` on the pool's threads.
fn run(images: usize, seconds: f64, scratch: &Path, pictures: &[PathBuf]) -> Result<f64> {
    let recipe = Recipe::parse(F16_GRIDS, "the bench")?;
    let mut engine = WaitingEngine { engine: NullEngine::of(&recipe), seconds };
    let identity = pipeline::identity(&engine, &recipe.preparation(), SHARD_ROWS)?;
    let rows = (0..images).map(|ordinal| Ok(row(ordinal, pictures)));
    let out = tempfile::tempdir_in(scratch).expect("a folder");
    let plan = Plan::create_or_open(&out.path().join("out"), &identity, rows, SHARD_ROWS)?;
    let settings = pipeline::Settings {
        preparation: recipe.preparation(),
        batch_size: images_for_threads(),
        on_error: pipeline::OnError::Record,
        mode: CommitMode::New,
        sizes: pipeline::Sizes::Planned,
        decode_time_max: pipeline::DECODE_TIME_MAX,
    };
    let partitions: Vec<usize> = (0..plan.partitions()).collect();
    let started = Instant::now();
    let summary = pipeline::run(&settings, &plan, &partitions, &mut engine, &mut ())?;
    assert_eq!(summary.written, images as u64);
    Ok(started.elapsed().as_secs_f64())
}

/// One row of the table, for as many cores as the pool has threads.
fn measure(seconds: f64) -> Result<()> {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let pictures = drawn(scratch.path());
    let cores = rayon::current_num_threads();
    let images = EACH * cores;
    let rate = images as f64 / run(images, seconds, scratch.path(), &pictures)?;
    let share = 100.0 * rate * seconds / cores as f64;
    println!("| {cores} | {images} | {rate:.1} | {share:.1} % |");
    Ok(())
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let number = |word: &String| word.parse::<f64>().expect("seconds, and numbers of cores");
    if words.first().is_some_and(|word| word == ONE) {
        return measure(number(&words[1]));
    }
    let seconds = words.first().map_or(0.215, number);
    println!("| cores | images | images/s | of N times one core's |");
    println!("|---|---|---|---|");
    let asked: Vec<String> = words.iter().skip(1).cloned().collect();
    let usual = || ["2", "16", "64"].map(str::to_owned).to_vec();
    for cores in if asked.is_empty() { usual() } else { asked } {
        // The pool of a process has one size.
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args([ONE, &seconds.to_string()]).env("RAYON_NUM_THREADS", &cores);
        assert!(command.status().expect("a process").success());
    }
    Ok(())
}
