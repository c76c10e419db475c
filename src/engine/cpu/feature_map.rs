//! Owns the shape of a map and the steps on maps that are no convolutions: pooling, doubling, patches, the
//! normalisation that codes modulate. Must not know: which networks have them, kernels' insides.
//!
//! Together they are a percent of a network's time, so they are plain loops over pixels.

use crate::kernels::{CHANNEL_BLOCK, Moments, channel_stride};
use crate::model::topology::Resample;

/// MapShape of a map.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct MapShape {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Real channels.
    pub channels: usize,
    /// Floats from a pixel to the next.
    pub stride: usize,
}

impl MapShape {
    /// Of whole vectors a pixel, as every kernel takes them.
    pub(super) fn padded(height: usize, width: usize, channels: usize) -> MapShape {
        MapShape { height, width, channels, stride: channel_stride(channels) }
    }

    /// Of a graph's input. Pixels of fewer channels than a vector lie close together: the direct
    /// convolution takes any stride, and no other reads so few (`layer`).
    pub(super) fn of_input(height: usize, width: usize, channels: usize) -> MapShape {
        if channels < CHANNEL_BLOCK {
            return MapShape { height, width, channels, stride: channels };
        }
        MapShape::padded(height, width, channels)
    }

    /// Floats, the padding of the channels included. A map that no memory could hold stays one.
    pub(super) fn len(&self) -> usize {
        self.height.saturating_mul(self.width).saturating_mul(self.stride)
    }

    /// Writes `[pixels, C]` into a map, with zeros for padding.
    pub(super) fn spread(&self, rows: &[f32], map: &mut [f32]) {
        if self.stride == self.channels {
            map[..rows.len()].copy_from_slice(rows);
            return;
        }
        for (pixel, row) in map.chunks_exact_mut(self.stride).zip(rows.chunks_exact(self.channels))
        {
            pixel[..self.channels].copy_from_slice(row);
            pixel[self.channels..].fill(0.0);
        }
    }

    /// Adds `[pixels, C]` to a map, or `[1, C]` to each of its pixels.
    pub(super) fn add(&self, rows: &[f32], map: &mut [f32]) {
        let pixels = map.chunks_exact_mut(self.stride).take(self.height * self.width);
        for (pixel, row) in pixels.zip(rows.chunks_exact(self.channels).cycle()) {
            pixel.iter_mut().zip(row).for_each(|(sum, more)| *sum += more);
        }
    }

    /// The map without the padding of its channels, `[H, W, C]`.
    pub(super) fn real(&self, map: &[f32]) -> Vec<f32> {
        let pixels = map.chunks_exact(self.stride).take(self.height * self.width);
        pixels.flat_map(|pixel| &pixel[..self.channels]).copied().collect()
    }
}

/// Height and width after a resampling.
pub(super) fn resampled(how: Resample, height: usize, width: usize) -> (usize, usize) {
    match how {
        Resample::Mean | Resample::Largest => (height / 2, width / 2),
        Resample::Double => (2 * height, 2 * width),
        Resample::Even => (height + height % 2, width + width % 2),
        Resample::Neighbours => (height.div_ceil(2), width.div_ceil(2)),
    }
}

/// `[h, w, stride]` to the new size, the same stride.
pub(super) fn resample(how: Resample, from: &[f32], shape: MapShape, to: &mut [f32]) {
    let (height, width) = resampled(how, shape.height, shape.width);
    let stride = shape.stride;
    match how {
        Resample::Even => return even(from, shape, to),
        Resample::Neighbours => return neighbours(from, shape, to),
        _ => {}
    }
    let pixel = |y: usize, x: usize| &from[(y * shape.width + x) * stride..][..stride];
    for (at, out) in to.chunks_exact_mut(stride).take(height * width).enumerate() {
        let (y, x) = (at / width, at % width);
        if how == Resample::Double {
            out.copy_from_slice(pixel(y / 2, x / 2));
            continue;
        }
        let (above, below) = (2 * y, 2 * y + 1);
        let (a, b) = (pixel(above, 2 * x), pixel(above, 2 * x + 1));
        let (c, d) = (pixel(below, 2 * x), pixel(below, 2 * x + 1));
        for (i, out) in out.iter_mut().enumerate() {
            *out = match how {
                Resample::Largest => larger(larger(a[i], b[i]), larger(c[i], d[i])),
                _ => (a[i] + b[i] + c[i] + d[i]) * 0.25,
            };
        }
    }
}

/// A row of zeros above where the height is odd, a column of zeros on the left where the width is.
fn even(from: &[f32], shape: MapShape, to: &mut [f32]) {
    let MapShape { height, width, stride, .. } = shape;
    let (above, left) = (height % 2, width % 2);
    let row = (width + left) * stride;
    to[..above * row].fill(0.0);
    let rows = to[above * row..].chunks_exact_mut(row.max(1));
    for (to, from) in rows.zip(from.chunks_exact((width * stride).max(1))).take(height) {
        to[..left * stride].fill(0.0);
        to[left * stride..].copy_from_slice(from);
    }
}

