//! Owns comparing two images that may be one: parts, shifts and turns of the one with the other. Must
//! not know: how they were found, from which similarity they count as one.

use super::frequencies::{
    Frequencies, LEN, Turn, Window, frequencies, frequencies_of_lines, lines,
};
use super::signature::unit;
use super::threshold::COUNTED;
use super::thumbnail::Thumbnail;

/// How large the parts of an image are that may be all of the other.
const PARTS: [f32; 3] = [0.94, 0.875, 0.81];
/// How many places a part may have a side.
const PLACES: usize = 5;
/// How much of each side isn't its middle.
const MARGIN: f32 = 0.125;
/// How much more a part must be like the other image than all of it, to be told as a part.
const NO_MORE: f32 = 0.02;
/// How far an image may be shifted at an edge, as a share of its side.
const SHIFT: f32 = 1.0 / 16.0;

/// What is compared: each view's windows across and down are among these.
#[derive(Debug)]
pub(super) struct Aligner {
    windows: Vec<Window>,
    /// The middle of each window.
    middles: Vec<Window>,
    views: Vec<View>,
}

#[derive(Debug)]
struct View {
    across: usize,
    down: usize,
    what: What,
}

/// What part of an image is like another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    All,
    Part,
    Shifted,
}

/// How alike two images are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Likeness {
    pub score: f32,
    pub what: What,
}

impl Aligner {
    pub(super) fn new() -> Aligner {
        let mut aligner = Aligner { windows: Vec::new(), middles: Vec::new(), views: Vec::new() };
        aligner.add(&[(0.0, 1.0)], What::All);
        for part in PARTS {
            let place = |place: usize| (1.0 - part) * place as f32 / (PLACES - 1) as f32;
            let windows: Vec<(f32, f32)> =
                (0..PLACES).map(place).map(|from| (from, from + part)).collect();
            aligner.add(&windows, What::Part);
        }
        aligner.add(&[(0.0, 1.0), (-SHIFT, 1.0 - SHIFT), (SHIFT, 1.0 + SHIFT)], What::Shifted);
        aligner
    }

    /// Views through every two of some windows.
    fn add(&mut self, windows: &[(f32, f32)], what: What) {
        let first = self.windows.len();
        self.windows.extend(windows.iter().map(|&(from, to)| Window::new(from, to)));
        let middle = |&(from, to): &(f32, f32)| {
            let margin = MARGIN * (to - from);
            Window::new(from + margin, to - margin)
        };
        self.middles.extend(windows.iter().map(middle));
        let all = first..self.windows.len();
        for down in all.clone() {
            self.views.extend(all.clone().map(|across| View { across, down, what }));
        }
    }

    /// An image as all its views show it.
    pub(super) fn views<'a>(
        &'a self,
        thumbnail: &'a Thumbnail,
        weights: &'a Frequencies,
    ) -> Views<'a> {
        let lines: Vec<_> = self.windows.iter().map(|down| lines(thumbnail, down)).collect();
        let seen = |view: &View| {
            let seen = frequencies_of_lines(&lines[view.down], &self.windows[view.across]);
            unit(&seen, weights)
        };
        let seen = self.views.iter().map(seen).collect();
        Views { aligner: self, thumbnail, weights, seen }
    }
}

/// An image, as all views show it.
pub(super) struct Views<'a> {
    aligner: &'a Aligner,
    thumbnail: &'a Thumbnail,
    weights: &'a Frequencies,
    seen: Vec<Frequencies>,
}

impl Views<'_> {
    /// How much this image, turned, is like another: all of it, and its middle, lest a frame or an
    /// empty page around a small picture make two images one.
    pub(super) fn like(&self, other: &Thumbnail, turn: Turn) -> Likeness {
        let back = turn.back();
        let [whole, middle] = [&self.aligner.windows[0], &self.aligner.middles[0]];
        let all = back.of(&unit(&frequencies(other, whole, whole), self.weights));
        let scores = self.seen.iter().map(|seen| product(seen, &all));
        let best = |a: &(usize, f32), b: &(usize, f32)| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0));
        let (at, score) = scores.enumerate().max_by(best).unwrap_or_default();
        let view = &self.aligner.views[at];
        // A part that is hardly more like the other says nothing.
        let whole_too = product(&self.seen[0], &all) >= score - NO_MORE;
        let what = if whole_too { What::All } else { view.what };
        if score < COUNTED {
            return Likeness { score, what };
        }
        let [across, down] = [view.across, view.down].map(|at| &self.aligner.middles[at]);
        let ours = unit(&frequencies(self.thumbnail, across, down), self.weights);
        let theirs = back.of(&unit(&frequencies(other, middle, middle), self.weights));
        let within = product(&ours, &theirs);
        Likeness { score: score.min((score + within) / 2.0), what }
    }
}

/// The sum in an order that the processor's width doesn't change.
fn product(a: &Frequencies, b: &Frequencies) -> f32 {
    const LANES: usize = 16;
    const { assert!(LEN.is_multiple_of(LANES)) };
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
