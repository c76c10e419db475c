//! Owns what works on each pixel by itself: LayerNorm, functions of every number, gates, softmax over
//! the channels, and the 3x3 convolution of each channel by itself.
//!
//! Maps are `[pixels, S]` with S the channel stride; what lies after the last channel is zero, and stays so.

use super::attention::softmax;
use super::isa::{CHANNEL_BLOCK, Isa, channel_stride};
use super::simd::{Kernel, Simd, gelu, gelu_tanh, silu};

/// Sums are in this many lanes at every instruction set, so that instruction sets agree on the bits.
const SUM_LANES: usize = 16;

/// A LayerNorm's parameters.
#[derive(Clone, Copy)]
pub(crate) struct LayerNorm<'a> {
    /// By channel, zero up to the channel stride.
    pub weight: &'a [f32],
    /// Likewise.
    pub bias: &'a [f32],
    /// Channels.
    pub channels: usize,
    /// Added to the variance.
    pub epsilon: f64,
}

/// LayerNorm of each pixel of `from`, into `to`.
pub(crate) fn layer_norm(isa: Isa, norm: LayerNorm<'_>, from: &[f32], to: &mut [f32]) {
    let stride = channel_stride(norm.channels);
    assert!(norm.weight.len() >= stride && norm.bias.len() >= stride, "too few parameters");
    assert!(
        norm.channels > 0 && from.len() == to.len() && from.len().is_multiple_of(stride),
        "a map's size"
    );
    isa.run(Normalise { norm, from, to });
}

struct Normalise<'a> {
    norm: LayerNorm<'a>,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Normalise<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let LayerNorm { weight, bias, channels, epsilon } = self.norm;
        let stride = channel_stride(channels);
        for at in (0..self.from.len()).step_by(stride) {
            // SAFETY: `layer_norm` checked that both maps have whole pixels, and the parameters are as
            // long as one; the stride is whole vectors.
            unsafe {
                let (from, to) = (self.from.as_ptr().add(at), self.to.as_mut_ptr().add(at));
                let mean = sum(s, from, channels, s.splat(0.0), false) / channels as f64;
                let centre = s.splat(mean as f32);
                let variance = sum(s, from, channels, centre, true) / channels as f64;
                let scale = s.splat((1.0 / (variance + epsilon).sqrt()) as f32);
                for c in (0..stride).step_by(S::LANES) {
                    let normed = s.mul(s.sub(s.load(from.add(c)), centre), scale);
                    let (weight, bias) = (weight.as_ptr().add(c), bias.as_ptr().add(c));
                    s.store(to.add(c), s.fma(normed, s.load(weight), s.load(bias)));
                }
            }
        }
    }
}

/// The sum of x - centre, or of its squares, over the first `channels` of a pixel, in float64.
///
/// # Safety
/// `from` is valid for the channel stride.
#[inline(always)]
unsafe fn sum<S: Simd>(
    s: S,
    from: *const f32,
    channels: usize,
    centre: S::V,
    squares: bool,
) -> f64 {
    let mut lanes = [0f64; SUM_LANES];
    let parts = SUM_LANES / S::LANES;
    // SAFETY: the caller's promise; `lanes` has SUM_LANES.
    unsafe {
        let zero = s.load_f64(lanes.as_ptr());
        let mut sums = [zero; 2];
        for i in (0..channels).step_by(CHANNEL_BLOCK) {
            for (part, sum) in sums.iter_mut().enumerate().take(parts) {
                let at = i + part * S::LANES;
                let mut x = s.sub(s.load(from.add(at)), centre);
                if i + CHANNEL_BLOCK > channels {
                    let lane = s.add(s.iota(), s.splat(at as f32));
                    x = s.select_less(lane, s.splat(channels as f32), x, s.splat(0.0));
                }
                *sum = if squares { s.add_square_f64(*sum, x) } else { s.add_f64(*sum, x) };
            }
        }
        for (part, sum) in sums.iter().enumerate().take(parts) {
            s.store_f64(lanes.as_mut_ptr().add(part * S::LANES), *sum);
        }
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// A function of every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elementwise {
    /// x / (1 + e^-x).
    Silu,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
}

/// A function of every number of a map, in place.
pub(crate) fn elementwise(isa: Isa, what: Elementwise, map: &mut [f32]) {
    assert!(map.len().is_multiple_of(CHANNEL_BLOCK), "a map's size");
    isa.run(Each { what, map });
}

struct Each<'a> {
    what: Elementwise,
    map: &'a mut [f32],
}

