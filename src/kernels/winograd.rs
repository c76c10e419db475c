//! Owns Winograd's fast convolutions: F(4x4, 3x3) for 3x3 windows of stride 1, with a quarter of
//! the multiplications, F(2x2, 3x3) with not quite a half, and F(4x4, 2x2) on the four phases of the
//! input for 3x3 and 4x4 windows of stride 2, with a half. Must not know: other windows (`direct`).
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015): 4x4 outputs come
//! from a tile of inputs as A^T [(G g G^T) * (B^T d B)] A, the product in the middle being, for
//! each position of the tile, a matrix product over channels. The way: rows of the input,
//! activated and padded, lie in a ring; a chunk of tiles is transformed into a matrix `[tiles,
//! inputs]` for each position; the products give `[tiles, outputs]`; the transform back adds bias
//! and residual and takes the moments. Only the edges' tiles are partly outside, and only their
//! real pixels are written.
//!
//! With stride 2 the even and odd rows and columns are four inputs of half the size, each under a
//! window of up to 2x2; the products of a position add up over them. A window of 3 leaves the odd
//! ones a single tap, whose transform is zero at the last point: those products are left out.

use super::buffer::Buffer;
use super::isa::CHANNEL_BLOCK;
use super::rows::{Input, Output, Target};
use super::simd::{Kernel, Simd};
use super::winograd_tiles::TileShape;
use super::winograd_transforms::{tile_in, tile_out};
use super::winograd_weights::{WinogradWeights, multiply};

/// Convolves into `height` rows of `width` pixels.
pub(crate) fn winograd(
    weights: &WinogradWeights,
    input: Input<'_>,
    mut output: Output<'_>,
    (height, width): (usize, usize),
    scratch: &mut Buffer,
) {
    input.check();
    assert_eq!(input.channels, weights.inputs, "input of other channels");
    assert_eq!(input.stride % CHANNEL_BLOCK, 0, "stride of no whole vectors");
    let shape = TileShape::new(weights.scheme, input.stride, weights.outputs, height, width);
    let window = weights.scheme.window;
    assert!(input.size().1 + window.padding <= shape.columns, "input wider than the output needs");
    scratch.reserve(shape.scratch());
    let target = output.target(height * width, weights.outputs);
    let above = (window.stride * output.first_row) as isize - window.padding as isize;
    match (window.stride, weights.scheme.side) {
        (1, 2) => {
            weights.isa.run(Winograd::<4, 2, 1> { weights, input, above, target, shape, scratch })
        }
        (1, _) => {
            weights.isa.run(Winograd::<6, 4, 1> { weights, input, above, target, shape, scratch })
        }
        _ => weights.isa.run(Winograd::<5, 4, 2> { weights, input, above, target, shape, scratch }),
    }
}

struct Winograd<'a, const WIDE: usize, const SIDE: usize, const STEP: usize> {
    weights: &'a WinogradWeights,
    input: Input<'a>,
    /// The input's row that the first row of the first tile reads, negative in the padding.
    above: isize,
    target: Target,
    shape: TileShape,
    scratch: &'a mut Buffer,
}

impl<const WIDE: usize, const SIDE: usize, const STEP: usize> Kernel
    for Winograd<'_, WIDE, SIDE, STEP>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.shape;
        let padding = self.weights.scheme.window.padding;
        let ring = self.scratch.as_mut_ptr();
        // SAFETY: the parts of the scratch, of `TileShape::scratch` floats in all.
        let (wide_in, wide_out) = unsafe {
            let wide_in = ring.add(shape.ring * shape.row);
            (wide_in, wide_in.add(shape.matrices * shape.wide_in))
        };
        let mut filled = 0;
        for top in (0..shape.down).step_by(shape.band) {
            let bottom = (top + shape.band).min(shape.down);
            // Ring rows count from the first tile's on; a band's last rows stay for the next.
            let end = STEP * (SIDE * bottom + WIDE - SIDE);
            for row in filled..end {
                // SAFETY: the ring has `ring` rows of `columns` pixels, checked to be enough.
                unsafe {
                    let to = ring.add(row % shape.ring * shape.row);
                    let y = row as isize + self.above;
                    self.input.row(s, y, to, padding, shape.columns);
                }
            }
            filled = end;
            let tiles = (bottom - top) * shape.across;
            let chunks = tiles.div_ceil(shape.tiles);
            for chunk in 0..chunks {
                let first = chunk * tiles / chunks;
                let count = (chunk + 1) * tiles / chunks - first;
                let first = top * shape.across + first;
                // SAFETY: `count` is at most `shape.tiles`, all tiles lie in the band whose rows
                // the ring holds, and `winograd` checked input, output and scratch.
                unsafe {
                    for phase in 0..STEP * STEP {
                        self.transform_input(s, ring, wide_in, (first, count), phase);
                    }
                    let from = (wide_in.cast_const(), shape.wide_in, self.input.stride);
                    multiply(s, self.weights, from, (wide_out, shape.wide_out), count);
                    self.transform_output(s, wide_out, (first, count));
                }
            }
        }
    }
}

