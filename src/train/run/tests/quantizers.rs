//! Tests of whole trainings with every kind of quantizer: resumption bit for bit, models that give
//! the tokens training saw, recovery from a collapse, refusals.

use crate::checkpoint::recognise::detect::{DetectOptions, begin};
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::CpuEngine;
use crate::engine::cpu::tests::off_by;
use crate::engine::{Encoded, Engine, PixelBatch};
use crate::model::config::{QuantizerConfig, QuantizerRule};

use super::*;
use crate::train::settings::codebook::{CodebookMethod, CodebookStart};

/// A model and settings for each kind.
fn kinds() -> Vec<(&'static str, ModelConfig, TrainSettings)> {
    use QuantizerRule::{Fsq, L2, L2Normalised, Sign};
    let kind = |name, rule, codes, dim, method| {
        let mut model = small_model();
        model.quantizer = QuantizerConfig::new(rule, codes, dim);
        if rule == Fsq {
            model.quantizer.levels = vec![4, 3, 3];
        }
        let mut settings = small_settings();
        settings.codebook.method = method;
        (name, model, settings)
    };
    let residual = |name, method| {
        let (name, mut model, settings) = kind(name, L2, 16, 4, method);
        model.quantizer.depth = 3;
        (name, model, settings)
    };
    vec![
        residual("ema of three levels", CodebookMethod::Ema),
        residual("gradient of three levels", CodebookMethod::Gradient),
        kind("ema", L2, 16, 4, CodebookMethod::Ema),
        kind("ema on the sphere", L2Normalised, 16, 4, CodebookMethod::Ema),
        kind("gradient", L2, 16, 4, CodebookMethod::Gradient),
        kind("gradient on the sphere", L2Normalised, 16, 4, CodebookMethod::Gradient),
        kind("simvq", L2, 16, 4, CodebookMethod::Simvq),
        kind("simvq on the sphere", L2Normalised, 16, 4, CodebookMethod::Simvq),
        kind("fsq", Fsq, 36, 3, CodebookMethod::Ema),
        kind("lfq", Sign, 16, 4, CodebookMethod::Ema),
    ]
}

fn bytes_of(folder: &Path, file: &str) -> Vec<u8> {
    std::fs::read(folder.join(file)).unwrap()
}

#[test]
fn every_kind_resumes_to_the_same_bytes_and_opens() {
    let temp = tempfile::tempdir().unwrap();
    for (i, (name, model, settings)) in kinds().into_iter().enumerate() {
        let (whole, parts) =
            (temp.path().join(format!("whole{i}")), temp.path().join(format!("parts{i}")));
        let summary = run(&model, &settings, &DATA, &whole, false, &mut ()).unwrap();
        assert_eq!(summary.skipped_steps, 0, "{name}");
        for (n, stop) in [2, 5, 17].into_iter().enumerate() {
            let mut stop = StopAt(stop, 0);
            let error = run(&model, &settings, &DATA, &parts, n > 0, &mut stop).unwrap_err();
            assert!(matches!(error, Error::Interrupted), "{name}: {error}");
        }
        let resumed = run(&model, &settings, &DATA, &parts, true, &mut ()).unwrap();
        assert_eq!(resumed, summary, "{name}");
        for file in ["config.json", "model.safetensors", "training.jsonl"] {
            assert!(bytes_of(&whole, file) == bytes_of(&parts, file), "{name}: {file} differs");
        }
        // The card says what it is, and only rules with a codebook have one.
        let card = crate::checkpoint::model_card::read(&whole, &DetectOptions::default()).unwrap();
        assert_eq!(card.config.quantizer, model.quantizer, "{name}");
        let has_codebook =
            matches!(model.quantizer.rule, QuantizerRule::L2 | QuantizerRule::L2Normalised);
        assert_eq!(!card.digests.codebook_sha256.is_empty(), has_codebook, "{name}");
        // Trained on their own loss, the parts of the loss are in the record.
        let record = String::from_utf8(bytes_of(&whole, "training.jsonl")).unwrap();
        let says = |word: &str| record.contains(&format!("\"{word}\":"));
        let learned = model.quantizer.rule != QuantizerRule::Fsq
            && has_codebook
            && settings.codebook.method != CodebookMethod::Ema;
        assert_eq!(says("code_loss"), learned, "{name}");
        assert_eq!(says("entropy_loss"), name == "lfq", "{name}");
        assert_eq!(says("codebook_norm"), has_codebook, "{name}");
        let levels = if model.quantizer.depth > 1 { model.quantizer.depth } else { 0 };
        assert_eq!(summary.evaluation.levels.len(), levels, "{name}");
        assert_eq!(says("levels"), levels > 0, "{name}");
    }
}

