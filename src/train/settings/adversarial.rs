//! Owns what the adversarial and the perceptual part of a training can be told, and how it is
//! watched: the tables `[train.adversarial]`, `[train.perceptual]` and `[train.watch]`, their
//! defaults, their checks. Must not know: files, tensors.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::train::losses::discriminator::{AdversarialLoss, Discriminator};
use crate::util::numbers;

/// The `[train.adversarial]` table; without it there is no discriminator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdversarialSettings {
    /// Losses of discriminator and generator.
    pub loss: AdversarialLoss,
    /// Factor of the generator's loss; with `adaptive`, of the adaptive weight.
    pub weight: f64,
    /// Whether the weight follows the ratio of the gradients at the last layer (Esser et al. 2021).
    pub adaptive: bool,
    /// Limit on the adaptive weight.
    pub cap: f64,
    /// Share of the steps before the discriminator starts, 0 to 1.
    pub start: f64,
    /// Share of the steps, from `start`, in which the discriminator learns alone.
    pub alone_share: f64,
    /// Share of the steps, behind these, over which the generator's loss gains its full weight.
    pub ramp_share: f64,
    /// Weight of LeCAM's penalty (Tseng et al. 2021); 0 = none.
    pub lecam: f64,
    /// Decay of LeCAM's moving averages.
    pub lecam_decay: f64,
    /// Filters of the PatchGAN's first layer.
    pub filters: usize,
    /// Its layers with stride 2.
    pub layers: usize,
    /// The discriminator's learning rate; it falls as the generator's does.
    pub learning_rate: f64,
    /// AdamW's (b1, b2) of the discriminator.
    pub betas: (f64, f64),
    /// AdamW's decay of the discriminator.
    pub weight_decay: f64,
}

impl Default for AdversarialSettings {
    fn default() -> Self {
        AdversarialSettings {
            loss: AdversarialLoss::Hinge,
            weight: 0.8,
            adaptive: true,
            cap: 10.0,
            start: 0.5,
            alone_share: 0.02,
            ramp_share: 0.05,
            lecam: 0.05,
            lecam_decay: 0.999,
            filters: 64,
            layers: 3,
            learning_rate: 1e-4,
            betas: (0.5, 0.9),
            weight_decay: 0.0,
        }
    }
}

/// The `[train.perceptual]` table; without it there is no LPIPS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerceptualSettings {
    /// Factor of LPIPS (VGG16) beside the reconstruction loss.
    pub weight: f64,
    /// File or folder with the weights of torchvision's VGG16 and of the lpips heads. Empty: trains
    /// without LPIPS and says so.
    pub weights: String,
}

impl Default for PerceptualSettings {
    fn default() -> Self {
        PerceptualSettings { weight: 1.0, weights: String::new() }
    }
}

/// The `[train.watch]` table: a training looks at a few fixed images every so often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WatchSettings {
    /// Share of the steps between two looks.
    pub every_share: f64,
    /// Images looked at, of those trained on and of those held out each; 0 = none, which also
    /// means that nothing is rolled back.
    pub images: usize,
    /// A fall of PSNR below that before the discriminator's start, in dB, that rolls the weights
    /// back and halves the adversarial weight.
    pub fall_db: f64,
    /// Growth of the PSNR's lead on images trained on, in dB, that is called overfitting.
    pub overfitting_db: f64,
    /// Usage of the codes, 0 to 1, under which they are called dead.
    pub dead_usage: f64,
}

impl Default for WatchSettings {
    fn default() -> Self {
        WatchSettings {
            every_share: 0.02,
            images: 16,
            fall_db: 1.0,
            overfitting_db: 1.5,
            dead_usage: 0.5,
        }
    }
}

/// Errors unless each value lies within its bounds.
fn within(table: &str, ranges: &[(&str, f64, f64, f64)]) -> Result<()> {
    for (name, value, low, high) in ranges {
        if !(low..=high).contains(&value) {
            return Err(Error::Input(format!(
                "train.{table}.{name} is {}; it must be {}",
                numbers::number(*value),
                numbers::between(*low, *high)
            )));
        }
    }
    Ok(())
}

