//! Owns the table `[train.watch]`: how a training is monitored on a few fixed images.

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::train::settings::ranges::within;

/// The `[train.watch]` table: a training is evaluated on a few fixed images, the probe, at
/// regular intervals.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorSettings {
    /// Share of the steps between two evaluations.
    pub every_share: f64,
    /// Images of the probe, of those trained on and of those held out each; 0 = none, which also
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

impl Default for MonitorSettings {
    fn default() -> Self {
        MonitorSettings {
            every_share: 0.02,
            images: 16,
            fall_db: 1.0,
            overfitting_db: 1.5,
            dead_usage: 0.5,
        }
    }
}

impl MonitorSettings {
    /// Refuses what can't work.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self) -> Result<()> {
        within(
            "train.watch",
            &[
                ("every_share", self.every_share, 0.0, 1.0),
                ("images", self.images as f64, 0.0, 4096.0),
                ("fall_db", self.fall_db, 0.0, 100.0),
                ("overfitting_db", self.overfitting_db, 0.0, 100.0),
                ("dead_usage", self.dead_usage, 0.0, 1.0),
            ],
        )
    }

    /// Steps between two evaluations in a training of `steps`.
    pub fn every(&self, steps: usize) -> usize {
        ((self.every_share * steps as f64).round() as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_tables_are_refused_by_name() {
        let monitor = MonitorSettings { dead_usage: 2.0, ..MonitorSettings::default() };
        assert!(monitor.check().unwrap_err().to_string().contains("train.watch.dead_usage"));
    }
}