/// Bytes of `count` images from the one with number `first` on.
fn images(first: usize, count: usize) -> Vec<u8> {
    let data = Discs { count: first + count, side: 16 };
    (first..first + count).flat_map(|i| data.example(i, 0).unwrap()).collect()
}

/// Does `steps` steps over 200 images, starting the codes when it is time.
fn train(trainer: &mut Trainer, steps: usize, batch: usize) {
    for _ in 0..steps {
        let pixels = images(trainer.step_count() * batch % 200, batch);
        if trainer.wants_codebook() {
            let rows = trainer.latent_rows(&pixels, &|| false).unwrap();
            trainer.start_codebook(&rows, rows.len() / trainer.dim(), &mut |_, _| Ok(())).unwrap();
        }
        assert!(!trainer.step(&pixels).unwrap().skipped);
    }
}

#[test]
fn the_saved_model_gives_the_tokens_that_training_saw() {
    let temp = tempfile::tempdir().unwrap();
    for (i, (name, model, settings)) in kinds().into_iter().enumerate() {
        // Without averages the saved weights are those of the last step.
        let settings = TrainSettings { weight_average: 0.0, ..settings };
        let mut trainer = Trainer::new(&model, &settings, 0.1).unwrap();
        train(&mut trainer, 12, 6);
        let weights = trainer.final_weights().unwrap();
        let shapes = trainer.shapes();
        let tensors = weights.iter().map(|(name, values)| {
            let shape = shapes[name].clone();
            (name.clone(), Tensor::from_slice(values, shape, &Device::Cpu).unwrap())
        });
        let folder = temp.path().join(i.to_string());
        crate::checkpoint::folder::save(&folder, &model, &tensors.collect()).unwrap();
        let pixels = images(300, 20);
        let seen = trainer.tokens(&pixels).unwrap();
        let batch = PixelBatch { pixels, count: 20, height: 16, width: 16, channels: 3 };
        let mut cpu = CpuEngine::open(begin(&folder, &DetectOptions::default()).unwrap()).unwrap();
        let mut candle =
            CandleEngine::open(begin(&folder, &DetectOptions::default()).unwrap(), &Device::Cpu)
                .unwrap();
        let codes = cpu.encode(&batch).unwrap();
        let counted_on = |codes: &Encoded| -> Vec<u32> {
            let firsts = (0..).step_by(model.quantizer.codes);
            let levels = codes.levels.iter().zip(firsts);
            levels.flat_map(|(level, first)| level.codes.iter().map(move |k| first + k)).collect()
        };
        assert_eq!(counted_on(&codes), seen, "{name}");
        assert_eq!(counted_on(&candle.encode(&batch).unwrap()), seen, "{name}");
        let off = off_by(&cpu.decode(&codes).unwrap(), &candle.decode(&codes).unwrap());
        assert!(off <= 1, "{name}: {off}");
    }
}

/// Share of the codes that 200 images use.
fn usage(trainer: &Trainer) -> f64 {
    let mut counts = crate::metrics::CodeCounts::new(trainer.codes());
    for first in (0..200).step_by(40) {
        counts.add(&trainer.tokens(&images(first, 40)).unwrap());
    }
    counts.usage()
}

