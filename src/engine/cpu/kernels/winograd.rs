//! Owns Winograd's F(4x4, 3x3): 3x3 convolutions of stride 1 with a quarter of the
//! multiplications. Must not know: other windows (`direct`).
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2015): 4x4 outputs come
//! from 6x6 inputs as A^T [(G g G^T) * (B^T d B)] A, the product in the middle being, for each of
//! the 36 positions, a matrix product over channels. The way: rows of the input, activated and
//! padded, lie in a ring; a chunk of tiles is transformed into 36 matrices `[tiles, inputs]`;
//! 36 products give `[tiles, outputs]`; the transform back adds bias and residual and takes the
//! moments. Only the edges' tiles are partly outside, and only their real pixels are written.

use super::buffer::Buffer;
use super::micro::{Left, Right, Store, pack, product};
use super::rows::{Input, Output, Target};
use super::simd::Simd;
use super::{CHANNEL_BLOCK, Kernel, Level, channel_stride};
use std::array::from_fn;

/// Tiles transformed at a time: their 36 matrices stay near the core while each packed weight
/// that is read from further away is used for all of them.
const TILES: usize = 32;

/// Side of a tile's output.
const SIDE: usize = 4;

/// Side of a tile's input, and of the transformed domain.
const WIDE: usize = 6;

/// Floats between the 36 matrices: keeps their rows out of each other's cache sets.
const SKEW: usize = 3 * CHANNEL_BLOCK;

/// G of F(4, 3).
const G: [[f64; 3]; WIDE] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// Transformed and packed weights of a 3x3 convolution with padding 1.
pub struct WinogradWeights {
    level: Level,
    inputs: usize,
    outputs: usize,
    /// `[36][panels][inputs][panel width]`
    packed: Buffer,
}

impl WinogradWeights {
    /// From `[outputs, inputs, 3, 3]`, PyTorch's order. Transformed in float64, rounded once.
    pub fn new(level: Level, weight: &[f32], outputs: usize, inputs: usize) -> WinogradWeights {
        assert_eq!(weight.len(), outputs * inputs * 9, "weights of another shape");
        let mut wide = vec![0f32; 36 * outputs * inputs];
        for (at, g) in weight.chunks_exact(9).enumerate() {
            for (position, value) in transform_weight(g).into_iter().enumerate() {
                wide[position * outputs * inputs + at] = value;
            }
        }
        let len = outputs.div_ceil(level.panel()) * inputs * level.panel();
        let mut packed = Buffer::zeroed(36 * len);
        for position in 0..36 {
            let matrix = &wide[position * outputs * inputs..][..outputs * inputs];
            let one = pack(level, inputs, outputs, |i, o| matrix[o * inputs + i]);
            packed[position * len..][..len].copy_from_slice(&one);
        }
        WinogradWeights { level, inputs, outputs, packed }
    }
}

/// G g G^T of one 3x3 window.
fn transform_weight(g: &[f32]) -> [f32; 36] {
    let half: [[f64; 3]; WIDE] =
        from_fn(|i| from_fn(|b| (0..3).map(|a| G[i][a] * f64::from(g[a * 3 + b])).sum()));
    from_fn(|p| (0..3).map(|b| half[p / WIDE][b] * G[p % WIDE][b]).sum::<f64>() as f32)
}

/// Convolves with a 3x3 window, stride 1, padding 1; the output has the input's size.
pub fn winograd(
    weights: &WinogradWeights,
    input: Input<'_>,
    mut output: Output<'_>,
    scratch: &mut Buffer,
) {
    input.check();
    assert_eq!(input.channels, weights.inputs, "input of other channels");
    assert_eq!(input.stride % CHANNEL_BLOCK, 0, "stride of no whole vectors");
    let shape = Shape::new(&input, weights.outputs);
    scratch.reserve(shape.scratch());
    let target = output.target(shape.height * shape.width, weights.outputs);
    weights.level.run(Winograd { weights, input, target, shape, scratch });
}

/// How a map is cut into tiles, bands of tile rows and chunks.
#[derive(Clone, Copy)]
struct Shape {
    height: usize,
    width: usize,
    /// Tiles in a row.
    across: usize,
    /// Tile rows.
    down: usize,
    /// Tile rows that are worked on together.
    band: usize,
    /// Floats of a ring row.
    row: usize,
    /// Floats of one of the 36 input matrices.
    wide_in: usize,
    /// Floats of one of the 36 output matrices.
    wide_out: usize,
}

