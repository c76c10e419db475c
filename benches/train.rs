//! Owns the measurements of the trainer: quality on CIFAR-10 and MNIST, the cost of a step.
//! Must not know: anything that the library doesn't say publicly.
//!
//! `cargo bench --bench train -- cifar [--seed N] [--steps N] [--hidden N] [--rotation]
//! [--quantizer NAME] ...` runs the built-in recipe `cifar10-vqvae`; `mnist` the recipe
//! `mnist-vqvae`; `step` times steps of the first, `vqgan` those of a VQGAN with a discriminator, `forward` that
//! VQGAN's encoder, quantizer and decoder alone, by the engine; `parts` its layers one by one, beside the
//! machine's peak. For names of quantizers see [`QUANTIZERS`].
//! Reads `../shared/images/small`; unpacks with the `tar` and `gzip` commands into memory or a
//! temporary folder. Prints one line of results; the exit code says whether the goal was met.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

#[path = "common/encoder.rs"]
#[expect(dead_code, reason = "the f16 VQGAN is for other benches")]
mod encoder;
#[path = "common/parts.rs"]
mod parts;
#[path = "common/peer.rs"]
mod peer;
use peer::Peer;
use vqtok::internals::config::Recipe;
use vqtok::internals::engine::cpu::{CpuEngine, kernels::Isa};
use vqtok::internals::engine::{Engine, PixelBatch};
use vqtok::internals::model::config::Architecture;
use vqtok::internals::train::input::images::Images;
use vqtok::internals::train::settings::codebook::Estimator;
use vqtok::internals::train::trainer::Trainer;
use vqtok::internals::train::{Event, Observer, TrainData, run};
use vqtok::{Reject, Result};

/// A name, its `[model.quantizer]` and its `[train.codebook]` over those of the recipe.
type Kind = (&'static str, &'static str, &'static str);

/// What `--quantizer` can name. `ema` is the recipe's own; `gradient-plain` is the first VQ-VAE's:
/// small random codes, no revival; `sphere` codes of 8 numbers on the unit sphere, as LlamaGen.
const QUANTIZERS: [Kind; 7] = [
    ("ema", "rule = 'l2'", ""),
    (
        "gradient-plain",
        "rule = 'l2'",
        "method = 'gradient'\nstart = 'random'\nstart_after = 0\nrevive_every = 0",
    ),
    ("gradient", "rule = 'l2'", "method = 'gradient'"),
    ("sphere", "rule = 'l2-normalised'", "method = 'gradient'"),
    ("simvq", "rule = 'l2'", "method = 'simvq'"),
    ("fsq", "rule = 'fsq'\nlevels = [8, 8, 8]", ""),
    ("lfq", "rule = 'sign'", ""),
];

/// Digits padded to 32 px as the recipe's rule `pad` does, all in memory.
struct Digits {
    pixels: Vec<Vec<u8>>,
    keys: Vec<String>,
}

impl TrainData for Digits {
    fn len(&self) -> usize {
        self.pixels.len()
    }

    fn key(&self, index: usize) -> String {
        self.keys[index].clone()
    }

    fn example(&self, index: usize, _: u64) -> Result<Vec<u8>, Reject> {
        Ok(self.pixels[index].clone())
    }
}

fn shared() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/images/small")
}

/// The archive unpacked under `folder`, read as `vqtok train` reads it.
fn cifar(folder: &Path, recipe: &Recipe) -> Images {
    let archive = shared().join("cifar10-train-jpg.tar.xz");
    let status =
        Command::new("tar").arg("-C").arg(folder).arg("-xJf").arg(archive).status().expect("tar");
    assert!(status.success(), "tar failed");
    Images::list(&[folder.to_path_buf()], Default::default(), recipe.preparation())
        .expect("the archive's images")
        .augmented(recipe.train.augment, recipe.train.seed)
}

fn mnist() -> Digits {
    let archive = shared().join("mnist-train-images-idx3-ubyte.gz");
    let output = Command::new("gzip").arg("-dc").arg(archive).output().expect("gzip");
    let pixels: Vec<Vec<u8>> = output.stdout[16..]
        .chunks_exact(28 * 28)
        .map(|digit| {
            let mut padded = vec![0u8; 32 * 32];
            for (y, row) in digit.chunks_exact(28).enumerate() {
                padded[(y + 2) * 32 + 2..][..28].copy_from_slice(row);
            }
            padded
        })
        .collect();
    let keys = (0..pixels.len()).map(|i| format!("{i:05}")).collect();
    Digits { pixels, keys }
}

/// `--name value` or the default.
fn option<T: std::str::FromStr>(args: &[String], name: &str, default: T) -> T {
    args.iter()
        .position(|a| a == name)
        .and_then(|i| args.get(i + 1)?.parse().ok())
        .unwrap_or(default)
}

