//! Owns the gradient of weights by Winograd's tiles: the adjoint of `winograd_maps`, with as few
//! multiplications. Must not know: threads, who sums over batches.
//!
//! Where outputs are A^T [(G g G^T) * (B^T d B)] A, the gradient of g is G^T [(A e A^T) * (B^T d B)] G for
//! gradients e of the outputs, summed over tiles: a sum of outer products for each position of a tile.

use std::ops::Range;

use super::isa::{CHANNEL_BLOCK, Isa, channel_stride};
use super::outer::{Segment, outer};
use super::planes::Frame;
use super::pool::Pooled;
use super::simd::{Kernel, Simd};
use super::winograd_maps::Tiling;
use super::winograd_transforms::{tile_gradient, tile_in};
use super::winograd_weights::Scheme;

/// Tiles that are transformed into one pair of matrices for each position.
pub(crate) const GRADIENT_TILES: usize = 32;

/// Floats between the rows: those of one column, which a product reads one after another, would lie on few
/// lines of the first-level cache where channels are a power of two.
const APART: usize = CHANNEL_BLOCK;

/// Floats between the matrices: keeps their rows out of each other's cache sets.
const SKEW: usize = 3 * CHANNEL_BLOCK;

/// Transformed tiles of inputs and of gradients.
pub(crate) struct TilePairs {
    /// `[phases][positions][tiles][inputs' stride]`
    left: Pooled,
    /// `[positions][tiles][outputs' stride]`
    right: Pooled,
    count: usize,
}

/// What the gradients of the tiles of a tiling are computed from.
#[derive(Clone, Copy)]
pub(crate) struct GradientShape {
    pub tiling: Tiling,
    pub inputs: usize,
    pub outputs: usize,
}

impl GradientShape {
    /// Where an image of gradients lies in its map.
    pub(crate) fn frame(&self) -> Frame {
        let Tiling { scheme, down, across, .. } = self.tiling;
        Frame {
            height: scheme.side * down,
            width: scheme.side * across,
            stride: channel_stride(self.outputs),
            top: 0,
            left: 0,
        }
    }

    fn positions(&self) -> usize {
        self.tiling.scheme.wide() * self.tiling.scheme.wide()
    }

    fn phases(&self) -> usize {
        self.tiling.scheme.window.stride * self.tiling.scheme.window.stride
    }

    /// Floats from a tile to the next on the input side.
    fn left_step(&self) -> usize {
        self.tiling.frame.stride + APART
    }

    /// The same on the output side.
    fn right_step(&self) -> usize {
        channel_stride(self.outputs) + APART
    }

    fn wide_in(&self) -> usize {
        GRADIENT_TILES * self.left_step() + SKEW
    }

    fn wide_out(&self) -> usize {
        GRADIENT_TILES * self.right_step() + SKEW
    }

    /// Every position with each phase that it adds up, in the order of the sums.
    pub(crate) fn products(&self) -> Vec<(usize, usize)> {
        let scheme = self.tiling.scheme;
        let of = |position| scheme.phases(position).map(move |phase| (position, phase));
        (0..self.positions()).flat_map(of).collect()
    }

    /// Room for the matrices of [`GRADIENT_TILES`] tiles.
    pub(crate) fn pairs(&self) -> TilePairs {
        let left = Pooled::take(self.phases() * self.positions() * self.wide_in());
        TilePairs { left, right: Pooled::take(self.positions() * self.wide_out()), count: 0 }
    }

    /// Floats of one product's sums: `[inputs][outputs' stride]`.
    pub(crate) fn product_len(&self) -> usize {
        self.inputs * channel_stride(self.outputs)
    }
}

/// Transforms at most [`GRADIENT_TILES`] tiles, counted over all images of the maps.
///
/// # Panics
/// Where maps are too short: a bug of the caller.
pub(crate) fn gradient_tiles(
    isa: Isa,
    shape: &GradientShape,
    (inputs, gradients): (&[f32], &[f32]),
    tiles: Range<usize>,
    to: &mut TilePairs,
) {
    let images = tiles.end.div_ceil(shape.tiling.tiles().max(1));
    assert!(tiles.len() <= GRADIENT_TILES);
    assert!(inputs.len() >= images * shape.tiling.frame.len(), "too few inputs");
    assert!(gradients.len() >= images * shape.frame().len(), "too few gradients");
    assert_eq!(to.left.len(), shape.phases() * shape.positions() * shape.wide_in());
    assert_eq!(to.right.len(), shape.positions() * shape.wide_out());
    to.count = tiles.len();
    let (left, right) = (to.left.as_mut_ptr(), to.right.as_mut_ptr());
    let (inputs, gradients) = (inputs.as_ptr(), gradients.as_ptr());
    let work = Work { shape, inputs, gradients, tiles, left, right };
    match (shape.tiling.scheme.window.stride, shape.tiling.scheme.side) {
        (1, 2) => isa.run(Tiles::<4, 2, 1>(work)),
        (1, _) => isa.run(Tiles::<6, 4, 1>(work)),
        _ => isa.run(Tiles::<5, 4, 2>(work)),
    }
}

struct Work<'a> {
    shape: &'a GradientShape,
    inputs: *const f32,
    gradients: *const f32,
    tiles: Range<usize>,
    left: *mut f32,
    right: *mut f32,
}

struct Tiles<'a, const WIDE: usize, const SIDE: usize, const STEP: usize>(Work<'a>);

