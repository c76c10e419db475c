//! Owns three questions about models in ONNX files, on the f16 VQGAN at 256 pixels (random weights): how
//! many images a second do we encode beside Python's onnxruntime on the same file and library, what
//! does the pipeline cost beside the bare engine, and are the tokens equal?
//!
//! `cargo bench --bench onnx -- --python PATH [--images DIR] [--count N] [--rounds N]` (default: 32 of
//! the photos beside the checkout, 5 rounds). The interpreter has onnxruntime and numpy;
//! `ORT_DYLIB_PATH` names the same library. Runs alternate; medians.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use vqtok::internals::checkpoint::folder;
use vqtok::internals::checkpoint::onnx::write::{Floats, write};
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::data::prepare::{Preparation, prepare};
use vqtok::internals::data::{SourceFile, subsample, walk};
use vqtok::internals::engine::{Engine, PixelBatch, onnx};
use vqtok::internals::model::config::Parts;
use vqtok::internals::pipeline;
use vqtok::internals::tokens::{CommitMode, Plan, PlanRow};

#[path = "common/encoder.rs"]
mod encoder;

const BATCH: usize = 16;
const SIDE: u32 = 256;

struct Settings {
    images: PathBuf,
    count: usize,
    rounds: usize,
    python: PathBuf,
}

fn settings() -> Settings {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/images/photos");
    let python = PathBuf::from("python3");
    let mut settings = Settings { images: photos.into(), count: 32, rounds: 5, python };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().expect("a value behind the flag");
        match arg.as_str() {
            "--images" => settings.images = value.into(),
            "--count" => settings.count = value.parse().expect("a number of images"),
            "--rounds" => settings.rounds = value.parse().expect("a number of rounds"),
            "--python" => settings.python = value.into(),
            other => panic!("unknown flag {other}"),
        }
    }
    settings
}

fn main() -> vqtok::Result<()> {
    let settings = settings();
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let (model, exported) = (scratch.path().join("model"), scratch.path().join("onnx"));
    let (mut config, weights) = encoder::f16_vqgan(1024, Parts::Encoder);
    (config.preprocess.resize, config.preprocess.size) = ("bicubic".into(), Some(SIDE));
    folder::save(&model, &config, &weights)?;
    write(&model, &DetectOptions::default(), &exported, Floats::F32)?;
    let found = subsample::evenly(walk(std::slice::from_ref(&settings.images))?, settings.count)?;
    let preparation = preparation();
    let batches = prepared(&found, &preparation);
    let mut engine = onnx::open(begin(&exported, &DetectOptions::default())?, Some(SIDE))?;
    let mut peer = Peer::start(&settings.python, &exported, &batches, scratch.path());
    let mut tokens = Vec::new();
    for batch in &batches {
        tokens.extend(engine.encode(batch)?.levels.remove(0).codes);
    }
    assert_eq!(peer.ask("tokens"), tokens.iter().map(|t| f64::from(*t)).collect::<Vec<_>>());
    let (mut own, mut theirs, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..settings.rounds {
        let started = Instant::now();
        for batch in &batches {
            engine.encode(batch)?;
        }
        own.push(found.len() as f64 / started.elapsed().as_secs_f64());
        theirs.push(found.len() as f64 / peer.ask("run")[0]);
        let out = scratch.path().join(format!("out-{round}"));
        let seconds = whole_job(&found, &out, engine.as_mut(), &preparation)?;
        whole.push(found.len() as f64 / seconds);
    }
    let [own, theirs, whole] = [own, theirs, whole].map(median);
    println!("{} photos, {} rounds, medians; all tokens equal", found.len(), settings.rounds);
    println!("Python's onnxruntime {theirs:9.3} images/s");
    println!("our engine           {own:9.3} images/s, {:.3} of it", own / theirs);
    println!("the whole job        {whole:9.3} images/s, {:.3} of the engine's", whole / own);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn preparation() -> Preparation {
    Preparation {
        limits: Default::default(),
        alpha: Default::default(),
        orientation: Default::default(),
        pillow: Default::default(),
        rule: Default::default(),
        size: Some(SIDE),
        channels: 3,
        views: None,
        buckets: None,
    }
}

/// The pipeline's batches, in memory.
fn prepared(found: &[SourceFile], how: &Preparation) -> Vec<PixelBatch> {
    let images: Vec<_> = found.iter().map(|f| prepare(&f.uri, how).expect("a photo")).collect();
    images
        .chunks(BATCH)
        .map(|chunk| PixelBatch {
            pixels: chunk.iter().flat_map(|image| image.pixels.iter().copied()).collect(),
            count: chunk.len(),
            height: chunk[0].height,
            width: chunk[0].width,
            channels: how.channels,
        })
        .collect()
}

/// Seconds from files to shards, the engine being there.
fn whole_job(
    found: &[SourceFile],
    out: &Path,
    engine: &mut dyn Engine,
    preparation: &Preparation,
) -> vqtok::Result<f64> {
    let settings = pipeline::Settings {
        preparation: preparation.clone(),
        batch_size: BATCH,
        on_error: pipeline::OnError::Record,
        mode: CommitMode::New,
        sizes: pipeline::Sizes::Planned,
        decode_time_max: pipeline::DECODE_TIME_MAX,
    };
    let rows = found.iter().enumerate().map(|(i, f)| {
        let (key, uri, bytes) = (f.key.clone(), f.uri.clone(), f.bytes as i64);
        Ok(PlanRow { ordinal: i as i64, key, uri, bytes, ..PlanRow::default() })
    });
    let identity = pipeline::identity(engine, preparation, 4096)?;
    let plan = Plan::create_or_open(out, &identity, rows, 4096)?;
    let started = Instant::now();
    pipeline::run(&settings, &plan, &[0], engine, &mut ())?;
    Ok(started.elapsed().as_secs_f64())
}

/// Python's onnxruntime on the same file and batches.
struct Peer(Child);

impl Peer {
    fn start(python: &Path, exported: &Path, batches: &[PixelBatch], scratch: &Path) -> Peer {
        let images = scratch.join("images.rgb");
        let bytes: Vec<u8> = batches.iter().flat_map(|batch| batch.pixels.clone()).collect();
        std::fs::write(&images, bytes).expect("the images");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/run_onnx.py");
        let mut command = Command::new(python);
        command.arg(script).arg(exported.join("encoder.onnx")).arg(&images);
        command.arg(SIDE.to_string()).arg(BATCH.to_string());
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Peer(child.expect("an interpreter with onnxruntime: give --python"))
    }

    /// The numbers of its answer.
    fn ask(&mut self, what: &str) -> Vec<f64> {
        let stdin = self.0.stdin.as_mut().expect("piped");
        writeln!(stdin, "{what}").expect("the peer runs");
        let stdout = self.0.stdout.as_mut().expect("piped");
        let mut line = String::new();
        // One line an answer, so that nothing is left in the buffer.
        BufReader::new(stdout).read_line(&mut line).expect("the peer answers");
        line.split_whitespace().map(|word| word.parse().expect("a number")).collect()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Ends with its input.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
