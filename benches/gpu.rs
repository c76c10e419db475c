//! Owns the measurement of encoding on a GPU: the f16 VQGAN at 256 pixels with random weights,
//! correctness first (float32 tokens of golden cases and of the CPU engine, the share that
//! bfloat16 flips), then rates beside PyTorch's on the same weights in one run, then every stage.
//! `benches/gpu.sh` runs it.
//!
//! `cargo bench --features cuda --bench gpu -- [--golden DIR] [--python PATH] [--rounds N]
//! [--codes K] [--images N] [--model DIR]`: DIR of golden cases as in `tests/golden.rs`; an
//! interpreter with torch and safetensors; how many images are compared; where to leave the model
//! folder for a run of the whole job. Exits with 2 where there is no GPU or library, with 1 where
//! float32 tokens differ.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::engine::cpu::{CpuEngine, kernels::Isa};
use vqtok::internals::engine::cuda::{CudaEngine, StageTime};
use vqtok::internals::engine::{DeviceChoice, Engine, PixelBatch, Precision, open, require};
use vqtok::internals::model::config::Parts;

#[path = "common/encoder.rs"]
mod encoder;

const SIDE: usize = 256;
/// Operations of an image, padding and all, divided by an H200's 790 TFLOP/s: images/s.
const FLOOR_IMAGES_PER_SECOND: f64 = 5620.0;

struct Settings {
    golden: Option<PathBuf>,
    python: Option<PathBuf>,
    model: Option<PathBuf>,
    rounds: usize,
    codes: usize,
    images: usize,
}

fn settings() -> Settings {
    let mut settings =
        Settings { golden: None, python: None, model: None, rounds: 10, codes: 16384, images: 4 };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().expect("a value behind the flag");
        let number = || value.parse::<usize>().expect("a number");
        match arg.as_str() {
            "--golden" => settings.golden = Some(value.into()),
            "--python" => settings.python = Some(value.into()),
            "--model" => settings.model = Some(value.into()),
            "--rounds" => settings.rounds = number().max(1),
            "--codes" => settings.codes = number(),
            "--images" => settings.images = number().max(1),
            other => panic!("unknown flag {other}"),
        }
    }
    settings
}

/// A line of the table.
struct Line {
    name: String,
    rate: f64,
    flips: String,
}

