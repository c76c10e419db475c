//! Owns the table `[train.perceptual]`: LPIPS.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::train::settings::ranges::within;

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

impl PerceptualSettings {
    /// Refuses what can't work on images of `side` pixels.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self, side: usize) -> Result<()> {
        within("train.perceptual", &[("weight", self.weight, 0.0, 1e4)])?;
        match side {
            0..16 => Err(Error::invalid(format!(
                "train.perceptual needs images of 16 pixels at least, not {side}"
            ))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_images_are_refused() {
        assert!(PerceptualSettings::default().check(8).is_err());
        PerceptualSettings::default().check(16).unwrap();
    }
}
