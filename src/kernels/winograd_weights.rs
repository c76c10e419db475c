//! Owns which products Winograd's convolutions add up, the products, and their weights, transformed and
//! packed.

use std::ops::{Deref, DerefMut};

use super::buffer::Buffer;
use super::direct::Window;
use super::isa::{CHANNEL_BLOCK, Isa, channel_stride};
use super::micro::{Left, Right, Scale, Store, product};
use super::pool::Pooled;
use super::simd::{Kernel, Simd};

/// G of F(4, 3), points 0, 1, -1, 2, -2.
const G3: [[f64; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// G of F(2, 3), points 0, 1, -1.
const G3_SMALL: [[f64; 3]; 4] =
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]];

/// G of F(4, 2), points 0, 1, -1, 2.
const G2: [[f64; 3]; 5] = [
    [1.0 / 2.0, 0.0, 0.0],
    [-1.0 / 2.0, -1.0 / 2.0, 0.0],
    [-1.0 / 6.0, 1.0 / 6.0, 0.0],
    [1.0 / 6.0, 1.0 / 3.0, 0.0],
    [0.0, 1.0, 0.0],
];

/// Which products there are: the tile's side and, for each position, the phases that take part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    pub window: Window,
    /// Side of a tile's output: 4, or 2 for windows of stride 1.
    pub side: usize,
}

impl Scheme {
    /// Side of a tile in the transformed domain, and of a phase's input tile.
    pub(crate) fn wide(self) -> usize {
        self.side + if self.window.stride == 1 { 2 } else { 1 }
    }

    pub(super) fn points(self, i: usize) -> [f64; 3] {
        match (self.window.stride, self.side) {
            (1, 2) => G3_SMALL[i],
            (1, _) => G3[i],
            _ => G2[i],
        }
    }

    /// Phases, row by row, that a position adds up.
    pub(crate) fn phases(self, position: usize) -> impl Iterator<Item = usize> {
        let last = self.wide() - 1;
        let (i, j) = (position / self.wide(), position % self.wide());
        let stride = self.window.stride;
        let single = move |phase: usize, size: usize| phase + stride >= size && stride > 1;
        (0..stride * stride).filter(move |phase| {
            let (a, b) = (phase / stride, phase % stride);
            !(i == last && single(a, self.window.height)
                || j == last && single(b, self.window.width))
        })
    }

    /// Products of one tile.
    fn products(self) -> usize {
        (0..self.wide() * self.wide()).map(|position| self.phases(position).count()).sum()
    }
}

/// Multiplications a tile of `side` x `side` outputs costs for each pair of channels; None where
/// the window has no fast form with such tiles.
pub(crate) fn winograd_cost(window: Window, side: usize) -> Option<usize> {
    let fast = match (window.height, window.width, window.stride) {
        (3, 3, 1) => window.padding == 1 && (side == 4 || side == 2),
        (3, 3, 2) | (4, 4, 2) => side == 4,
        _ => false,
    };
    fast.then(|| Scheme { window, side }.products())
}

/// Below this many input channels the tiles' transforms cost more than they save; and only maps of
/// at least one vector a pixel are sure to have whole vectors, which the transforms take.
const INPUTS_MIN: usize = CHANNEL_BLOCK;

/// For fewer tiles of 4x4 than this their weights, four times the window's, are too large.
const TILES_MIN: usize = 32;

/// The tiles' side for an output of `height` x `width`, where they save a third of the multiplications
/// or more, since their transforms cost time too; None where the definition is faster. Small tiles on
/// small maps: a layer there takes a sixth longer, 1 % of an image, but its weights less than half the
/// memory and packing (`benches/results/2026-11-encode.md`).
pub(crate) fn winograd_side(
    window: Window,
    inputs: usize,
    (height, width): (usize, usize),
) -> Option<usize> {
    let definition = window.height * window.width * height * width;
    let tiles = |side| height.div_ceil(side) * width.div_ceil(side);
    let saves =
        |side| winograd_cost(window, side).is_some_and(|c| 3 * c * tiles(side) <= 2 * definition);
    match inputs < INPUTS_MIN {
        true => None,
        false if tiles(4) < TILES_MIN && saves(2) => Some(2),
        false => saves(4).then_some(4),
    }
}

/// Transformed and packed weights of a convolution.
pub(crate) struct WinogradWeights {
    pub(crate) isa: Isa,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) scheme: Scheme,
    /// For each position `[panels][phases][inputs][panel width]`.
    pub(crate) packed: Panels,
    /// Where each position's panels start.
    pub(crate) starts: Vec<usize>,
}