impl Shape {
    fn new(input: &Input<'_>, outputs: usize) -> Shape {
        let (height, width) = input.size();
        let (down, across) = (height.div_ceil(SIDE), width.div_ceil(SIDE));
        Shape {
            height,
            width,
            across,
            down,
            band: TILES.div_ceil(across.max(1)).clamp(1, down.max(1)),
            row: (SIDE * across + 2) * input.stride,
            wide_in: TILES * input.stride + SKEW,
            wide_out: TILES * channel_stride(outputs) + SKEW,
        }
    }

    /// Rows of the ring: a band's and one on each side.
    fn ring(&self) -> usize {
        SIDE * self.band + 2
    }

    fn scratch(&self) -> usize {
        self.ring() * self.row + 36 * (self.wide_in + self.wide_out)
    }
}

struct Winograd<'a> {
    weights: &'a WinogradWeights,
    input: Input<'a>,
    target: Target,
    shape: Shape,
    scratch: &'a mut Buffer,
}

impl Kernel for Winograd<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let shape = self.shape;
        let ring = self.scratch.as_mut_ptr();
        // SAFETY: the parts of the scratch, of `Shape::scratch` floats in all.
        let (wide_in, wide_out) = unsafe {
            let wide_in = ring.add(shape.ring() * shape.row);
            (wide_in, wide_in.add(36 * shape.wide_in))
        };
        let mut filled = 0;
        for top in (0..shape.down).step_by(shape.band) {
            let bottom = (top + shape.band).min(shape.down);
            // Ring row r holds image row r - 1; the last two of a band stay for the next.
            for row in filled..SIDE * bottom + 2 {
                // SAFETY: the ring has `ring()` rows of `across * 4 + 2` pixels.
                unsafe {
                    let to = ring.add(row % shape.ring() * shape.row);
                    self.input.row(s, row as isize - 1, to, 1, SIDE * shape.across + 2);
                }
            }
            filled = SIDE * bottom + 2;
            let tiles = (bottom - top) * shape.across;
            let chunks = tiles.div_ceil(TILES);
            for chunk in 0..chunks {
                let first = chunk * tiles / chunks;
                let count = (chunk + 1) * tiles / chunks - first;
                let first = top * shape.across + first;
                // SAFETY: `count` is at most TILES, all tiles lie in the band whose rows the
                // ring holds, and `winograd` checked input, output and scratch.
                unsafe {
                    self.transform_input(s, ring, wide_in, first, count);
                    self.multiply(s, wide_in, wide_out, count);
                    self.transform_output(s, wide_out, first, count);
                }
            }
        }
    }
}

