//! Owns the numbers a reconstruction and a codebook are judged by: PSNR, SSIM, usage, perplexity.

use serde::{Deserialize, Serialize};

mod ssim;

pub(crate) use ssim::{multiscale_ssim, ssim};

/// Mean of squared differences, in float64.
pub(crate) fn mse(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    sum / a.len().max(1) as f64
}

/// 10 log10(peak^2 / mse), in dB; infinite for equal images.
pub(crate) fn psnr_of_mse(mse: f64, peak: f64) -> f64 {
    10.0 * (peak * peak / mse).log10()
}

/// PSNR of one image, `peak` the difference of white and black.
pub(crate) fn psnr(a: &[f32], b: &[f32], peak: f64) -> f64 {
    psnr_of_mse(mse(a, b), peak)
}

/// Sum of the squared differences of neighbouring pixels, along both sides, of one image
/// `[channels, height, width]`: what blur takes away.
pub(crate) fn gradient_energy(image: &[f32], channels: usize, height: usize, width: usize) -> f64 {
    let mut sum = 0.0;
    for plane in image.chunks_exact(height * width).take(channels) {
        for (y, row) in plane.chunks_exact(width).enumerate() {
            sum += row.windows(2).map(|w| f64::from(w[1] - w[0]).powi(2)).sum::<f64>();
            if let Some(below) = plane.get((y + 1) * width..(y + 2) * width) {
                sum += row.iter().zip(below).map(|(a, b)| f64::from(b - a).powi(2)).sum::<f64>();
            }
        }
    }
    sum
}

/// How often each code was used, over as many batches as one likes: the data set's figures come
/// from the added counts, never from the mean of the batches' figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeCounts {
    /// One count a code, level by level.
    pub counts: Vec<u64>,
    /// Residual levels that the codes are of, as many each.
    pub levels: usize,
}

/// The use of one level's codes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LevelUse {
    /// Share of its codes used, 0 to 1.
    pub usage: f64,
    /// exp of the entropy of its codes.
    pub perplexity: f64,
}

impl CodeCounts {
    /// All zero, of one level.
    pub fn new(codes: usize) -> CodeCounts {
        CodeCounts::of_levels(1, codes)
    }

    /// All zero, of `levels` residual levels with `codes` codes each.
    pub fn of_levels(levels: usize, codes: usize) -> CodeCounts {
        CodeCounts { counts: vec![0; levels * codes], levels }
    }

    /// Counts these codes, each of level l and place k as `l * K + k`.
    pub fn add(&mut self, codes: &[u32]) {
        for code in codes {
            self.counts[*code as usize] += 1;
        }
    }

    /// Codes seen at least once.
    pub fn used(&self) -> usize {
        self.counts.iter().filter(|n| **n > 0).count()
    }

    /// Share of codes seen at least once, 0 to 1: the mean of the levels' shares.
    pub fn usage(&self) -> f64 {
        self.used() as f64 / self.counts.len().max(1) as f64
    }

    /// -sum p ln p over all codes, in nats.
    pub fn entropy(&self) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let entropy: f64 = self
            .counts
            .iter()
            .filter(|n| **n > 0)
            .map(|n| *n as f64 / total as f64)
            .map(|p| -p * p.ln())
            .sum();
        entropy.max(0.0)
    }

    /// exp(entropy): the number of equally frequent codes that would carry as much; 1 at least. Of
    /// several levels their mean.
    pub fn perplexity(&self) -> f64 {
        match &self.by_level()[..] {
            [] => self.entropy().exp(),
            levels => levels.iter().map(|l| l.perplexity).sum::<f64>() / levels.len() as f64,
        }
    }

    /// The use of each level's codes where there are several; else empty.
    pub fn by_level(&self) -> Vec<LevelUse> {
        if self.levels < 2 {
            return Vec::new();
        }
        let codes = self.counts.len() / self.levels;
        let level = |counts: &[u64]| CodeCounts { counts: counts.to_vec(), levels: 1 };
        let found = self.counts.chunks(codes.max(1)).map(level);
        found.map(|l| LevelUse { usage: l.usage(), perplexity: l.perplexity() }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::golden::{Case, assert_close};

    #[test]
    fn golden_psnr() {
        let Some(case) = Case::open("metrics") else { return };
        let (a, b) = (case.f32("a"), case.f32("b"));
        let image = 3 * 32 * 32;
        let pairs = || a.chunks(image).zip(b.chunks(image));
        let per_image: Vec<f64> = pairs().map(|(a, b)| psnr(a, b, 1.0)).collect();
        assert_close("psnr", &per_image, &case.scalars("psnr_per_image"), 1e-5);
        case.check_scalar("psnr_mean_of_images", per_image.iter().sum::<f64>() / 3.0);
        case.check_scalar("psnr_of_mean_mse", psnr(&a, &b, 1.0));
        let as_f32 = |n: &str| case.i64(n).iter().map(|v| *v as f32).collect::<Vec<_>>();
        let (au, bu) = (as_f32("a_u8"), as_f32("b_u8"));
        let bytes: Vec<f64> =
            au.chunks(image).zip(bu.chunks(image)).map(|(a, b)| psnr(a, b, 255.0)).collect();
        assert_close("psnr_u8", &bytes, &case.scalars("psnr_u8_per_image"), 1e-5);
    }

    #[test]
    fn gradient_energy_counts_every_pair_of_neighbours() {
        // Two channels of 2x3: along rows 1 + 4, 0 + 0; along columns 1 + 0 + 4; then a flat one.
        let image = [0.0, 1.0, 3.0, 1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0];
        assert_eq!(gradient_energy(&image, 2, 2, 3), 10.0);
    }

    #[test]
    fn golden_codebook_statistics() {
        let Some(case) = Case::open("metrics") else { return };
        let counts = |tag: &str| CodeCounts {
            counts: case.i64(&format!("counts.{tag}")).iter().map(|n| *n as u64).collect(),
            levels: 1,
        };
        for tag in ["batch1", "batch2", "both", "one_code", "uniform"] {
            let c = counts(tag);
            case.check_scalar(&format!("codebook.{tag}.entropy_nats"), c.entropy());
            case.check_scalar(&format!("codebook.{tag}.perplexity"), c.perplexity());
            case.check_scalar(&format!("codebook.{tag}.usage"), c.usage());
            case.check_scalar(&format!("codebook.{tag}.used"), c.used() as f64);
        }
        let mut both = CodeCounts::new(16);
        for tag in ["batch1", "batch2"] {
            for (code, n) in counts(tag).counts.iter().enumerate() {
                both.add(&vec![code as u32; *n as usize]);
            }
        }
        assert_eq!(both, counts("both"));
    }

    #[test]
    fn levels_are_judged_one_by_one_and_their_mean_is_said() {
        let mut counts = CodeCounts::of_levels(2, 4);
        // Four equally frequent codes of the first level, a single one of the second.
        counts.add(&[0, 1, 2, 3, 5, 5, 5, 5]);
        let found = counts.by_level();
        assert_eq!(found.iter().map(|l| l.usage).collect::<Vec<_>>(), [1.0, 0.25]);
        assert!((found[0].perplexity - 4.0).abs() < 1e-12 && found[1].perplexity == 1.0);
        assert_eq!(counts.usage(), 0.625);
        assert!((counts.perplexity() - 2.5).abs() < 1e-12);
        assert!(CodeCounts::new(4).by_level().is_empty());
    }
}
