//! Owns how large a part of a class lies on its side or its head, told against a reference that stands
//! upright, and only where that tells it. Must not know: how pictures come about.
//!
//! Many classes look alike either way, so no image is judged: the mean of a class is set against that of
//! the reference, upright and turned by each quarter. Three linear judges of small pictures (Fisher's
//! discriminants) learn from one half of the reference to tell it from itself turned; the shares of the
//! three turns are those that explain what the judges say of the class by what they say of the other half.
//! Where that leaves the shares open, as where a turn looks like half as much of another, what one judge says
//! of the class is at most what it says of the turn that it sees most: that gives the least share.
//!
//! Paler pictures have paler means, as those of a class that is partly turned are. But no turn changes how
//! much detail pictures show: where that differs, they were made otherwise, and nothing is said of turns.

mod moments;

use std::borrow::Cow;
use std::collections::BTreeMap;

use moments::{Moments, SIDE, SIZE, before, detail, dot, small};

use super::picture::Picture;
use super::result::Remark;
use crate::util::text;

/// Labels that are looked at.
const LABELS_MAX: usize = 128;
/// Labels that are named.
const NAMED_MAX: usize = 10;
/// Images of a class, and of the reference's, at least: by 100 of a reference, 4 of 120 classes that stood
/// upright were told as turned, by 200 and more none of 360.
const IMAGES_MIN: u64 = 200;
/// Share of the mean variance that is added to each.
const RIDGE: f64 = 0.1;
/// Deviations, and the share, from which turned images are told.
const DEVIATIONS: f64 = 4.0;
const SHARE: f64 = 0.1;
/// What a share may come to, two deviations above what was found, where a class is taken to stand upright.
const UPRIGHT: f64 = 0.25;
/// Share by which detail differs, if also by as many deviations, from which pictures were made otherwise:
/// between random halves of CIFAR-10's classes it was at most 0.023, of images resized before 0.05 and more.
const OTHERWISE: f64 = 0.05;

/// Small pictures of each label, as far as their means and covariances go.
#[derive(Debug, Default)]
pub(super) struct Turned {
    labels: BTreeMap<String, [Moments; 2]>,
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
            Some(told) if told.is_turned() => {
                sure += 1;
                remarks.push(Remark { about: "turned", finding: true, text: told.of(label) });
            }
            Some(Told { share, .. }) if share.at_most() <= UPRIGHT => sure += 1,
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

/// A share of a class, and its deviation.
#[derive(Debug, Clone, Copy)]
struct Share {
    value: f64,
    deviation: f64,
}

impl Share {
    /// Of what two judges say, and the variance of each. Judges that disagree are unsure, whatever each
    /// thinks of itself.
    fn of([(one, variance), (other, its)]: [(f64, f64); 2]) -> Share {
        let variance = (variance + its) / 2.0 + ((one - other) / 2.0).powi(2);
        Share { value: (one + other) / 2.0, deviation: variance.sqrt() }
    }

    fn is_told(&self) -> bool {
        self.value >= SHARE.max(DEVIATIONS * self.deviation)
    }

    fn at_most(&self) -> f64 {
        self.value + 2.0 * self.deviation
    }
}

/// The share of turned pictures, and what it is at least.
#[derive(Debug, Clone, Copy)]
struct Told {
    share: Share,
    least: Share,
}

impl Told {
    fn is_turned(&self) -> bool {
        self.share.is_told() || self.share.at_most() > UPRIGHT && self.least.is_told()
    }

    /// In one line.
    fn of(&self, label: &str) -> String {
        let (how, share) = match self.share.is_told() {
            true => ("about", self.share),
            false => ("at least", self.least),
        };
        format!(
            "{}: {how} {:.0} % (give or take {:.0}) of the images lie on their side or stand on their \
             head, if those of the other output stand upright",
            text::printable(label),
            100.0 * share.value.min(1.0),
            100.0 * share.deviation
        )
    }
}

/// None where too few are there or no judge can be made.
fn share(set: &[Moments; 2], upright: &[Moments; 2]) -> Option<Told> {
    let mut whole = set[0].clone();
    whole.merge(&set[1]);
    if whole.count.min(upright[0].count + upright[1].count) < IMAGES_MIN {
        return None;
    }
    let sides = [[&upright[0], &upright[1]], [&upright[1], &upright[0]]];
    let [one, other] = sides.map(|[learnt, known]| Judged::of(&whole, learnt, known));
    let (one, other) = (one?, other?);
    Some(Told {
        share: Share::of([one.share()?, other.share()?]),
        least: Share::of([one.least()?, other.least()?]),
    })
}

/// What judges say of a set.
struct Judged<'a> {
    set: &'a Moments,
    /// What stands upright, and isn't what the judges learnt from.
    known: &'a Moments,
    judges: [Vec<f64>; 3],
    /// By judge: how far below what stands upright it sees each turn.
    turns: [[f64; 3]; 3],
    /// By judge: the same of the set.
    own: [f64; 3],
}

