//! Owns which settings another one switches off: asked for and without any effect, they are refused
//! by name. Must not know: what the others do.
//!
//! A recipe that is shown has every setting filled in, so only one that differs from its default
//! was asked for.

use crate::error::{Error, Result};
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::train::settings::adversarial::{AdversarialSettings, PerceptualSettings, WatchSettings};
use crate::train::settings::{CodebookSettings, Method, Start, TrainSettings};

/// A table's settings that stand idle for one reason: each with whether it differs from its
/// default.
struct Idle<'a> {
    table: &'a str,
    reason: String,
    settings: Vec<(&'a str, bool)>,
}

/// Refuses settings that do nothing in this training.
///
/// # Errors
/// One line that names the first, and what switches it off.
pub fn check(settings: &TrainSettings, model: &ModelConfig) -> Result<()> {
    let mut all = Vec::new();
    of_codebook(settings, model, &mut all);
    of_adversarial(settings, &mut all);
    of_the_rest(settings, &mut all);
    for Idle { table, reason, settings } in all {
        if let Some((name, _)) = settings.iter().find(|(_, differs)| *differs) {
            return Err(Error::invalid(format!("{table}{name} does nothing: {reason}; remove it")));
        }
    }
    Ok(())
}

fn of_codebook(settings: &TrainSettings, model: &ModelConfig, all: &mut Vec<Idle<'_>>) {
    let (c, d) = (&settings.codebook, CodebookSettings::default());
    let mut off = |reason: &str, settings: &[(&'static str, bool)]| {
        let (reason, settings) = (reason.to_string(), settings.to_vec());
        all.push(Idle { table: "train.codebook.", reason, settings });
    };
    let entropy = [
        ("entropy_weight", c.entropy_weight != d.entropy_weight),
        ("entropy_temperature", c.entropy_temperature != d.entropy_temperature),
    ];
    let averages = [("decay", c.decay != d.decay), ("epsilon", c.epsilon != d.epsilon)];
    let code_weight = ("code_weight", c.code_weight != d.code_weight);
    let k_means = [
        ("kmeans_steps", c.kmeans_steps != d.kmeans_steps),
        ("kmeans_rows_per_code", c.kmeans_rows_per_code != d.kmeans_rows_per_code),
    ];
    let schedule = [
        ("revive_until", c.revive_until != d.revive_until),
        ("rearm_usage", c.rearm_usage != d.rearm_usage),
    ];
    let revival = [("revive_every", c.revive_every != d.revive_every), schedule[0], schedule[1]];
    let rule = model.quantizer.rule;
    if matches!(rule, QuantizerRule::Fsq | QuantizerRule::Sign) {
        let reason = "the quantizer's rule has no codebook";
        let kind = [("method", c.method != d.method), ("start", c.start != d.start), code_weight];
        off(reason, &kind);
        off(reason, &k_means);
        off(reason, &averages);
        off(reason, &revival);
        if rule == QuantizerRule::Fsq {
            off("it belongs to the quantizer's rule sign", &entropy);
        } else if c.entropy_weight == 0.0 {
            off("entropy_weight is 0", &entropy[1..]);
        }
        if rule == QuantizerRule::Fsq {
            let differs = settings.commitment != TrainSettings::default().commitment;
            let reason = "the quantizer's rule fsq has no commitment loss".into();
            all.push(Idle { table: "train.", reason, settings: vec![("commitment", differs)] });
        }
        return;
    }
    off("it belongs to the quantizer's rule sign", &entropy);
    match c.method {
        Method::Ema => off("train.codebook.method is \"ema\"", &[code_weight]),
        Method::Gradient => off("train.codebook.method is \"gradient\"", &averages),
        Method::Simvq => {
            let reason = "train.codebook.method is \"simvq\"";
            off(reason, &averages);
            off(reason, &k_means[..1]);
            off(reason, &revival);
        }
    }
    if c.start == Start::Random {
        off("train.codebook.start is \"random\"", &k_means);
    }
    if c.revive_every == 0 {
        off("train.codebook.revive_every is 0", &schedule);
    }
}

fn of_adversarial(settings: &TrainSettings, all: &mut Vec<Idle<'_>>) {
    let (w, wd) = (&settings.watch, WatchSettings::default());
    let fall = ("fall_db", w.fall_db != wd.fall_db);
    let mut off = |table: &'static str, reason: &str, settings: &[(&'static str, bool)]| {
        let (reason, settings) = (reason.to_string(), settings.to_vec());
        all.push(Idle { table, reason, settings });
    };
    let Some(a) = &settings.adversarial else {
        off("train.watch.", "there is no discriminator ([train.adversarial])", &[fall]);
        return;
    };
    let (table, d) = ("train.adversarial.", AdversarialSettings::default());
    if a.weight == 0.0 {
        off("train.", "its weight is 0", &[("adversarial", true)]);
    }
    if a.start == 1.0 {
        off("train.", "its start is 1, behind the last step", &[("adversarial", true)]);
    }
    if !a.adaptive {
        off(table, "train.adversarial.adaptive is false", &[("cap", a.cap != d.cap)]);
    }
    if a.lecam == 0.0 {
        let decay = ("lecam_decay", a.lecam_decay != d.lecam_decay);
        off(table, "train.adversarial.lecam is 0", &[decay]);
    }
}