impl Kernel for Each<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for at in (0..self.map.len()).step_by(S::LANES) {
            // SAFETY: `elementwise` checked that the map is whole vectors.
            unsafe {
                let place = self.map.as_mut_ptr().add(at);
                let x = s.load(place);
                let y = match self.what {
                    Elementwise::Silu => silu(s, x),
                    Elementwise::Gelu => gelu(s, x),
                };
                s.store(place, y);
            }
        }
    }
}

/// gelu(a) * b, by the approximation with tanh, where a and b of `stride` floats each stand side by side at
/// each pixel.
pub(crate) fn gate(isa: Isa, stride: usize, from: &[f32], to: &mut [f32]) {
    assert!(
        stride > 0 && stride.is_multiple_of(CHANNEL_BLOCK) && to.len().is_multiple_of(stride),
        "a map's size"
    );
    assert!(from.len() == 2 * to.len(), "two halves");
    isa.run(Gate { stride, from, to });
}

struct Gate<'a> {
    stride: usize,
    from: &'a [f32],
    to: &'a mut [f32],
}

impl Kernel for Gate<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let stride = self.stride;
        for at in (0..self.to.len()).step_by(stride) {
            for c in (0..stride).step_by(S::LANES) {
                // SAFETY: `gate` checked that both maps have whole pixels of whole vectors.
                unsafe {
                    let from = self.from.as_ptr().add(2 * at + c);
                    let gated = s.mul(gelu_tanh(s, s.load(from)), s.load(from.add(stride)));
                    s.store(self.to.as_mut_ptr().add(at + c), gated);
                }
            }
        }
    }
}

/// Softmax over the channels of each pixel, in place.
pub(crate) fn softmax_pixels(isa: Isa, channels: usize, map: &mut [f32]) {
    assert!(channels > 0 && map.len().is_multiple_of(channel_stride(channels)), "a map's size");
    isa.run(Softmax { channels, map });
}

struct Softmax<'a> {
    channels: usize,
    map: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for pixel in self.map.chunks_exact_mut(channel_stride(self.channels)) {
            // SAFETY: a pixel is valid up to a multiple of 16.
            unsafe { softmax(s, pixel.as_mut_ptr(), self.channels) };
        }
    }
}

/// A 3x3 convolution of each channel by itself, with one zero around the map.
#[derive(Clone, Copy)]
pub(crate) struct Depthwise<'a> {
    /// `[3][3][channel stride]`.
    pub weight: &'a [f32],
    /// By channel, up to the stride.
    pub bias: &'a [f32],
    /// Pixels from a window to the next, both ways.
    pub stride: usize,
}

/// Row `y` of a depthwise convolution's output of a map `[height, width, S]`.
pub(crate) fn depthwise_row(
    isa: Isa,
    conv: Depthwise<'_>,
    (map, [height, width]): (&[f32], [usize; 2]),
    y: usize,
    to: &mut [f32],
) {
    let channels = conv.bias.len();
    assert!(channels > 0 && channels.is_multiple_of(CHANNEL_BLOCK), "whole vectors");
    assert!(conv.weight.len() == 9 * channels && conv.stride > 0, "a window of 3x3");
    assert!(
        map.len() >= height * width * channels && to.len().is_multiple_of(channels),
        "a map's size"
    );
    let columns = to.len() / channels;
    assert!(y * conv.stride <= height && columns.saturating_sub(1) * conv.stride <= width);
    isa.run(DepthwiseRow { conv, map, size: [height, width], y, to });
}

struct DepthwiseRow<'a> {
    conv: Depthwise<'a>,
    map: &'a [f32],
    size: [usize; 2],
    y: usize,
    to: &'a mut [f32],
}

impl Kernel for DepthwiseRow<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Depthwise { weight, bias, stride } = self.conv;
        let ([height, width], channels) = (self.size, bias.len());
        let top = self.y * stride;
        for (x, to) in self.to.chunks_exact_mut(channels).enumerate() {
            let left = x * stride;
            // Where each tap inside of the map begins: its pixel, its weights.
            let (mut taps, mut count) = ([(0, 0); 9], 0);
            for (ky, kx) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                let (row, column) = (top + ky, left + kx);
                if (1..=height).contains(&row) && (1..=width).contains(&column) {
                    let pixel = (row - 1) * width + column - 1;
                    taps[count] = (pixel * channels, (3 * ky + kx) * channels);
                    count += 1;
                }
            }
            for c in (0..channels).step_by(S::LANES) {
                // SAFETY: `depthwise_row` checked the lengths; the taps are inside of the map.
                unsafe {
                    let mut sum = s.load(bias.as_ptr().add(c));
                    for &(pixel, tap) in &taps[..count] {
                        let x = s.load(self.map.as_ptr().add(pixel + c));
                        sum = s.fma(x, s.load(weight.as_ptr().add(tap + c)), sum);
                    }
                    s.store(to.as_mut_ptr().add(c), sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
