//! Owns every draw that varies training images. Must not know: where images come from, how
//! a crop is drawn and resized.
//!
//! A draw is a function of (seed, key, epoch), so neither threads nor the order of the images has
//! any influence, and a resumed run sees what it would have seen. Held-out images are never varied:
//! they come through [`TrainData::plain`](crate::train::input::train_data::TrainData::plain).

use crate::data::random_crop::{self, CropSettings};
use crate::data::resize::rules::Crop;
use crate::train::network::random::{Draws, fnv1a64, splitmix64};

/// Whether the view of an image in an epoch is mirrored; `share` of the views are.
pub(crate) fn flips(share: f64, seed: u64, key: &str, epoch: u64) -> bool {
    share > 0.0 && draws(seed, "augment: flip", key, epoch).fraction() < share
}

/// The part of an image of `size` (width, height) that an epoch sees.
pub(crate) fn crop(
    settings: &CropSettings,
    seed: u64,
    key: &str,
    epoch: u64,
    size: (u32, u32),
) -> Crop {
    random_crop::draw(settings, &mut draws(seed, "augment: crop", key, epoch), size)
}

fn draws(seed: u64, purpose: &str, key: &str, epoch: u64) -> Draws {
    Draws::new(seed, purpose, splitmix64(fnv1a64(key), epoch))
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
    fn flips_come_as_often_as_asked_for() {
        let flips =
            |flip: f64, seed| (0..10_000).filter(|e| super::flips(flip, seed, "key", *e)).count();
        assert_eq!((flips(0.0, 1), flips(1.0, 1)), (0, 10_000));
        // Standard deviation 43; five of them.
        assert!(flips(0.25, 1).abs_diff(2500) < 217, "{}", flips(0.25, 1));
        assert_ne!(flips(0.25, 1), flips(0.25, 2));
    }
}
