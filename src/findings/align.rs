//! Owns comparing two images that may be one: parts, shifts and turns of the one with the other. Must
//! not know: how they were found, from which similarity they count as one.

use super::frequencies::{Frequencies, LEN, Turn, Window, frequencies_of_lines, lines};
use super::signature::unit;
use super::thumbnail::Thumbnail;

/// How large the parts of an image are that may be all of the other.
const PARTS: [f32; 3] = [0.94, 0.875, 0.81];
/// How many places a part may have a side.
const PLACES: usize = 5;
/// How far an image may be shifted at an edge, as a share of its side.
const SHIFT: f32 = 1.0 / 16.0;

/// What is compared: each view's windows across and down are among these.
#[derive(Debug)]
pub(super) struct Aligner {
    windows: Vec<Window>,
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
        let mut aligner = Aligner { windows: Vec::new(), views: Vec::new() };
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
        let all = first..self.windows.len();
        for down in all.clone() {
            self.views.extend(all.clone().map(|across| View { across, down, what }));
        }
    }

    /// An image as all its views show it.
    pub(super) fn views(&self, thumbnail: &Thumbnail, weights: &Frequencies) -> Views<'_> {
        let lines: Vec<_> = self.windows.iter().map(|down| lines(thumbnail, down)).collect();
        let seen = |view: &View| {
            let seen = frequencies_of_lines(&lines[view.down], &self.windows[view.across]);
            unit(&seen, weights)
        };
        Views { aligner: self, seen: self.views.iter().map(seen).collect() }
    }
}

/// An image, as all views show it.
pub(super) struct Views<'a> {
    aligner: &'a Aligner,
    seen: Vec<Frequencies>,
}

impl Views<'_> {
    /// How much this image, turned, is like `other`, which are the frequencies of all of it.
    pub(super) fn like(&self, other: &Frequencies, turn: Turn) -> Likeness {
        let other = turn.back().of(other);
        let mut best = Likeness { score: -1.0, what: What::All };
        for (seen, view) in self.seen.iter().zip(&self.aligner.views) {
            let score = product(seen, &other);
            if score > best.score {
                best = Likeness { score, what: view.what };
            }
        }
        best
    }
}

/// The sum in an order that the processor's width doesn't change.
fn product(a: &Frequencies, b: &Frequencies) -> f32 {
    const LANES: usize = 16;
    const { assert!(LEN % LANES == 0) };
    let mut sums = [0.0f32; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum()
}