impl<const WIDE: usize, const SIDE: usize, const STEP: usize> Kernel
    for Tiles<'_, WIDE, SIDE, STEP>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Work { shape, inputs, gradients, tiles, left, right } = self.0;
        let tiling = &shape.tiling;
        let stride = tiling.frame.stride;
        let frame = shape.frame();
        for (tile, at) in tiles.enumerate() {
            let place = tiling.place(at);
            let (image, top, first) = place;
            // SAFETY: `gradient_tiles` checked the maps for these tiles and made the matrices as long.
            unsafe {
                for phase in 0..STEP * STEP {
                    let rows = tiling.tile_rows::<WIDE, STEP>(inputs, place, phase);
                    let matrix = phase * WIDE * WIDE * shape.wide_in();
                    let to = left.add(matrix + tile * shape.left_step());
                    tile_in(s, rows, (STEP, stride), to, shape.wide_in());
                }
                let mut rows = [gradients; SIDE];
                for (i, row) in rows.iter_mut().enumerate() {
                    let y = image * frame.height + top + i;
                    *row = gradients.add((y * frame.width + first) * frame.stride);
                }
                let to = right.add(tile * shape.right_step());
                tile_gradient::<S, WIDE, SIDE>(s, rows, frame.stride, to, shape.wide_out());
            }
        }
    }
}

/// Adds what the tiles give for one of [`GradientShape::products`] to its sums.
pub(crate) fn gradient_product(
    isa: Isa,
    shape: &GradientShape,
    (position, phase): (usize, usize),
    tiles: &[TilePairs],
    sums: &mut [f32],
) {
    let (left_step, right_step) = (shape.left_step(), shape.right_step());
    let segments = tiles.iter().map(|pairs| Segment {
        left: &pairs.left[(phase * shape.positions() + position) * shape.wide_in()..],
        left_step,
        right: &pairs.right[position * shape.wide_out()..],
        right_step,
        depth: pairs.count,
    });
    let segments: Vec<Segment<'_>> = segments.collect();
    assert_eq!(sums.len(), shape.product_len());
    outer(isa, &segments, 0, channel_stride(shape.outputs), sums);
}

/// Columns that are transformed at a time.
const LANES: usize = 8;

/// The gradient of some outputs' weights, from `first` on, `[outputs, inputs, height, width]`, of the sums
/// of all products, one after another.
pub(crate) fn gradient_weights(
    isa: Isa,
    shape: &GradientShape,
    sums: &[f32],
    first: usize,
    to: &mut [f32],
) {
    assert_eq!(sums.len(), shape.products().len() * shape.product_len());
    let Scheme { window, .. } = shape.tiling.scheme;
    let each = shape.inputs * window.height * window.width;
    assert!(each > 0 && to.len().is_multiple_of(each));
    assert!(first + to.len() / each <= shape.outputs);
    let mut places = vec![None; shape.positions() * shape.phases()];
    for (place, (position, phase)) in shape.products().into_iter().enumerate() {
        places[phase * shape.positions() + position] = Some(place);
    }
    isa.run(Weights { shape, sums, places, first, to });
}

struct Weights<'a> {
    shape: &'a GradientShape,
    sums: &'a [f32],
    /// Of each phase and position: its product.
    places: Vec<Option<usize>>,
    first: usize,
    to: &'a mut [f32],
}

impl Kernel for Weights<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Weights { shape, sums, places, first, to } = self;
        let scheme = shape.tiling.scheme;
        let (height, width, step) =
            (scheme.window.height, scheme.window.width, scheme.window.stride);
        let (stride, area) = (channel_stride(shape.outputs), height * width);
        let outputs = to.len() / (shape.inputs * area);
        for i in 0..shape.inputs {
            for phase in 0..shape.phases() {
                let places = &places[phase * shape.positions()..][..shape.positions()];
                for lane in (0..outputs).step_by(LANES) {
                    let count = LANES.min(outputs - lane);
                    let mut tile = [[0f64; LANES]; 36];
                    for (tile, place) in tile.iter_mut().zip(places) {
                        let Some(place) = place else { continue };
                        let at = place * shape.product_len() + i * stride + first + lane;
                        for (tile, sum) in tile.iter_mut().zip(&sums[at..][..count]) {
                            *tile = f64::from(*sum);
                        }
                    }
                    let taps = scheme.adjoint(&tile);
                    let (a, b) = (phase / step, phase % step);
                    for (y, row) in (a..height).step_by(step).enumerate() {
                        for (x, column) in (b..width).step_by(step).enumerate() {
                            for (l, value) in taps[y][x].iter().enumerate().take(count) {
                                let at = ((lane + l) * shape.inputs + i) * area;
                                to[at + row * width + column] = *value as f32;
                            }
                        }
                    }
                }
            }
        }
    }
}

impl Scheme {
    /// G^T m G of as many tiles as there are lanes.
    #[inline(always)]
    fn adjoint(self, m: &[[f64; LANES]; 36]) -> [[[f64; LANES]; 3]; 3] {
        let wide = self.wide();
        let mut half = [[[0.0; LANES]; 6]; 3];
        for i in 0..wide {
            let p = self.points(i);
            for (y, half) in half.iter_mut().enumerate() {
                for j in 0..wide {
                    for lane in 0..LANES {
                        half[j][lane] += p[y] * m[i * wide + j][lane];
                    }
                }
            }
        }
        let mut out = [[[0.0; LANES]; 3]; 3];
        for (out, half) in out.iter_mut().zip(&half) {
            for (j, half) in half.iter().enumerate().take(wide) {
                let p = self.points(j);
                for (x, out) in out.iter_mut().enumerate() {
                    for lane in 0..LANES {
                        out[lane] += p[x] * half[lane];
                    }
                }
            }
        }
        out
    }
}