/// A built-in recipe with what the command line overrides.
fn recipe(name: &str, args: &[String]) -> Recipe {
    let mut recipe = Recipe::load(name).expect("a built-in recipe");
    if let Architecture::Vqvae(c) = &mut recipe.model.architecture {
        c.hidden = option(args, "--hidden", c.hidden);
    }
    let kind = option(args, "--quantizer", "ema".to_string());
    let known = QUANTIZERS.iter().find(|(name, _, _)| *name == kind);
    let (_, quantizer, codebook) = known.expect("--quantizer: one of QUANTIZERS");
    recipe.model.quantizer = toml::from_str(quantizer).expect("a quantizer");
    recipe.model.dim = match kind.as_str() {
        "sphere" => 8,
        "fsq" => 3,
        "lfq" => recipe.model.codes.ilog2() as usize,
        _ => recipe.model.dim,
    };
    if !codebook.is_empty() {
        recipe.train.codebook = toml::from_str(codebook).expect("settings of the codebook");
    }
    recipe.model.dim = option(args, "--dim", recipe.model.dim);
    recipe.model.codes = option(args, "--codes", recipe.model.codes);
    let t = &mut recipe.train;
    t.steps = option(args, "--steps", t.steps);
    t.seed = option(args, "--seed", t.seed);
    t.learning_rate = option(args, "--lr", t.learning_rate);
    t.weight_average = option(args, "--average", t.weight_average);
    if args.iter().any(|a| a == "--rotation") {
        t.estimator = Estimator::Rotation;
    }
    recipe
}

/// Shows the lines of the record as they come.
#[derive(Default)]
struct Printer {
    last: String,
}

impl Observer for Printer {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Estimate { remaining, parameters, images, .. } => {
                eprintln!("estimate {remaining:.1?}, {parameters} parameters, {images} images");
            }
            Event::Step { report, .. } => {
                self.last = format!(
                    "loss {:.4} psnr {:.2} grad {:.3} latent {:.2} lr {:.1e}",
                    report.loss,
                    report.psnr,
                    report.gradient_norm,
                    report.latent_norm,
                    report.learning_rate
                );
                if report.revived > 0 {
                    eprintln!("step {}: revived {}", report.step, report.revived);
                }
            }
            Event::Usage { step, usage, perplexity } => {
                eprintln!("step {step}: {} usage {usage:.3} perplexity {perplexity:.0}", self.last);
            }
            Event::Warning(text) => eprintln!("warning: {text}"),
            _ => {}
        }
    }
}

fn quality(
    recipe: &Recipe,
    args: &[String],
    images: &dyn TrainData,
    goal: (f64, f64, f64),
) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let summary = run(
        &recipe.model_config(),
        &recipe.train,
        images,
        &folder.path().join("m"),
        false,
        &mut Printer::default(),
    )
    .expect("a training");
    let e = &summary.evaluation;
    println!(
        "{} {}: seed {} steps {} PSNR {:.2} dB (of mean MSE {:.2}) SSIM {:.3} usage {:.2} % \
         perplexity {:.0} on {} held-out images; {:.0} s, {:.0} CPU-s; goal {} dB, {} %, {}",
        recipe.name,
        args.join(" "),
        recipe.train.seed,
        summary.steps,
        e.psnr,
        e.psnr_of_mean_mse,
        e.ssim.unwrap_or(f64::NAN),
        100.0 * e.usage,
        e.perplexity,
        e.images,
        begun.elapsed().as_secs_f64(),
        cpu_seconds() - cpu,
        goal.0,
        100.0 * goal.1,
        goal.2
    );
    // The mean of the images' PSNR, as papers give it.
    e.psnr >= goal.0 && e.usage >= goal.1 && e.perplexity >= goal.2
}

