//! Tests of whole steps: the reference's three VQGAN steps with discriminator, micro-batches,
//! recomputation.

use candle_core::{DType, Device};

use super::*;
use crate::model::config::{
    Architecture, FORMAT, InputRange, ModelConfig, OutputRange, PixelConfig, PreprocessConfig,
    QuantizerConfig, QuantizerRule,
};
use crate::train::golden::{Case, assert_close, vqgan};
use crate::train::network::parameters::{flat, set_flat};
use crate::train::network::random::{fnv1a64, unit};
use crate::train::settings::TrainSettings;
use crate::train::settings::adversarial::AdversarialSettings;
use crate::train::settings::training::ReconstructionLoss;
use crate::train::trainer::state::Lengths;
use crate::util::float_bits::Bits;

pub(super) fn model(side: u32, codes: usize) -> ModelConfig {
    ModelConfig {
        format: FORMAT.into(),
        family: "vqtok".into(),
        architecture: Architecture::Vqgan(vqgan(32, 8, 32)),
        quantizer: QuantizerConfig::new(QuantizerRule::L2, codes, 8),
        pixels: PixelConfig {
            channels: 3,
            input: InputRange::Symmetric,
            output: OutputRange::SymmetricRound,
        },
        preprocess: PreprocessConfig::new("bicubic", Some(side)),
        provenance: BTreeMap::new(),
    }
}

/// The settings of `golden_train/vqgan_step`.
pub(super) fn settings() -> TrainSettings {
    let mut settings = TrainSettings {
        steps: 1_000_000,
        batch_size: 2,
        loss: ReconstructionLoss::L1,
        learning_rate: 1e-3,
        learning_rate_floor: 1e-3,
        warm_up_share: 0.0,
        weight_decay: 0.01,
        weight_average: 0.0,
        adversarial: Some(AdversarialSettings {
            start: 0.0,
            alone_share: 0.0,
            ramp_share: 0.0,
            cap: 1e4,
            lecam: 0.0,
            filters: 8,
            layers: 2,
            learning_rate: 1e-3,
            betas: (0.9, 0.95),
            weight_decay: 0.01,
            ..AdversarialSettings::default()
        }),
        ..TrainSettings::default()
    };
    settings.codebook.revive_every = 0;
    settings
}

/// Initial weights by the reference's recipe.
fn recipe_weights(prefix: &str, vars: &BTreeMap<String, Var>) {
    for (name, var) in vars {
        let name = format!("{prefix}{name}");
        let (scale, centre) = match var.dims() {
            [_, i, h, w] => ((3.0 / (i * h * w) as f64).sqrt(), 0.0),
            _ if name.ends_with(".bias") => (0.05, 0.0),
            _ => (0.1, 1.0),
        };
        let times = if name == "discriminator.main.8.weight" { 4.0 } else { 1.0 };
        let key = fnv1a64(&name);
        let values = (0..var.elem_count())
            .map(|i| (centre + unit(key, i as u64) * scale as f32) * times)
            .collect();
        set_flat(var, values).unwrap();
    }
}

