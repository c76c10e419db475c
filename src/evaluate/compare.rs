//! Owns how one pair of pictures is compared: pixels, structure, and what networks see.

use std::path::Path;

use image::RgbImage;

use super::inception::Inception;
use super::perceptual::Perceptual;
use crate::error::Result;
use crate::metrics;

/// How alike two pictures are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Likeness {
    /// Mean of the squared differences of all channels, of values from 0 to 255.
    pub(crate) mse: f64,
    /// None under 11 pixels a side.
    pub(crate) ssim: Option<f64>,
    /// None up to 160 pixels a side.
    pub(crate) ms_ssim: Option<f64>,
    /// None without weights, or where a side is too short for the network.
    pub(crate) lpips: Option<f64>,
}

impl Likeness {
    /// In dB; None where both are the same.
    pub(crate) fn psnr_db(&self) -> Option<f64> {
        (self.mse > 0.0).then(|| metrics::psnr_of_mse(self.mse, PEAK))
    }
}

pub(crate) const PEAK: f64 = 255.0;

/// Networks that judge, where there are weights.
#[derive(Default)]
pub(crate) struct Judges {
    pub(crate) perceptual: Option<Perceptual>,
    pub(crate) inception: Option<Inception>,
}

impl Judges {
    /// By weights at these places.
    ///
    /// # Errors
    /// Weights that can't be read, or aren't whole.
    pub(crate) fn open(lpips: Option<&Path>, inception: Option<&Path>) -> Result<Judges> {
        Ok(Judges {
            perceptual: lpips.map(Perceptual::open).transpose()?,
            inception: inception.map(Inception::open).transpose()?,
        })
    }

    /// Two pictures of one size.
    pub(crate) fn compare(&self, a: &RgbImage, b: &RgbImage) -> Likeness {
        let (x, y) = (planes(a), planes(b));
        let (width, height) = (a.width() as usize, a.height() as usize);
        Likeness {
            mse: metrics::mse(&x, &y),
            ssim: metrics::ssim(&x, &y, 3, height, width, PEAK).ok(),
            ms_ssim: metrics::multiscale_ssim(&x, &y, 3, (height, width), PEAK),
            lpips: self.perceptual.as_ref().and_then(|network| network.distance(a, b)),
        }
    }
}

/// `[3, height, width]`, from 0 to 255.
pub(crate) fn planes(image: &RgbImage) -> Vec<f32> {
    (0..3).flat_map(|c| image.pixels().map(move |pixel| f32::from(pixel[c]))).collect()
}