/// The mean of the 3x3 pixels around every second one, those outside of the map left out.
fn neighbours(from: &[f32], shape: MapShape, to: &mut [f32]) {
    let MapShape { height, width, stride, .. } = shape;
    let (rows, columns) = (height.div_ceil(2), width.div_ceil(2));
    let around = |at: usize, count: usize| at.saturating_sub(1)..(at + 2).min(count);
    for (at, to) in to.chunks_exact_mut(stride).take(rows * columns).enumerate() {
        let (ys, xs) = (around(2 * (at / columns), height), around(2 * (at % columns), width));
        let share = 1.0 / (ys.len() * xs.len()) as f32;
        to.fill(0.0);
        for (y, x) in ys.flat_map(|y| xs.clone().map(move |x| (y, x))) {
            let pixel = &from[(y * width + x) * stride..][..stride];
            to.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += x);
        }
        to.iter_mut().for_each(|sum| *sum *= share);
    }
}

/// `[before, map + added, after]`, tokens without padding around those of a map.
pub(super) fn surround(
    (before, added, after): (&[f32], &[f32], &[f32]),
    from: &[f32],
    shape: MapShape,
    to: &mut [f32],
) {
    let MapShape { height, width, channels, .. } = shape;
    let rows = |count: usize| MapShape::padded(1, count / channels.max(1), channels);
    let (front, middle) = (rows(before.len()), MapShape::padded(height, width, channels));
    let (to_front, rest) = to.split_at_mut(front.len());
    let (to_middle, to_end) = rest.split_at_mut(middle.len());
    front.spread(before, to_front);
    to_middle.copy_from_slice(&from[..middle.len()]);
    middle.add(added, to_middle);
    rows(after.len()).spread(after, to_end);
}

/// The channels of T pixels, one pixel after another, as C rows of T: their columns are the pixels of `to`.
pub(super) fn reread(from: &[f32], shape: MapShape, to: &mut [f32]) {
    let MapShape { height, width, channels, .. } = shape;
    let (numbers, pixels) = (shape.real(from), height * width);
    let stride = channel_stride(channels);
    for (t, pixel) in to.chunks_exact_mut(stride).take(pixels).enumerate() {
        for (c, value) in pixel[..channels].iter_mut().enumerate() {
            *value = numbers[c * pixels + t];
        }
        pixel[channels..].fill(0.0);
    }
}

/// Row `y` of a map, normalised by `scale` and `shift`, then scaled and shifted at each pixel by the
/// two halves of the channels of `codes` there, whose pixels are repeated to the map's size.
pub(super) fn modulated_row(
    (map, shape): (&[f32], MapShape),
    y: usize,
    (scale, shift): (&[f32], &[f32]),
    (codes, grid): (&[f32], MapShape),
    to: &mut [f32],
) {
    let MapShape { height, width, stride, .. } = shape;
    // The decoder doubles the codes' map: both sides are multiples.
    let (down, across) = ((height / grid.height).max(1), (width / grid.width).max(1));
    let to_stride = channel_stride(shape.channels);
    let codes = &codes[y / down * grid.width * grid.stride..];
    for (x, to) in to.chunks_exact_mut(to_stride).enumerate() {
        let from = &map[(y * width + x) * stride..][..stride];
        let (by_y, by_b) = codes[x / across * grid.stride..][..grid.stride].split_at(to_stride);
        let normed = from.iter().zip(scale).zip(shift).map(|((x, a), b)| a.mul_add(*x, *b));
        for (((to, normed), y), b) in to.iter_mut().zip(normed).zip(by_y).zip(by_b) {
            *to = normed * y + b;
        }
    }
}

/// NaN where one is, as PyTorch's pooling; `f32::max` would hide it.
fn larger(a: f32, b: f32) -> f32 {
    if a > b || a.is_nan() { a } else { b }
}

/// `[h, w]` pixels of groups, `[rows][columns][channels]`, to `[rows h, columns w]` pixels of `channels`.
pub(super) fn shuffle(
    from: &[f32],
    shape: MapShape,
    to: &mut [f32],
    channels: usize,
    [rows, columns]: [usize; 2],
) {
    let stride = channel_stride(channels);
    for (at, pixel) in from.chunks_exact(shape.stride).take(shape.height * shape.width).enumerate()
    {
        let (y, x) = (at / shape.width, at % shape.width);
        for (part, group) in pixel.chunks_exact(channels).take(rows * columns).enumerate() {
            let (row, column) = (rows * y + part / columns, columns * x + part % columns);
            let pixel = &mut to[(row * columns * shape.width + column) * stride..][..stride];
            pixel[..channels].copy_from_slice(group);
            pixel[channels..].fill(0.0);
        }
    }
}

