//! Owns what a convolution reads and writes: rows of the input with the activation in front of it
//! applied and zeros around the edges, and the bias, residual and moments behind its sums.

use super::isa::{CHANNEL_BLOCK, channel_stride};
use super::micro::{Block, Sink, VECTORS};
use super::norm::Moments;
use super::simd::{Simd, gelu, silu, tanh};

/// What happens to a pixel's channels before the convolution sees them. Padding is zero after it.
#[derive(Clone, Copy)]
pub(crate) enum Activation<'a> {
    /// Nothing.
    Identity,
    /// max(x, 0).
    Relu,
    /// tanh(x).
    Tanh,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// x * scale + shift by channel: a normalisation.
    Affine {
        /// By channel, as long as the channel stride; zero after the last channel.
        scale: &'a [f32],
        /// Likewise.
        shift: &'a [f32],
    },
    /// A normalisation, then SiLU: y / (1 + e^-y).
    AffineSilu {
        /// By channel, as long as the channel stride; zero after the last channel.
        scale: &'a [f32],
        /// Likewise.
        shift: &'a [f32],
    },
}

/// What a convolution reads: `[height, width, stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Input<'a> {
    /// The floats.
    pub data: &'a [f32],
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Real channels.
    pub channels: usize,
    /// Floats from a pixel to the next.
    pub stride: usize,
    /// Applied on reading.
    pub activation: Activation<'a>,
    /// Nearest neighbour, twice the height and width, after the activation.
    pub upsample: bool,
}

/// What is added to a convolution's sums.
#[derive(Clone, Copy)]
pub(crate) enum Residual {
    /// Nothing.
    None,
    /// What the output holds already.
    Output,
}

/// Where a convolution writes: `[height, width, channel_stride(channels)]`, a whole map or some
/// rows of it.
pub(crate) struct Output<'a> {
    /// The floats.
    pub data: &'a mut [f32],
    /// The row of the whole map that they begin with.
    pub first_row: usize,
    /// Added to every pixel: one for each channel, zero after the last.
    pub bias: &'a [f32],
    /// Added after the bias.
    pub residual: Residual,
    /// Takes in the sums and squares of what is written.
    pub moments: Option<&'a mut Moments>,
}

impl<'a> Input<'a> {
    /// Some of its rows as a map of their own.
    pub(crate) fn rows(&self, first: usize, rows: usize) -> Input<'a> {
        let len = self.width * self.stride;
        Input { data: &self.data[first * len..][..rows * len], height: rows, ..*self }
    }

    /// Height and width as the convolution sees them.
    pub(crate) fn size(&self) -> (usize, usize) {
        let factor = if self.upsample { 2 } else { 1 };
        (self.height * factor, self.width * factor)
    }

    /// Panics where a slice is shorter than the shape says: a bug in the graph, not in the data.
    pub(super) fn check(&self) {
        assert!(self.stride >= self.channels, "stride below the channel count");
        assert!(self.data.len() >= self.height * self.width * self.stride, "input too short");
        match self.activation {
            Activation::Identity => {}
            Activation::Relu | Activation::Tanh | Activation::Gelu => {
                assert_eq!(self.stride % CHANNEL_BLOCK, 0);
            }
            Activation::Affine { scale, shift } | Activation::AffineSilu { scale, shift } => {
                assert_eq!(self.stride % CHANNEL_BLOCK, 0);
                assert!(scale.len() >= self.stride && shift.len() >= self.stride);
            }
        }
    }

    /// Writes `left` zero pixels, row `y` and zeros up to `columns` pixels; all zeros where `y`
    /// is outside.
    ///
    /// # Safety
    /// `check` passed; `to` is valid for `columns * stride` floats; `left` plus the width is at
    /// most `columns`.
    #[inline(always)]
    pub(super) unsafe fn row<S: Simd>(
        &self,
        s: S,
        y: isize,
        to: *mut f32,
        left: usize,
        columns: usize,
    ) {
        let (height, width) = self.size();
        // SAFETY: `y` is checked to be inside; the rest is the caller's promise.
        unsafe {
            if y < 0 || y >= height as isize {
                to.write_bytes(0, columns * self.stride);
                return;
            }
            to.write_bytes(0, left * self.stride);
            let right = to.add((left + width) * self.stride);
            right.write_bytes(0, (columns - left - width) * self.stride);
            let inside = to.add(left * self.stride);
            if self.upsample {
                let from = self.data.as_ptr().add(y as usize / 2 * self.width * self.stride);
                for x in 0..self.width {
                    let pair = inside.add(2 * x * self.stride);
                    self.pixels(s, from.add(x * self.stride), pair, 1);
                    pair.copy_to_nonoverlapping(pair.add(self.stride), self.stride);
                }
            } else {
                let from = self.data.as_ptr().add(y as usize * width * self.stride);
                self.pixels(s, from, inside, width);
            }
        }
    }

    /// Writes `count` pixels with the activation applied.
    ///
    /// # Safety
    /// `check` passed; both pointers are valid for `count * stride` floats and don't overlap.
    #[inline(always)]
    pub(super) unsafe fn pixels<S: Simd>(
        &self,
        s: S,
        from: *const f32,
        to: *mut f32,
        count: usize,
    ) {
        // SAFETY: the caller's promise; strides are whole vectors for all but `Identity`.
        unsafe {
            match self.activation {
                Activation::Identity => to.copy_from_nonoverlapping(from, count * self.stride),
                Activation::Relu => {
                    let zero = s.splat(0.0);
                    for i in (0..count * self.stride).step_by(S::LANES) {
                        // The operand order keeps a NaN: max returns its second where one is.
                        s.store(to.add(i), s.max(zero, s.load(from.add(i))));
                    }
                }
                Activation::Tanh => {
                    for i in (0..count * self.stride).step_by(S::LANES) {
                        s.store(to.add(i), tanh(s, s.load(from.add(i))));
                    }
                }
                Activation::Gelu => {
                    for i in (0..count * self.stride).step_by(S::LANES) {
                        s.store(to.add(i), gelu(s, s.load(from.add(i))));
                    }
                }
                Activation::Affine { scale, shift } => {
                    for x in 0..count {
                        for c in (0..self.stride).step_by(S::LANES) {
                            let (a, b) =
                                (s.load(scale.as_ptr().add(c)), s.load(shift.as_ptr().add(c)));
                            let i = x * self.stride + c;
                            s.store(to.add(i), s.fma(s.load(from.add(i)), a, b));
                        }
                    }
                }
                Activation::AffineSilu { scale, shift } => {
                    for x in 0..count {
                        for c in (0..self.stride).step_by(S::LANES) {
                            let (a, b) =
                                (s.load(scale.as_ptr().add(c)), s.load(shift.as_ptr().add(c)));
                            let i = x * self.stride + c;
                            s.store(to.add(i), silu(s, s.fma(s.load(from.add(i)), a, b)));
                        }
                    }
                }
            }
        }
    }
}