#[test]
fn a_collapsed_codebook_recovers_within_200_updates() {
    for (method, rule) in [
        (CodebookMethod::Ema, QuantizerRule::L2),
        (CodebookMethod::Gradient, QuantizerRule::L2),
        (CodebookMethod::Gradient, QuantizerRule::L2Normalised),
    ] {
        // Both while revival is scheduled and after its end, where only the alarm brings it back.
        for revive_until in [0.8, 0.3] {
            let mut model = small_model();
            model.quantizer = QuantizerConfig::new(rule, 64, 4);
            let mut settings = TrainSettings { steps: 500, batch_size: 20, ..small_settings() };
            settings.codebook.method = method;
            settings.codebook.start_after = 20;
            settings.codebook.revive_every = 20;
            settings.codebook.revive_until = revive_until;
            let mut trainer = Trainer::new(&model, &settings, 0.1).unwrap();
            train(&mut trainer, 200, 20);
            let what = format!("{method:?} {rule:?} {revive_until}");
            let before = usage(&trainer);
            assert!(before >= 0.5, "{what}: {before} before");
            trainer.place_codes(&[0.3; 64 * 4]).unwrap();
            assert_eq!(usage(&trainer), 1.0 / 64.0, "{what}");
            train(&mut trainer, 200, 20);
            let after = usage(&trainer);
            assert!(after >= 0.9, "{what}: {after} after, {before} before");
        }
    }
}

#[test]
fn each_residual_level_recovers_from_its_own_collapse() {
    for method in [CodebookMethod::Ema, CodebookMethod::Gradient] {
        let mut model = small_model();
        model.quantizer = QuantizerConfig { depth: 2, ..model.quantizer };
        let mut settings = TrainSettings { steps: 300, batch_size: 20, ..small_settings() };
        settings.codebook.method = method;
        settings.codebook.start_after = 10;
        let mut trainer = Trainer::new(&model, &settings, 0.1).unwrap();
        train(&mut trainer, 40, 20);
        let by_level = |trainer: &Trainer| {
            let mut counts = crate::metrics::CodeCounts::of_levels(2, 16);
            counts.add(&trainer.tokens(&images(0, 60)).unwrap());
            counts.by_level().into_iter().map(|level| level.usage).collect::<Vec<_>>()
        };
        // The first level stays as it is, the second falls on one point.
        let mut codes = trainer.codebook().unwrap().unwrap();
        codes[16 * 4..].fill(0.3);
        trainer.place_codes(&codes).unwrap();
        assert_eq!(by_level(&trainer)[1], 1.0 / 16.0, "{method:?}");
        train(&mut trainer, 100, 20);
        let usage = by_level(&trainer);
        assert!(usage.iter().all(|u| *u > 0.8), "{method:?}: {usage:?}");
    }
}

#[test]
fn a_collapse_without_revival_stays() {
    let mut settings = TrainSettings { steps: 300, batch_size: 20, ..small_settings() };
    settings.codebook.method = CodebookMethod::Gradient;
    settings.codebook.revive_every = 0;
    let mut trainer = Trainer::new(&small_model(), &settings, 0.1).unwrap();
    train(&mut trainer, 20, 20);
    trainer.place_codes(&[0.3; 16 * 4]).unwrap();
    train(&mut trainer, 100, 20);
    assert!(usage(&trainer) < 0.5, "{}", usage(&trainer));
}

#[test]
fn codes_are_placed_only_where_they_have_places() {
    for (name, model, settings) in kinds() {
        let mut trainer = Trainer::new(&model, &settings, 0.1).unwrap();
        let q = &model.quantizer;
        let placed = trainer.place_codes(&vec![0.1; q.all_codes() * q.dim]);
        assert_eq!(placed.is_ok(), name.starts_with("ema") || name.starts_with("gradient"));
        assert!(trainer.place_codes(&[0.0]).is_err());
    }
}