/// `[rows h, columns w]` pixels to `[h, w]` pixels of groups, `[rows][columns][channels]`.
pub(super) fn gather(from: &[f32], shape: MapShape, to: &mut [f32], [rows, columns]: [usize; 2]) {
    let MapShape { height, width, channels, stride } = shape;
    let (height, width, across) = (height / rows, width / columns, width);
    let together = channel_stride(rows * columns * channels);
    for (at, pixel) in to.chunks_exact_mut(together).take(height * width).enumerate() {
        let (y, x) = (at / width, at % width);
        for (part, group) in pixel.chunks_exact_mut(channels).take(rows * columns).enumerate() {
            let (row, column) = (rows * y + part / columns, columns * x + part % columns);
            group.copy_from_slice(&from[(row * across + column) * stride..][..channels]);
        }
        pixel[rows * columns * channels..].fill(0.0);
    }
}

/// y = x * scale + shift by channel, in place; the moments of the result.
pub(super) fn affine(
    map: &mut [f32],
    shape: MapShape,
    scale: &[f32],
    shift: &[f32],
    moments: &mut Moments,
) {
    let map = &mut map[..shape.height * shape.width * shape.stride];
    for pixel in map.chunks_exact_mut(shape.stride) {
        for ((x, scale), shift) in pixel.iter_mut().zip(scale).zip(shift) {
            *x = scale.mul_add(*x, *shift);
        }
    }
    moments.take(map, shape.stride);
}

/// The linear maps of Open-MAGVIT2's adaptive GroupNorm.
pub(super) struct Modulation {
    /// Groups of the norm in front of it.
    pub groups: usize,
    /// Added to both variances.
    pub epsilon: f64,
    /// `[C, bits]` and `[C]`, from the deviation of the codes' bits to the scale.
    pub gamma: (Vec<f32>, Vec<f32>),
    /// Likewise, from their mean to the shift.
    pub beta: (Vec<f32>, Vec<f32>),
}

impl Modulation {
    /// Scale and shift by channel for the looked-up codes, a map of as many channels as bits. A
    /// single token has no variance: the reference divides by zero there, and so do we.
    pub(super) fn of(&self, codes: &[f32], shape: MapShape) -> (Vec<f32>, Vec<f32>) {
        let MapShape { channels: bits, stride, .. } = shape;
        let tokens = (shape.height * shape.width) as f64;
        let column = |bit: usize| codes.iter().skip(bit).step_by(stride).map(|v| f64::from(*v));
        let mean: Vec<f64> = (0..bits).map(|bit| column(bit).sum::<f64>() / tokens).collect();
        let deviation = (0..bits).map(|bit| {
            let squares: f64 = column(bit).map(|v| (v - mean[bit]).powi(2)).sum();
            (squares / (tokens - 1.0) + self.epsilon).sqrt()
        });
        let deviation: Vec<f64> = deviation.collect();
        (linear(&self.gamma, &deviation), linear(&self.beta, &mean))
    }
}

fn linear((weight, bias): &(Vec<f32>, Vec<f32>), x: &[f64]) -> Vec<f32> {
    let dot = |row: &[f32]| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum::<f64>();
    let rows = weight.chunks_exact(x.len()).zip(bias);
    rows.map(|(row, bias)| (dot(row) + f64::from(*bias)) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pooling_hides_what_is_no_number() {
        let shape = MapShape { height: 2, width: 2, channels: 1, stride: 1 };
        for at in 0..4 {
            let mut map = [1.0; 4];
            map[at] = f32::NAN;
            for how in [Resample::Largest, Resample::Mean] {
                let mut out = [0.0];
                resample(how, &map, shape, &mut out);
                assert!(out[0].is_nan(), "{how:?}");
            }
        }
        let mut out = [0.0];
        resample(Resample::Largest, &[1.0, -2.0, 4.0, 3.0], shape, &mut out);
        assert_eq!(out, [4.0]);
    }

    #[test]
    fn maps_beyond_any_memory_are_no_small_ones() {
        let side = u32::MAX as usize;
        assert_eq!(MapShape::of_input(side, side, 3).len(), usize::MAX);
        assert_eq!(MapShape::padded(1 << 32, 1 << 32, 1).len(), usize::MAX);
    }

    #[test]
    fn inputs_of_at_least_a_vector_lie_in_whole_ones() {
        for (channels, stride) in [(1, 1), (3, 3), (15, 15), (16, 16), (17, 32), (33, 48)] {
            let shape = MapShape::of_input(1, 2, channels);
            assert_eq!(shape.stride, stride);
            let rows: Vec<f32> = (0..2 * channels).map(|i| i as f32 + 1.0).collect();
            let mut map = vec![9.0; shape.len() + 4];
            shape.spread(&rows, &mut map);
            assert_eq!(shape.real(&map), rows);
            let pixels = map[..shape.len()].chunks(stride);
            assert!(pixels.into_iter().all(|p| p[channels..].iter().all(|&v| v == 0.0)));
        }
    }
}