impl Winograd<'_> {
    /// B^T d B of `count` tiles.
    #[inline(always)]
    unsafe fn transform_input<S: Simd>(
        &self,
        s: S,
        ring: *const f32,
        wide: *mut f32,
        first: usize,
        count: usize,
    ) {
        let (shape, stride) = (self.shape, self.input.stride);
        for tile in 0..count {
            let (ty, tx) = ((first + tile) / shape.across, (first + tile) % shape.across);
            // SAFETY: the caller's promise; six rows from ring row 4 ty on, six pixels from
            // 4 tx on, and `stride` is whole vectors.
            unsafe {
                let rows: [*const f32; WIDE] = from_fn(|i| {
                    ring.add((SIDE * ty + i) % shape.ring() * shape.row + SIDE * tx * stride)
                });
                for c in (0..stride).step_by(S::LANES) {
                    let mut half = [[s.splat(0.0); WIDE]; WIDE];
                    for j in 0..WIDE {
                        let d = from_fn(|i| s.load(rows[i].add(j * stride + c)));
                        let column = spread(s, d);
                        for i in 0..WIDE {
                            half[i][j] = column[i];
                        }
                    }
                    let to = wide.add(tile * stride + c);
                    for (i, row) in half.into_iter().enumerate() {
                        let row = spread(s, row);
                        for (j, v) in row.into_iter().enumerate() {
                            s.store(to.add((i * WIDE + j) * shape.wide_in), v);
                        }
                    }
                }
            }
        }
    }

    /// The 36 matrix products over channels.
    #[inline(always)]
    unsafe fn multiply<S: Simd>(&self, s: S, from: *const f32, to: *mut f32, count: usize) {
        let (shape, weights) = (self.shape, self.weights);
        let panels = weights.outputs.div_ceil(weights.level.panel());
        let len = panels * weights.inputs * weights.level.panel();
        for position in 0..36 {
            // SAFETY: the caller's promise: 36 matrices on each side, weights of this shape.
            unsafe {
                let left = Left {
                    taps: &[from.add(position * shape.wide_in)],
                    row_stride: self.input.stride,
                    rows: count,
                    depth: weights.inputs,
                };
                let right = Right { start: weights.packed.as_ptr().add(position * len), panels };
                let start = to.add(position * shape.wide_out);
                let mut sink = Store { start, stride: self.target.stride, scale: 1.0 };
                product(s, left, right, &mut sink);
            }
        }
    }

    /// A^T m A of `count` tiles; adds bias and residual, takes the moments.
    #[inline(always)]
    unsafe fn transform_output<S: Simd>(&self, s: S, wide: *const f32, first: usize, count: usize) {
        let (shape, stride) = (self.shape, self.target.stride);
        for tile in 0..count {
            let (ty, tx) = ((first + tile) / shape.across, (first + tile) % shape.across);
            let (top, left) = (ty * SIDE, tx * SIDE);
            let height = SIDE.min(shape.height - top);
            let width = SIDE.min(shape.width - left);
            for c in (0..stride).step_by(S::LANES) {
                let mut half = [[s.splat(0.0); WIDE]; SIDE];
                for j in 0..WIDE {
                    // SAFETY: 36 matrices of `count` rows; `stride` is whole vectors.
                    let m = from_fn(|i| unsafe {
                        s.load(wide.add((i * WIDE + j) * shape.wide_out + tile * stride + c))
                    });
                    let column = gather(s, m);
                    for i in 0..SIDE {
                        half[i][j] = column[i];
                    }
                }
                let tile = half.map(|row| gather(s, row));
                // SAFETY: rows and columns below the map's size, channels below the stride.
                unsafe {
                    let at = (top * shape.width + left) * stride + c;
                    if height == SIDE && width == SIDE {
                        self.write(s, tile, at, c, SIDE, SIDE);
                    } else {
                        self.write(s, tile, at, c, height, width);
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
        tile: [[S::V; SIDE]; SIDE],
        at: usize,
        c: usize,
        height: usize,
        width: usize,
    ) {
        let target = self.target;
        // SAFETY: the caller's promise for these pixels and channels.
        unsafe {
            let bias = s.load(target.bias.add(c));
            let mut values = tile;
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

/// B^T d of F(4, 3).
#[inline(always)]
fn spread<S: Simd>(s: S, d: [S::V; WIDE]) -> [S::V; WIDE] {
    let (two, four, five) = (s.splat(2.0), s.splat(4.0), s.splat(5.0));
    let even = s.fnma(four, d[2], d[4]);
    let odd = s.fnma(four, d[1], d[3]);
    let even2 = s.sub(d[4], d[2]);
    let odd2 = s.mul(two, s.sub(d[3], d[1]));
    [
        s.fma(four, d[0], s.fnma(five, d[2], d[4])),
        s.add(even, odd),
        s.sub(even, odd),
        s.add(even2, odd2),
        s.sub(even2, odd2),
        s.fma(four, d[1], s.fnma(five, d[3], d[5])),
    ]
}

/// A^T m of F(4, 3).
#[inline(always)]
fn gather<S: Simd>(s: S, m: [S::V; WIDE]) -> [S::V; SIDE] {
    let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let (sum2, difference2) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
    [
        s.add(s.add(m[0], sum), sum2),
        s.fma(s.splat(2.0), difference2, difference),
        s.fma(s.splat(4.0), sum2, sum),
        s.add(s.fma(s.splat(8.0), difference2, difference), m[5]),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Case, Random};
    use super::*;

    /// The transforms cancel: their error is that of the whole tile's magnitudes times a few
    /// tens of half units, hardly growing with the channels.
    const BOUND: f64 = 5e-6;

    fn check(random: &mut Random, level: Level, height: usize, width: usize, channels: usize) {
        let upsample = random.below(4) == 0;
        let factor = if upsample { 2 } else { 1 };
        let case = Case {
            height,
            width,
            inputs: random.below(channels) + 1,
            outputs: random.below(channels) + 1,
            window: (3, 3),
            stride: 1,
            padding: 1,
            output_size: (height * factor, width * factor),
            upsample,
        };
        case.check(random, BOUND, true, |weight, input, output| {
            let weights = WinogradWeights::new(level, weight, case.outputs, case.inputs);
            winograd(&weights, input, output, &mut Buffer::default());
        });
    }

    #[test]
    fn every_small_size_equals_the_definition() {
        let mut random = Random::new(7);
        for level in Level::available() {
            for height in 1..=10 {
                for width in 1..=10 {
                    check(&mut random, level, height, width, 20);
                }
            }
        }
    }

    #[test]
    fn bands_chunks_and_panels_equal_the_definition() {
        let mut random = Random::new(8);
        for level in Level::available() {
            for _ in 0..12 {
                let (height, width) = (random.below(40) + 1, random.below(60) + 1);
                check(&mut random, level, height, width, 70);
            }
            check(&mut random, level, 9, 270, 5);
            check(&mut random, level, 150, 3, 5);
        }
    }
}
