//! Owns adding up what was found of each image, in the images' order, to a model's figures. Must not
//! know: where rows come from.

use std::collections::BTreeMap;

use super::compare::{Likeness, PEAK};
use super::figures::{GroupFigures, LevelFigures, Means, ModelFigures};
use super::frechet::FeatureSums;
use super::reference::Reference;
use super::rows::{Found, Part};
use crate::audit::patterns::Patterns;
use crate::error::Result;
use crate::metrics::{CodeCounts, psnr_of_mse};

/// Labels whose figures are kept.
const LABELS_MAX: usize = 10_000;
/// Pairs of neighbours that tables take: counters are of 32 bits.
const PAIRS_MAX: u64 = 1 << 31;

/// A model's images so far.
pub(crate) struct Tally {
    /// K of each level's codebook; None where tokens aren't counted.
    codes: Option<usize>,
    whole: Sums,
    failed: u64,
    equal: u64,
    /// Squared errors of all pixels, and pixels.
    squares: [f64; 2],
    levels: Vec<Level>,
    labels: BTreeMap<String, Sums>,
    unlisted_labels: u64,
    /// By the logarithm of the shorter side.
    sizes: BTreeMap<u32, Sums>,
    features: [FeatureSums; 2],
    seconds: f64,
}

/// A sum and how many it is of.
#[derive(Debug, Clone, Copy, Default)]
struct Sum(f64, u64);

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    images: u64,
    psnr: Sum,
    ssim: Sum,
    ms_ssim: Sum,
    lpips: Sum,
}

struct Level {
    counts: CodeCounts,
    patterns: Patterns,
    tokens: u64,
}

impl Sum {
    fn add(&mut self, value: Option<f64>) {
        if let Some(value) = value {
            self.0 += value;
            self.1 += 1;
        }
    }

    fn mean(self) -> Option<f64> {
        (self.1 > 0).then(|| self.0 / self.1 as f64)
    }
}

impl Sums {
    fn add(&mut self, likeness: &Likeness) {
        self.images += 1;
        self.psnr.add(likeness.psnr_db());
        self.ssim.add(likeness.ssim);
        self.ms_ssim.add(likeness.ms_ssim);
        self.lpips.add(likeness.lpips);
    }

    fn means(self) -> Means {
        Means {
            images: self.images,
            psnr_db: self.psnr.mean(),
            ssim: self.ssim.mean(),
            ms_ssim: self.ms_ssim.mean(),
            lpips: self.lpips.mean(),
        }
    }
}

impl Level {
    fn new(codes: usize) -> Level {
        let patterns = Patterns::new(Some(codes as u64), (1, 1), true);
        Level { counts: CodeCounts::new(codes), patterns, tokens: 0 }
    }

    fn add(&mut self, codes: &[u32], grid: (usize, usize)) {
        self.counts.add(codes);
        self.tokens += codes.len() as u64;
        if self.tokens < PAIRS_MAX && !codes.is_empty() {
            self.patterns.add(codes, grid, None, 0);
        }
    }

    fn figures(&self) -> LevelFigures {
        LevelFigures {
            tokens: self.tokens,
            usage: self.counts.usage(),
            perplexity: self.counts.perplexity(),
            bits: self.counts.entropy() / std::f64::consts::LN_2,
            neighbour_bits: self.patterns.neighbour_bits(),
        }
    }
}

impl Tally {
    /// Of no images; `codes` as each level's codebook has them, None where they can't be counted.
    pub(crate) fn new(codes: Option<usize>) -> Tally {
        Tally {
            codes,
            whole: Sums::default(),
            failed: 0,
            equal: 0,
            squares: [0.0; 2],
            levels: Vec::new(),
            labels: BTreeMap::new(),
            unlisted_labels: 0,
            sizes: BTreeMap::new(),
            features: Default::default(),
            seconds: 0.0,
        }
    }

    /// Adds rows behind those that are there.
    ///
    /// # Errors
    /// In a few words: rows that say what can't be.
    pub(crate) fn add(&mut self, part: &Part) -> Result<(), String> {
        self.seconds += part.seconds;
        for row in &part.rows {
            let Ok(found) = &row.found else {
                self.failed += 1;
                continue;
            };
            self.add_codes(found)?;
            let likeness = &found.likeness;
            self.whole.add(likeness);
            self.equal += u64::from(likeness.mse == 0.0);
            let pixels = f64::from(found.size[0]) * f64::from(found.size[1]);
            self.squares[0] += likeness.mse * pixels;
            self.squares[1] += pixels;
            let side = row.image[0].min(row.image[1]).max(1).ilog2();
            self.sizes.entry(side).or_default().add(likeness);
            let Some(label) = &row.label else { continue };
            let known = self.labels.len() < LABELS_MAX || self.labels.contains_key(label);
            match known {
                true => self.labels.entry(label.clone()).or_default().add(likeness),
                false => self.unlisted_labels += 1,
            }
        }
        self.add_features(part)
    }

