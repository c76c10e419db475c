//! Owns the measurement of encoding on the CPU: the f16 VQGAN at 256 pixels with random weights, or
//! another model, our kernels against peers on the same weights and images, interleaved in one run.
//!
//! `cargo bench --bench encode` measures our engine and each layer's share of the instruction
//! peak. `-- --python PATH` (an interpreter with onnx, onnxruntime, safetensors, numpy; for the
//! second peer, torch) adds the peers, `--candle` the reference engine; `--rounds N` sets how often
//! each is run, `--codes K` the codebook, `--no-layers` leaves the layers' table out. Compare
//! CPU-seconds, not wall time, where the machine is shared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor};
use serde_json::Value;
use vqtok::internals::engine::candle::CandleEngine;
use vqtok::internals::engine::cpu::{CpuEngine, kernels};
use vqtok::internals::engine::{Engine, PixelBatch};
use vqtok::internals::model::Model;
use vqtok::internals::model::config::{ModelConfig, Parts};

#[path = "common/encoder.rs"]
mod encoder;
#[path = "common/peer.rs"]
mod peer;
#[path = "common/transformers.rs"]
mod transformers;
use encoder::random;
use peer::Peer;

const SIDE: usize = 256;

struct Settings {
    rounds: usize,
    codes: usize,
    python: Option<PathBuf>,
    layers: bool,
    candle: bool,
    /// Of a transformer.
    model: Option<String>,
}

fn settings() -> Settings {
    let mut settings =
        Settings { rounds: 7, codes: 1024, python: None, layers: true, candle: false, model: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().expect("a value behind the flag");
        match arg.as_str() {
            "--rounds" => settings.rounds = value().parse().expect("a number of rounds"),
            "--codes" => settings.codes = value().parse().expect("a number of codes"),
            "--python" => settings.python = Some(value().into()),
            "--no-layers" => settings.layers = false,
            "--candle" => settings.candle = true,
            "--model" => settings.model = Some(value()),
            // What `cargo bench` itself passes.
            "--bench" => {}
            other => panic!("unknown flag {other}"),
        }
    }
    settings
}

/// Smooth colours with noise.
fn images(count: usize) -> PixelBatch {
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE * 3);
    for i in 0..count {
        for y in 0..SIDE {
            for x in 0..SIDE {
                for c in 0..3 {
                    let wave = ((x * (c + 1) + 2 * y + 40 * i) as f32 / 37.0).sin() * 90.0;
                    let noise = random(i as u64, (y * SIDE + x) * 3 + c) * 30.0;
                    pixels.push((128.0 + wave + noise) as u8);
                }
            }
        }
    }
    PixelBatch { pixels, count, height: SIDE, width: SIDE, channels: 3 }
}

/// CPU-seconds of this process's threads, which all live through the run (Linux).
fn cpu_seconds() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux's /proc");
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() * 1e-9
}

/// One way to encode: `run` takes a number of images and returns CPU and wall seconds.
struct Contender {
    name: String,
    threads: usize,
    run: Box<dyn FnMut(usize) -> (f64, f64)>,
    cpu: Vec<f64>,
    wall: Vec<f64>,
}

fn contender(name: &str, threads: usize, run: Box<dyn FnMut(usize) -> (f64, f64)>) -> Contender {
    Contender { name: name.to_owned(), threads, run, cpu: vec![], wall: vec![] }
}

fn ours(name: &str, threads: usize, mut engine: impl Engine + 'static) -> Contender {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
    let run = move |count: usize| {
        let batch = images(count);
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        pool.install(|| engine.encode(&batch)).expect("codes");
        (cpu_seconds() - cpu, wall.elapsed().as_secs_f64())
    };
    contender(name, threads, Box::new(run))
}

fn start(
    python: &Path,
    script: &str,
    args: &[&str],
    threads: usize,
    folder: &Path,
) -> Option<Peer> {
    let mut words = vec![folder.display().to_string(), threads.to_string()];
    words.extend(args.iter().map(|word| word.to_string()));
    Peer::start(python, script, &words, threads)
}

