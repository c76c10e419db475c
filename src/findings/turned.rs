//! Owns how large a part of a class lies on its side or its head, told against a reference that stands
//! upright, and only where that tells it. Must not know: how pictures come about.
//!
//! A linear judge of small pictures learns to tell a class from itself turned. Many classes look alike
//! either way, so no image is judged by it: the mean of a class is set against that of the reference,
//! upright and turned, whose halves say how sure that is. What it learns from is never what it judges.
//!
//! Paler pictures have paler means, as those of a class that is partly turned are. But no turn changes how
//! much detail pictures show: where that differs, they were made otherwise, and nothing is said of turns.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::picture::Picture;
use super::result::Remark;
use crate::util::text;

/// Pixels a side of lightness, and of each of two colours.
const SIDE: usize = 8;
const COLOUR_SIDE: usize = 4;
const SIZE: usize = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE;
/// Labels that are looked at.
const LABELS_MAX: usize = 128;
/// Labels that are named.
const NAMED_MAX: usize = 10;
/// Images of a class, and of the reference's, at least.
const IMAGES_MIN: [u64; 2] = [100, 40];
/// Share of the mean variance that is added to each.
const RIDGE: f64 = 0.1;
/// Deviations, and the share, from which turned images are told.
const DEVIATIONS: f64 = 3.0;
const SHARE: f64 = 0.1;
/// Share by which detail differs, if also by as many deviations, from which pictures were made otherwise:
/// between random halves of CIFAR-10's classes it was at most 0.023, of images resized before 0.05 and more.
const OTHERWISE: f64 = 0.05;
/// Deviation of a share up to which a class can be told at all.
const SURE: f64 = 0.1;

/// Small pictures of each label, as far as their means and covariances go.
#[derive(Debug, Default)]
pub(super) struct Turned {
    labels: BTreeMap<String, [Moments; 2]>,
}

/// What a linear judge needs of some pictures.
#[derive(Debug, Clone)]
struct Moments {
    count: u64,
    sum: Vec<f64>,
    /// Of products, by rows.
    products: Vec<f64>,
    /// Of their detail, and of its square.
    detail: [f64; 2],
}

impl Turned {
    /// Takes an image; only square ones look the same size when they are turned.
    pub(super) fn take(&mut self, label: &str, picture: &Picture) {
        if picture.width != picture.height || picture.width < SIDE {
            return;
        }
        if !self.labels.contains_key(label) {
            if self.labels.len() == LABELS_MAX {
                return;
            }
            self.labels.insert(label.to_string(), [Moments::none(), Moments::none()]);
        }
        if let Some(halves) = self.labels.get_mut(label) {
            let half = usize::from(halves[0].count > halves[1].count);
            halves[half].add(&small(picture), detail(picture));
        }
    }
}

/// What can be said of the classes of a set against those of a reference.
pub(super) fn remarks(set: &Turned, reference: &Turned) -> Vec<Remark> {
    let (mut remarks, mut unsure, mut sure) = (Vec::new(), Vec::new(), 0);
    let mut otherwise = Vec::new();
    for (label, halves) in &set.labels {
        let Some(upright) = reference.labels.get(label) else { continue };
        match share(halves, upright) {
            Some(_) if made_otherwise(halves, upright) => otherwise.push(text::printable(label)),
            Some((share, deviation)) if deviation <= SURE => {
                sure += 1;
                if share >= SHARE.max(DEVIATIONS * deviation) {
                    remarks.push(Remark {
                        about: "turned",
                        finding: true,
                        text: format!(
                            "{label}: about {:.0} % (give or take {:.0}) of the images lie on their \
                             side or stand on their head, if those of the other output stand upright",
                            100.0 * share,
                            100.0 * deviation
                        ),
                    });
                }
            }
            _ => unsure.push(text::printable(label)),
        }
    }
    let all = unsure.len() + otherwise.len() + sure;
    let reasons = [
        (unsure, "the other output's images are too few, or look alike when they are turned"),
        (otherwise, "they show more or less detail than the other output's, which no turn does"),
    ];
    let untold = reasons.iter().filter(|(labels, _)| !labels.is_empty());
    remarks.extend(untold.map(|(labels, why)| untold_of(labels, all, why)));
    remarks
}