    fn add_codes(&mut self, found: &Found) -> Result<(), String> {
        let Some(codes) = self.codes.filter(|_| !found.codes.is_empty()) else { return Ok(()) };
        let grids = found.grids.chunks_exact(2).map(|grid| (grid[0] as usize, grid[1] as usize));
        let grids: Vec<(usize, usize)> = grids.collect();
        let tokens = |&(height, width): &(usize, usize)| height.saturating_mul(width);
        let whole = grids.iter().map(tokens).fold(0, usize::saturating_add) == found.codes.len();
        if !whole || found.codes.iter().any(|&code| code as usize >= codes) {
            return Err("codes that the model doesn't have".into());
        }
        let mut rest = &found.codes[..];
        for (at, &(height, width)) in grids.iter().enumerate() {
            let (own, more) = rest.split_at(height * width);
            if at == self.levels.len() {
                self.levels.push(Level::new(codes));
            }
            self.levels[at].add(own, (height, width));
            rest = more;
        }
        Ok(())
    }

    fn add_features(&mut self, part: &Part) -> Result<(), String> {
        let pairs = features(part)?;
        for (at, sums) in self.features.iter_mut().enumerate() {
            sums.add(&pairs.iter().map(|pair| pair[at].as_slice()).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// What it comes to, reconstructions held against another set of images too where there is one; the
    /// model's name and family are left empty.
    ///
    /// # Errors
    /// Too little memory.
    pub(crate) fn figures(self, against: Option<&Reference>) -> Result<ModelFigures> {
        let levels: Vec<LevelFigures> = self.levels.iter().map(Level::figures).collect();
        let mean = |of: &dyn Fn(&LevelFigures) -> f64| {
            let sum: f64 = levels.iter().map(of).sum();
            (!levels.is_empty()).then(|| sum / levels.len() as f64)
        };
        let tokens: u64 = levels.iter().map(|level| level.tokens).sum();
        let bits = |level: &LevelFigures| {
            (level.bits - level.neighbour_bits.unwrap_or(0.0)).max(0.0) * level.tokens as f64
        };
        let bits: f64 = levels.iter().map(bits).sum();
        let images = self.whole.images;
        let [image, reconstruction] = &self.features;
        Ok(ModelFigures {
            model: String::new(),
            family: String::new(),
            weights_sha256: String::new(),
            failed: self.failed,
            equal: self.equal,
            means: self.whole.means(),
            psnr_of_mean_mse_db: (self.squares[0] > 0.0)
                .then(|| psnr_of_mse(self.squares[0] / self.squares[1], PEAK)),
            rfid: image.distance(reconstruction)?,
            fid_to_reference: match against {
                Some(reference) => reference.images.distance(reconstruction)?,
                None => None,
            },
            usage: mean(&|level| level.usage),
            perplexity: mean(&|level| level.perplexity),
            tokens_per_image: (tokens > 0).then(|| tokens as f64 / images as f64),
            bits_per_token: (tokens > 0).then(|| bits / tokens as f64),
            images_per_second: (self.seconds > 0.0).then(|| images as f64 / self.seconds),
            levels,
            labels: groups(self.labels, |label| label),
            unlisted_labels: self.unlisted_labels,
            sizes: groups(self.sizes, |log| match log {
                0 => "1".into(),
                log => format!("{}-{}", 1_u64 << log, (1_u64 << (log + 1)) - 1),
            }),
        })
    }
}

/// What Inception sees in each image and in its reconstruction.
///
/// # Errors
/// In a few words: features of several lengths.
pub(super) fn features(part: &Part) -> Result<Vec<&[Vec<f32>; 2]>, String> {
    let found = part.rows.iter().filter_map(|row| row.found.as_ref().ok());
    let pairs: Vec<&[Vec<f32>; 2]> = found.filter_map(|found| found.features.as_ref()).collect();
    let first = pairs.first().map_or(0, |[image, _]| image.len());
    match pairs.iter().any(|pair| pair.iter().any(|features| features.len() != first)) {
        true => Err("features of several lengths".into()),
        false => Ok(pairs),
    }
}

fn groups<K>(sums: BTreeMap<K, Sums>, name: impl Fn(K) -> String) -> Vec<GroupFigures> {
    sums.into_iter().map(|(of, sums)| GroupFigures { of: name(of), means: sums.means() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::rows::Row;

    fn row(label: &str, image: [u32; 2], mse: f64, codes: &[u32]) -> Row {
        let likeness = Likeness { mse, ssim: Some(0.5), ms_ssim: None, lpips: None };
        let (codes, grids) = (codes.to_vec(), vec![1, codes.len() as u32]);
        let found = Found { size: [2, 2], likeness, codes, grids, features: None };
        let label = (!label.is_empty()).then(|| label.into());
        Row { key: "k".into(), label, image, found: Ok(found) }
    }

    #[test]
    fn figures_are_means_of_what_each_image_has() {
        let mut tally = Tally::new(Some(4));
        // 48.13 dB at an error of 1, 10 dB less at 10.
        let first = vec![
            row("cat", [100, 40], 1.0, &[0, 1, 0, 1]),
            row("dog", [64, 64], 10.0, &[0, 1, 0, 1]),
            row("", [63, 200], 0.0, &[0, 1, 0, 1]),
        ];
        let failed = Row { found: Err("no image".into()), ..row("cat", [0, 0], 0.0, &[]) };
        tally.add(&Part { rows: first, seconds: 1.0 }).unwrap();
        tally.add(&Part { rows: vec![failed], seconds: 0.5 }).unwrap();
        let found = tally.figures(None).unwrap();
        let one = 20.0 * 255.0_f64.log10();
        assert_eq!((found.means.images, found.failed, found.equal), (3, 1, 1));
        assert!((found.means.psnr_db.unwrap() - (one - 5.0)).abs() < 1e-12);
        let pooled = one - 10.0 * (11.0 / 3.0_f64).log10();
        assert!((found.psnr_of_mean_mse_db.unwrap() - pooled).abs() < 1e-12);
        assert_eq!((found.means.ssim, found.means.ms_ssim, found.rfid), (Some(0.5), None, None));
        assert_eq!((found.usage, found.tokens_per_image), (Some(0.5), Some(4.0)));
        assert!((found.perplexity.unwrap() - 2.0).abs() < 1e-12);
        assert_eq!(found.images_per_second, Some(2.0));
        let of = |groups: &[GroupFigures]| -> Vec<(String, u64)> {
            groups.iter().map(|group| (group.of.clone(), group.means.images)).collect()
        };
        assert_eq!(of(&found.labels), [("cat".into(), 1), ("dog".into(), 1)]);
        assert_eq!(of(&found.sizes), [("32-63".into(), 2), ("64-127".into(), 1)]);
        // One bit a token, which the neighbour tells but for what chance gives.
        let level = &found.levels[0];
        assert!((level.bits - 1.0).abs() < 1e-12);
        let bits = found.bits_per_token.unwrap();
        assert!((bits - (1.0 - level.neighbour_bits.unwrap())).abs() < 1e-12 && bits < 0.2);
    }

    #[test]
    fn reconstructions_are_held_against_another_set_too() {
        let with = |features: [[f32; 2]; 2]| Row {
            found: Ok(Found {
                features: Some(features.map(|of| of.to_vec())),
                ..row("", [8, 8], 1.0, &[]).found.unwrap()
            }),
            ..row("", [8, 8], 1.0, &[])
        };
        // Images lie about (0, 0), what became of them about (3, 0), those of the other set about (3, 4):
        // the same spread everywhere, so that distances are those of the means.
        let part = |rows| Part { rows, seconds: 0.0 };
        let own = [[[1.0, 0.0], [4.0, 0.0]], [[-1.0, 0.0], [2.0, 0.0]]].map(with).to_vec();
        let others = [[[4.0, 4.0], [9.0, 9.0]], [[2.0, 4.0], [7.0, 7.0]]].map(with).to_vec();
        let mut reference = Reference::default();
        reference.add(&part(others)).unwrap();
        assert_eq!(reference.count(), 2);
        let figures = |reference| {
            let mut tally = Tally::new(None);
            tally.add(&part(own.clone())).unwrap();
            let found = tally.figures(reference).unwrap();
            [found.rfid, found.fid_to_reference].map(|fid| fid.map(|fid| (fid * 1e9).round() / 1e9))
        };
        assert_eq!(figures(Some(&reference)), [Some(9.0), Some(16.0)]);
        assert_eq!(figures(None), [Some(9.0), None]);
    }

    #[test]
    fn codes_that_cannot_be_are_refused() {
        let add = |found: Found| {
            let row = Row { found: Ok(found), ..row("", [1, 1], 1.0, &[]) };
            Tally::new(Some(4)).add(&Part { rows: vec![row], seconds: 0.0 })
        };
        let found = |codes: &[u32], grids: &[u32]| Found {
            codes: codes.to_vec(),
            grids: grids.to_vec(),
            ..Found::default()
        };
        assert!(add(found(&[0, 3], &[1, 2])).is_ok());
        assert!(add(found(&[0, 4], &[1, 2])).is_err());
        assert!(add(found(&[0, 3], &[1, 3])).is_err());
        assert!(add(found(&[0, 3], &[u32::MAX, u32::MAX])).is_err());
        let features = Some([vec![1.0], vec![1.0, 2.0]]);
        assert!(add(Found { features, ..Found::default() }).is_err());
    }
}