fn of_the_rest(settings: &TrainSettings, all: &mut Vec<Idle<'_>>) {
    let mut off = |table: &'static str, reason: String, settings: &[(&'static str, bool)]| {
        all.push(Idle { table, reason, settings: settings.to_vec() });
    };
    let (s, d) = (settings, TrainSettings::default());
    if let Some(p) = &s.perceptual
        && p.weight == 0.0
    {
        let named = ("weights", p.weights != PerceptualSettings::default().weights);
        off("train.perceptual.", "train.perceptual.weight is 0".into(), &[named]);
    }
    if s.init.from.is_empty() {
        let family = ("family", s.init.family != d.init.family);
        let weights = ("weights", s.init.weights != d.init.weights);
        off("train.init.", "train.init.from is empty".into(), &[family, weights]);
    }
    if s.micro_batch > s.batch_size {
        let reason = format!("{} is more than train.batch_size, {}", s.micro_batch, s.batch_size);
        off("train.", reason, &[("micro_batch", true)]);
    }
    if s.pictures == 0 {
        let named = ("picture_every", s.picture_every != d.picture_every);
        off("train.", "train.pictures is 0".into(), &[named]);
    }
    let w = &s.watch;
    let overfitting = ("overfitting_db", w.overfitting_db != d.watch.overfitting_db);
    if w.images == 0 {
        let every = ("every_share", w.every_share != d.watch.every_share);
        let fall = ("fall_db", w.fall_db != d.watch.fall_db);
        off("train.watch.", "train.watch.images is 0".into(), &[every, fall, overfitting]);
    }
    if s.held_out_share == 0.0 {
        off("train.watch.", "train.held_out_share is 0".into(), &[overfitting]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::run_tests::small_model;
    use crate::train::settings::InitSettings;

    #[test]
    fn what_another_setting_switches_off_is_refused_by_name() {
        let said = |model: &ModelConfig, change: &dyn Fn(&mut TrainSettings)| {
            let mut settings = TrainSettings::default();
            change(&mut settings);
            check(&settings, model).expect_err("it has no effect").to_string()
        };
        let l2 = small_model();
        let mut fsq = small_model();
        fsq.quantizer.rule = QuantizerRule::Fsq;
        let adversarial = |change: &dyn Fn(&mut AdversarialSettings)| {
            let mut a = AdversarialSettings::default();
            change(&mut a);
            said(&l2, &|s| s.adversarial = Some(a.clone()))
        };
        for (text, name, reason) in [
            (said(&l2, &|s| s.codebook.entropy_weight = 0.2), "codebook.entropy_weight", "sign"),
            (said(&l2, &|s| s.codebook.code_weight = 2.0), "codebook.code_weight", "\"ema\""),
            (said(&fsq, &|s| s.codebook.decay = 0.5), "codebook.decay", "no codebook"),
            (said(&fsq, &|s| s.codebook.revive_every = 9), "codebook.revive_every", "no codebook"),
            (said(&fsq, &|s| s.commitment = 0.5), "train.commitment", "fsq"),
            (
                said(&l2, &|s| (s.codebook.revive_every, s.codebook.rearm_usage) = (0, 0.4)),
                "codebook.rearm_usage",
                "revive_every is 0",
            ),
            (said(&l2, &|s| s.watch.fall_db = 2.0), "watch.fall_db", "discriminator"),
            (adversarial(&|a| (a.adaptive, a.cap) = (false, 5.0)), "adversarial.cap", "adaptive"),
            (adversarial(&|a| a.weight = 0.0), "train.adversarial", "weight is 0"),
            (adversarial(&|a| a.start = 1.0), "train.adversarial", "behind the last step"),
            (said(&l2, &|s| s.micro_batch = 33), "train.micro_batch", "batch_size, 32"),
            (
                said(&l2, &|s| {
                    s.init = InitSettings { family: "taming".into(), ..Default::default() }
                }),
                "train.init.family",
                "from is empty",
            ),
        ] {
            assert!(text.contains(name) && text.contains(reason), "{name}: {text}");
        }
        check(&TrainSettings::default(), &l2).unwrap();
        check(&TrainSettings::default(), &fsq).unwrap();
    }
}