impl<const WIDE: usize, const SIDE: usize, const STEP: usize> Winograd<'_, WIDE, SIDE, STEP> {
    /// B^T d B of one phase of `count` tiles.
    #[inline(always)]
    unsafe fn transform_input<S: Simd>(
        &self,
        s: S,
        ring: *const f32,
        wide: *mut f32,
        (first, count): (usize, usize),
        phase: usize,
    ) {
        let (shape, stride) = (self.shape, self.input.stride);
        let (a, b) = (phase / STEP, phase % STEP);
        for tile in 0..count {
            let (ty, tx) = ((first + tile) / shape.across, (first + tile) % shape.across);
            // SAFETY: the caller's promise; `WIDE` rows of the phase from the tile's first row
            // on, as many pixels of it, and `stride` is whole vectors.
            unsafe {
                let mut rows = [ring; WIDE];
                for (i, row) in rows.iter_mut().enumerate() {
                    let at = (STEP * (SIDE * ty + i) + a) % shape.ring;
                    *row = ring.add(at * shape.row + (STEP * SIDE * tx + b) * stride);
                }
                let to = wide.add(phase * shape.positions * shape.wide_in + tile * stride);
                tile_in(s, rows, (STEP, stride), to, shape.wide_in);
            }
        }
    }

    /// A^T m A of `count` tiles; adds bias and residual, takes the moments.
    #[inline(always)]
    unsafe fn transform_output<S: Simd>(
        &self,
        s: S,
        wide: *const f32,
        (first, count): (usize, usize),
    ) {
        let (shape, stride) = (self.shape, self.target.stride);
        for tile in 0..count {
            let (ty, tx) = ((first + tile) / shape.across, (first + tile) % shape.across);
            let (top, left) = (ty * SIDE, tx * SIDE);
            let height = SIDE.min(shape.height - top);
            let width = SIDE.min(shape.width - left);
            for c in (0..stride).step_by(S::LANES) {
                // SAFETY: matrices of `count` rows; `stride` is whole vectors.
                let values = unsafe {
                    let from = wide.add(tile * stride + c);
                    tile_out::<S, WIDE, SIDE>(s, from, shape.wide_out)
                };
                // SAFETY: rows and columns below the map's size, channels below the stride.
                unsafe {
                    let at = (top * shape.width + left) * stride + c;
                    if height == SIDE && width == SIDE {
                        self.write(s, values, (at, c), SIDE, SIDE);
                    } else {
                        self.write(s, values, (at, c), height, width);
                    }
                }
            }
        }
    }

    /// Writes the real pixels of a tile.
    #[inline(always)]
    unsafe fn write<S: Simd>(
        &self,
        s: S,
        mut values: [[S::V; SIDE]; SIDE],
        (at, c): (usize, usize),
        height: usize,
        width: usize,
    ) {
        let target = self.target;
        // SAFETY: the caller's promise for these pixels and channels.
        unsafe {
            let bias = s.load(target.bias.add(c));
            for (i, row) in values.iter_mut().enumerate().take(height) {
                for (j, y) in row.iter_mut().enumerate().take(width) {
                    let to = at + (i * self.shape.width + j) * target.stride;
                    *y = s.add(*y, bias);
                    if !target.residual.is_null() {
                        *y = s.add(s.load(target.residual.add(to)), *y);
                    }
                    s.store(target.data.add(to), *y);
                }
            }
            if !target.sums.is_null() {
                let mut sum = s.load_f64(target.sums.add(c));
                let mut square = s.load_f64(target.squares.add(c));
                for row in values.iter().take(height) {
                    for &y in row.iter().take(width) {
                        sum = s.add_f64(sum, y);
                        square = s.add_square_f64(square, y);
                    }
                }
                s.store_f64(target.sums.add(c), sum);
                s.store_f64(target.squares.add(c), square);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Isa;
    use super::super::direct::Window;
    use super::super::reference::{Case, Random};
    use super::*;

    /// The transforms cancel: their error is that of the whole tile's magnitudes times a few
    /// tens of half units, hardly growing with the channels.
    const BOUND: f64 = 5e-6;

    const WINDOWS: [Window; 4] = [
        Window { height: 3, width: 3, stride: 1, padding: 1 },
        Window { height: 3, width: 3, stride: 2, padding: 0 },
        Window { height: 3, width: 3, stride: 2, padding: 1 },
        Window { height: 4, width: 4, stride: 2, padding: 1 },
    ];

    fn check(random: &mut Random, isa: Isa, height: usize, width: usize, channels: usize) {
        let upsample = random.below(4) == 0;
        let factor = if upsample { 2 } else { 1 };
        let window = WINDOWS[random.below(4)];
        let side = if window.stride == 1 { [2, 4][random.below(2)] } else { 4 };
        // One row and column of zeros after the end, as the asymmetric halving has.
        let size = |side: usize| {
            let padded = side * factor + window.padding + window.padding.max(1);
            padded.saturating_sub(window.height) / window.stride + 1
        };
        let case = Case {
            height,
            width,
            inputs: random.below(channels) + 1,
            outputs: random.below(channels) + 1,
            window: (window.height, window.width),
            stride: window.stride,
            padding: window.padding,
            output_size: (size(height), size(width)),
            upsample,
        };
        case.check(random, BOUND, true, |weight, input, output, size| {
            let weights =
                WinogradWeights::new(isa, weight, case.outputs, case.inputs, window, side);
            winograd(&weights, input, output, size, &mut Buffer::default());
        });
    }

    #[test]
    fn every_small_size_equals_the_definition() {
        let mut random = Random::new(7);
        for isa in Isa::available() {
            for height in 1..=10 {
                for width in 1..=10 {
                    check(&mut random, isa, height, width, 20);
                    check(&mut random, isa, height, width, 20);
                }
            }
        }
    }

    #[test]
    fn bands_chunks_and_panels_equal_the_definition() {
        let mut random = Random::new(8);
        for isa in Isa::available() {
            for _ in 0..30 {
                let (height, width) = (random.below(40) + 1, random.below(60) + 1);
                check(&mut random, isa, height, width, 70);
            }
            check(&mut random, isa, 9, 270, 5);
            check(&mut random, isa, 150, 3, 5);
        }
    }
}