/// CPU-seconds of this process so far.
fn cpu_seconds() -> f64 {
    // SAFETY: getrusage writes one rusage, whose zeros are a valid value, and keeps no pointer.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// CPU-seconds of a step of protocol P with PyTorch's (`--python PATH`) between them.
fn step_cost(args: &[String]) {
    for hidden in [64, 128] {
        let mut recipe = recipe("cifar10-vqvae", args);
        if let Architecture::Vqvae(c) = &mut recipe.model.architecture {
            c.hidden = hidden;
        }
        let batch = recipe.train.batch_size;
        let words = [hidden.to_string(), batch.to_string(), "1".into()];
        let name = format!("step h {hidden} batch {batch}");
        compare_steps(&name, &recipe, (32, 4, 10), ("train_torch.py", &words), args);
    }
}

/// A VQGAN f8 at 128 px with a discriminator, as its peer has it.
const VQGAN: &str = r#"
name = "vqgan-f8-128"
description = "the bench's"
model = { channels = 3, codes = 1024, dim = 8, architecture = { kind = "vqgan", ch = 64, widths = [64, 64, 128, 256], res_blocks = 2, attention = [false, false, false, true], mid_attention = true, z_channels = 128, norm_groups = 32, norm_eps = 1e-6 } }
data = { size = 128 }
train = { steps = 1000, batch_size = 4, learning_rate = 1e-4, betas = [0.9, 0.95], loss = "l1", adversarial = { start = 0.0, alone_share = 0.0, ramp_share = 0.0 }, codebook = { start_after = 0 } }
"#;

fn vqgan() -> Recipe {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("vqgan.toml");
    std::fs::write(&path, VQGAN).expect("a recipe's file");
    Recipe::load(&path.to_string_lossy()).expect("a recipe")
}

/// Pictures of `side` pixels, made of bytes that come in fives.
fn picture_bytes(count: usize, side: usize) -> Vec<u8> {
    let byte = |i: usize| {
        (vqtok::internals::train::network::random::splitmix64(7, i as u64 / 5) >> 56) as u8
    };
    (0..count * side * side * 3).map(byte).collect()
}

/// CPU-seconds of a batch of the VQGAN through encoder, quantizer and decoder of the engine, with
/// PyTorch's between them.
fn forward_cost(args: &[String]) {
    let (recipe, side) = (vqgan(), 128);
    let count = recipe.train.batch_size;
    let config = recipe.model_config();
    let (_, weights) = encoder::random_model(config.architecture.clone(), config.quantizer.clone());
    let isa = Isa::detect().expect("an instruction set");
    let mut engine = CpuEngine::new(config, weights, isa).expect("an engine");
    let pixels = picture_bytes(count, side);
    let batch = PixelBatch { pixels, count, height: side, width: side, channels: 3 };
    let pass = || {
        let codes = engine.encode(&batch).expect("codes");
        engine.decode(&codes).expect("pictures");
    };
    let words = [count.to_string(), "1".into(), "forward".into()];
    let name = format!("forward vqgan f8 {side} px batch {count}");
    compare(&name, pass, (1, 9), ("train_vqgan_torch.py", &words), args);
}

/// The same of a VQGAN.
fn vqgan_cost(args: &[String]) {
    let recipe = vqgan();
    let batch = recipe.train.batch_size;
    let words = [batch.to_string(), "1".into()];
    let name = format!("step vqgan f8 128 px batch {batch}");
    compare_steps(&name, &recipe, (128, 1, 5), ("train_vqgan_torch.py", &words), args);
}

/// Median CPU-seconds of a step on synthetic images of `side` pixels, `rounds` times `each` of them, and of the
/// peer's between them. Set RAYON_NUM_THREADS=1: the peer has one thread.
fn compare_steps(
    name: &str,
    recipe: &Recipe,
    (side, each, rounds): (usize, usize, usize),
    (script, words): (&str, &[String]),
    args: &[String],
) {
    let settings = &recipe.train;
    let mut trainer = Trainer::new(&recipe.model_config(), settings, 0.06).expect("a trainer");
    let bytes = picture_bytes(settings.batch_size, side);
    let rows = trainer.latent_rows(&bytes, &|| false).expect("latents");
    trainer
        .start_codebook(&rows, rows.len() / recipe.model.dim, &mut |_, _| Ok(()))
        .expect("a start");
    let step = || {
        trainer.step(&bytes).expect("a step");
    };
    compare(name, step, (each, rounds), (script, words), args);
}

/// Median CPU-seconds of one run, `rounds` times `each` of them, and of the peer's between them.
fn compare(
    name: &str,
    mut run: impl FnMut(),
    (each, rounds): (usize, usize),
    (script, words): (&str, &[String]),
    args: &[String],
) {
    let python = args.iter().position(|a| a == "--python").and_then(|i| args.get(i + 1));
    let mut peer = python.and_then(|p| Peer::start(Path::new(p), script, words, 1));
    let (mut own, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let before = cpu_seconds();
        (0..each).for_each(|_| run());
        own.push((cpu_seconds() - before) / each as f64);
        theirs.extend(peer.as_mut().map(|peer| peer.ask(&each.to_string())[0] / each as f64));
    }
    own.sort_by(f64::total_cmp);
    theirs.sort_by(f64::total_cmp);
    println!("{name}: {:.4} CPU-s, fastest {:.4}", own[rounds / 2], own[0]);
    if let Some(median) = theirs.get(rounds / 2) {
        let ratio = own[rounds / 2] / median;
        println!("  PyTorch {median:.4}, fastest {:.4}; ratio {ratio:.2}", theirs[0]);
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let rest = args.get(1..).unwrap_or_default();
    let met = match args.first().map(String::as_str) {
        Some("cifar") => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let recipe = recipe("cifar10-vqvae", rest);
            quality(&recipe, rest, &cifar(folder.path(), &recipe), (23.4, 0.99, 300.0))
        }
        Some("mnist") => quality(&recipe("mnist-vqvae", rest), rest, &mnist(), (23.8, 0.98, 150.0)),
        Some("step") => {
            step_cost(rest);
            true
        }
        Some("vqgan") => {
            vqgan_cost(rest);
            true
        }
        Some("forward") => {
            forward_cost(rest);
            true
        }
        Some("parts") => {
            parts::print(vqgan().train.batch_size);
            true
        }
        _ => {
            eprintln!("what to measure? cifar, mnist, step, vqgan, forward or parts");
            true
        }
    };
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