#[test]
fn golden_vqgan_steps() {
    let Some(case) = Case::open("vqgan_step") else { return };
    let mut trainer = Trainer::new(&model(16, 32), &settings(), 1.0).unwrap();
    recipe_weights("", &trainer.vars);
    recipe_weights("discriminator.", trainer.adversary.as_ref().unwrap().vars());
    let book = [("embedding", "codebook"), ("count", "ema_count"), ("sum", "ema_sum")];
    let state = book.map(|(ours, theirs)| (ours.to_string(), case.f32(theirs)));
    trainer.quantizer.restore(state.into()).unwrap();
    trainer.codes.usage.start(0);

    let images = case.tensor("images");
    let mut reports = Vec::new();
    for step in 0..3 {
        let before = vectors(&trainer);
        reports.push(trainer.step_on(&images.get(step).unwrap(), &|| false).unwrap());
        decay_vectors(&trainer, &before);
        let statistics = trainer.adversary.as_ref().unwrap().floats().unwrap();
        let tag = format!("step{}", step + 1);
        for (name, mine) in &statistics {
            let Some(name) = name.strip_prefix("adversary.statistics.") else { continue };
            let golden = format!("{tag}.stats.discriminator.{name}");
            if case.tensors.contains_key(&golden) {
                case.check(&golden, mine);
            }
        }
        if step == 0 {
            for (ours, theirs) in book {
                case.check(&format!("step1.{theirs}"), &trainer.quantizer.state()[ours]);
            }
            check_first_parameters(&case, &trainer);
        }
    }
    let adversarial = |f: fn(&AdversarialReport) -> f64| -> Vec<f64> {
        reports.iter().map(|r| f(r.adversarial.as_ref().unwrap())).collect()
    };
    case.check_scalars("nll_l1", &reports.iter().map(|r| r.reconstruction).collect::<Vec<_>>());
    case.check_scalars("vq_loss", &reports.iter().map(|r| r.commitment).collect::<Vec<_>>());
    case.check_scalars("g_loss", &adversarial(|a| a.loss));
    case.check_scalars("lambda", &adversarial(|a| a.weight));
    case.check_scalars("d_loss", &adversarial(|a| a.discriminator));
    case.check_scalars("discriminator_grad_norm", &adversarial(|a| a.discriminator_norm));
    case.check_scalars("generator_loss", &reports.iter().map(|r| r.loss).collect::<Vec<_>>());
    let norms: Vec<f64> = reports.iter().map(|r| r.gradient_norm).collect();
    case.check_scalars("generator_grad_norm", &norms);
}

/// The values of biases and norms of both networks.
fn vectors(trainer: &Trainer) -> Vec<(Var, Vec<f32>)> {
    let theirs = trainer.adversary.as_ref().unwrap().vars();
    let vars = trainer.vars.values().chain(theirs.values());
    vars.filter(|v| v.dims().len() == 1).map(|v| (v.clone(), flat(v).unwrap())).collect()
}

/// This reference decays biases and norms too, by lr wd of their values before the update; ours
/// never does.
fn decay_vectors(trainer: &Trainer, before: &[(Var, Vec<f32>)]) {
    let rate = (trainer.settings.learning_rate * trainer.settings.weight_decay) as f32;
    for (var, before) in before {
        let decayed = flat(var).unwrap().iter().zip(before).map(|(p, b)| p - rate * b).collect();
        set_flat(var, decayed).unwrap();
    }
}

