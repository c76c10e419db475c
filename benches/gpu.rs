//! Owns the measurement of encoding on a GPU, in steps that `benches/gpu.sh` runs one by one: the f16
//! VQGAN at 256 pixels with random weights, correctness first (tokens of golden cases and of the CPU
//! engine, bits from run to run and from batch to batch), then rates, then every stage; and beside
//! PyTorch's on the same weights for `benches/gpu_peers.sh`.
//!
//! `cargo bench --features cuda --bench gpu -- --step STEP [--golden DIR] [--case NAME]
//! [--precision f32|bf16] [--python PATH] [--rounds N] [--codes K] [--images N] [--model DIR]
//! [--side PIXELS]`; STEP is `versions`, `golden`, `bits`, `exact`, `decode`, `rate`, `profile` or
//! `peers`. DIR of golden cases as in `tests/golden`, all of them or the one called NAME; an interpreter
//! with torch and safetensors; how many images are compared; where the model is, or is left for a run of
//! the whole job; another model and a smaller side let the steps run on stand-ins for a card. Exits with
//! 2 where there is no GPU or library, with 1 where tokens or bits are wrong. Lines that begin with
//! `=` are what a step found.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use vqtok::internals::checkpoint::recognise::detect::{DetectOptions, begin};
use vqtok::internals::engine::cpu::CpuEngine;
use vqtok::internals::engine::cuda::{CudaEngine, StageTime};
use vqtok::internals::engine::{CodeGrid, DeviceChoice, Engine, PixelBatch, Precision, require};
use vqtok::internals::model::config::Parts;

#[path = "common/encoder.rs"]
mod encoder;

/// Operations of an image, padding and all, divided by an H200's 790 TFLOP/s: images/s.
const FLOOR_IMAGES_PER_SECOND: f64 = 5620.0;

/// A token of float32 may be another one where its distance is as near as this, relatively: sums in
/// another order differ by as much.
const GAP_MAX: f64 = 1e-5;

struct Settings {
    step: String,
    golden: Option<PathBuf>,
    case: Option<String>,
    precisions: Vec<Precision>,
    python: Option<PathBuf>,
    model: PathBuf,
    rounds: usize,
    codes: usize,
    images: usize,
    /// Of the square images, in pixels.
    side: usize,
}

