//! Owns convolutions as they are defined over maps with their zeros around them, for training: any window and
//! stride. Must not know: threads.

use super::direct::{DirectWeights, Window};
use super::isa::channel_stride;
use super::micro::{Left, Scale, Store, product};
use super::planes::Frame;
use super::simd::{Kernel, Simd};

/// Pixels of a window of one that are multiplied at a time, so that they stay near the core while the
/// weights pass.
const POINTS: usize = 192;

/// Convolves one image's rows from `first` on into `out`, `[rows, width, outputs' stride]`.
///
/// # Panics
/// Where the map is too short: a bug of the caller.
pub(crate) fn windows(
    weights: &DirectWeights,
    frame: Frame,
    map: &[f32],
    (first, width): (usize, usize),
    out: &mut [f32],
) {
    let Window { height, width: columns, stride, .. } = weights.window();
    let row = (width * channel_stride(weights.outputs())).max(1);
    let rows = out.len() / row;
    assert!(weights.inputs() <= frame.stride && map.len() >= frame.len());
    if rows == 0 || width == 0 {
        return;
    }
    assert!((first + rows - 1) * stride + height <= frame.height, "too few rows");
    assert!((width - 1) * stride + columns <= frame.width, "too few columns");
    weights.isa().run(Windows { weights, frame, map, first, width, rows, out });
}

struct Windows<'a> {
    weights: &'a DirectWeights,
    frame: Frame,
    map: &'a [f32],
    first: usize,
    width: usize,
    rows: usize,
    out: &'a mut [f32],
}

impl Kernel for Windows<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Windows { weights, frame, map, first, width, rows, out } = self;
        let window = weights.window();
        let stride = channel_stride(weights.outputs());
        let mut taps = vec![map.as_ptr(); window.height * window.width];
        // Pixels under a window of one lie one after the other.
        let whole = window == Window::POINT && frame.width == width;
        let (lines, line) = if whole { (1, rows * width) } else { (rows, width) };
        for y in 0..lines {
            for from in (0..line).step_by(POINTS) {
                let count = POINTS.min(line - from);
                for (tap, start) in taps.iter_mut().enumerate() {
                    let row = (first + y) * window.stride + tap / window.width;
                    let column = from * window.stride + tap % window.width;
                    *start = map.as_ptr().wrapping_add((row * frame.width + column) * frame.stride);
                }
                let left = Left {
                    taps: &taps,
                    row_stride: window.stride * frame.stride,
                    rows: count,
                    depth: weights.inputs(),
                };
                let start = out[(y * line + from) * stride..].as_mut_ptr();
                let mut sink = Store { start, stride, columns: stride, scale: Scale::All(1.0) };
                // SAFETY: `windows` checked the map for every window of these rows, and the output has
                // `rows` of `width` pixels.
                unsafe { product(s, left, weights.right(), &mut sink) }
            }
        }
    }
}
