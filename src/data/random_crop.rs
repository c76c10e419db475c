//! Owns how a random part of an image is drawn: torchvision's `RandomResizedCrop`, for training and
//! for views. Must not know: whose draws they are, how a part is resized.

use serde::{Deserialize, Serialize};

use crate::data::resize::rules::Crop;
use crate::util::pair::pair;
use crate::util::random::Draws;

/// Attempts at a crop that fits, before the largest central one is taken.
const ATTEMPTS: usize = 10;

/// What a part may be; in recipes, the table `[train.augment.crop]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CropSettings {
    /// Least and largest share of the image's area.
    #[serde(deserialize_with = "pair")]
    pub scale: (f64, f64),
    /// Least and largest width / height, drawn evenly in their logarithm.
    #[serde(deserialize_with = "pair")]
    pub ratio: (f64, f64),
}

impl CropSettings {
    /// The defaults of torchvision, which are made for classifiers.
    pub(crate) const TORCHVISION: CropSettings =
        CropSettings { scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0) };
}

impl Default for CropSettings {
    /// Milder in scale than for classifiers (0.08): a tokenizer should see images as they are used.
    fn default() -> CropSettings {
        CropSettings { scale: (0.5, 1.0), ratio: (0.75, 4.0 / 3.0) }
    }
}

/// A part of an image of `width` x `height` pixels.
pub(crate) fn draw(
    settings: &CropSettings,
    draws: &mut Draws,
    (width, height): (u32, u32),
) -> Crop {
    let (wide, high) = (f64::from(width), f64::from(height));
    let (low, top) = (settings.ratio.0.ln(), settings.ratio.1.ln());
    for _ in 0..ATTEMPTS {
        let area = wide * high * between(draws, settings.scale.0, settings.scale.1);
        let ratio = between(draws, low, top).exp();
        let w = (area * ratio).sqrt().round_ties_even();
        let h = (area / ratio).sqrt().round_ties_even();
        if (1.0..=wide).contains(&w) && (1.0..=high).contains(&h) {
            let (w, h) = (w as u32, h as u32);
            let y = draws.below(u64::from(height - h) + 1) as i32;
            let x = draws.below(u64::from(width - w) + 1) as i32;
            return Crop { x, y, width: w as i32, height: h as i32 };
        }
    }
    central(settings, width, height)
}

/// The largest central part whose ratio is allowed.
fn central(settings: &CropSettings, width: u32, height: u32) -> Crop {
    let (wide, high) = (f64::from(width), f64::from(height));
    let (w, h) = match wide / high {
        ratio if ratio < settings.ratio.0 => (wide, (wide / settings.ratio.0).round_ties_even()),
        ratio if ratio > settings.ratio.1 => ((high * settings.ratio.1).round_ties_even(), high),
        _ => (wide, high),
    };
    let (w, h) = ((w as i32).clamp(1, width as i32), (h as i32).clamp(1, height as i32));
    Crop { x: (width as i32 - w) / 2, y: (height as i32 - h) / 2, width: w, height: h }
}

fn between(draws: &mut Draws, low: f64, high: f64) -> f64 {
    low + (high - low) * draws.fraction()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_fits_is_cut_from_the_middle() {
        let settings = CropSettings { scale: (1.0, 1.0), ratio: (1.0, 1.0) };
        let middle = |size| draw(&settings, &mut Draws::of(1), size);
        assert_eq!(middle((100, 40)), Crop { x: 30, y: 0, width: 40, height: 40 });
        assert_eq!(middle((3, 8)), Crop { x: 0, y: 2, width: 3, height: 3 });
        assert_eq!(middle((1, 1)), Crop { x: 0, y: 0, width: 1, height: 1 });
        let wide = CropSettings { scale: (1.0, 1.0), ratio: (100.0, 100.0) };
        let crop = draw(&wide, &mut Draws::of(1), (5, 5));
        assert_eq!(crop, Crop { x: 0, y: 2, width: 5, height: 1 });
    }
}