fn settings() -> Settings {
    let mut settings = Settings {
        step: String::new(),
        golden: None,
        case: None,
        precisions: vec![Precision::F32, Precision::Bf16],
        python: None,
        model: std::env::temp_dir().join("vqtok-gpu-model"),
        rounds: 10,
        codes: 16384,
        images: 4,
        side: 256,
    };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().expect("a value behind the flag");
        let number = || value.parse::<usize>().expect("a number");
        match arg.as_str() {
            "--step" => settings.step = value,
            "--golden" => settings.golden = Some(value.into()),
            "--case" => settings.case = Some(value),
            "--precision" => settings.precisions = vec![value.parse().expect("f32 or bf16")],
            "--python" => settings.python = Some(value.into()),
            "--model" => settings.model = value.into(),
            "--rounds" => settings.rounds = number().max(1),
            "--codes" => settings.codes = number(),
            "--images" => settings.images = number().max(1),
            "--side" => settings.side = number().max(1),
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
    let checked = settings.precisions.iter().map(|p| require(DeviceChoice::Cuda(0), *p));
    if let Err(error) = checked.collect::<vqtok::Result<()>>() {
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

/// Whether everything was right.
fn run(settings: &Settings) -> vqtok::Result<bool> {
    match settings.step.as_str() {
        "versions" => versions(settings),
        "golden" => golden(settings),
        "bits" => bits(settings),
        "exact" => exact(settings),
        "decode" => decode(settings),
        "rate" => rates(settings),
        "profile" => profile(settings),
        "peers" => peers(settings),
        other => panic!("no step is called {other:?}"),
    }
}

/// The f16 model on the GPU; made where it isn't there.
fn f16(settings: &Settings, precision: Precision) -> vqtok::Result<CudaEngine> {
    if !settings.model.exists() {
        let (mut config, weights) = encoder::f16_vqgan(settings.codes, Parts::Both);
        config.preprocess.resize = "bicubic".into();
        config.preprocess.size = Some(settings.side as u32);
        vqtok::internals::checkpoint::folder::save(&settings.model, &config, &weights)?;
    }
    CudaEngine::open(begin(&settings.model, &DetectOptions::default())?, 0, precision)
}

/// The card, the libraries and their ways.
fn versions(settings: &Settings) -> vqtok::Result<bool> {
    for precision in &settings.precisions {
        let mut engine = f16(settings, *precision)?;
        println!("= {precision}: {}", engine.device_name());
        let started = Instant::now();
        engine.encode(&images(settings, 1))?;
        println!("= {precision}: the first image after {:.2} s", started.elapsed().as_secs_f64());
        engine.encode(&images(settings, 64))?;
        engine.report().iter().for_each(|line| println!("= {precision}: {line}"));
    }
    Ok(true)
}

/// The same bits from run to run, and from a batch of 64 to batches of 16 and 1.
fn bits(settings: &Settings) -> vqtok::Result<bool> {
    let mut right = true;
    for precision in &settings.precisions {
        let mut engine = f16(settings, *precision)?;
        let whole = images(settings, 64);
        let want = engine.encode(&whole)?.levels.remove(0);
        let mut check = |name: &str, count: usize| -> vqtok::Result<()> {
            let image = whole.pixels.len() / whole.count;
            let part =
                PixelBatch { pixels: whole.pixels[..count * image].to_vec(), count, ..whole };
            let got = engine.encode(&part)?.levels.remove(0);
            let bits = |d: &[f32]| d.iter().map(|d| d.to_bits()).collect::<Vec<_>>();
            let tokens = got.codes.len();
            let same = got.codes == want.codes[..tokens]
                && bits(&got.distances) == bits(&want.distances[..tokens]);
            println!("= {precision}: {name}: {}", if same { "equal bits" } else { "OTHER BITS" });
            right &= same;
            Ok(())
        };
        check("64 images again", 64)?;
        check("16 of 64 images", 16)?;
        check("1 of 64 images", 1)?;
    }
    Ok(right)
}

/// The f16 model against the CPU engine.
fn exact(settings: &Settings) -> vqtok::Result<bool> {
    let batch = images(settings, settings.images);
    let mut ours = Vec::new();
    for precision in &settings.precisions {
        let codes = f16(settings, *precision)?.encode(&batch)?.levels.remove(0);
        ours.push((*precision, codes));
    }
    let want = on_cpu(&settings.model, &DetectOptions::default(), &batch)?;
    let compared = ours.iter().map(|(precision, got)| compare("f16", *precision, &want, got));
    // Every line is printed.
    Ok(compared.filter(|right| !right).count() == 0)
}

fn on_cpu(model: &Path, options: &DetectOptions, batch: &PixelBatch) -> vqtok::Result<CodeGrid> {
    let mut cpu = CpuEngine::open(begin(model, options)?)?;
    Ok(cpu.encode(batch)?.levels.remove(0))
}

/// Whether float32 tokens are `want`'s, but for ties; says how many of either precision aren't, and
/// how near float32's are.
fn compare(name: &str, precision: Precision, want: &CodeGrid, got: &CodeGrid) -> bool {
    let wrong: Vec<usize> =
        (0..want.codes.len()).filter(|i| got.codes.get(*i) != Some(&want.codes[*i])).collect();
    let gap = |i: &usize| {
        let (a, b) = (f64::from(want.distances[*i]), f64::from(got.distances[*i]));
        (a - b).abs() / a.abs().max(f64::MIN_POSITIVE)
    };
    let largest = wrong.iter().map(gap).fold(0.0, f64::max);
    let (count, all) = (wrong.len(), want.codes.len());
    println!("= {name}, {precision}: {count} of {all} tokens differ, by {largest:.1e} at most");
    if precision == Precision::F32 {
        for i in wrong.iter().take(20) {
            let (a, b) = (want.codes[*i], got.codes[*i]);
            println!("{name}: token {i} is {b} instead of {a}, its distance off by {:.1e}", gap(i));
        }
    }
    // Not a number where a family has no distance: then nothing excuses a difference.
    precision != Precision::F32 || wrong.iter().all(|i| gap(i) <= GAP_MAX)
}

/// Pictures of codes against the CPU engine's, and images/s.
fn decode(settings: &Settings) -> vqtok::Result<bool> {
    let mut right = true;
    let batch = images(settings, settings.images);
    let options = DetectOptions::default();
    f16(settings, Precision::F32)?;
    let mut cpu = CpuEngine::open(begin(&settings.model, &options)?)?;
    let codes = cpu.encode(&batch)?;
    let want = cpu.decode(&codes)?.pictures;
    for precision in &settings.precisions {
        let mut engine = f16(settings, *precision)?;
        let got = engine.decode(&codes)?.pictures;
        let off = want.pixels.iter().zip(&got.pixels).map(|(a, b)| a.abs_diff(*b));
        let (most, all) = (off.clone().max().unwrap_or(0), want.pixels.len());
        let mean = off.map(f64::from).sum::<f64>() / all as f64;
        let started = Instant::now();
        (0..settings.rounds).try_for_each(|_| engine.decode(&codes).map(|_| ()))?;
        let rate = (codes.count * settings.rounds) as f64 / started.elapsed().as_secs_f64();
        println!(
            "= {precision}: pictures off by {most} of 255 at most, {mean:.3} on average; {rate:.1} \
             images/s in batches of {}",
            codes.count
        );
        right &= got.pixels.len() == all && (*precision != Precision::F32 || most <= 1);
    }
    Ok(right)
}

fn rates(settings: &Settings) -> vqtok::Result<bool> {
    for precision in &settings.precisions {
        let mut engine = f16(settings, *precision)?;
        let batch = images(settings, settings.images);
        let want = engine.encode(&batch)?.levels.remove(0).codes;
        for flights in [1, 2] {
            let line = rate(settings, &mut engine, flights, &want)?;
            let share = 100.0 * line.rate / FLOOR_IMAGES_PER_SECOND;
            println!("= {}: {:.1} images/s, {share:.0} % of a floor", line.name, line.rate);
        }
    }
    Ok(true)
}

/// Ours beside PyTorch's, from its fastest to its slowest.
fn peers(settings: &Settings) -> vqtok::Result<bool> {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let batch = images(settings, settings.images);
    let mut engine = f16(settings, Precision::Bf16)?;
    let want = on_cpu(&settings.model, &DetectOptions::default(), &batch)?.codes;
    let mut lines = vec![rate(settings, &mut engine, 2, &want)?];
    let images_a_run = engine.batch_images(Some(settings.side));
    drop(engine);
    if let Some(python) = &settings.python {
        let shared = scratch.path().join("peer");
        leave(&shared, &settings.model, &batch, &want);
        lines.extend(peer(python, &shared, images_a_run, settings.rounds));
    }
    table(&lines);
    Ok(true)
}

fn differing(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).filter(|(a, b)| a != b).count() + a.len().abs_diff(b.len())
}

/// Smooth colours with noise.
fn images(settings: &Settings, count: usize) -> PixelBatch {
    let side = settings.side;
    let mut pixels = Vec::with_capacity(count * side * side * 3);
    for i in 0..count {
        for at in 0..side * side {
            let (x, y) = (at % side, at / side);
            for c in 0..3 {
                let wave = ((x * (c + 1) + 2 * y + 40 * i) as f32 / 37.0).sin() * 90.0;
                let noise = encoder::random(i as u64, at * 3 + c) * 30.0;
                pixels.push((128.0 + wave + noise) as u8);
            }
        }
    }
    PixelBatch { pixels, count, height: side, width: side, channels: 3 }
}

/// Images/s from bytes in memory to codes in memory with so many batches in flight, and the tokens that
/// differ from `want`.
fn rate(
    settings: &Settings,
    engine: &mut CudaEngine,
    flights: usize,
    want: &[u32],
) -> vqtok::Result<Line> {
    let few = images(settings, settings.images);
    let flips = differing(want, &engine.encode(&few)?.levels.remove(0).codes);
    let (count, side) = (engine.batch_images(Some(settings.side)), settings.side);
    let pixels = few.pixels.iter().copied().cycle().take(count * side * side * 3).collect();
    let batch = PixelBatch { pixels, count, ..few };
    engine.encode(&batch)?;
    let mut queued = VecDeque::new();
    let started = Instant::now();
    for _ in 0..settings.rounds {
        queued.push_back(engine.submit(&batch.images())?);
        if queued.len() == flights {
            queued.pop_front().map(|oldest| engine.collect(oldest)).transpose()?;
        }
    }
    queued.into_iter().try_for_each(|rest| engine.collect(rest).map(|_| ()))?;
    let rate = (count * settings.rounds) as f64 / started.elapsed().as_secs_f64();
    let name = format!("vqtok {}, {flights} in flight", engine.precision());
    Ok(Line { name, rate, flips: format!("{flips} of {}", want.len()) })
}

/// Every golden case that this engine takes: float32 tokens equal, bfloat16's share of flips.
fn golden(settings: &Settings) -> vqtok::Result<bool> {
    let Some(root) = &settings.golden else { return Ok(true) };
    let mut right = true;
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .map_err(|e| vqtok::Error::invalid(format!("--golden {}: {e}", root.display())))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("golden.npz").exists())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if settings.case.as_ref().is_some_and(|case| *case != name) {
            continue;
        }
        let golden = npz::npz(folder.join("golden.npz"));
        let (images, tokens) = (&golden["images_u8"], golden["tokens"].i64());
        let [count, height, width, channels] = images.shape[..] else { continue };
        let batch = PixelBatch { pixels: images.u8(), count, height, width, channels };
        let (family, file) = (family(&folder), checkpoint(&folder));
        let options = DetectOptions { family: family.as_deref(), ..DetectOptions::default() };
        // Only what this engine says that it doesn't compute is passed over.
        let refused = begin(&file, &options).map(|opened| CudaEngine::supports(&opened.config));
        if let Err(reason) | Ok(Err(reason)) = refused {
            println!("= {name}: passed over: {reason}");
            continue;
        }
        let mut want = on_cpu(&file, &options, &batch)?;
        want.codes = tokens.iter().map(|token| *token as u32).collect();
        for precision in &settings.precisions {
            let mut engine = CudaEngine::open(begin(&file, &options)?, 0, *precision)?;
            let got = engine.encode(&batch)?.levels.remove(0);
            right &= compare(&name, *precision, &want, &got);
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
    let child = Command::new(python)
        .arg(script.join("encode_torch_cuda.py"))
        .arg(shared)
        .args([batch.to_string(), rounds.to_string()])
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return vec![] };
    let lines = child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
    let mut found = Vec::new();
    for line in lines.map_while(Result::ok) {
        // At once: a time limit may end the run.
        println!("{line}");
        let Ok(line) = serde_json::from_str::<serde_json::Value>(&line) else { continue };
        if let (Some(name), Some(rate)) =
            (line["name"].as_str(), line["images_per_second"].as_f64())
        {
            let flips = format!("{} of {}", line["flips"], line["tokens"]);
            found.push(Line { name: name.to_owned(), rate, flips });
        }
    }
    let _ = child.wait();
    found
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
fn profile(settings: &Settings) -> vqtok::Result<bool> {
    let mut engine = f16(settings, Precision::Bf16)?;
    engine.profile(settings.side, settings.side)?;
    let (stages, whole) = engine.profile(settings.side, settings.side)?;
    shares(&stages, whole, engine.batch_images(Some(settings.side)));
    Ok(true)
}

fn shares(stages: &[StageTime], whole: f64, images: usize) {
    let mut by: BTreeMap<&str, (f64, f64, usize)> = BTreeMap::new();
    for stage in stages {
        let sum = by.entry(stage.backend).or_default();
        *sum = (sum.0 + stage.seconds, sum.1 + stage.operations, sum.2 + 1);
    }
    let mut rows: Vec<_> = by.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    println!("= bf16, one run of {images} images: {:.2} ms on the device", whole * 1e3);
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