/// Memory of packed weights.
pub(crate) enum Panels {
    /// Of a model that is loaded.
    Own(Buffer),
    /// Of a step of training, which the next step uses again.
    Pooled(Pooled),
}

impl Deref for Panels {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Panels::Own(buffer) => buffer,
            Panels::Pooled(buffer) => buffer,
        }
    }
}

impl DerefMut for Panels {
    fn deref_mut(&mut self) -> &mut [f32] {
        match self {
            Panels::Own(buffer) => buffer,
            Panels::Pooled(buffer) => buffer,
        }
    }
}

impl WinogradWeights {
    /// The same in memory of its own.
    pub(crate) fn new(
        isa: Isa,
        weight: &[f32],
        outputs: usize,
        inputs: usize,
        window: Window,
        side: usize,
    ) -> WinogradWeights {
        let own = |len| Panels::Own(Buffer::zeroed(len));
        WinogradWeights::within(own, isa, weight, (outputs, inputs), Scheme { window, side })
    }

    /// The same in memory that is used again when they are dropped.
    pub(crate) fn for_a_step(
        isa: Isa,
        weight: &[f32],
        channels: (usize, usize),
        scheme: Scheme,
    ) -> WinogradWeights {
        let pooled = |len| Panels::Pooled(Pooled::take(len));
        WinogradWeights::within(pooled, isa, weight, channels, scheme)
    }

    /// From `[outputs, inputs, height, width]`, PyTorch's order, for a window that has a
    /// [`winograd_cost`] with tiles of the scheme's side. Transformed in float64, rounded once.
    fn within(
        memory: impl FnOnce(usize) -> Panels,
        isa: Isa,
        weight: &[f32],
        (outputs, inputs): (usize, usize),
        scheme: Scheme,
    ) -> WinogradWeights {
        let window = scheme.window;
        assert!(winograd_cost(window, scheme.side).is_some(), "window without a fast form");
        let taps = window.height * window.width;
        assert_eq!(weight.len(), outputs * inputs * taps, "weights of another shape");
        let (positions, phases) = (scheme.wide() * scheme.wide(), window.stride * window.stride);
        let (width, panels) = (isa.panel(), outputs.div_ceil(isa.panel()));
        // Every float of it is written below.
        let mut packed = memory(scheme.products() * panels * inputs * width);
        let (mut starts, mut start) = (Vec::with_capacity(positions), 0);
        // Of each position: its phases' places in a panel, and how many there are.
        let mut places = vec![(None, 0); positions * phases];
        for position in 0..positions {
            starts.push(start);
            let count = scheme.phases(position).count();
            for (place, phase) in scheme.phases(position).enumerate() {
                places[phase * positions + position] = (Some(place), count);
            }
            start += panels * count * inputs * width;
        }
        isa.run(Packing {
            scheme,
            weight,
            inputs,
            outputs,
            width,
            starts: &starts,
            places,
            packed: &mut packed,
        });
        WinogradWeights { isa, inputs, outputs, scheme, packed, starts }
    }
}

/// Phases of the largest stride, 2.
const PHASES_MAX: usize = 4;

/// The matrix products over channels and phases, one for each position, of `count` tiles: `from` is
/// `[phases][positions][count][stride]`, the floats from a matrix to the next, and the stride; `to` is
/// `[positions][count][outputs' stride]`, and the floats from a matrix to the next.
///
/// # Safety
/// Both are valid for that.
#[inline(always)]
pub(super) unsafe fn multiply<S: Simd>(
    s: S,
    weights: &WinogradWeights,
    (from, wide_in, row_stride): (*const f32, usize, usize),
    (to, wide_out): (*mut f32, usize),
    count: usize,
) {
    let panels = weights.outputs.div_ceil(weights.isa.panel());
    let positions = weights.scheme.wide() * weights.scheme.wide();
    let stride = channel_stride(weights.outputs);
    for position in 0..positions {
        // SAFETY: the caller's promise: matrices on each side, weights of this shape.
        unsafe {
            let mut taps = [from; PHASES_MAX];
            let mut active = 0;
            for phase in weights.scheme.phases(position) {
                taps[active] = from.add((phase * positions + position) * wide_in);
                active += 1;
            }
            let left =
                Left { taps: &taps[..active], row_stride, rows: count, depth: weights.inputs };
            let start = weights.packed.as_ptr().add(weights.starts[position]);
            let start_to = to.add(position * wide_out);
            let mut sink =
                Store { start: start_to, stride, columns: stride, scale: Scale::All(1.0) };
            product(s, left, Right { start, panels }, &mut sink);
        }
    }
}

