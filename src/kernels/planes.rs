//! Owns the change between images as tensors have them, `[channels, height, width]`, and as kernels
//! read and write them, pixel by pixel, with zeros around. Must not know: what is computed on either.

use super::isa::Isa;
use super::simd::{Kernel, Simd};

/// Pixels and channels that are exchanged at a time.
const SIDE: usize = 8;

/// Where an image lies in a map: `[height, width, stride]`, zero outside the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Rows of the map.
    pub height: usize,
    /// Pixels of a row of the map.
    pub width: usize,
    /// Floats from a pixel to the next, at least the channels.
    pub stride: usize,
    /// Rows of zeros above the image.
    pub top: usize,
    /// Pixels of zeros on its left.
    pub left: usize,
}

impl Frame {
    /// Floats of a map.
    pub(crate) fn len(&self) -> usize {
        self.height * self.width * self.stride
    }
}

/// Writes an image `[channels, height, width]` into the rows of a map from `first` on.
///
/// # Panics
/// Where the image doesn't lie inside the map: a bug of the caller.
pub(crate) fn frame(
    isa: Isa,
    image: &[f32],
    channels: usize,
    (height, width): (usize, usize),
    frame: Frame,
    (first, rows): (usize, &mut [f32]),
) {
    assert!(channels <= frame.stride && frame.top + height <= frame.height);
    assert!(frame.left + width <= frame.width && image.len() == channels * height * width);
    let line = (frame.width * frame.stride).max(1);
    assert!(rows.len().is_multiple_of(line) && first * line + rows.len() <= frame.len());
    let bare = channels == frame.stride && width == frame.width;
    for (at, row) in rows.chunks_exact_mut(line).enumerate() {
        let y = first + at;
        let inside = y >= frame.top && y < frame.top + height;
        if !inside || !bare {
            row.fill(0.0);
        }
        if !inside {
            continue;
        }
        let from = &image[(y - frame.top) * width..];
        let to = &mut row[frame.left * frame.stride..];
        let size = (channels, width);
        isa.run(Exchange {
            from,
            from_step: height * width,
            to,
            to_step: frame.stride,
            size,
            add: &[],
        });
    }
}

/// `to[j][i] = from[i][j]` for `size` rows and columns of `from`, plus `add[j]` where it has numbers.
struct Exchange<'a> {
    from: &'a [f32],
    from_step: usize,
    to: &'a mut [f32],
    to_step: usize,
    size: (usize, usize),
    add: &'a [f32],
}

impl Kernel for Exchange<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Exchange { from, from_step, to, to_step, size: (rows, columns), add } = self;
        let (whole_rows, whole_columns) = (rows / SIDE * SIDE, columns / SIDE * SIDE);
        assert!(rows == 0 || (rows - 1) * from_step + columns <= from.len());
        assert!(columns == 0 || (columns - 1) * to_step + rows <= to.len());
        assert!(add.is_empty() || add.len() == columns);
        let none = [0f32; SIDE];
        for j in (0..whole_columns).step_by(SIDE) {
            let add = if add.is_empty() { &none } else { &add[j..][..SIDE] };
            for i in (0..whole_rows).step_by(SIDE) {
                // SAFETY: whole blocks inside both, whose lengths were just checked.
                unsafe {
                    let from = (from.as_ptr().add(i * from_step + j), from_step);
                    let to = (to.as_mut_ptr().add(j * to_step + i), to_step);
                    s.transpose8(from, to, add.as_ptr());
                }
            }
        }
        for j in 0..columns {
            let first = if j < whole_columns { whole_rows } else { 0 };
            let add = add.get(j).copied().unwrap_or(0.0);
            for i in first..rows {
                to[j * to_step + i] = from[i * from_step + j] + add;
            }
        }
    }
}

/// A map of which an image takes some pixels, `step` apart both ways from `(top, left)` of the image on:
/// all of them, or one phase of four.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// Pixels of a row of the map.
    pub width: usize,
    /// Floats from a pixel of the map to the next.
    pub stride: usize,
    /// The map's channel that is the image's first.
    pub channel: usize,
    /// The image's row of the map's first.
    pub top: usize,
    /// The image's column of the map's first.
    pub left: usize,
    /// Rows and columns of the image from one of the map to the next.
    pub step: usize,
}

