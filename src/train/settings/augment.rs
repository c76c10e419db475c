//! Owns the table `[train.augment]`: the variation of training images.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

pub use crate::data::random_crop::CropSettings;

/// The `[train.augment]` table. Off unless a recipe says so.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AugmentSettings {
    /// Share of the views that are mirrored left to right, 0 to 1.
    pub flip: f64,
    /// A random part of the image, resized to the square; the whole of the resize rule's crop
    /// where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<CropSettings>,
}

impl AugmentSettings {
    /// Refuses what can't work.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self) -> Result<()> {
        let refuse = |name: &str, value: String, may_be: &str| {
            Err(Error::invalid(format!("train.augment.{name} is {value}; it must be {may_be}")))
        };
        if !(0.0..=1.0).contains(&self.flip) {
            return refuse("flip", self.flip.to_string(), "between 0 and 1");
        }
        let Some(crop) = &self.crop else { return Ok(()) };
        let (low, high) = crop.scale;
        if !(low > 0.0 && low <= high && high <= 1.0) {
            return refuse("crop.scale", format!("[{low}, {high}]"), "rising, above 0, at most 1");
        }
        let (low, high) = crop.ratio;
        if !(low >= 0.01 && low <= high && high <= 100.0) {
            return refuse("crop.ratio", format!("[{low}, {high}]"), "rising, from 0.01 to 100");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_settings_are_named() {
        let said = |settings: AugmentSettings| settings.check().unwrap_err().to_string();
        let crop =
            |scale, ratio| AugmentSettings { flip: 0.5, crop: Some(CropSettings { scale, ratio }) };
        assert!(said(AugmentSettings { flip: 1.5, crop: None }).contains("augment.flip is 1.5"));
        assert!(said(crop((0.0, 1.0), (1.0, 1.0))).contains("crop.scale is [0, 1]"));
        assert!(said(crop((0.5, f64::NAN), (1.0, 1.0))).contains("crop.scale"));
        assert!(said(crop((0.5, 1.0), (2.0, 1.0))).contains("crop.ratio"));
        crop((0.5, 1.0), (0.75, 1.5)).check().unwrap();
        let text = "flip = 0.5\n[crop]\nscale = [0.6, 1.0]";
        let read: AugmentSettings = toml::from_str(text).unwrap();
        assert_eq!(read.crop.unwrap().ratio, (0.75, 4.0 / 3.0));
        assert_eq!(toml::from_str::<AugmentSettings>(&toml::to_string(&read).unwrap()), Ok(read));
    }
}
