//! Owns telling whether a pair stands out from what its images resemble otherwise: one of many "1"s is as
//! like the likest of them as a copy is of a photograph. Must not know: which pairs count as copies.

use std::collections::HashMap;

use super::near::Pair;
use super::threshold::{HIGHEST, USUAL_RATE, depth};

/// Images of the other output that one resembles, from which on they are a kind of it.
const KIND: usize = 16;
/// Of so many of them, the likest, is estimated how fast they get fewer.
const LIKEST: usize = 64;
/// Strangers that may be expected to be as like an image as its copy is.
const PUT_UP_WITH: f64 = 0.3;
/// They get fewer at least so fast.
const LEAST_RATE: f64 = 1.0;

/// Of each image in a pair that may be a leak: how alike the pairs are that it has below the threshold. Copies
/// are above it, or few below: they hide neither themselves nor one another, however many there are.
pub(super) struct Strangers {
    below: [HashMap<u32, Vec<f32>>; 2],
    threshold: f64,
}

impl Strangers {
    /// Of the images of those pairs that reach the threshold.
    pub(super) fn of(pairs: &[Pair], threshold: f64) -> Strangers {
        let reaches = |pair: &&Pair| f64::from(pair.score) >= threshold;
        let mut below = [HashMap::new(), HashMap::new()];
        for pair in pairs.iter().filter(reaches) {
            below[0].insert(pair.first, Vec::new());
            below[1].insert(pair.second, Vec::new());
        }
        for pair in pairs.iter().filter(|pair| !reaches(pair)) {
            for (below, image) in below.iter_mut().zip([pair.first, pair.second]) {
                if let Some(scores) = below.get_mut(&image) {
                    scores.push(pair.score);
                }
            }
        }
        Strangers { below, threshold }
    }

    /// Whether a pair is likely one of strangers: by what either of its images resembles otherwise, another
    /// one may be expected to be as like it. From [`HIGHEST`] on images are one whatever the others are.
    pub(super) fn hide(&self, pair: &Pair) -> bool {
        let score = f64::from(pair.score);
        let images = [pair.first, pair.second];
        score < HIGHEST
            && self.below.iter().zip(images).any(|(below, image)| {
                let scores = below.get(&image).map_or(&[][..], |scores| scores);
                self.expected(scores, score) > PUT_UP_WITH
            })
    }

    /// Strangers that are as like an image as `score`, by the `scores` of those that are less so. Their number
    /// falls exponentially with [`depth`]; how fast is the likeliest for what is seen between the least of
    /// them and the threshold.
    fn expected(&self, scores: &[f32], score: f64) -> f64 {
        if scores.len() < KIND {
            return 0.0;
        }
        let mut depths: Vec<f64> = scores.iter().map(|&score| depth(f64::from(score))).collect();
        depths.sort_by(|a, b| b.total_cmp(a));
        depths.truncate(LIKEST);
        let others = depths.len() - 1;
        let least = depths[others];
        let window = depth(self.threshold) - least;
        if window <= 0.0 {
            return others as f64;
        }
        let mean = depths.iter().map(|depth| depth - least).sum::<f64>() / others as f64;
        let rate = rate(mean, window).clamp(LEAST_RATE, USUAL_RATE);
        others as f64 / -(-rate * window).exp_m1() * (-rate * (depth(score) - least)).exp()
    }
}

/// The rate of an exponential of which a window shows that mean; 0 where it doesn't fall there.
fn rate(mean: f64, window: f64) -> f64 {
    let shown = |rate: f64| 1.0 / rate - window / (rate * window).exp_m1();
    let (mut low, mut high) = (1e-3, 1e3);
    if mean >= shown(low) {
        return 0.0;
    }
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if shown(middle) > mean { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pairs of image 0 with others, from 1 on.
    fn pairs(scores: impl IntoIterator<Item = f64>) -> Vec<Pair> {
        let pair = |(at, score): (usize, f64)| Pair::of(0, at as u32 + 1, score as f32);
        scores.into_iter().enumerate().map(pair).collect()
    }

    /// Scores of `count` strangers whose number falls at that rate from a similarity on.
    fn strangers(count: usize, rate: f64, from: f64) -> impl Iterator<Item = f64> {
        (0..count).map(move |at| {
            let beyond = -((at as f64 + 0.5) / count as f64).ln() / rate;
            (1.0 - (-(depth(from) + beyond)).exp()).sqrt()
        })
    }

    fn hidden(pairs: &[Pair], threshold: f64) -> Vec<bool> {
        let strangers = Strangers::of(pairs, threshold);
        let reach = pairs.iter().filter(|pair| f64::from(pair.score) >= threshold);
        reach.map(|pair| strangers.hide(pair)).collect()
    }

    #[test]
    fn one_of_a_kind_hides_among_its_like_and_a_copy_stands_out() {
        // A digit in 60 of its kind, of which some reach the threshold; and a copy of it.
        let mut digits: Vec<f64> = strangers(60, 3.0, 0.8).collect();
        digits.push(0.99);
        let found = hidden(&pairs(digits), 0.9);
        assert!(found.len() > 8 && found[..found.len() - 1].iter().all(|hidden| *hidden));
        assert_eq!(found.last(), Some(&false), "surely one");
        // A photograph's strangers get fewer fast.
        let sky = pairs(strangers(40, 9.0, 0.6).chain([0.9]));
        assert_eq!(hidden(&sky, 0.85), [false]);
    }

    #[test]
    fn copies_hide_neither_themselves_nor_one_another() {
        let copies = (0..30).map(|at| 0.84 + 0.005 * f64::from(at));
        let few = strangers(40, 9.0, 0.6).chain([0.8, 0.81, 0.82]).chain(copies.clone());
        let found = hidden(&pairs(few), 0.83);
        assert_eq!(found, [false; 30]);
        // Nothing is said of an image that resembles few others, however slowly those get fewer.
        let slow = |count| strangers(count, 1.0, 0.7).map(|score| score.min(0.82)).chain([0.84]);
        assert_eq!(hidden(&pairs(slow(KIND - 1)), 0.83), [false]);
        assert_eq!(hidden(&pairs(slow(KIND)), 0.83), [true]);
    }

    #[test]
    fn either_image_of_a_pair_can_be_one_of_a_kind() {
        let mut both: Vec<Pair> = pairs(strangers(60, 3.0, 0.8).filter(|score| *score < 0.9));
        both.push(Pair::of(0, 99, 0.91));
        assert_eq!(hidden(&both, 0.9), [true]);
        let turned: Vec<Pair> =
            both.iter().map(|pair| Pair::of(pair.second, pair.first, pair.score)).collect();
        assert_eq!(hidden(&turned, 0.9), [true]);
    }

    #[test]
    fn the_rate_is_that_of_the_window_that_shows_it() {
        for (rate_of, window) in [(1.0, 0.3), (3.0, 0.5), (9.0, 2.0)] {
            let shown = 1.0 / rate_of - window / f64::exp_m1(rate_of * window);
            assert!((rate(shown, window) - rate_of).abs() < 1e-6);
        }
        assert_eq!(rate(0.3, 0.5), 0.0);
    }
}