impl<'a> Judged<'a> {
    fn of(set: &'a Moments, learnt: &Moments, known: &'a Moments) -> Option<Judged<'a>> {
        let judges = judges(set, learnt)?;
        let (stands, own) = (known.mean(), set.mean());
        let below = |judge: &[f64], other: &[f64]| dot(judge, &stands) - dot(judge, other);
        let turned = TURNS.map(|turn| turned(&stands, turn));
        let turns = [0, 1, 2].map(|j| [0, 1, 2].map(|k| below(&judges[j], &turned[k])));
        let own = [0, 1, 2].map(|j| below(&judges[j], &own));
        Some(Judged { set, known, judges, turns, own })
    }

    fn judge(&self, weights: [f64; 3]) -> Vec<f64> {
        let weighted = |i: usize| (0..3).map(|j| weights[j] * self.judges[j][i]).sum();
        (0..SIZE).map(weighted).collect()
    }

    /// The share of all turns and its variance; None where the turns look alike.
    fn share(&self) -> Option<(f64, f64)> {
        let shares = solve_three(self.turns, self.own)?;
        // The one judge that sees each turn by 1 below what stands upright.
        let columns = [0, 1, 2].map(|k| [0, 1, 2].map(|j| self.turns[j][k]));
        let judge = self.judge(solve_three(columns, [1.0; 3])?);
        let share: f64 = shares.iter().sum();
        // What it expects of the set, as a judge of pictures that stand upright.
        let mut expects: Vec<f64> = judge.iter().map(|weight| weight * (1.0 - share)).collect();
        for (turn, share) in TURNS.into_iter().zip(shares) {
            (0..SIZE).for_each(|at| expects[before(at, turn)] += share * judge[at]);
        }
        Some((share, self.variance(&expects, &judge)))
    }

    /// What the share is at least, and the variance of that.
    fn least(&self) -> Option<(f64, f64)> {
        let of_judges = |of: &dyn Fn(usize) -> f64| (0..3).map(of).sum::<f64>() / 3.0;
        let turns = [0, 1, 2].map(|k| of_judges(&|j| self.turns[j][k]));
        let most = turns.into_iter().fold(0.0, f64::max);
        let judge = self.judge([1.0 / 3.0; 3]);
        let variance = self.variance(&judge, &judge) / (most * most);
        variance.is_finite().then(|| (of_judges(&|j| self.own[j]) / most, variance))
    }

    /// Of what is known, by one judge, and of the set by another.
    fn variance(&self, of_known: &[f64], of_set: &[f64]) -> f64 {
        let of = |moments: &Moments, judge: &[f64]| moments.variance(judge) / moments.count as f64;
        of(self.known, of_known) + of(self.set, of_set)
    }
}

/// What tells upright pictures from the same ones turned by each quarter (Fisher's discriminants). The
/// spread is that of the set and of the reference about their mean, whichever way they are turned.
fn judges(set: &Moments, upright: &Moments) -> Option<[Vec<f64>; 3]> {
    let mut all = set.clone();
    all.merge(upright);
    let covariance = all.covariance();
    let mut spread = vec![0.0; SIZE * SIZE];
    for turn in 0..4 {
        let from: Vec<usize> = (0..SIZE).map(|at| before(at, turn)).collect();
        for (at, sum) in spread.iter_mut().enumerate() {
            *sum += covariance[from[at / SIZE] * SIZE + from[at % SIZE]];
        }
    }
    let mean: f64 = (0..SIZE).map(|i| spread[i * SIZE + i]).sum::<f64>() / SIZE as f64;
    spread.iter_mut().for_each(|value| *value *= 1.0 - RIDGE);
    (0..SIZE).for_each(|i| spread[i * SIZE + i] += RIDGE * mean);
    let stands = upright.mean();
    let judge = |turn: usize| {
        let turned = turned(&stands, turn);
        solve(spread.clone(), stands.iter().zip(turned).map(|(own, other)| own - other).collect())
    };
    Some([judge(1)?, judge(2)?, judge(3)?])
}

/// The mean of the same pictures, turned by so many quarters.
fn turned(mean: &[f64], quarters: usize) -> Vec<f64> {
    (0..SIZE).map(|at| mean[before(at, quarters)]).collect()
}

/// Solves three equations by Cramer's rule; None where they don't say enough.
fn solve_three(system: [[f64; 3]; 3], right: [f64; 3]) -> Option<[f64; 3]> {
    let determinant = |m: [[f64; 3]; 3]| {
        let minor = |a: usize, b: usize| m[1][a] * m[2][b] - m[1][b] * m[2][a];
        m[0][0] * minor(1, 2) - m[0][1] * minor(0, 2) + m[0][2] * minor(0, 1)
    };
    let whole = determinant(system);
    let solved = [0, 1, 2].map(|column| {
        let mut replaced = system;
        replaced.iter_mut().zip(right).for_each(|(row, right)| row[column] = right);
        determinant(replaced) / whole
    });
    solved.iter().all(|value| value.is_finite()).then_some(solved)
}

/// Quarters of a turn.
const TURNS: [usize; 3] = [1, 2, 3];

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

#[cfg(test)]
mod tests;