fn peers(settings: &Settings, folder: &Path, codes: &[u32]) -> Vec<Contender> {
    let Some(python) = &settings.python else { return vec![] };
    let transformer = settings.model.iter().map(String::as_str).collect::<Vec<_>>();
    let list: Vec<(&str, &str, &[&str])> = match settings.model {
        Some(_) => vec![("PyTorch f32, tuned", "encode_transformers_torch.py", &transformer)],
        None => vec![
            ("onnxruntime f32", "encode_onnx.py", &[]),
            ("PyTorch f32, NHWC, tuned", "encode_torch.py", &["float32"]),
            ("PyTorch bf16, NHWC, tuned", "encode_torch.py", &["bfloat16"]),
        ],
    };
    let mut all = Vec::new();
    for (name, script, args) in list {
        for threads in [1, 2] {
            let Some(mut peer) = start(python, script, args, threads, folder) else {
                println!("{name}: not there, left out");
                break;
            };
            if threads == 1 {
                let theirs = peer.ask("tokens");
                let equal = theirs.iter().zip(codes).filter(|(a, b)| **a == f64::from(**b)).count();
                println!("{name}: {equal} of {} tokens equal to ours", codes.len());
            }
            let run = move |count: usize| {
                let answer = peer.ask(&count.to_string());
                (answer[0], answer[1])
            };
            all.push(contender(name, threads, Box::new(run)));
        }
    }
    all
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Each layer's share of the instruction peak, the median of some runs on one thread.
fn layers(engine: &mut CpuEngine, rounds: usize) {
    let peaks: Vec<f64> = (0..rounds.max(3))
        .map(|_| {
            let start = kernels::thread_seconds();
            let operations = kernels::peak(engine.isa());
            operations as f64 / (kernels::thread_seconds() - start)
        })
        .collect();
    let peak = peaks.iter().copied().fold(0.0, f64::max);
    // The first one touches the memory that later ones reuse.
    engine.profile(SIDE, SIDE).expect("a profile");
    let runs: Vec<_> =
        (0..rounds).map(|_| engine.profile(SIDE, SIDE).expect("a profile")).collect();
    println!("\ninstruction peak of one core, {}: {:.1} GFLOP/s", engine.isa().name(), peak / 1e9);
    println!(
        "{:<38} {:<10} {:>8} {:>9} {:>9} {:>7}",
        "layer", "kernel", "ms", "GFLOP", "GFLOP/s", "peak"
    );
    let (mut seconds_all, mut operations_all) = (0.0, 0.0);
    for (i, step) in runs[0].iter().enumerate() {
        let seconds = median(&runs.iter().map(|run| run[i].seconds).collect::<Vec<_>>());
        seconds_all += seconds;
        operations_all += step.operations;
        row(&step.name, &step.algorithm, seconds, step.operations, peak);
    }
    row("all", "", seconds_all, operations_all, peak);
    println!(
        "(operations are the definition's: Winograd's tiles need a quarter of them, so its share can pass 100 %)\n"
    );
}

fn row(name: &str, kernel: &str, seconds: f64, operations: f64, peak: f64) {
    let rate = operations / seconds;
    println!(
        "{name:<38} {kernel:<10} {:>8.2} {:>9.3} {:>9.1} {:>6.0} %",
        seconds * 1e3,
        operations / 1e9,
        rate / 1e9,
        100.0 * rate / peak
    );
}

/// The model that is asked for, and what a peer needs to know of it.
fn model(settings: &Settings) -> (ModelConfig, BTreeMap<String, Tensor>, Value) {
    match &settings.model {
        Some(name) => transformers::model(name),
        None => {
            let (config, weights) = encoder::f16_vqgan(settings.codes, Parts::Encoder);
            (config, weights, Value::Null)
        }
    }
}

fn main() {
    let settings = settings();
    let (config, weights, sizes) = model(&settings);
    let isa = kernels::Isa::detect().expect("an instruction set");
    let start = Instant::now();
    let new = || CpuEngine::new(config.clone(), weights.clone(), isa).expect("the engine");
    let mut engine = new();
    let batch = images(2);
    let encoded = engine.encode(&PixelBatch {
        pixels: batch.pixels[..SIDE * SIDE * 3].to_vec(),
        count: 1,
        ..batch
    });
    encoded.expect("codes");
    println!(
        "from weights in memory to the first image's codes: {:.2} s",
        start.elapsed().as_secs_f64()
    );

    let folder = std::env::temp_dir().join(format!("vqtok-bench-encode-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let by_name = weights.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    candle_core::safetensors::save(&by_name, folder.join("model.safetensors")).expect("weights");
    std::fs::write(folder.join("images.rgb"), &batch.pixels).expect("images");
    std::fs::write(folder.join("sizes.json"), sizes.to_string()).expect("sizes");
    let codes = engine.encode(&batch).expect("codes").levels;
    let codes: Vec<u32> = codes.into_iter().flat_map(|level| level.codes).collect();

    if settings.layers {
        layers(&mut engine, settings.rounds);
    }
    let mut all = vec![ours("vqtok", 1, engine), ours("vqtok", 2, new())];
    if settings.candle {
        let model = Model::load(config.clone(), weights.clone(), &Device::Cpu).expect("the model");
        all.push(ours("candle", 2, CandleEngine::new(model)));
    }
    all.extend(peers(&settings, &folder, &codes));
    let count = 2;
    for one in &mut all {
        // Packs weights and touches the memory that later runs reuse.
        (one.run)(count);
    }
    for _ in 0..settings.rounds {
        for one in &mut all {
            let (cpu, wall) = (one.run)(count);
            one.cpu.push(cpu / count as f64);
            one.wall.push(wall / count as f64);
        }
    }
    report(&all);
    let _ = std::fs::remove_dir_all(&folder);
}

fn report(all: &[Contender]) {
    println!(
        "{:<28} {:>7} {:>12} {:>10} {:>14} {:>14}",
        "engine", "threads", "CPU-s/image", "images/s", "CPU-s vs ours", "images/s vs"
    );
    for one in all {
        // The first two are ours, on one thread and on two.
        let own = &all[usize::from(one.threads == 2)];
        let (cpu, wall) = (median(&one.cpu), median(&one.wall));
        println!(
            "{:<28} {:>7} {:>12.3} {:>10.2} {:>14.2} {:>14.2}",
            one.name,
            one.threads,
            cpu,
            1.0 / wall,
            cpu / median(&own.cpu),
            wall / median(&own.wall)
        );
    }
    if let Ok(load) = std::fs::read_to_string("/proc/loadavg") {
        println!("load of the machine: {}", load.trim());
    }
}