/// The raw form of [`Output`] inside kernels: pointers, null where there is nothing.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub data: *mut f32,
    pub stride: usize,
    pub bias: *const f32,
    pub residual: *const f32,
    pub sums: *mut f64,
    pub squares: *mut f64,
}

impl Output<'_> {
    /// Panics where a slice is shorter than `pixels` of `channels` need.
    pub(super) fn target(&mut self, pixels: usize, channels: usize) -> Target {
        let stride = channel_stride(channels);
        assert!(self.data.len() >= pixels * stride, "output too short");
        assert!(self.bias.len() >= stride, "bias too short");
        let data = self.data.as_mut_ptr();
        let residual = match self.residual {
            Residual::None => std::ptr::null(),
            Residual::Output => data.cast_const(),
        };
        let (sums, squares) = match &mut self.moments {
            None => (std::ptr::null_mut(), std::ptr::null_mut()),
            Some(moments) => moments.pointers(stride),
        };
        Target { data, stride, bias: self.bias.as_ptr(), residual, sums, squares }
    }
}

/// Rows of the micro-kernel that are pixels of the output, from pixel `first` on.
pub(super) struct Pixels {
    pub target: Target,
    pub first: usize,
}

impl Sink for Pixels {
    #[inline(always)]
    unsafe fn take<S: Simd, const PX: usize>(
        &mut self,
        s: S,
        sums: Block<S, PX>,
        row: usize,
        column: usize,
    ) {
        let target = self.target;
        for v in 0..VECTORS {
            let c = column + v * S::LANES;
            if c >= target.stride {
                break;
            }
            // SAFETY: pixels below the output's count and channels below its stride, whose
            // slices `Output::target` checked.
            unsafe {
                let bias = s.load(target.bias.add(c));
                let at = (self.first + row) * target.stride + c;
                let mut values = [bias; PX];
                for p in 0..PX {
                    let i = at + p * target.stride;
                    let mut y = s.add(sums[p][v], bias);
                    if !target.residual.is_null() {
                        y = s.add(s.load(target.residual.add(i)), y);
                    }
                    s.store(target.data.add(i), y);
                    values[p] = y;
                }
                if !target.sums.is_null() {
                    let mut sum = s.load_f64(target.sums.add(c));
                    let mut square = s.load_f64(target.squares.add(c));
                    for y in values {
                        sum = s.add_f64(sum, y);
                        square = s.add_square_f64(square, y);
                    }
                    s.store_f64(target.sums.add(c), sum);
                    s.store_f64(target.squares.add(c), square);
                }
            }
        }
    }
}