fn main() -> ExitCode {
    let settings = settings();
    if let Err(error) = require(DeviceChoice::Cuda(0), Precision::Bf16) {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    match run(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Whether every float32 token was right.
fn run(settings: &Settings) -> vqtok::Result<bool> {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let folder = settings.model.clone().unwrap_or_else(|| scratch.path().join("model"));
    let (mut config, weights) = encoder::f16_vqgan(settings.codes, Parts::Encoder);
    config.preprocess.resize = "bicubic".into();
    config.preprocess.size = Some(SIDE as u32);
    if !folder.exists() {
        vqtok::internals::checkpoint::folder::save(&folder, &config, &weights)?;
    }
    let mut exact =
        CudaEngine::open(begin(&folder, &DetectOptions::default())?, 0, Precision::F32)?;
    println!("GPU: {}", exact.device_name()?);
    let mut right = settings.golden.as_deref().map_or(Ok(true), golden)?;

    let batch = images(settings.images);
    let mut cpu = CpuEngine::new(config, weights, Isa::detect()?)?;
    let want = cpu.encode(&batch)?.levels.remove(0).codes;
    let ours = exact.encode(&batch)?.levels.remove(0).codes;
    let wrong = differing(&want, &ours);
    println!("float32: {wrong} of {} tokens differ from the CPU engine's", want.len());
    right &= wrong == 0;

    let mut lines = vec![rate(&mut exact, "vqtok f32", settings.rounds.min(3), &want)?];
    drop(exact);
    let mut fast =
        CudaEngine::open(begin(&folder, &DetectOptions::default())?, 0, Precision::Bf16)?;
    lines.push(rate(&mut fast, "vqtok bf16", settings.rounds, &want)?);
    let (stages, whole) = fast.profile(SIDE, SIDE)?;
    let images_a_run = fast.batch_images(Some(SIDE));
    drop(fast);
    if let Some(python) = &settings.python {
        let shared = scratch.path().join("peer");
        leave(&shared, &folder, &batch, &want);
        lines.extend(peer(python, &shared, images_a_run, settings.rounds));
    }
    table(&lines);
    profile(&stages, whole, images_a_run);
    Ok(right)
}

fn differing(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len())
}

/// Smooth colours with noise.
fn images(count: usize) -> PixelBatch {
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE * 3);
    for i in 0..count {
        for at in 0..SIDE * SIDE {
            let (x, y) = (at % SIDE, at / SIDE);
            for c in 0..3 {
                let wave = ((x * (c + 1) + 2 * y + 40 * i) as f32 / 37.0).sin() * 90.0;
                let noise = encoder::random(i as u64, at * 3 + c) * 30.0;
                pixels.push((128.0 + wave + noise) as u8);
            }
        }
    }
    PixelBatch { pixels, count, height: SIDE, width: SIDE, channels: 3 }
}

/// Images/s from bytes in memory to codes in memory, and the tokens that differ from `want`.
fn rate(engine: &mut CudaEngine, name: &str, rounds: usize, want: &[u32]) -> vqtok::Result<Line> {
    let few = images(want.len() / (SIDE / 16 * (SIDE / 16)));
    let flips = differing(want, &engine.encode(&few)?.levels.remove(0).codes);
    let count = engine.batch_images(Some(SIDE));
    let pixels = few.pixels.iter().copied().cycle().take(count * SIDE * SIDE * 3).collect();
    let batch = PixelBatch { pixels, count, ..few };
    engine.encode(&batch)?;
    let started = Instant::now();
    for _ in 0..rounds {
        engine.encode(&batch)?;
    }
    let rate = (count * rounds) as f64 / started.elapsed().as_secs_f64();
    Ok(Line { name: name.to_owned(), rate, flips: format!("{flips} of {}", want.len()) })
}

/// Every golden case that this engine takes: float32 tokens equal, bfloat16's share of flips.
fn golden(root: &Path) -> vqtok::Result<bool> {
    let mut right = true;
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .map_err(|e| vqtok::Error::invalid(format!("--golden {}: {e}", root.display())))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("golden.npz").exists())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let golden = npz::npz(folder.join("golden.npz"));
        let (images, tokens) = (&golden["images_u8"], golden["tokens"].i64());
        let [count, height, width, channels] = images.shape[..] else { continue };
        let batch = PixelBatch { pixels: images.u8(), count, height, width, channels };
        let mut differ = Vec::new();
        for precision in [Precision::F32, Precision::Bf16] {
            let family = family(&folder);
            let options = DetectOptions { family: family.as_deref(), ..DetectOptions::default() };
            let opened = begin(&checkpoint(&folder), &options)
                .and_then(|opened| open(opened, DeviceChoice::Cuda(0), precision));
            let Ok(mut engine) = opened else { break };
            let codes = engine.encode(&batch)?.levels.remove(0).codes;
            let wrong = codes.iter().zip(&tokens).filter(|(a, b)| i64::from(**a) != **b).count();
            differ.push(wrong);
        }
        match differ[..] {
            [f32_wrong, bf16_flips] => {
                right &= f32_wrong == 0;
                println!(
                    "golden {name}: of {} tokens f32 {f32_wrong} wrong, bf16 {bf16_flips} flipped",
                    tokens.len()
                );
            }
            _ => println!("golden {name}: not for this engine"),
        }
    }
    Ok(right)
}

/// The word of `--family` for the cases whose names can't tell.
fn family(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("case.json")).ok()?;
    let case: serde_json::Value = serde_json::from_str(&text).ok()?;
    let word = match case["family"].as_str()? {
        "taming_gumbel" => "taming-gumbel",
        "ldm" => "latent-diffusion",
        other @ ("taming" | "llamagen" | "ibq") => other,
        _ => return None,
    };
    Some(word.to_owned())
}

