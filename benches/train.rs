//! Owns the measurements of the trainer: quality on CIFAR-10 and MNIST, the cost of a step.
//! Must not know: anything that the library doesn't say publicly.
//!
//! `cargo bench --bench train -- cifar [--seed N] [--steps N] [--hidden N] [--dim N]`
//! `cargo bench --bench train -- mnist ...`, `cargo bench --bench train -- step ...`
//! Reads `../shared/images/small`; unpacks with the `tar` and `gzip` commands into memory or a
//! temporary folder. Prints one line of results; the exit code says whether the goal was met.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use vqtok::error::{Reject, Result};
use vqtok::model::config::{
    Architecture, FORMAT, InputRange, ModelConfig, OutputRange, PixelConfig, PreprocessConfig,
    QuantizerConfig, QuantizerRule, VqvaeConfig,
};
use vqtok::train::{Event, Observer, TrainData, TrainSettings, run, trainer::Trainer};

/// Decoded images, all in memory.
struct Images {
    pixels: Vec<Vec<u8>>,
    keys: Vec<String>,
}

impl TrainData for Images {
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

fn cifar(folder: &Path) -> Images {
    let archive = shared().join("cifar10-train-jpg.tar.xz");
    let status =
        Command::new("tar").arg("-C").arg(folder).arg("-xJf").arg(archive).status().expect("tar");
    assert!(status.success(), "tar failed");
    let (mut pixels, mut keys) = (vec![], vec![]);
    for found in vqtok::data::source::walk(&[folder.to_path_buf()]).expect("the archive's folder") {
        let found = found.expect("a readable folder");
        let limits = vqtok::data::decode::Limits::default();
        let bytes = std::fs::read(folder.join(&found.key)).expect("a readable file");
        let image =
            vqtok::data::decode::decode(&bytes, &limits, vqtok::data::decode::Alpha::default())
                .expect("a JPEG")
                .image;
        assert_eq!(image.dimensions(), (32, 32));
        pixels.push(image.into_raw());
        keys.push(found.key);
    }
    Images { pixels, keys }
}

fn mnist() -> Images {
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
    Images { pixels, keys }
}

/// `--name value` or the default.
fn option<T: std::str::FromStr>(args: &[String], name: &str, default: T) -> T {
    args.iter()
        .position(|a| a == name)
        .and_then(|i| args.get(i + 1)?.parse().ok())
        .unwrap_or(default)
}

fn model(args: &[String], channels: usize, hidden: usize, codes: usize) -> ModelConfig {
    ModelConfig {
        format: FORMAT.into(),
        family: "vqtok".into(),
        architecture: Architecture::Vqvae(VqvaeConfig {
            hidden: option(args, "--hidden", hidden),
            downsamples: 2,
            res_blocks: 2,
            res_hidden: 32,
        }),
        quantizer: QuantizerConfig {
            rule: QuantizerRule::L2,
            codes: option(args, "--codes", codes),
            dim: option(args, "--dim", 64),
            decode_normalised: false,
        },
        pixels: PixelConfig {
            channels,
            input: InputRange::Centered,
            output: OutputRange::CenteredRound,
        },
        preprocess: PreprocessConfig { resize: "bicubic".into(), size: Some(32) },
        provenance: BTreeMap::new(),
    }
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
    name: &str,
    args: &[String],
    model: &ModelConfig,
    settings: &TrainSettings,
    images: &Images,
    goal: (f64, f64),
) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    let summary =
        run(model, settings, images, &folder.path().join("m"), false, &mut Printer::default())
            .expect("a training");
    let e = &summary.evaluation;
    println!(
        "{name} {}: seed {} steps {} PSNR {:.2} dB (of mean MSE {:.2}) SSIM {:.3} usage {:.2} % \
         perplexity {:.0} on {} held-out images; {:.0} s, {:.0} CPU-s; goal {} dB, {} %",
        args.join(" "),
        settings.seed,
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
        100.0 * goal.1
    );
    // The stricter of the two means.
    e.psnr_of_mean_mse >= goal.0 && e.usage >= goal.1
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

/// CPU-seconds of a step of protocol P on random images, the median of several.
fn step_cost(args: &[String], settings: &TrainSettings) {
    for hidden in [64, 128] {
        let mut args = args.to_vec();
        args.extend(["--hidden".into(), hidden.to_string()]);
        let model = model(&args, 3, hidden, 512);
        let mut trainer = Trainer::new(&model, settings, 0.06).expect("a trainer");
        let bytes: Vec<u8> = (0..settings.batch_size * 32 * 32 * 3)
            .map(|i| (vqtok::train::random::splitmix64(7, i as u64 / 5) >> 56) as u8)
            .collect();
        let rows = trainer.latent_rows(&bytes).expect("latents");
        trainer.start_codebook(&rows, rows.len() / 64);
        let mut costs: Vec<f64> = (0..option(&args, "--steps", 40))
            .map(|_| {
                let before = cpu_seconds();
                trainer.step(&bytes).expect("a step");
                cpu_seconds() - before
            })
            .collect();
        costs.sort_by(f64::total_cmp);
        println!(
            "step h {hidden} batch {}: median {:.4} CPU-s, fastest {:.4}",
            settings.batch_size,
            costs[costs.len() / 2],
            costs[0]
        );
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let defaults = TrainSettings::default();
    let mut settings = TrainSettings {
        steps: option(&args, "--steps", 1000),
        seed: option(&args, "--seed", 1),
        batch_size: 32,
        // 2,000 of 50,000.
        held_out_share: 0.04,
        weight_average: option(&args, "--average", defaults.weight_average),
        learning_rate: option(&args, "--lr", defaults.learning_rate),
        clip_norm: option(&args, "--clip", defaults.clip_norm),
        ..defaults
    };
    if args.iter().any(|a| a == "--rotation") {
        settings.estimator = vqtok::train::estimator::Estimator::Rotation;
    }
    settings.codebook.start_after = option(&args, "--start", settings.codebook.start_after);
    settings.codebook.decay = option(&args, "--decay", settings.codebook.decay);
    settings.codebook.revive_every = option(&args, "--revive", settings.codebook.revive_every);
    let met = match args.first().map(String::as_str) {
        Some("cifar") => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let images = cifar(folder.path());
            let model = model(&args, 3, 64, 512);
            quality("cifar", &args[1..], &model, &settings, &images, (23.2, 0.99))
        }
        Some("mnist") => {
            settings.batch_size = 64;
            settings.held_out_share = 2000.0 / 60_000.0;
            let model = model(&args, 1, 32, 256);
            quality("mnist", &args[1..], &model, &settings, &mnist(), (23.5, 0.98))
        }
        Some("step") => {
            step_cost(&args, &settings);
            true
        }
        _ => {
            eprintln!("cifar, mnist or step?");
            true
        }
    };
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