fn untold_of(labels: &[Cow<'_, str>], all: usize, why: &str) -> Remark {
    let more = if labels.len() > NAMED_MAX { ", ..." } else { "" };
    let text = format!(
        "whether images are turned can't be told of {} of {all} labels ({}{more}): {why}",
        labels.len(),
        labels[..labels.len().min(NAMED_MAX)].join(", ")
    );
    Remark { about: "turned", finding: false, text }
}

/// Whether more than turns tells two sets of pictures apart.
fn made_otherwise(set: &[Moments; 2], upright: &[Moments; 2]) -> bool {
    let of = |halves: &[Moments; 2]| -> (f64, f64) {
        let count = (halves[0].count + halves[1].count).max(1) as f64;
        let [sum, squares] = [0, 1].map(|i| halves[0].detail[i] + halves[1].detail[i]);
        let mean = sum / count;
        // Of the mean's logarithm.
        (mean, (squares / count / (mean * mean) - 1.0).max(0.0) / count)
    };
    let ((ours, spread), (theirs, their_spread)) = (of(set), of(upright));
    // Halved, since detail is a square.
    let apart = (ours / theirs).ln().abs() / 2.0;
    let deviation = (spread + their_spread).sqrt() / 2.0;
    apart >= (1.0 + OTHERWISE).ln().max(DEVIATIONS * deviation)
}

/// What is said where the two outputs weren't made alike: then more than turns tells their pictures apart.
pub(super) fn not_comparable() -> Remark {
    Remark {
        about: "turned",
        finding: false,
        text:
            "whether images are turned can't be told: the other output's codes are used otherwise"
                .into(),
    }
}

/// The share of turned pictures and its deviation; None where too few are there or no judge can be made.
fn share(set: &[Moments; 2], upright: &[Moments; 2]) -> Option<(f64, f64)> {
    let count = |halves: &[Moments; 2]| halves[0].count + halves[1].count;
    if count(set) < IMAGES_MIN[0] || count(upright) < IMAGES_MIN[1] {
        return None;
    }
    let (mut shares, mut deviations) = (0.0, 0.0);
    for half in 0..2 {
        let mut learnt = set[half].clone();
        learnt.merge(&upright[half]);
        let judge = learnt.judge()?;
        let (judged, known) = (&set[1 - half], &upright[1 - half]);
        let turned = TURNS.map(|turn| known.turned(turn).mean(&judge)).iter().sum::<f64>() / 3.0;
        let (stands, own) = (known.mean(&judge), judged.mean(&judge));
        let apart = stands - turned;
        if apart <= 0.0 {
            return None;
        }
        shares += (stands - own) / apart / 2.0;
        let of = |moments: &Moments| moments.variance(&judge) / moments.count as f64;
        deviations += (of(known) + of(judged)).sqrt() / apart / 2.0;
    }
    Some((shares, deviations / std::f64::consts::SQRT_2))
}

/// Quarters of a turn.
const TURNS: [usize; 3] = [1, 2, 3];

impl Moments {
    fn none() -> Moments {
        let (sum, products) = (vec![0.0; SIZE], vec![0.0; SIZE * SIZE]);
        Moments { count: 0, sum, products, detail: [0.0; 2] }
    }

    fn add(&mut self, small: &[f64; SIZE], detail: f64) {
        self.count += 1;
        self.detail[0] += detail;
        self.detail[1] += detail * detail;
        self.sum.iter_mut().zip(small).for_each(|(sum, value)| *sum += value);
        for (row, value) in self.products.chunks_exact_mut(SIZE).zip(small) {
            row.iter_mut().zip(small).for_each(|(sum, other)| *sum += value * other);
        }
    }

    fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.detail.iter_mut().zip(other.detail).for_each(|(sum, more)| *sum += more);
        self.sum.iter_mut().zip(&other.sum).for_each(|(sum, more)| *sum += more);
        self.products.iter_mut().zip(&other.products).for_each(|(sum, more)| *sum += more);
    }

    /// Those of the same pictures, turned by so many quarters.
    fn turned(&self, quarters: usize) -> Moments {
        let from: Vec<usize> = (0..SIZE).map(|at| before(at, quarters)).collect();
        let sum = from.iter().map(|&at| self.sum[at]).collect();
        let products = (0..SIZE * SIZE).map(|at| (from[at / SIZE], from[at % SIZE]));
        let products = products.map(|(row, column)| self.products[row * SIZE + column]).collect();
        Moments { count: self.count, sum, products, detail: self.detail }
    }

    fn mean(&self, judge: &[f64]) -> f64 {
        let sum: f64 = self.sum.iter().zip(judge).map(|(sum, weight)| sum * weight).sum();
        sum / self.count.max(1) as f64
    }

    fn covariance(&self) -> Vec<f64> {
        let count = self.count.max(1) as f64;
        let mean: Vec<f64> = self.sum.iter().map(|sum| sum / count).collect();
        let at = |at: usize| self.products[at] / count - mean[at / SIZE] * mean[at % SIZE];
        (0..SIZE * SIZE).map(at).collect()
    }

    /// Of the judge's verdicts.
    fn variance(&self, judge: &[f64]) -> f64 {
        let covariance = self.covariance();
        let rows = covariance.chunks_exact(SIZE).zip(judge);
        let row = |(row, weight): (&[f64], &f64)| {
            weight * row.iter().zip(judge).map(|(value, weight)| value * weight).sum::<f64>()
        };
        rows.map(row).sum::<f64>().max(0.0)
    }

    /// What tells these pictures from the same ones turned (Fisher's discriminant).
    fn judge(&self) -> Option<Vec<f64>> {
        let turned = TURNS.map(|turn| self.turned(turn));
        let mut spread = self.covariance();
        for turned in &turned {
            let covariance = turned.covariance();
            spread.iter_mut().zip(covariance).for_each(|(sum, value)| *sum += value);
        }
        let mean: f64 = (0..SIZE).map(|i| spread[i * SIZE + i]).sum::<f64>() / SIZE as f64;
        spread.iter_mut().for_each(|value| *value *= 1.0 - RIDGE);
        (0..SIZE).for_each(|i| spread[i * SIZE + i] += RIDGE * mean);
        let apart = (0..SIZE)
            .map(|i| self.sum[i] - turned.iter().map(|turned| turned.sum[i]).sum::<f64>() / 3.0);
        solve(spread, apart.map(|sum| sum / self.count.max(1) as f64).collect())
    }
}