fn checkpoint(folder: &Path) -> PathBuf {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    files.sort();
    let weights = |p: &&PathBuf| {
        p.extension().is_some_and(|e| ["ckpt", "pt", "safetensors"].iter().any(|w| e == *w))
    };
    files.iter().find(weights).cloned().unwrap_or_else(|| folder.to_path_buf())
}

/// What the peer reads.
fn leave(shared: &Path, model: &Path, batch: &PixelBatch, tokens: &[u32]) {
    std::fs::create_dir_all(shared).expect("a folder");
    let weights = "model.safetensors";
    std::fs::copy(model.join(weights), shared.join(weights)).expect("weights");
    std::fs::write(shared.join("images.rgb"), &batch.pixels).expect("images");
    let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
    std::fs::write(shared.join("tokens.u32"), bytes).expect("tokens");
}

fn peer(python: &Path, shared: &Path, batch: usize, rounds: usize) -> Vec<Line> {
    let script = std::env::var_os("VQTOK_PEERS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers"), PathBuf::from);
    let output = Command::new(python)
        .arg(script.join("encode_torch_cuda.py"))
        .arg(shared)
        .args([batch.to_string(), rounds.to_string()])
        .stderr(Stdio::inherit())
        .output();
    let Ok(output) = output else { return vec![] };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text.lines().filter_map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let name = line["name"].as_str()?.to_owned();
        let Some(rate) = line["images_per_second"].as_f64() else {
            println!("{name}: {}", line["error"]);
            return None;
        };
        Some(Line { name, rate, flips: format!("{} of {}", line["flips"], line["tokens"]) })
    });
    lines.collect()
}

fn table(lines: &[Line]) {
    let of_pytorch = |line: &&Line| line.name.starts_with("PyTorch");
    let best = lines.iter().filter(of_pytorch).map(|line| line.rate).fold(f64::NAN, f64::max);
    println!(
        "\n{:<64} {:>9} {:>14} {:>11} {:>16}",
        "engine, 256 px, f16 VQGAN", "images/s", "of PyTorch's", "of a floor", "tokens flipped"
    );
    for line in lines {
        println!(
            "{:<64} {:>9.1} {:>14.2} {:>9.0} % {:>16}",
            line.name,
            line.rate,
            line.rate / best,
            100.0 * line.rate / FLOOR_IMAGES_PER_SECOND,
            line.flips
        );
    }
    println!("(PyTorch's best; the floor is an H200's, 790 TFLOP/s: 5,620 images/s)\n");
}

/// Time by what computes it, the most first, and the slowest commands.
fn profile(stages: &[StageTime], whole: f64, images: usize) {
    let mut by: BTreeMap<&str, (f64, f64, usize)> = BTreeMap::new();
    for stage in stages {
        let sum = by.entry(stage.backend).or_default();
        *sum = (sum.0 + stage.seconds, sum.1 + stage.operations, sum.2 + 1);
    }
    let mut rows: Vec<_> = by.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    println!("bf16, one run of {images} images: {:.2} ms on the device", whole * 1e3);
    println!("{:<40} {:>6} {:>9} {:>7} {:>9}", "by", "calls", "ms", "share", "TFLOP/s");
    for (name, (seconds, operations, calls)) in rows {
        print_row(name, &calls.to_string(), seconds, operations, whole);
    }
    let mut slowest: Vec<&StageTime> = stages.iter().collect();
    slowest.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    for stage in slowest.iter().take(12) {
        let name = format!("{} {}", stage.layer, stage.backend);
        print_row(&name, "", stage.seconds, stage.operations, whole);
    }
}

fn print_row(name: &str, calls: &str, seconds: f64, operations: f64, whole: f64) {
    println!(
        "{name:<40} {calls:>6} {:>9.3} {:>5.1} % {:>9.1}",
        seconds * 1e3,
        100.0 * seconds / whole,
        operations / seconds / 1e12
    );
}

// Its own tests run elsewhere.
#[allow(unused_imports)]
#[path = "../src/testing.rs"]
mod npz;
