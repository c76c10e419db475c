//! Owns which settings another one switches off: asked for and without any effect, they are refused
//! by name. Must not know: what the others do.
//!
//! A recipe that is shown has every setting filled in, so only one that differs from its default
//! was asked for.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::train::settings::codebook::{CodebookMethod, CodebookStart};
use crate::train::settings::training::TrainSettings;

const SIGNS: [&str; 3] =
    ["codebook.entropy_weight", "codebook.latents", "codebook.entropy_temperature"];
const AVERAGES: [&str; 2] = ["codebook.decay", "codebook.epsilon"];
const K_MEANS: [&str; 2] = ["codebook.kmeans_steps", "codebook.kmeans_rows_per_code"];
const REVIVAL: [&str; 3] =
    ["codebook.revive_every", "codebook.revive_until", "codebook.rearm_usage"];

/// The `[train]` table as it is, and as it is by default.
struct Tables {
    now: Value,
    usual: Value,
}

impl Tables {
    fn of(settings: &TrainSettings) -> Result<Tables> {
        let usual = TrainSettings {
            adversarial: Some(Default::default()),
            perceptual: Some(Default::default()),
            ..TrainSettings::default()
        };
        let json = |settings: &TrainSettings| {
            let value = serde_json::to_value(settings);
            value.map_err(|e| Error::invalid(format!("the settings are no JSON: {e}")))
        };
        Ok(Tables { now: json(settings)?, usual: json(&usual)? })
    }

    /// Refuses these settings where they were asked for: for this reason they have no effect.
    fn refuse(&self, names: &[&str], reason: &str) -> Result<()> {
        let differs = |name: &&&str| {
            let at = format!("/{}", name.replace('.', "/"));
            self.now.pointer(&at) != self.usual.pointer(&at)
        };
        names.iter().find(differs).map_or(Ok(()), |name| refuse(name, reason))
    }
}

fn refuse(name: &str, reason: &str) -> Result<()> {
    Err(Error::invalid(format!("train.{name} does nothing: {reason}; remove it")))
}

/// Refuses settings that do nothing in this training.
///
/// # Errors
/// One line that names the first, and what switches it off.
pub(crate) fn refuse_ineffective(settings: &TrainSettings, model: &ModelConfig) -> Result<()> {
    let tables = Tables::of(settings)?;
    match model.quantizer.rule {
        rule @ (QuantizerRule::Fsq | QuantizerRule::Sign) => {
            without_codebook(settings, rule, &tables)?;
        }
        _ => with_codebook(settings, &tables)?,
    }
    adversarial(settings, &tables)?;
    others(settings, &tables)
}

fn without_codebook(settings: &TrainSettings, rule: QuantizerRule, tables: &Tables) -> Result<()> {
    let reason = "the quantizer's rule has no codebook";
    tables.refuse(&["codebook.method", "codebook.start", "codebook.code_weight"], reason)?;
    tables.refuse(&K_MEANS, reason)?;
    tables.refuse(&AVERAGES, reason)?;
    tables.refuse(&REVIVAL, reason)?;
    if rule == QuantizerRule::Fsq {
        tables.refuse(&SIGNS, "it belongs to the quantizer's rule sign")?;
        tables.refuse(&["commitment"], "the quantizer's rule fsq has no commitment loss")?;
    } else if settings.codebook.entropy_weight == 0.0 && settings.codebook.unusual_temperature() {
        refuse("codebook.entropy_temperature", "entropy_weight is 0")?;
    }
    Ok(())
}

fn with_codebook(settings: &TrainSettings, tables: &Tables) -> Result<()> {
    let c = &settings.codebook;
    tables.refuse(&SIGNS, "it belongs to the quantizer's rule sign")?;
    match c.method {
        CodebookMethod::Ema => {
            tables.refuse(&["codebook.code_weight"], "train.codebook.method is \"ema\"")?;
        }
        CodebookMethod::Gradient => {
            tables.refuse(&AVERAGES, "train.codebook.method is \"gradient\"")?;
        }
        CodebookMethod::Simvq => {
            let reason = "train.codebook.method is \"simvq\"";
            tables.refuse(&AVERAGES, reason)?;
            tables.refuse(&K_MEANS[..1], reason)?;
            tables.refuse(&REVIVAL, reason)?;
        }
    }
    if c.start == CodebookStart::Random {
        tables.refuse(&K_MEANS, "train.codebook.start is \"random\"")?;
    }
    if c.revive_every == 0 {
        tables.refuse(&REVIVAL[1..], "train.codebook.revive_every is 0")?;
    }
    Ok(())
}

fn adversarial(settings: &TrainSettings, tables: &Tables) -> Result<()> {
    let Some(a) = &settings.adversarial else {
        let reason = "there is no discriminator ([train.adversarial])";
        return tables.refuse(&["watch.fall_db"], reason);
    };
    if a.weight == 0.0 {
        refuse("adversarial", "its weight is 0")?;
    }
    if a.start == 1.0 {
        refuse("adversarial", "its start is 1, after the last step")?;
    }
    if !a.adaptive {
        tables.refuse(&["adversarial.cap"], "train.adversarial.adaptive is false")?;
    }
    if a.lecam == 0.0 {
        tables.refuse(&["adversarial.lecam_decay"], "train.adversarial.lecam is 0")?;
    }
    Ok(())
}