/// Columns of a panel that are transformed at a time.
const LANES: usize = 8;

/// The transform and packing of all weights.
struct Packing<'a> {
    scheme: Scheme,
    weight: &'a [f32],
    inputs: usize,
    outputs: usize,
    /// Columns of a panel.
    width: usize,
    starts: &'a [usize],
    /// Of each phase and position: its phase's place in a panel, and how many there are.
    places: Vec<(Option<usize>, usize)>,
    packed: &'a mut [f32],
}

impl Kernel for Packing<'_> {
    type Out = ();
    /// In the order of the packed panels: each position's part is written from its start to its
    /// end, so that loading a large layer isn't one long series of cache misses.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Packing { scheme, inputs, width, .. } = self;
        let positions = self.starts.len();
        for panel in 0..self.outputs.div_ceil(width) {
            for phase in 0..self.places.len() / positions {
                for i in 0..inputs {
                    for lane in (0..width).step_by(LANES) {
                        let values = scheme.transform(&self.taps(panel * width + lane, i, phase));
                        for (position, start) in self.starts.iter().enumerate() {
                            let (place, count) = self.places[phase * positions + position];
                            let Some(place) = place else { continue };
                            let step = (panel * count + place) * inputs + i;
                            let to = start + step * width + lane;
                            self.packed[to..to + LANES].copy_from_slice(&values[position]);
                        }
                    }
                }
            }
        }
    }
}

type Lanes = [f64; LANES];

impl Packing<'_> {
    /// The taps, row by row, of one phase's window for outputs `first..` and input `i`; zero
    /// outside the window and after the last output.
    #[inline(always)]
    fn taps(&self, first: usize, i: usize, phase: usize) -> [[Lanes; 3]; 3] {
        let Window { height, width, stride, .. } = self.scheme.window;
        let (a, b) = (phase / stride, phase % stride);
        let mut taps = [[[0.0; LANES]; 3]; 3];
        for lane in 0..LANES.min(self.outputs.saturating_sub(first)) {
            let area = height * width;
            let g = &self.weight[((first + lane) * self.inputs + i) * area..][..area];
            for (y, row) in (a..height).step_by(stride).enumerate() {
                for (x, column) in (b..width).step_by(stride).enumerate() {
                    taps[y][x][lane] = f64::from(g[row * width + column]);
                }
            }
        }
        taps
    }
}

impl Scheme {
    /// G g G^T of as many windows as there are lanes, row by row.
    #[inline(always)]
    fn transform(self, g: &[[Lanes; 3]; 3]) -> [[f32; LANES]; 36] {
        // Of known sizes, so that the loops below are unrolled and zeros of G fall out.
        match self.wide() {
            4 => transform(&G3_SMALL, g),
            6 => transform(&G3, g),
            _ => transform(&G2, g),
        }
    }
}

#[inline(always)]
fn transform<const WIDE: usize>(
    points: &[[f64; 3]; WIDE],
    g: &[[Lanes; 3]; 3],
) -> [[f32; LANES]; 36] {
    let mut out = [[0f32; LANES]; 36];
    for (i, p) in points.iter().enumerate() {
        let mut half = [[0.0; LANES]; 3];
        for (x, half) in half.iter_mut().enumerate() {
            for lane in 0..LANES {
                half[lane] = p[0] * g[0][x][lane] + p[1] * g[1][x][lane] + p[2] * g[2][x][lane];
            }
        }
        for (j, p) in points.iter().enumerate() {
            for lane in 0..LANES {
                let sum = half[0][lane] * p[0] + half[1][lane] * p[1] + half[2][lane] * p[2];
                out[i * WIDE + j][lane] = sum as f32;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_forms_save_what_they_promise() {
        let cost = |window, stride, padding, side| {
            winograd_cost(Window { height: window, width: window, stride, padding }, side)
        };
        assert_eq!([cost(3, 1, 1, 4), cost(3, 1, 1, 2)], [Some(36), Some(16)]);
        assert_eq!([cost(3, 2, 0, 4), cost(4, 2, 1, 4)], [Some(81), Some(100)]);
        assert_eq!([cost(5, 1, 2, 4), cost(3, 1, 0, 4), cost(4, 1, 1, 4)], [None; 3]);
        assert_eq!([cost(3, 2, 0, 2), cost(3, 1, 1, 3), cost(4, 2, 1, 2)], [None; 3]);
    }
}
