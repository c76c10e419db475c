//! Owns three questions about the whole job, photos from JPEG files to token shards through the f16
//! VQGAN at 256 pixels (random weights): what does the pipeline cost beside the bare engine, and
//! how does it compare with the PyTorch script that people write for it today? And how long does a
//! cold start take to its first shard?
//!
//! `cargo bench --bench end_to_end -- [--images DIR] [--count N] [--python PATH] [--rounds N]`
//! (default: 32 of the photos beside the checkout, 3 rounds; the interpreter needs torch,
//! safetensors, pillow, pyarrow; without it the second question is left out). Runs alternate;
//! medians. Tokens of both are compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use arrow::array::{AsArray, ListArray, cast};
use arrow::datatypes::{Int64Type, UInt16Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::data::prepare::{Preparation, prepare};
use vqtok::internals::data::source::file;
use vqtok::internals::data::{SourceFile, subsample, walk};
use vqtok::internals::engine::{self, PixelBatch};
use vqtok::internals::model::config::Parts;
use vqtok::internals::pipeline;
use vqtok::internals::tokens::{CommitMode, Plan, PlanRow};

#[path = "common/encoder.rs"]
mod encoder;
#[path = "common/process.rs"]
mod process;

const BATCH: usize = 16;
const SIDE: u32 = 256;

struct Settings {
    images: PathBuf,
    count: usize,
    rounds: usize,
    python: Option<PathBuf>,
}

fn settings() -> Settings {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/images/photos");
    let mut settings = Settings { images: photos.into(), count: 32, rounds: 3, python: None };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().expect("a value behind the flag");
        match arg.as_str() {
            "--images" => settings.images = value.into(),
            "--count" => settings.count = value.parse().expect("a number of images"),
            "--rounds" => settings.rounds = value.parse().expect("a number of rounds"),
            "--python" => settings.python = Some(value.into()),
            other => panic!("unknown flag {other}"),
        }
    }
    settings
}

fn main() -> vqtok::Result<()> {
    let settings = settings();
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let model = scratch.path().join("model");
    let (mut config, weights) = encoder::f16_vqgan(1024, Parts::Both);
    config.preprocess.resize = "bicubic".into();
    config.preprocess.size = Some(SIDE);
    vqtok::internals::checkpoint::folder::save(&model, &config, &weights)?;
    let photos = scratch.path().join("photos");
    copied(&settings, &photos)?;
    let found = subsample::evenly(walk(std::slice::from_ref(&photos))?, settings.count)?;
    println!("{} photos, {} rounds, medians", found.len(), settings.rounds);
    first_shard(&photos.join(&found[0].key), &model, scratch.path(), settings.rounds);
    beside_the_engine(&found, &model, scratch.path(), settings.rounds)?;
    if let Some(python) = &settings.python {
        beside_pytorch(python, &found, &model, scratch.path(), settings.rounds);
    }
    Ok(())
}

