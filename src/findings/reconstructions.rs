//! Owns what is made of a sample of an output's rows with the model and the images that they were made
//! of: how alike decoded tokens are, and whether other arithmetic gives the same tokens. Must not know:
//! how anything is decoded or encoded.

use serde::Serialize;

use super::picture::Picture;

/// A sample decoded from the stored tokens, beside its images.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Reconstructions {
    /// Rows that were compared.
    pub images: u64,
    /// Mean peak signal-to-noise ratio in dB over those that have one: equal pictures have none.
    pub psnr_db: Option<f64>,
    /// Mean structural similarity over those that have one: pictures of at least 11 pixels a side.
    pub ssim: Option<f64>,
    /// The most alike by PSNR, the best first, at most 8.
    pub best: Vec<Reconstruction>,
    /// The least alike, the worst first, at most 8.
    pub worst: Vec<Reconstruction>,
    /// Rows of the sample that weren't compared.
    pub not_compared: u64,
    /// The first of them, at most 100, and why.
    pub reasons: Vec<NotCompared>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reconstruction {
    /// Its key.
    pub key: String,
    /// Its view, where it isn't the only one.
    pub view: Option<i64>,
    /// In dB; None where both pictures are the same.
    pub psnr_db: Option<f64>,
    /// None under 11 pixels a side.
    pub ssim: Option<f64>,
    /// The image as the model saw it, and what the decoder makes of its tokens.
    #[serde(skip)]
    pub(crate) pictures: [Picture; 2],
}

/// A row of a sample that wasn't compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotCompared {
    /// Its key.
    pub key: String,
    /// `changed`, `not in the source`, or what failed.
    pub reason: String,
}

/// Pictures of each kind that are kept.
const SHOWN: usize = 8;
/// Rows that are named.
const NAMED: usize = 100;

impl Reconstructions {
    /// Takes one in; `psnr_db` may be infinite.
    pub(crate) fn take(&mut self, mut one: Reconstruction, psnr_db: f64) {
        self.images += 1;
        one.psnr_db = psnr_db.is_finite().then_some(psnr_db);
        // Sums until `finish`.
        if psnr_db.is_finite() {
            *self.psnr_db.get_or_insert(0.0) += psnr_db;
        }
        if let Some(ssim) = one.ssim {
            *self.ssim.get_or_insert(0.0) += ssim;
        }
        let alike = |one: &Reconstruction| one.psnr_db.unwrap_or(f64::INFINITY);
        let at = self.best.partition_point(|other| alike(other) >= alike(&one));
        if at < SHOWN {
            self.best.insert(at, one.clone());
            self.best.truncate(SHOWN);
        }
        let at = self.worst.partition_point(|other| alike(other) <= alike(&one));
        if at < SHOWN {
            self.worst.insert(at, one);
            self.worst.truncate(SHOWN);
        }
    }

    /// Names one that can't be compared.
    pub(crate) fn pass_over(&mut self, key: &str, reason: String) {
        self.not_compared += 1;
        if self.reasons.len() < NAMED {
            self.reasons.push(NotCompared { key: key.to_string(), reason });
        }
    }

    /// Makes means of sums; so many had a PSNR and an SSIM.
    pub(crate) fn finish(&mut self, with_psnr: u64, with_ssim: u64) {
        self.psnr_db = self.psnr_db.map(|sum| sum / with_psnr.max(1) as f64);
        self.ssim = self.ssim.map(|sum| sum / with_ssim.max(1) as f64);
    }
}

/// Whether other arithmetic gives the tokens that are stored.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct PrecisionFindings {
    /// Rows that were encoded again.
    pub images: u64,
    /// Their tokens, of all levels.
    pub tokens: u64,
    /// What computed the stored tokens, as the output says: `cpu f32`; None where it doesn't.
    pub stored_by: Option<String>,
    /// Every pair that was compared: what is stored with each engine first.
    pub pairs: Vec<TokenPair>,
    /// Margins of tokens in general, changed or not; None where the model's quantizer has none.
    pub margins: Option<Margins>,
    /// Why there are no margins.
    pub no_margins: Option<String>,
    /// Rows of the sample that weren't encoded again.
    pub not_compared: u64,
    /// The first of them, at most 100, and why.
    pub reasons: Vec<NotCompared>,
}

