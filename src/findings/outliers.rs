//! Owns how far images are from the others of their set: the Mahalanobis distance of a dozen features,
//! from a middle and a spread that outliers don't shape. Must not know: how features come about.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::images::Images;
use super::result::Outlier;

/// Features that are compared.
const FEATURES: usize = 12;
/// Images below which there is no telling what is usual.
pub(super) const IMAGES_MIN: usize = 100;
/// Images from which the usual is taken, at most.
const SAMPLE: usize = 100_000;
/// Rounds in which the half furthest away is left out of it.
const ROUNDS: usize = 10;
/// Share of the images that is near the middle.
const CORE: f64 = 0.75;
/// Images that are listed, whatever the share of them.
const LISTED: usize = 1000;

type Point = [f64; FEATURES];

/// The images furthest from the others, the furthest first; `passed` are those that are named elsewhere.
/// At most 1,000 (and a quarter of a small set), or 1 % of many.
pub(super) fn find(images: &Images, passed: &BTreeSet<usize>) -> Vec<Outlier> {
    let scores = scores(images);
    let listed = (scores.len() / 100).max(LISTED.min(scores.len() / 4));
    let known = |at: &u32| !passed.contains(&(*at as usize));
    let mut order: Vec<u32> = (0..scores.len() as u32).filter(known).collect();
    let furthest = |a: &u32, b: &u32| {
        scores[*b as usize].total_cmp(&scores[*a as usize]).then_with(|| a.cmp(b))
    };
    order.par_sort_unstable_by(furthest);
    let outlier = |&at: &u32| Outlier {
        key: images.keys.get(at as usize).to_string(),
        score: f64::from(scores[at as usize]),
    };
    order.iter().take(listed).map(outlier).collect()
}

/// The distance of every image, by its place; none of a set that is too small to tell.
pub(super) fn scores(images: &Images) -> Vec<f32> {
    let count = images.len();
    if count < IMAGES_MIN {
        return Vec::new();
    }
    let step = count.div_ceil(SAMPLE);
    let sample: Vec<Point> = (0..count).step_by(step).map(|at| point(images, at)).collect();
    match Usual::of(&sample) {
        Some(usual) => (0..count)
            .into_par_iter()
            .with_min_len(1024)
            .map(|at| usual.distance(&usual.scaled(&point(images, at))).sqrt() as f32)
            .collect(),
        None => Vec::new(),
    }
}

/// The features of an image that are compared; NaN where one isn't known.
fn point(images: &Images, at: usize) -> Point {
    let seen = &images.looks[at].features;
    let error = images.sizes[at].quantization_error + 0.05;
    let [pixels, blocks, halves, quarters] = seen.spread;
    let [across, down] = seen.steps;
    let unique = seen.unique_codes / seen.tokens.max(1.0);
    let all = [
        seen.luma,
        seen.chroma_spread,
        pixels,
        blocks,
        halves,
        quarters,
        across,
        down,
        seen.bits,
        seen.pair_bits,
        error.ln(),
        unique,
    ];
    all.map(f64::from)
}

/// What is usual: by feature its middle and scale, then mean and inverse spread of the scaled ones.
struct Usual {
    middle: Point,
    /// 0 for a feature that says nothing.
    scale: Point,
    mean: Point,
    /// Lower triangle of the Cholesky factor of the covariance.
    factor: [Point; FEATURES],
}

impl Usual {
    /// Of a sample; None where no feature says anything.
    fn of(sample: &[Point]) -> Option<Usual> {
        let mut usual = Usual {
            middle: [0.0; FEATURES],
            scale: [0.0; FEATURES],
            mean: [0.0; FEATURES],
            factor: [[0.0; FEATURES]; FEATURES],
        };
        for feature in 0..FEATURES {
            let known = sample.iter().map(|point| point[feature]).filter(|value| value.is_finite());
            let mut known: Vec<f64> = known.collect();
            if known.len() < IMAGES_MIN.min(sample.len() / 2) {
                continue;
            }
            let middle = middle(&mut known);
            known.iter_mut().for_each(|value| *value = (*value - middle).abs());
            let deviation = self::middle(&mut known) * 1.4826;
            usual.middle[feature] = middle;
            usual.scale[feature] = if deviation > 1e-9 { 1.0 / deviation } else { 0.0 };
        }
        if usual.scale.iter().all(|&scale| scale == 0.0) {
            return None;
        }
        let scaled: Vec<Point> = sample.iter().map(|point| usual.scaled(point)).collect();
        let mut distances: Vec<f64> = scaled.iter().map(squares).collect();
        for _ in 0..=ROUNDS {
            let mut sorted = distances.clone();
            let core = ((sorted.len() - 1) as f64 * CORE) as usize;
            let limit = *sorted.select_nth_unstable_by(core, f64::total_cmp).1;
            let core = scaled.iter().zip(&distances).filter(|(_, distance)| **distance <= limit);
            usual.fit(core.map(|(point, _)| point));
            distances = scaled.par_iter().map(|point| usual.distance(point)).collect();
        }
        Some(usual)
    }

    /// In units of each feature's usual deviation; what isn't known is in the middle.
    fn scaled(&self, point: &Point) -> Point {
        let mut scaled = [0.0; FEATURES];
        for feature in 0..FEATURES {
            let value = (point[feature] - self.middle[feature]) * self.scale[feature];
            scaled[feature] = if value.is_finite() { value } else { 0.0 };
        }
        scaled
    }

    fn fit<'a>(&mut self, points: impl Iterator<Item = &'a Point> + Clone) {
        let count = points.clone().count().max(2) as f64;
        self.mean = [0.0; FEATURES];
        points
            .clone()
            .for_each(|point| (0..FEATURES).for_each(|i| self.mean[i] += point[i] / count));
        let mut spread = [[0.0; FEATURES]; FEATURES];
        for point in points {
            for i in 0..FEATURES {
                for j in 0..=i {
                    spread[i][j] += (point[i] - self.mean[i]) * (point[j] - self.mean[j]);
                }
            }
        }
        // A feature that the core has but one value of is told by its own scale.
        (0..FEATURES).for_each(|i| spread[i][i] += 1e-3 * count);
        for i in 0..FEATURES {
            for j in 0..=i {
                let before: f64 = (0..j).map(|k| self.factor[i][k] * self.factor[j][k]).sum();
                let rest = spread[i][j] / (count - 1.0) - before;
                self.factor[i][j] =
                    if i == j { rest.max(1e-9).sqrt() } else { rest / self.factor[j][j] };
            }
        }
    }

    /// The squared distance of scaled features.
    fn distance(&self, scaled: &Point) -> f64 {
        let mut solved = [0.0; FEATURES];
        for i in 0..FEATURES {
            let before: f64 = (0..i).map(|k| self.factor[i][k] * solved[k]).sum();
            solved[i] = (scaled[i] - self.mean[i] - before) / self.factor[i][i];
        }
        squares(&solved)
    }
}

fn squares(point: &Point) -> f64 {
    point.iter().map(|value| value * value).sum()
}

/// The middle of some values; there is one at least.
fn middle(values: &mut [f64]) -> f64 {
    let at = values.len() / 2;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests;
