//! Owns the variation of training images: the `[train.augment]` table and every draw of it. Must
//! not know: where images come from, how a crop is resized.
//!
//! A draw is a function of (seed, key, epoch), so neither threads nor the order of the images has
//! any influence, and a resumed run sees what it would have seen. Held-out images are never varied:
//! they come through [`TrainData::plain`](crate::train::TrainData::plain).

use serde::{Deserialize, Serialize};

use crate::data::resize::rules::Crop;
use crate::error::{Error, Result};
use crate::train::network::random::{Draws, fnv1a64, splitmix64};

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

/// The `[train.augment.crop]` table: torchvision's `RandomResizedCrop`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CropSettings {
    /// Least and largest share of the image's area.
    pub scale: (f64, f64),
    /// Least and largest width / height, drawn evenly in their logarithm.
    pub ratio: (f64, f64),
}

impl Default for CropSettings {
    /// Milder in scale than for classifiers (0.08): a tokenizer should see images as they are used.
    fn default() -> CropSettings {
        CropSettings { scale: (0.5, 1.0), ratio: (0.75, 4.0 / 3.0) }
    }
}

/// Attempts at a crop that fits, before the largest central one is taken.
const ATTEMPTS: usize = 10;

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

    /// Whether the view of an image in an epoch is mirrored.
    pub fn flips(&self, seed: u64, key: &str, epoch: u64) -> bool {
        self.flip > 0.0 && draws(seed, "augment: flip", key, epoch).fraction() < self.flip
    }
}

impl CropSettings {
    /// The part of an image of `width` x `height` pixels that an epoch sees.
    pub fn draw(&self, seed: u64, key: &str, epoch: u64, (width, height): (u32, u32)) -> Crop {
        let mut draws = draws(seed, "augment: crop", key, epoch);
        let (wide, high) = (f64::from(width), f64::from(height));
        let (low, top) = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..ATTEMPTS {
            let area = wide * high * between(&mut draws, self.scale.0, self.scale.1);
            let ratio = between(&mut draws, low, top).exp();
            let w = (area * ratio).sqrt().round_ties_even();
            let h = (area / ratio).sqrt().round_ties_even();
            if (1.0..=wide).contains(&w) && (1.0..=high).contains(&h) {
                let (w, h) = (w as u32, h as u32);
                let y = draws.below(u64::from(height - h) + 1) as i32;
                let x = draws.below(u64::from(width - w) + 1) as i32;
                return Crop { x, y, width: w as i32, height: h as i32 };
            }
        }
        self.central(width, height)
    }

    /// The largest central part whose ratio is allowed.
    fn central(&self, width: u32, height: u32) -> Crop {
        let (wide, high) = (f64::from(width), f64::from(height));
        let (w, h) = match wide / high {
            ratio if ratio < self.ratio.0 => (wide, (wide / self.ratio.0).round_ties_even()),
            ratio if ratio > self.ratio.1 => ((high * self.ratio.1).round_ties_even(), high),
            _ => (wide, high),
        };
        let (w, h) = ((w as i32).clamp(1, width as i32), (h as i32).clamp(1, height as i32));
        Crop { x: (width as i32 - w) / 2, y: (height as i32 - h) / 2, width: w, height: h }
    }
}

fn draws(seed: u64, purpose: &str, key: &str, epoch: u64) -> Draws {
    Draws::new(seed, purpose, splitmix64(fnv1a64(key), epoch))
}

fn between(draws: &mut Draws, low: f64, high: f64) -> f64 {
    low + (high - low) * draws.fraction()
}

/// Mirrors rows of `width` pixels of `channels` bytes in place.
pub fn mirror(pixels: &mut [u8], width: usize, channels: usize) {
    for row in pixels.chunks_exact_mut(width * channels) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - x) * channels);
            left[x * channels..][..channels].swap_with_slice(&mut right[..channels]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crop_lies_inside_and_keeps_its_share_and_ratio() {
        let settings = CropSettings { scale: (0.3, 0.8), ratio: (0.5, 2.0) };
        let (mut places, mut areas) = (std::collections::BTreeSet::new(), vec![]);
        for epoch in 0..500 {
            let size = (90, 60);
            let crop = settings.draw(3, "a/b.png", epoch, size);
            assert!(crop.x >= 0 && crop.x + crop.width <= 90, "{crop:?}");
            assert!(crop.y >= 0 && crop.y + crop.height <= 60, "{crop:?}");
            let area = f64::from(crop.width * crop.height) / 5400.0;
            let ratio = f64::from(crop.width) / f64::from(crop.height);
            // Sides are rounded to pixels.
            assert!((0.28..0.82).contains(&area) && (0.47..2.1).contains(&ratio), "{crop:?}");
            places.insert((crop.x, crop.y, crop.width, crop.height));
            areas.push(area);
            assert_eq!(crop, settings.draw(3, "a/b.png", epoch, size));
        }
        assert!(places.len() > 480, "{}", places.len());
        let mean = areas.iter().sum::<f64>() / 500.0;
        assert!((0.5..0.6).contains(&mean), "{mean}");
        assert_ne!(settings.draw(3, "x", 0, (90, 60)), settings.draw(4, "x", 0, (90, 60)));
        assert_ne!(settings.draw(3, "x", 0, (90, 60)), settings.draw(3, "y", 0, (90, 60)));
    }

    #[test]
    fn what_never_fits_is_cut_from_the_middle() {
        let settings = CropSettings { scale: (1.0, 1.0), ratio: (1.0, 1.0) };
        let middle = |size| settings.draw(1, "k", 0, size);
        assert_eq!(middle((100, 40)), Crop { x: 30, y: 0, width: 40, height: 40 });
        assert_eq!(middle((3, 8)), Crop { x: 0, y: 2, width: 3, height: 3 });
        assert_eq!(middle((1, 1)), Crop { x: 0, y: 0, width: 1, height: 1 });
        let wide = CropSettings { scale: (1.0, 1.0), ratio: (100.0, 100.0) };
        assert_eq!(wide.draw(1, "k", 0, (5, 5)), Crop { x: 0, y: 2, width: 5, height: 1 });
    }

    #[test]
    fn flips_come_as_often_as_asked_for() {
        let flips = |flip: f64, seed| {
            let settings = AugmentSettings { flip, crop: None };
            (0..10_000).filter(|e| settings.flips(seed, "key", *e)).count()
        };
        assert_eq!((flips(0.0, 1), flips(1.0, 1)), (0, 10_000));
        // Standard deviation 43; five of them.
        assert!(flips(0.25, 1).abs_diff(2500) < 217, "{}", flips(0.25, 1));
        assert_ne!(flips(0.25, 1), flips(0.25, 2));
    }

    #[test]
    fn mirrored_twice_is_as_before() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).collect();
        let mut turned = pixels.clone();
        mirror(&mut turned, 3, 3);
        assert_eq!(turned[..9], [6, 7, 8, 3, 4, 5, 0, 1, 2]);
        mirror(&mut turned, 3, 3);
        assert_eq!(turned, pixels);
        let mut grey = vec![1, 2, 3, 4];
        mirror(&mut grey, 4, 1);
        assert_eq!(grey, [4, 3, 2, 1]);
    }

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