/// The tokens of two engines, or of one and those that are stored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TokenPair {
    /// `stored`, or an engine and its precision.
    pub a: String,
    /// An engine and its precision.
    pub b: String,
    /// Tokens that differ.
    pub changed: u64,
    /// Rows in which one does.
    pub changed_images: u64,
    /// Margins of the tokens that differ; None where none does, or there are no margins.
    pub margins: Option<Margins>,
}

/// How far latents are from getting another code: the distance to the boundary between the best code
/// and the second best, as a share of the latent's length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Margins {
    /// Of so many tokens.
    pub tokens: u64,
    /// The smallest.
    pub least: f64,
    /// A hundredth of them are below it.
    pub percentile_1: f64,
    /// Half of them are.
    pub median: f64,
    /// The largest.
    pub most: f64,
    /// How many are below some margins: as many tokens may change where latents are moved by such a
    /// share of their lengths. bfloat16 rounds by up to 4e-3, float32 by up to 6e-8.
    pub below: Vec<Below>,
}

/// Tokens with small margins.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Below {
    /// A margin.
    pub margin: f64,
    /// So many are below it.
    pub tokens: u64,
}

/// Margins below which tokens are counted.
const BELOW: [f64; 5] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2];

impl Margins {
    /// Of these; None of none.
    pub(crate) fn of(mut margins: Vec<f32>) -> Option<Margins> {
        let below = |margins: &[f32], margin: f64| {
            let tokens = margins.partition_point(|&other| f64::from(other) < margin) as u64;
            Below { margin, tokens }
        };
        margins.sort_unstable_by(f32::total_cmp);
        let at = |share: f64| {
            let index = (share * (margins.len() as f64 - 1.0)).round() as usize;
            f64::from(margins.get(index).copied().unwrap_or_default())
        };
        (!margins.is_empty()).then(|| Margins {
            tokens: margins.len() as u64,
            least: at(0.0),
            percentile_1: at(0.01),
            median: at(0.5),
            most: at(1.0),
            below: BELOW.map(|margin| below(&margins, margin)).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: u32) -> Reconstruction {
        let (key, pictures) = (format!("{key:02}"), Default::default());
        Reconstruction { key, view: None, psnr_db: None, ssim: Some(0.5), pictures }
    }

    #[test]
    fn the_best_and_the_worst_are_kept_in_order() {
        let mut all = Reconstructions::default();
        (0..20).for_each(|n| all.take(one(n), f64::from((n * 7) % 20)));
        all.take(one(20), f64::INFINITY);
        all.finish(20, 21);
        let keys = |of: &[Reconstruction]| -> Vec<String> {
            of.iter().map(|one| one.key.clone()).collect()
        };
        assert_eq!(keys(&all.best)[..3], ["20", "17", "14"]);
        assert_eq!(keys(&all.worst)[..3], ["00", "03", "06"]);
        assert_eq!((all.best.len(), all.worst.len(), all.images), (8, 8, 21));
        assert_eq!((all.psnr_db, all.ssim, all.best[0].psnr_db), (Some(9.5), Some(0.5), None));
    }

    #[test]
    fn margins_are_told_by_rank() {
        assert_eq!(Margins::of(Vec::new()), None);
        let margins = Margins::of((0..=100).rev().map(|n| n as f32).collect()).unwrap();
        let Margins { tokens, least, percentile_1, median, most, below } = margins;
        assert_eq!((below.len(), below[4]), (5, Below { margin: 1e-2, tokens: 1 }));
        assert_eq!((tokens, least, percentile_1, median, most), (101, 0.0, 1.0, 50.0, 100.0));
    }
}