/// Writes planes of an image, `[planes, height, width]`, from a map, plus a number for each plane.
///
/// # Panics
/// Where the map has too few pixels or channels: a bug of the caller.
pub(crate) fn planes(
    isa: Isa,
    map: &[f32],
    phase: Phase,
    (height, width): (usize, usize),
    bias: &[f32],
    image: &mut [f32],
) {
    let Phase { stride, step, .. } = phase;
    assert!(phase.channel + bias.len() <= stride && image.len() == bias.len() * height * width);
    let columns = width.saturating_sub(phase.left).div_ceil(step);
    assert!(columns <= phase.width);
    for (row, y) in (phase.top..height).step_by(step).enumerate() {
        let row = &map[row * phase.width * stride..][..columns * stride];
        let first = y * width + phase.left;
        if step == 1 {
            let (from, to) = (&row[phase.channel..], &mut image[first..]);
            let size = (columns, bias.len());
            let to_step = height * width;
            isa.run(Exchange { from, from_step: stride, to, to_step, size, add: bias });
            continue;
        }
        for (c, bias) in bias.iter().enumerate() {
            let plane = &mut image[c * height * width + first..];
            let values = row.chunks_exact(stride).map(|pixel| pixel[phase.channel + c]);
            for (to, value) in plane.iter_mut().step_by(step).zip(values) {
                *to = value + bias;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Random;
    use super::*;

    #[test]
    fn an_image_comes_back_from_its_frame() {
        let mut random = Random::new(3);
        let isas = Isa::available();
        for case in 0..150 {
            let isa = isas[case % isas.len()];
            let (channels, height) = (random.below(20) + 1, random.below(40) + 1);
            let width = random.below(70) + 1;
            let image = random.floats(channels * height * width);
            let (top, left) = (random.below(3), random.below(3));
            let around = Frame {
                height: top + height + random.below(4),
                width: left + width + random.below(4),
                stride: channels + random.below(5),
                top,
                left,
            };
            let mut map = vec![7.0; around.len()];
            // Some rows first, then the others.
            let (above, below) =
                map.split_at_mut(random.below(around.height) * around.width * around.stride);
            let first = above.len() / (around.width * around.stride);
            frame(isa, &image, channels, (height, width), around, (0, above));
            frame(isa, &image, channels, (height, width), around, (first, below));
            for (at, value) in map.iter().enumerate() {
                let (pixel, c) = (at / around.stride, at % around.stride);
                let (y, x) = (pixel / around.width, pixel % around.width);
                let (y, x) = (y.wrapping_sub(top), x.wrapping_sub(left));
                let inside = y < height && x < width && c < channels;
                let want = if inside { image[(c * height + y) * width + x] } else { 0.0 };
                assert_eq!(*value, want);
            }
            let inner = &map[(top * around.width + left) * around.stride..];
            let whole = Phase {
                width: around.width,
                stride: around.stride,
                channel: 0,
                top: 0,
                left: 0,
                step: 1,
            };
            let mut back = vec![0.0; image.len()];
            planes(isa, inner, whole, (height, width), &vec![0.5; channels], &mut back);
            assert!(back.iter().zip(&image).all(|(a, b)| *a == *b + 0.5));
        }
    }

    #[test]
    fn four_phases_make_an_image_of_any_size() {
        let mut random = Random::new(4);
        let isa = Isa::available()[0];
        for _ in 0..50 {
            let (channels, height) = (random.below(5) + 1, random.below(9) + 1);
            let width = random.below(9) + 1;
            let (down, across) = (height.div_ceil(2), width.div_ceil(2));
            let stride = 4 * channels + random.below(3);
            let map = random.floats(down * across * stride);
            let mut image = vec![9.0; channels * height * width];
            for part in 0..4 {
                let (top, left, channel) = (part / 2, part % 2, part * channels);
                let phase = Phase { width: across, stride, channel, top, left, step: 2 };
                planes(isa, &map, phase, (height, width), &vec![0.0; channels], &mut image);
            }
            for (at, value) in image.iter().enumerate() {
                let (c, y, x) = (at / (height * width), at / width % height, at % width);
                let part = 2 * (y % 2) + x % 2;
                let from = (y / 2 * across + x / 2) * stride + part * channels + c;
                assert_eq!(*value, map[from]);
            }
        }
    }
}
