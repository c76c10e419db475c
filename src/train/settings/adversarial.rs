//! Owns the table `[train.adversarial]`: the discriminator and the loss that it gives.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::train::settings::ranges::within;
use crate::util::pair::pair;

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
    /// Share of the steps, after these, over which the generator's loss gains its full weight.
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
    #[serde(deserialize_with = "pair")]
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

/// The pair of losses of discriminator and generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdversarialLoss {
    /// D: 1/2 (mean relu(1 - D(x)) + mean relu(1 + D(x'))); G: -mean D(x').
    Hinge,
    /// D: 1/2 (mean softplus(-D(x)) + mean softplus(D(x'))); G: -mean D(x').
    Vanilla,
    /// D: mean softplus(-D(x)) + mean softplus(D(x')); G: mean softplus(-D(x')).
    NonSaturating,
}

impl AdversarialSettings {
    /// Refuses what can't work on images of `side` pixels.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self, side: usize) -> Result<()> {
        const BELOW_ONE: f64 = 0.999_999_9;
        within(
            "train.adversarial",
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
        // 4x4 with padding 1: stride 2 halves, stride 1 takes one off.
        if side >> self.layers > 2 {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "train.adversarial.layers is {}: a discriminator of that depth needs images of {} \
             pixels, not {side}",
            self.layers,
            3 << self.layers
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }
}
