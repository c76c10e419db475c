//! Owns pairs of images that are nearly one: those that an index found, compared closely. Must not
//! know: what is made of pairs.

use rayon::prelude::*;

use super::align::{Aligner, Likeness, What};
use super::columns::{Column, Growing};
use super::frequencies::Turn;
use super::index::{self, Lists, Set};
use super::signature::Weights;
use super::threshold::COUNTED;
use super::thumbnail::Thumbnail;
use crate::error::Result;

/// Images that are compared together with those they may be like.
const BLOCK: usize = 1 << 13;

/// Two images that are alike.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Pair {
    /// The one with the lower row, where both are of one set.
    pub first: u32,
    pub second: u32,
    pub score: f32,
    /// Which [`What`] and which [`Turn`] it was.
    what: u16,
    turn: u16,
}

impl Pair {
    #[cfg(test)]
    pub(super) fn of(first: u32, second: u32, score: f32) -> Pair {
        Pair { first, second, score, what: What::All as u16, turn: Turn::None as u16 }
    }

    /// What the one is of the other.
    pub(super) fn relation(&self) -> &'static str {
        let part = self.what == What::Part as u16;
        let shifted = self.what == What::Shifted as u16;
        match Turn::ALL[usize::from(self.turn)] {
            Turn::None if part => "cropped",
            Turn::None if shifted => "shifted",
            Turn::None => "same",
            Turn::Mirrored if part => "mirrored and cropped",
            Turn::Mirrored => "mirrored",
            _ if part => "turned and cropped",
            _ => "turned",
        }
    }
}

/// The pairs within a set: in order, each once.
///
/// # Errors
/// A file system that is full; those of `interrupted`.
pub(super) fn within(
    set: &Set<'_>,
    weights: &Weights,
    interrupted: &mut dyn FnMut() -> Result<()>,
) -> Result<Column<Pair>> {
    let lists = index::find(set, set, weights, interrupted)?;
    let mut pairs = Growing::new();
    compare(set, set, &lists, weights, interrupted, &mut |pair: Pair| {
        let (first, second) = (pair.first.min(pair.second), pair.first.max(pair.second));
        pairs.push(Pair { first, second, ..pair })
    })?;
    once(pairs)
}

/// The pairs of one image of `ours` and one of `others`: in order, each once.
///
/// # Errors
/// As for [`within`].
pub(super) fn across(
    ours: &Set<'_>,
    others: &Set<'_>,
    weights: &Weights,
    interrupted: &mut dyn FnMut() -> Result<()>,
) -> Result<Column<Pair>> {
    let mut pairs = Growing::new();
    let lists = index::find(ours, others, weights, interrupted)?;
    compare(ours, others, &lists, weights, interrupted, &mut |pair| pairs.push(pair))?;
    let lists = index::find(others, ours, weights, interrupted)?;
    compare(others, ours, &lists, weights, interrupted, &mut |pair: Pair| {
        pairs.push(Pair { first: pair.second, second: pair.first, ..pair })
    })?;
    once(pairs)
}

/// Compares each image with those that were found for it.
fn compare(
    queries: &Set<'_>,
    targets: &Set<'_>,
    lists: &Lists,
    weights: &Weights,
    interrupted: &mut dyn FnMut() -> Result<()>,
    each: &mut dyn FnMut(Pair) -> Result<()>,
) -> Result<()> {
    let aligner = Aligner::new();
    for (block, lists) in lists.chunks(BLOCK).enumerate() {
        interrupted()?;
        let compared = |(at, list): (usize, &[index::Found; index::KEEP])| {
            let row = block * BLOCK + at;
            list[0].get()?;
            let views = aligner.views(&queries.thumbnails[row], &weights.comparing);
            let pair = |(other, turn): (usize, Turn)| {
                let like = views.like(&targets.thumbnails[other], turn);
                let (what, turn) = (like.what as u16, turn as u16);
                let (first, second) = (row as u32, other as u32);
                Pair { first, second, score: like.score.min(1.0), what, turn }
            };
            let pairs = list.iter().filter_map(|found| found.get()).map(pair);
            Some(pairs.filter(|pair| pair.score >= COUNTED).collect::<Vec<_>>())
        };
        let found: Vec<Vec<Pair>> = lists.par_iter().enumerate().filter_map(compared).collect();
        found.into_iter().flatten().try_for_each(&mut *each)?;
    }
    Ok(())
}

/// Each pair once, by its best comparison.
fn once(pairs: Growing<Pair>) -> Result<Column<Pair>> {
    let order = |pair: &Pair| {
        // Scores are from 0 to 1, whose bits are in their order.
        let score = std::cmp::Reverse(pair.score.to_bits());
        (pair.first, pair.second, score, pair.what, pair.turn)
    };
    let all = pairs.finish()?.sorted(order)?;
    let mut pairs = Growing::new();
    for same in all.chunk_by(|a, b| (a.first, a.second) == (b.first, b.second)) {
        pairs.push(same[0])?;
    }
    pairs.finish()
}

/// Compares two images of a set that no index found for each other.
pub(super) struct Comparer<'a> {
    set: &'a Set<'a>,
    weights: &'a Weights,
    aligner: Aligner,
}

impl<'a> Comparer<'a> {
    pub(super) fn new(set: &'a Set<'a>, weights: &'a Weights) -> Comparer<'a> {
        Comparer { set, weights, aligner: Aligner::new() }
    }

    /// How alike they are, by whichever turn and way round they are alike most.
    pub(super) fn pair(&self, first: u32, second: u32) -> Pair {
        let weights = &self.weights.comparing;
        let [a, b] = [first, second].map(|at| &self.set.thumbnails[at as usize]);
        let one_way = |a: &Thumbnail, b: &Thumbnail| {
            let views = self.aligner.views(a, weights);
            let like = |turn| (views.like(b, turn), turn);
            Turn::ALL.map(like).into_iter().max_by(|a, b| a.0.score.total_cmp(&b.0.score))
        };
        let likest = [one_way(a, b), one_way(b, a)].into_iter().flatten();
        let likest = likest.max_by(|a, b| a.0.score.total_cmp(&b.0.score));
        let (like, turn) = likest.unwrap_or((Likeness { score: 0.0, what: What::All }, Turn::None));
        let (what, turn) = (like.what as u16, turn as u16);
        Pair { first, second, score: like.score.clamp(0.0, 1.0), what, turn }
    }

    /// How many times as bright the second is as the first.
    pub(super) fn brightness(&self, first: u32, second: u32) -> f32 {
        let mean = |at: u32| {
            let points = &self.set.thumbnails[at as usize].luma;
            points.iter().map(|&point| f32::from(point)).sum::<f32>() + 1.0
        };
        mean(second) / mean(first)
    }
}

#[cfg(test)]
mod tests;