impl AdversarialSettings {
    /// Refuses what can't work on images of `side` pixels.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self, side: usize) -> Result<()> {
        const BELOW_ONE: f64 = 0.999_999_9;
        within(
            "adversarial",
            &[
                ("weight", self.weight, 0.0, 1e4),
                ("cap", self.cap, 0.0, 1e4),
                ("start", self.start, 0.0, 1.0),
                ("alone_share", self.alone_share, 0.0, 1.0),
                ("ramp_share", self.ramp_share, 0.0, 1.0),
                ("lecam", self.lecam, 0.0, 1e4),
                ("lecam_decay", self.lecam_decay, 0.0, BELOW_ONE),
                ("learning_rate", self.learning_rate, f64::MIN_POSITIVE, 1e3),
                ("betas.0", self.betas.0, 0.0, BELOW_ONE),
                ("betas.1", self.betas.1, 0.0, BELOW_ONE),
                ("weight_decay", self.weight_decay, 0.0, 1e3),
                ("filters", self.filters as f64, 1.0, 4096.0),
                ("layers", self.layers as f64, 1.0, 8.0),
            ],
        )?;
        match Discriminator::logits_side(side, self.layers) {
            Some(_) => Ok(()),
            None => Err(Error::Input(format!(
                "train.adversarial.layers is {}: a discriminator of that depth needs images of {} \
                 pixels, not {side}",
                self.layers,
                3 << self.layers
            ))),
        }
    }
}

impl PerceptualSettings {
    /// Refuses what can't work on images of `side` pixels.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self, side: usize) -> Result<()> {
        within("perceptual", &[("weight", self.weight, 0.0, 1e4)])?;
        match side {
            0..16 => Err(Error::Input(format!(
                "train.perceptual needs images of 16 pixels at least, not {side}"
            ))),
            _ => Ok(()),
        }
    }
}

impl WatchSettings {
    /// Refuses what can't work.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self) -> Result<()> {
        within(
            "watch",
            &[
                ("every_share", self.every_share, 0.0, 1.0),
                ("images", self.images as f64, 0.0, 4096.0),
                ("fall_db", self.fall_db, 0.0, 100.0),
                ("overfitting_db", self.overfitting_db, 0.0, 100.0),
                ("dead_usage", self.dead_usage, 0.0, 1.0),
            ],
        )
    }

    /// Steps between two looks of a training of `steps`.
    pub fn every(&self, steps: usize) -> usize {
        ((self.every_share * steps as f64).round() as usize).max(1)
    }
}

/// What a step does about the discriminator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// It has not started.
    Off,
    /// It learns, the generator doesn't hear it.
    Alone,
    /// Both learn; the share of its full weight that the generator's loss has, above 0 up to 1.
    Both(f64),
}

/// When what happens, in steps counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The first step with a discriminator.
    pub start: usize,
    /// Steps in which it learns alone.
    pub alone: usize,
    /// Steps over which the generator's loss gains weight.
    pub ramp: usize,
}

impl Schedule {
    /// Of a training of `steps`.
    pub fn new(settings: &AdversarialSettings, steps: usize) -> Schedule {
        let share = |share: f64| (share * steps as f64).round() as usize;
        Schedule {
            start: share(settings.start),
            alone: share(settings.alone_share),
            ramp: share(settings.ramp_share),
        }
    }

    /// What step `step` does where the ramp begins at `ramp_from` (later than planned where the
    /// weights were rolled back).
    pub fn phase(&self, step: usize, ramp_from: usize) -> Phase {
        if step < self.start {
            return Phase::Off;
        }
        if step < ramp_from {
            return Phase::Alone;
        }
        Phase::Both(((step - ramp_from + 1) as f64 / self.ramp.max(1) as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_discriminator_learns_alone_then_the_ramp_rises() {
        let settings = AdversarialSettings {
            start: 0.5,
            alone_share: 0.02,
            ramp_share: 0.04,
            ..AdversarialSettings::default()
        };
        let schedule = Schedule::new(&settings, 100);
        assert_eq!(schedule, Schedule { start: 50, alone: 2, ramp: 4 });
        let phases: Vec<Phase> = (48..58).map(|s| schedule.phase(s, 52)).collect();
        let both = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0].map(Phase::Both);
        assert_eq!(phases[..4], [Phase::Off, Phase::Off, Phase::Alone, Phase::Alone]);
        assert_eq!(phases[4..], both);
        // No ramp is the full weight at once.
        let schedule = Schedule { start: 0, alone: 0, ramp: 0 };
        assert_eq!(schedule.phase(0, 0), Phase::Both(1.0));
    }

    #[test]
    fn impossible_tables_are_refused_by_name() {
        let a = AdversarialSettings::default;
        for (settings, side, word) in [
            (AdversarialSettings { weight: f64::NAN, ..a() }, 64, "train.adversarial.weight"),
            (AdversarialSettings { start: 1.5, ..a() }, 64, "train.adversarial.start"),
            (AdversarialSettings { layers: 0, ..a() }, 64, "train.adversarial.layers"),
            (a(), 16, "needs images of 24 pixels"),
        ] {
            let error = settings.check(side).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        a().check(24).unwrap();
        assert!(PerceptualSettings::default().check(8).is_err());
        let watch = WatchSettings { dead_usage: 2.0, ..WatchSettings::default() };
        assert!(watch.check().unwrap_err().to_string().contains("train.watch.dead_usage"));
    }
}