/// Solves a symmetric, positive system by Cholesky; None where it isn't one.
fn solve(mut system: Vec<f64>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let size = right.len();
    for i in 0..size {
        for j in 0..=i {
            let before: f64 = (0..j).map(|k| system[i * size + k] * system[j * size + k]).sum();
            let rest = system[i * size + j] - before;
            system[i * size + j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / system[j * size + j],
            };
        }
    }
    for i in 0..size {
        let before: f64 = (0..i).map(|k| system[i * size + k] * right[k]).sum();
        right[i] = (right[i] - before) / system[i * size + i];
    }
    for i in (0..size).rev() {
        let behind: f64 = (i + 1..size).map(|k| system[k * size + i] * right[k]).sum();
        right[i] = (right[i] - behind) / system[i * size + i];
    }
    Some(right)
}

/// Lightness in 8 x 8 pixels and two colours in 4 x 4.
fn small(picture: &Picture) -> [f64; SIZE] {
    let mut sums = [[0.0_f64; 4]; SIDE * SIDE];
    for (at, pixel) in picture.rgb.chunks_exact(3).enumerate() {
        let (y, x) = (at / picture.width, at % picture.width);
        let sum = &mut sums[y * SIDE / picture.height * SIDE + x * SIDE / picture.width];
        (0..3).for_each(|c| sum[c] += f64::from(pixel[c]));
        sum[3] += 1.0;
    }
    let mut small = [0.0; SIZE];
    for (at, [red, green, blue, count]) in sums.into_iter().enumerate() {
        let luma = (0.299 * red + 0.587 * green + 0.114 * blue) / count;
        small[at] = luma;
        let colour = at / SIDE / 2 * COLOUR_SIDE + at % SIDE / 2;
        small[SIDE * SIDE + colour] += (blue / count - luma) / 4.0;
        small[SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE + colour] += (red / count - luma) / 4.0;
    }
    small
}

/// Mean squared difference in lightness between neighbours, which a turn leaves as it is.
fn detail(picture: &Picture) -> f64 {
    let luma = |[red, green, blue]: [f64; 3]| 0.299 * red + 0.587 * green + 0.114 * blue;
    let pixels = picture.rgb.chunks_exact(3);
    let lumas: Vec<f64> =
        pixels.map(|pixel| luma([pixel[0], pixel[1], pixel[2]].map(f64::from))).collect();
    let mut sum = 0.0;
    for (y, row) in lumas.chunks_exact(picture.width).enumerate() {
        sum += row.windows(2).map(|pair| (pair[1] - pair[0]).powi(2)).sum::<f64>();
        let below = lumas[(y + 1) * picture.width..].iter();
        sum += row.iter().zip(below).map(|(above, below)| (below - above).powi(2)).sum::<f64>();
    }
    sum / lumas.len().max(1) as f64
}

/// Which value of a small picture comes to place `at` when it is turned by so many quarters.
fn before(at: usize, quarters: usize) -> usize {
    let (start, side) = match at {
        _ if at < SIDE * SIDE => (0, SIDE),
        _ if at < SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE => (SIDE * SIDE, COLOUR_SIDE),
        _ => (SIDE * SIDE + COLOUR_SIDE * COLOUR_SIDE, COLOUR_SIDE),
    };
    let (mut y, mut x) = ((at - start) / side, (at - start) % side);
    for _ in 0..quarters {
        (y, x) = (x, side - 1 - y);
    }
    start + y * side + x
}

#[cfg(test)]
mod tests;