/// Revived codes must not be pulled back by what the averages and moments remember.
#[test]
fn placed_codes_are_in_the_averaged_weights_at_once() {
    let mut settings = small_settings();
    settings.codebook.method = CodebookMethod::Gradient;
    settings.weight_average = 0.999;
    let mut trainer = Trainer::new(&small_model(), &settings, 0.1).unwrap();
    train(&mut trainer, 8, 6);
    let points: Vec<f32> = (0..16 * 4).map(|i| i as f32 * 0.01).collect();
    trainer.place_codes(&points).unwrap();
    assert_eq!(trainer.final_weights().unwrap()[CODEBOOK_NAME], points);
    assert_eq!(trainer.codebook().unwrap(), Some(points));
    let state = trainer
        .state(&serde_json::Value::Null, crate::train::trainer::state::Lengths::default())
        .unwrap();
    for moments in ["moment1", "moment2"] {
        let values = &state.floats[&format!("{moments}.{CODEBOOK_NAME}")];
        assert!(values.iter().all(|v| *v == 0.0), "{moments}");
    }
}

#[test]
fn a_random_start_is_small_and_the_same_for_the_same_seed() {
    for method in [CodebookMethod::Ema, CodebookMethod::Gradient] {
        let mut settings = small_settings();
        settings.codebook.method = method;
        settings.codebook.start = CodebookStart::Random;
        let codes = || {
            let mut trainer = Trainer::new(&small_model(), &settings, 0.1).unwrap();
            trainer.start_codebook(&[1.0; 40], 10, &mut |_, _| Ok(())).unwrap();
            trainer.codebook().unwrap().unwrap()
        };
        let one = codes();
        assert_eq!(one, codes());
        assert!(one.iter().all(|v| v.abs() <= 1.0 / 16.0));
        assert!(one.iter().any(|v| *v < -0.02) && one.iter().any(|v| *v > 0.02));
    }
}

#[test]
fn impossible_quantizers_are_refused_in_one_line() {
    let refused = |spoil: &dyn Fn(&mut QuantizerConfig, &mut TrainSettings), words: &[&str]| {
        let (mut model, mut settings) = (small_model(), small_settings());
        spoil(&mut model.quantizer, &mut settings);
        let said = settings.check(&model).unwrap_err().to_string();
        assert!(words.iter().all(|w| said.contains(w)) && !said.contains('\n'), "{said}");
    };
    let fsq = |q: &mut QuantizerConfig, levels: Vec<usize>| {
        *q = QuantizerConfig { levels, ..QuantizerConfig::new(QuantizerRule::Fsq, 16, 4) };
    };
    refused(&|q, _| fsq(q, vec![8, 8]), &["model.codes is 16", "64"]);
    refused(&|q, _| fsq(q, vec![]), &["levels"]);
    refused(&|q, _| fsq(q, vec![1, 16]), &["levels hold a 1"]);
    refused(&|q, _| q.levels = vec![4, 4], &["fsq alone"]);
    refused(&|q, _| q.rule = QuantizerRule::Dot, &["\"dot\"", "l2-normalised"]);
    refused(&|q, _| q.codes = 1, &["model.codes is 1", "at least 2"]);
    let sphere = QuantizerRule::L2Normalised;
    refused(&|q, _| (q.depth, q.rule) = (2, sphere), &["model.depth", "\"l2-normalised\""]);
    refused(&|q, _| q.depth = 17, &["model.depth", "1 to 16"]);
    refused(
        &|q, s| (q.depth, s.codebook.method) = (2, CodebookMethod::Simvq),
        &["model.depth", "not \"simvq\""],
    );
    let bits = |q: &mut QuantizerConfig, codes, dim| {
        *q = QuantizerConfig::new(QuantizerRule::Sign, codes, dim);
    };
    refused(&|q, _| bits(q, 17, 4), &["4 bits", "2^4"]);
    refused(&|q, _| bits(q, 1 << 17, 17), &["17 bits", "at most 16"]);
    refused(
        &|q, s| {
            bits(q, 16, 4);
            s.estimator = crate::train::settings::codebook::Estimator::Rotation;
        },
        &["straight-through only"],
    );
    // Without the entropies, more bits are fine.
    let (mut model, mut settings) = (small_model(), small_settings());
    bits(&mut model.quantizer, 1 << 18, 18);
    settings.codebook.entropy_weight = 0.0;
    settings.check(&model).unwrap();
}