fn others(settings: &TrainSettings, tables: &Tables) -> Result<()> {
    let s = settings;
    if s.perceptual.as_ref().is_some_and(|p| p.weight == 0.0) {
        tables.refuse(&["perceptual.weights"], "train.perceptual.weight is 0")?;
    }
    if s.init.from.is_empty() {
        tables.refuse(&["init.family", "init.weights"], "train.init.from is empty")?;
    }
    if s.micro_batch > s.batch_size {
        let reason = format!("{} is more than train.batch_size, {}", s.micro_batch, s.batch_size);
        refuse("micro_batch", &reason)?;
    }
    if s.pictures == 0 {
        tables.refuse(&["picture_every"], "train.pictures is 0")?;
    }
    if s.watch.images == 0 {
        let names = ["watch.every_share", "watch.fall_db", "watch.overfitting_db"];
        tables.refuse(&names, "train.watch.images is 0")?;
    }
    if s.held_out_share == 0.0 {
        tables.refuse(&["watch.overfitting_db"], "train.held_out_share is 0")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::fixtures::small_model;
    use crate::train::settings::adversarial::AdversarialSettings;
    use crate::train::settings::codebook::SignLatents;
    use crate::train::settings::training::InitSettings;

    fn said(model: &ModelConfig, change: &dyn Fn(&mut TrainSettings)) -> String {
        let mut settings = TrainSettings::default();
        change(&mut settings);
        refuse_ineffective(&settings, model).expect_err("it has no effect").to_string()
    }

    fn of_rule(rule: QuantizerRule) -> ModelConfig {
        let mut model = small_model();
        model.quantizer.rule = rule;
        model
    }

    fn assert_said<const N: usize>(cases: [(String, &str, &str); N]) {
        for (text, name, reason) in cases {
            assert!(text.contains(name) && text.contains(reason), "{name}: {text}");
        }
    }

    #[test]
    fn what_another_setting_switches_off_is_refused_by_name() {
        let l2 = small_model();
        let adversarial = |change: &dyn Fn(&mut AdversarialSettings)| {
            let mut a = AdversarialSettings::default();
            change(&mut a);
            said(&l2, &|s| s.adversarial = Some(a.clone()))
        };
        assert_said([
            (
                said(&l2, &|s| (s.codebook.revive_every, s.codebook.rearm_usage) = (0, 0.4)),
                "codebook.rearm_usage",
                "revive_every is 0",
            ),
            (said(&l2, &|s| s.watch.fall_db = 2.0), "watch.fall_db", "discriminator"),
            (adversarial(&|a| (a.adaptive, a.cap) = (false, 5.0)), "adversarial.cap", "adaptive"),
            (adversarial(&|a| a.weight = 0.0), "train.adversarial", "weight is 0"),
            (adversarial(&|a| a.start = 1.0), "train.adversarial", "after the last step"),
            (said(&l2, &|s| s.micro_batch = 33), "train.micro_batch", "batch_size, 32"),
            (
                said(&l2, &|s| {
                    s.init = InitSettings { family: "taming".into(), ..Default::default() }
                }),
                "train.init.family",
                "from is empty",
            ),
        ]);
        refuse_ineffective(&TrainSettings::default(), &l2).unwrap();
    }

    #[test]
    fn what_a_rule_has_no_use_for_is_refused_by_name() {
        let [l2, fsq, sign] =
            [small_model(), of_rule(QuantizerRule::Fsq), of_rule(QuantizerRule::Sign)];
        assert_said([
            (said(&l2, &|s| s.codebook.entropy_weight = 0.2), "codebook.entropy_weight", "sign"),
            (
                said(&l2, &|s| s.codebook.latents = Some(SignLatents::Free)),
                "codebook.latents",
                "sign",
            ),
            (
                said(&sign, &|s| {
                    s.codebook.entropy_weight = 0.0;
                    s.codebook.entropy_temperature = Some(0.5);
                }),
                "codebook.entropy_temperature",
                "entropy_weight is 0",
            ),
            (said(&l2, &|s| s.codebook.code_weight = 2.0), "codebook.code_weight", "\"ema\""),
            (said(&fsq, &|s| s.codebook.decay = 0.5), "codebook.decay", "no codebook"),
            (said(&fsq, &|s| s.codebook.revive_every = 9), "codebook.revive_every", "no codebook"),
            (said(&fsq, &|s| s.commitment = 0.5), "train.commitment", "fsq"),
        ]);
        refuse_ineffective(&TrainSettings::default(), &fsq).unwrap();
        let mut without = TrainSettings::default();
        without.codebook.entropy_weight = 0.0;
        without.codebook.fill_in(QuantizerRule::Sign);
        refuse_ineffective(&without, &sign).unwrap();
    }
}