/// The photos that take part, by number, in a folder of their own.
fn copied(settings: &Settings, to: &Path) -> vqtok::Result<()> {
    std::fs::create_dir_all(to).expect("a folder");
    let walked = walk(std::slice::from_ref(&settings.images))?;
    for (i, found) in subsample::evenly(walked, settings.count)?.iter().enumerate() {
        let bytes = file::read(&found.uri, &Default::default()).expect("a photo");
        std::fs::write(to.join(format!("{i:05}.jpg")), bytes).expect("a photo");
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// From nothing to the first shard: one photo, the full-size model with its decoder.
fn first_shard(photo: &Path, model: &Path, scratch: &Path, rounds: usize) {
    let out = scratch.join("first");
    let mut walls: Vec<f64> = (0..rounds)
        .map(|_| {
            let _ = std::fs::remove_dir_all(&out);
            let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
            command.arg("tokenize").arg(photo).arg("--out").arg(&out);
            process::cost(command.arg("--model").arg(model)).0
        })
        .collect();
    println!("first shard of one photo, whole process {:.2} s", median(&mut walls));
}

/// The same images through the engine from memory, and from files to shards, in this process.
fn beside_the_engine(
    found: &[SourceFile],
    model: &Path,
    scratch: &Path,
    rounds: usize,
) -> vqtok::Result<()> {
    let preparation = Preparation {
        limits: Default::default(),
        alpha: Default::default(),
        orientation: Default::default(),
        pillow: Default::default(),
        rule: Default::default(),
        size: Some(SIDE),
        channels: 3,
        views: None,
        buckets: None,
    };
    let (device, precision) = (engine::DeviceChoice::Cpu, engine::Precision::F32);
    let mut engine = engine::open(begin(model, &DetectOptions::default())?, device, precision)?;
    let batches = prepared(found, &preparation);
    // Packs the weights and touches the memory that later batches reuse.
    engine.encode(&batches[0])?;
    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let started = Instant::now();
        for batch in &batches {
            engine.encode(batch)?;
        }
        bare.push(found.len() as f64 / started.elapsed().as_secs_f64());
        let out = scratch.join(format!("bare-{round}"));
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
        let identity = pipeline::identity(engine.as_ref(), &preparation, 4096)?;
        let plan = Plan::create_or_open(&out, &identity, rows, 4096)?;
        let started = Instant::now();
        pipeline::run(&settings, &plan, &[0], engine.as_mut(), &mut ())?;
        whole.push(found.len() as f64 / started.elapsed().as_secs_f64());
    }
    let (bare, whole) = (median(&mut bare), median(&mut whole));
    println!("bare engine  {bare:9.3} images/s");
    println!("pipeline     {whole:9.3} images/s, {:.3} of the engine's", whole / bare);
    Ok(())
}

/// The same batches as the pipeline's, in memory.
fn prepared(found: &[SourceFile], how: &Preparation) -> Vec<PixelBatch> {
    let images: Vec<_> = found.iter().filter_map(|f| prepare(&f.uri, how).ok()).collect();
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

/// The binary beside the script, whole processes on two threads each.
fn beside_pytorch(
    python: &Path,
    found: &[SourceFile],
    model: &Path,
    scratch: &Path,
    rounds: usize,
) {
    let photos = scratch.join("photos");
    let paths = found.iter().map(|f| format!("{}\n", photos.join(&f.key).display()));
    let list: String = paths.collect();
    std::fs::write(scratch.join("list"), list).expect("the list");
    let (out, table) = (scratch.join("out"), scratch.join("tokens.parquet"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/tokenize_torch.py");
    let (mut walls, mut peaks) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..rounds {
        let _ = std::fs::remove_dir_all(&out);
        let mut own = Command::new(env!("CARGO_BIN_EXE_vqtok"));
        own.arg("tokenize").arg(&photos).arg("--out").arg(&out).arg("--model").arg(model);
        own.args(["--threads", "2"]);
        let mut peer = Command::new(python);
        peer.arg(&script).arg(model.join("model.safetensors")).arg(&table).args(["2", "1"]);
        peer.arg(scratch.join("list"));
        peer.env("MALLOC_MMAP_THRESHOLD_", "4294967296")
            .env("MALLOC_TRIM_THRESHOLD_", "17179869184");
        for (which, command) in [&mut own, &mut peer].into_iter().enumerate() {
            let (wall, peak) = process::cost(command);
            walls[which].push(wall);
            peaks[which].push(peak as f64 / 1024.0);
        }
    }
    let [own, peer] = walls.map(|mut walls| median(&mut walls));
    let [own_peak, peer_peak] = peaks.map(|mut peaks| median(&mut peaks));
    println!("vqtok tokenize            {own:8.2} s, peak {own_peak:7.0} MiB");
    println!("PyTorch DataLoader script {peer:8.2} s, peak {peer_peak:7.0} MiB");
    println!("ratio {:.2}, memory {:.2}", peer / own, own_peak / peer_peak);
    compare(&out, &table);
}

fn compare(out: &Path, table: &Path) {
    let shard = std::fs::read_dir(out.join("tokens")).expect("shards").next();
    let shard = shard.expect("a shard").expect("an entry").path();
    let ours: BTreeMap<String, Vec<u32>> = rows(&shard);
    let theirs = rows(table);
    assert_eq!(ours.len(), theirs.len(), "images");
    let (mut equal, mut all) = (0, 0);
    for (ours, theirs) in ours.values().zip(theirs.values()) {
        all += ours.len();
        equal += ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
    }
    println!("{equal} of {all} tokens equal");
}

/// Tokens by the file's name.
fn rows(path: &Path) -> BTreeMap<String, Vec<u32>> {
    let file = std::fs::File::open(path).expect("a Parquet file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.build());
    let mut out = BTreeMap::new();
    for batch in reader.expect("a Parquet file") {
        let batch = batch.expect("rows");
        let uris = batch.column_by_name("uri").expect("uri").as_string::<i32>().clone();
        let tokens = batch.column_by_name("tokens").expect("tokens");
        for (i, uri) in uris.iter().enumerate() {
            let uri = uri.expect("a uri");
            let name = uri.rsplit('/').next().unwrap_or(uri).to_owned();
            let row = match tokens.as_fixed_size_list_opt() {
                Some(list) => list
                    .value(i)
                    .as_primitive::<UInt16Type>()
                    .values()
                    .iter()
                    .map(|t| u32::from(*t))
                    .collect(),
                None => {
                    let list: &ListArray = cast::as_list_array(tokens);
                    list.value(i)
                        .as_primitive::<Int64Type>()
                        .values()
                        .iter()
                        .map(|t| *t as u32)
                        .collect()
                }
            };
            out.insert(name, row);
        }
    }
    out
}
