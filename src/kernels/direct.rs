//! Owns convolutions computed as they are defined: any window, stride and padding, rows of the
//! input kept in a ring.

use super::buffer::Buffer;
use super::isa::{CHANNEL_BLOCK, Isa};
use super::micro::{Left, Right, pack, product};
use super::rows::{Input, Output, Pixels, Target};
use super::simd::{Kernel, Simd};

/// Pixels of a 1x1 convolution that are read at a time, at least.
const POINTS: usize = 48;

/// Floats of them that are read at a time, at most: with a panel of weights they stay in the second-level
/// cache, so that the weights, which don't, come from beyond it once for all of these pixels.
const POINTS_FLOATS: usize = 1 << 16;

/// Rows lie so much apart that no two of a block fall on the same lines of the first-level cache, as
/// those of a power of two would; small ones needn't.
const ALIASING_MIN: usize = 256;

/// Pixels that are read at a time, and how far apart they lie then.
fn points(stride: usize) -> (usize, usize) {
    let apart = if stride < ALIASING_MIN { stride } else { stride + CHANNEL_BLOCK };
    ((POINTS_FLOATS / apart / POINTS * POINTS).max(POINTS), apart)
}

/// Taps of the largest window.
const TAPS_MAX: usize = 24 * 24;

/// Where a convolution's window goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Rows of the window.
    pub height: usize,
    /// Columns of the window.
    pub width: usize,
    /// Pixels from a window to the next, both ways.
    pub stride: usize,
    /// Zero rows above and columns to the left. Below and to the right there are as many as the
    /// output's size needs.
    pub padding: usize,
}

impl Window {
    /// 1x1.
    pub(crate) const POINT: Window = Window { height: 1, width: 1, stride: 1, padding: 0 };
}

/// Weights of a direct convolution, packed for one instruction set.
pub(crate) struct DirectWeights {
    isa: Isa,
    window: Window,
    inputs: usize,
    outputs: usize,
    packed: Buffer,
}

impl DirectWeights {
    /// From `[outputs, inputs, height, width]`, PyTorch's order.
    pub(crate) fn new(
        isa: Isa,
        weight: &[f32],
        outputs: usize,
        inputs: usize,
        window: Window,
    ) -> DirectWeights {
        let taps = window.height * window.width;
        assert_eq!(weight.len(), outputs * inputs * taps, "weights of another shape");
        assert!(taps <= TAPS_MAX && window.stride >= 1, "window too large");
        let packed = pack(isa, taps * inputs, outputs, |step, o| {
            let (tap, i) = (step / inputs, step % inputs);
            weight[(o * inputs + i) * taps + tap]
        });
        DirectWeights { isa, window, inputs, outputs, packed }
    }

    /// The window they were packed for.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    pub(super) fn isa(&self) -> Isa {
        self.isa
    }

    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    pub(super) fn right(&self) -> Right {
        let panels = self.outputs.div_ceil(self.isa.panel());
        Right { start: self.packed.as_ptr(), panels }
    }
}

/// Convolves the input into `height` rows of `width` pixels.
pub(crate) fn direct(
    weights: &DirectWeights,
    input: Input<'_>,
    mut output: Output<'_>,
    (height, width): (usize, usize),
    scratch: &mut Buffer,
) {
    input.check();
    assert_eq!(input.channels, weights.inputs, "input of other channels");
    let window = weights.window;
    let inner = input.size().1 + window.padding;
    let columns = inner.max((width.max(1) - 1) * window.stride + window.width);
    scratch.reserve(columns * input.stride * window.height);
    let target = output.target(height * width, weights.outputs);
    let above = (window.stride * output.first_row) as isize - window.padding as isize;
    weights.isa.run(Direct { weights, input, above, target, height, width, columns, scratch });
}

struct Direct<'a> {
    weights: &'a DirectWeights,
    input: Input<'a>,
    /// The input's row that the first window begins with, negative in the padding.
    above: isize,
    target: Target,
    height: usize,
    width: usize,
    /// Pixels of a ring row.
    columns: usize,
    scratch: &'a mut Buffer,
}

impl Kernel for Direct<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let window = self.weights.window;
        let row_len = self.columns * self.input.stride;
        let ring = self.scratch.as_mut_ptr();
        let mut taps = [std::ptr::null::<f32>(); TAPS_MAX];
        let mut filled = 0;
        for y in 0..self.height {
            let first = y * window.stride;
            for row in first.max(filled)..first + window.height {
                // SAFETY: the ring has `window.height` rows of `columns` pixels.
                unsafe {
                    let to = ring.add(row % window.height * row_len);
                    let from = row as isize + self.above;
                    self.input.row(s, from, to, window.padding, self.columns);
                }
            }
            filled = first + window.height;
            for ky in 0..window.height {
                for kx in 0..window.width {
                    let at = (first + ky) % window.height * row_len + kx * self.input.stride;
                    // SAFETY: inside the ring.
                    taps[ky * window.width + kx] = unsafe { ring.add(at) };
                }
            }
            let left = Left {
                taps: &taps[..window.height * window.width],
                row_stride: window.stride * self.input.stride,
                rows: self.width,
                depth: self.weights.inputs,
            };
            let mut sink = Pixels { target: self.target, first: y * self.width };
            // SAFETY: the last window of a row ends inside `columns`; weights are packed for
            // this window; `direct` checked the output.
            unsafe { product(s, left, self.weights.right(), &mut sink) }
        }
    }
}

/// A 1x1 convolution, stride 1: every pixel on its own, all of the input's.
pub(crate) fn pointwise(
    weights: &DirectWeights,
    input: Input<'_>,
    mut output: Output<'_>,
    scratch: &mut Buffer,
) {
    input.check();
    assert_eq!(input.channels, weights.inputs, "input of other channels");
    let one = Window { height: 1, width: 1, stride: 1, padding: 0 };
    assert!(weights.window == one && !input.upsample, "not a 1x1 convolution");
    let (points, apart) = points(input.stride);
    scratch.reserve(points.min(input.height * input.width) * apart);
    let target = output.target(input.height * input.width, weights.outputs);
    weights.isa.run(Pointwise { weights, input, target, scratch });
}

struct Pointwise<'a> {
    weights: &'a DirectWeights,
    input: Input<'a>,
    target: Target,
    scratch: &'a mut Buffer,
}

impl Kernel for Pointwise<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pixels = self.input.height * self.input.width;
        let stride = self.input.stride;
        let (points, apart) = points(stride);
        for first in (0..pixels).step_by(points) {
            let rows = points.min(pixels - first);
            // SAFETY: `pointwise` checked the input and output for `pixels`, and the scratch for
            // `points`.
            unsafe {
                let from = self.input.data.as_ptr().add(first * stride);
                let to = self.scratch.as_mut_ptr();
                if apart == stride {
                    self.input.pixels(s, from, to, rows);
                } else {
                    for row in 0..rows {
                        self.input.pixels(s, from.add(row * stride), to.add(row * apart), 1);
                    }
                }
                let left = Left {
                    taps: &[self.scratch.as_ptr()],
                    row_stride: apart,
                    rows,
                    depth: self.weights.inputs,
                };
                let mut sink = Pixels { target: self.target, first };
                product(s, left, self.weights.right(), &mut sink);
            }
        }
    }
}

#[cfg(test)]
mod tests;
