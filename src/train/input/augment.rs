//! Owns every draw that varies training images. Must not know: where images come from, how a crop is resized.
//!
//! A draw is a function of (seed, key, epoch), so neither threads nor the order of the images has
//! any influence, and a resumed run sees what it would have seen. Held-out images are never varied:
//! they come through [`TrainData::plain`](crate::train::input::train_data::TrainData::plain).

use crate::data::resize::rules::Crop;
use crate::train::network::random::{Draws, fnv1a64, splitmix64};
use crate::train::settings::augment::CropSettings;

/// Attempts at a crop that fits, before the largest central one is taken.
const ATTEMPTS: usize = 10;

/// Whether the view of an image in an epoch is mirrored; `share` of the views are.
pub(crate) fn flips(share: f64, seed: u64, key: &str, epoch: u64) -> bool {
    share > 0.0 && draws(seed, "augment: flip", key, epoch).fraction() < share
}

/// The part of an image of `width` x `height` pixels that an epoch sees.
pub(crate) fn crop(
    settings: &CropSettings,
    seed: u64,
    key: &str,
    epoch: u64,
    (width, height): (u32, u32),
) -> Crop {
    let mut draws = draws(seed, "augment: crop", key, epoch);
    let (wide, high) = (f64::from(width), f64::from(height));
    let (low, top) = (settings.ratio.0.ln(), settings.ratio.1.ln());
    for _ in 0..ATTEMPTS {
        let area = wide * high * between(&mut draws, settings.scale.0, settings.scale.1);
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

fn draws(seed: u64, purpose: &str, key: &str, epoch: u64) -> Draws {
    Draws::new(seed, purpose, splitmix64(fnv1a64(key), epoch))
}

fn between(draws: &mut Draws, low: f64, high: f64) -> f64 {
    low + (high - low) * draws.fraction()
}

/// Mirrors rows of `width` pixels of `channels` bytes in place.
pub(crate) fn mirror(pixels: &mut [u8], width: usize, channels: usize) {
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
            let crop = super::crop(&settings, 3, "a/b.png", epoch, size);
            assert!(crop.x >= 0 && crop.x + crop.width <= 90, "{crop:?}");
            assert!(crop.y >= 0 && crop.y + crop.height <= 60, "{crop:?}");
            let area = f64::from(crop.width * crop.height) / 5400.0;
            let ratio = f64::from(crop.width) / f64::from(crop.height);
            // Sides are rounded to pixels.
            assert!((0.28..0.82).contains(&area) && (0.47..2.1).contains(&ratio), "{crop:?}");
            places.insert((crop.x, crop.y, crop.width, crop.height));
            areas.push(area);
            assert_eq!(crop, super::crop(&settings, 3, "a/b.png", epoch, size));
        }
        assert!(places.len() > 480, "{}", places.len());
        let mean = areas.iter().sum::<f64>() / 500.0;
        assert!((0.5..0.6).contains(&mean), "{mean}");
        assert_ne!(crop(&settings, 3, "x", 0, (90, 60)), crop(&settings, 4, "x", 0, (90, 60)));
        assert_ne!(crop(&settings, 3, "x", 0, (90, 60)), crop(&settings, 3, "y", 0, (90, 60)));
    }

    #[test]
    fn what_never_fits_is_cut_from_the_middle() {
        let settings = CropSettings { scale: (1.0, 1.0), ratio: (1.0, 1.0) };
        let middle = |size| crop(&settings, 1, "k", 0, size);
        assert_eq!(middle((100, 40)), Crop { x: 30, y: 0, width: 40, height: 40 });
        assert_eq!(middle((3, 8)), Crop { x: 0, y: 2, width: 3, height: 3 });
        assert_eq!(middle((1, 1)), Crop { x: 0, y: 0, width: 1, height: 1 });
        let wide = CropSettings { scale: (1.0, 1.0), ratio: (100.0, 100.0) };
        assert_eq!(crop(&wide, 1, "k", 0, (5, 5)), Crop { x: 0, y: 2, width: 5, height: 1 });
    }

    #[test]
    fn flips_come_as_often_as_asked_for() {
        let flips =
            |flip: f64, seed| (0..10_000).filter(|e| super::flips(flip, seed, "key", *e)).count();
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
}