/// As the case's notes ask: at least 99 % of the elements within 1e-5, none further off than 2.1
/// learning rates.
fn check_first_parameters(case: &Case, trainer: &Trainer) {
    let zero: Vec<&str> = case.json["zero_gradient_tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    let theirs = trainer.adversary.as_ref().unwrap().vars().iter();
    let theirs = theirs.map(|(n, v)| (format!("discriminator.{n}"), v));
    let mut compared = 0;
    for (name, var) in trainer.vars.iter().map(|(n, v)| (n.clone(), v)).chain(theirs) {
        let golden = format!("step1.param.{name}");
        if zero.contains(&name.as_str()) || !case.tensors.contains_key(&golden) {
            continue;
        }
        let (mine, golden) = (flat(var).unwrap(), case.f32(&golden));
        let off: Vec<f32> = mine.iter().zip(&golden).map(|(a, b)| (a - b).abs()).collect();
        assert!(off.iter().all(|d| *d <= 2.1e-3), "{name}");
        let far = off.iter().filter(|d| **d > 1e-5).count();
        assert!(far * 100 <= off.len(), "{name}: {far} of {} elements", off.len());
        compared += 1;
    }
    assert!(compared > 90, "{compared}");
}

/// A few steps of a small adversarial training.
fn few_steps(micro_batch: usize, recompute: bool) -> (Vec<StepReport>, State) {
    let mut settings = settings();
    settings.steps = 4;
    settings.batch_size = 6;
    settings.micro_batch = micro_batch;
    settings.recompute = recompute;
    settings.adversarial.as_mut().unwrap().lecam = 0.05;
    settings.adversarial.as_mut().unwrap().cap = 10.0;
    let mut trainer = Trainer::new(&model(16, 16), &settings, 1.0).unwrap();
    let bytes: Vec<u8> = (0..6 * 16 * 16 * 3)
        .map(|i| (crate::train::network::random::splitmix64(7, i as u64 / 5) >> 56) as u8)
        .collect();
    let rows = trainer.latent_rows(&bytes, &|| false).unwrap();
    trainer.start_codebook(&rows, rows.len() / 8, &mut |_, _| Ok(())).unwrap();
    let reports = (0..4).map(|_| trainer.step(&bytes).unwrap()).collect();
    (reports, trainer.state(&serde_json::Value::Null, Lengths::default()).unwrap())
}

use crate::train::trainer::state::State;

#[test]
fn recomputing_changes_no_bit_of_a_training() {
    let (kept, again) = (few_steps(0, false), few_steps(0, true));
    assert!(kept.1 == again.1, "the states differ");
    assert_eq!(format!("{:?}", kept.0), format!("{:?}", again.0));
    let both = kept.0.iter().map(|r| r.adversarial.as_ref().unwrap());
    assert!(both.clone().all(|a| a.weight > 0.0 && a.discriminator > 0.0));
}

#[test]
fn micro_batches_sum_to_the_batch() {
    // Without a discriminator, whose norms see the part, only rounding differs.
    let run = |micro_batch: usize| {
        let mut settings = settings();
        settings.batch_size = 6;
        settings.micro_batch = micro_batch;
        settings.adversarial = None;
        settings.loss = ReconstructionLoss::Mse;
        let mut trainer = Trainer::new(&model(16, 16), &settings, 1.0).unwrap();
        let key = fnv1a64("micro");
        let bytes: Vec<u8> =
            (0..6 * 768).map(|i| (127.0 * (1.0 + unit(key, i as u64 / 7))) as u8).collect();
        let rows = trainer.latent_rows(&bytes, &|| false).unwrap();
        trainer.start_codebook(&rows, rows.len() / 8, &mut |_, _| Ok(())).unwrap();
        let report = trainer.step(&bytes).unwrap();
        (report, trainer.state(&serde_json::Value::Null, Lengths::default()).unwrap())
    };
    let (whole, state) = run(0);
    for micro_batch in [6, 7] {
        let (report, same) = run(micro_batch);
        assert_eq!(format!("{report:?}"), format!("{whole:?}"));
        assert!(same == state);
    }
    // 4 and 2 images: parts of different size are weighted by it.
    for micro_batch in [1, 4] {
        let (report, other) = run(micro_batch);
        for (name, mine, golden) in [
            ("loss", report.loss, whole.loss),
            ("psnr", report.psnr, whole.psnr),
            ("gradient norm", report.gradient_norm, whole.gradient_norm),
            ("latent norm", report.latent_norm, whole.latent_norm),
        ] {
            assert_close(name, &[mine], &[golden], 1e-5);
        }
        let f64s = |v: &[f32]| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        for name in ["moment1.decoder.conv_out.weight", "moment1.encoder.conv_in.weight"] {
            assert_close(name, &f64s(&other.floats[name]), &f64s(&state.floats[name]), 1e-4);
        }
        assert_eq!(other.integers, state.integers);
    }
    // Each number of images at once is its own function: the same again.
    assert!(few_steps(2, false).1 == few_steps(2, true).1);
}

#[test]
fn a_discriminator_that_overflows_costs_its_own_update_only() {
    let mut settings = settings();
    settings.batch_size = 2;
    let mut trainer = Trainer::new(&model(16, 16), &settings, 1.0).unwrap();
    let x = Tensor::zeros((2, 3, 16, 16), DType::F32, &Device::Cpu).unwrap();
    let vars = trainer.adversary.as_ref().unwrap().vars().clone();
    set_flat(&vars["main.8.bias"], vec![f32::NAN]).unwrap();
    let report = trainer.step_on(&x, &|| false).unwrap();
    assert!(!report.skipped && report.loss.is_finite());
    assert!(report.adversarial.unwrap().discriminator_skipped);
    assert_eq!((trainer.skipped(), trainer.discriminator_skipped()), (0, 1));
    // An image that is not finite skips everything.
    let before = trainer.state(&serde_json::Value::Null, Lengths::default()).unwrap();
    let report = trainer.step_on(&(x * f64::NAN).unwrap(), &|| false).unwrap();
    assert!(report.skipped && report.adversarial.unwrap().discriminator_skipped);
    let after = trainer.state(&serde_json::Value::Null, Lengths::default()).unwrap();
    let same = |(name, values): (&String, &Vec<f32>)| {
        let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        bits(values) == bits(&before.floats[name])
    };
    assert!(after.floats.iter().all(same));
}

#[test]
fn a_fall_of_psnr_goes_back_to_the_snapshot_and_is_resumed_bit_for_bit() {
    use crate::train::trainer::monitor::Probe;
    let mut settings = settings();
    settings.batch_size = 2;
    settings.steps = 8;
    let adversarial = settings.adversarial.as_mut().unwrap();
    (adversarial.start, adversarial.alone_share, adversarial.ramp_share) = (0.25, 0.25, 0.25);
    let model = model(16, 16);
    let key = fnv1a64("fall");
    let bytes: Vec<u8> =
        (0..2 * 768).map(|i| (127.0 * (1.0 + unit(key, i as u64 / 7))) as u8).collect();
    let probe = Probe { trained: bytes.clone(), held_out: Vec::new() };
    let nothing = serde_json::Value::Null;
    let mut trainer = Trainer::new(&model, &settings, 1.0).unwrap();
    let rows = trainer.latent_rows(&bytes, &|| false).unwrap();
    trainer.start_codebook(&rows, rows.len() / 8, &mut |_, _| Ok(())).unwrap();
    for _ in 0..2 {
        trainer.step(&bytes).unwrap();
    }
    // At the discriminator's start: a snapshot.
    assert!(trainer.evaluate_probe(&probe).unwrap().1.is_empty());
    let kept = trainer.state(&nothing, Lengths::default()).unwrap();
    for _ in 0..3 {
        trainer.step(&bytes).unwrap();
    }
    // As if PSNR had been 90 dB before.
    trainer.monitor.baseline = Some(Bits(90.0));
    let (look, words) = trainer.evaluate_probe(&probe).unwrap();
    assert!(words[0].contains("back to the weights of step 2"), "{words:?}");
    assert_eq!((look.rollbacks, trainer.step_count()), (1, 5));
    let after = trainer.state(&nothing, Lengths::default()).unwrap();
    for (name, values) in kept.floats.iter().filter(|(n, _)| !n.starts_with("snapshot.")) {
        assert!(values == &after.floats[name], "{name}");
    }
    let adversary = trainer.adversary.as_ref().unwrap();
    assert_eq!((adversary.weight_scale(), adversary.counters().ramp_from), (0.5, 5));
    // Another trainer goes on from the checkpoint with the same bits, snapshot and trust included.
    let mut other = Trainer::new(&model, &settings, 1.0).unwrap();
    other.restore(&after).unwrap();
    for trainer in [&mut trainer, &mut other] {
        trainer.step(&bytes).unwrap();
        trainer.evaluate_probe(&probe).unwrap();
        trainer.step(&bytes).unwrap();
    }
    let states = [&trainer, &other].map(|t| t.state(&nothing, Lengths::default()).unwrap());
    assert!(states[0] == states[1]);
    assert_eq!(states[0].counters.monitor.rollbacks, 2);
}
