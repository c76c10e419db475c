//! Owns OpenCV's `resize` for 8-bit images, bit for bit: INTER_LINEAR in 11-bit fixed point and
//! INTER_AREA. Must not know: which rule asks for which size.
//!
//! After `modules/imgproc/src/resize.cpp` of OpenCV 4.11.

use image::RgbImage;

const BITS: u32 = 11;
const ONE: i32 = 1 << BITS;

/// `cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)`: no antialiasing.
pub(crate) fn linear(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let (across, down) = (Axis::new(image.width(), width), Axis::new(image.height(), height));
    // OpenCV itself takes the exact half for an average.
    if across.whole_factor() == Some(2) && down.whole_factor() == Some(2) {
        return whole_blocks(image, width, height, 2, 2);
    }
    interpolate(image, &across.linear(), &down.linear())
}

/// `cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)`.
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "no published rule uses it yet; the goldens have it")
)]
pub(crate) fn area(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    if image.dimensions() == (width, height) {
        return image.clone();
    }
    let (across, down) = (Axis::new(image.width(), width), Axis::new(image.height(), height));
    if across.scale < 1.0 || down.scale < 1.0 {
        return interpolate(image, &across.area_linear(), &down.area_linear());
    }
    match (across.whole_factor(), down.whole_factor()) {
        (Some(x), Some(y)) => whole_blocks(image, width, height, x, y),
        _ => fractional_blocks(image, &across, &down),
    }
}

/// One dimension of a resize.
struct Axis {
    source: i32,
    size: i32,
    /// Source pixels a pixel, by way of the inverse, whose rounding OpenCV keeps.
    scale: f64,
    inverse: f64,
}

/// For a position: the two source positions (unclipped for rows) and their weights.
type Tap = (i32, [i32; 2]);

impl Axis {
    fn new(source: u32, size: u32) -> Axis {
        let inverse = f64::from(size) / f64::from(source);
        Axis { source: source as i32, size: size as i32, scale: 1.0 / inverse, inverse }
    }

    fn whole_factor(&self) -> Option<usize> {
        let whole = self.scale.round_ties_even();
        ((self.scale - whole).abs() < f64::EPSILON).then_some(whole as usize)
    }

    fn linear(&self) -> Vec<Tap> {
        self.taps(|position| {
            let at = ((f64::from(position) + 0.5) * self.scale - 0.5) as f32;
            let low = at.floor();
            (low as i32, at - low)
        })
    }

    fn area_linear(&self) -> Vec<Tap> {
        self.taps(|position| {
            let low = (f64::from(position) * self.scale).floor() as i32;
            let part = f64::from(position + 1) - f64::from(low + 1) * self.inverse;
            let part = part as f32;
            (low, if part <= 0.0 { 0.0 } else { part - part.floor() })
        })
    }

    fn taps(&self, place: impl Fn(i32) -> (i32, f32)) -> Vec<Tap> {
        let weight = |part: f32| (part * ONE as f32).round_ties_even() as i32;
        (0..self.size)
            .map(|position| {
                let (low, part) = place(position);
                (low, [weight(1.0 - part), weight(part)])
            })
            .collect()
    }
}

fn interpolate(image: &RgbImage, across: &[Tap], down: &[Tap]) -> RgbImage {
    let stride = image.width() as usize * 3;
    let columns = columns(across, image.width() as i32);
    let spread = |y: i32| {
        let y = y.clamp(0, image.height() as i32 - 1) as usize;
        spread(&image.as_raw()[y * stride..(y + 1) * stride], &columns)
    };
    let mut data = Vec::with_capacity(columns.len() * 3 * down.len());
    // The two rows of the place before, which most often are needed again.
    let mut kept: [(i32, Vec<i32>); 2] = [(i32::MIN, Vec::new()), (i32::MIN, Vec::new())];
    for &(low, [a, b]) in down {
        if kept[1].0 == low {
            kept.swap(0, 1);
        }
        for (kept, y) in kept.iter_mut().zip([low, low + 1]) {
            if kept.0 != y {
                *kept = (y, spread(y));
            }
        }
        // Down, the weights stay as they are outside, on the same row twice.
        data.extend(kept[0].1.iter().zip(&kept[1].1).map(|(&upper, &lower)| {
            let sum = ((a * (upper >> 4)) >> 16) + ((b * (lower >> 4)) >> 16) + 2;
            (sum >> 2).clamp(0, 255) as u8
        }));
    }
    #[allow(clippy::expect_used, reason = "the loops above make that many")]
    RgbImage::from_raw(columns.len() as u32, down.len() as u32, data)
        .expect("one pixel was made for each pair of places")
}

/// For a position: the places of two source pixels in the bytes of a row, and their weights.
type Column = (usize, usize, [i32; 2]);

/// Across, a place outside takes the border pixel alone.
fn columns(across: &[Tap], source_width: i32) -> Vec<Column> {
    let column = |&(low, weights): &Tap| match low {
        ..0 => (0, 0, [ONE, 0]),
        low if low >= source_width - 1 => {
            let last = (source_width - 1) as usize * 3;
            (last, last, [ONE, 0])
        }
        low => (low as usize * 3, low as usize * 3 + 3, weights),
    };
    across.iter().map(column).collect()
}

/// A row's weighted sums, `BITS` bits after the point.
fn spread(row: &[u8], columns: &[Column]) -> Vec<i32> {
    let mut out = Vec::with_capacity(columns.len() * 3);
    for &(left, right, [a, b]) in columns {
        for channel in 0..3 {
            let (p, q) = (i32::from(row[left + channel]), i32::from(row[right + channel]));
            out.push(p * a + q * b);
        }
    }
    out
}

fn whole_blocks(image: &RgbImage, width: u32, height: u32, across: usize, down: usize) -> RgbImage {
    let stride = image.width() as usize * 3;
    let scale = 1.0 / (across * down) as f32;
    let data = image.as_raw();
    RgbImage::from_fn(width, height, |x, y| {
        let start = y as usize * down * stride + x as usize * across * 3;
        image::Rgb([0, 1, 2].map(|channel| {
            let mut sum = 0u32;
            for line in 0..down {
                for column in 0..across {
                    sum += u32::from(data[start + line * stride + column * 3 + channel]);
                }
            }
            if across == 2 && down == 2 {
                ((sum + 2) >> 2) as u8
            } else {
                (sum as f32 * scale).round_ties_even() as u8
            }
        }))
    })
}

fn fractional_blocks(image: &RgbImage, across: &Axis, down: &Axis) -> RgbImage {
    let stride = image.width() as usize * 3;
    let columns = shares(across);
    let row_bytes = across.size as usize * 3;
    let mut data = Vec::with_capacity(row_bytes * down.size as usize);
    for line in shares(down).chunk_by(|a, b| a.0 == b.0) {
        let mut sum = vec![0f32; row_bytes];
        for (index, &(_, y, beta)) in line.iter().enumerate() {
            let row = &image.as_raw()[y * stride..(y + 1) * stride];
            let mut buffer = vec![0f32; row_bytes];
            for &(to, from, alpha) in &columns {
                for channel in 0..3 {
                    buffer[to * 3 + channel] += f32::from(row[from * 3 + channel]) * alpha;
                }
            }
            for (sum, value) in sum.iter_mut().zip(buffer) {
                *sum = if index == 0 { beta * value } else { *sum + beta * value };
            }
        }
        data.extend(sum.iter().map(|sum| sum.round_ties_even() as u8));
    }
    #[allow(clippy::expect_used, reason = "the loops above make that many")]
    RgbImage::from_raw(across.size as u32, down.size as u32, data)
        .expect("every place has at least one share")
}

/// (place, source position, share) in order, as `computeResizeAreaTab` makes them.
fn shares(axis: &Axis) -> Vec<(usize, usize, f32)> {
    let mut out = Vec::new();
    for place in 0..axis.size {
        let start = f64::from(place) * axis.scale;
        let end = start + axis.scale;
        let cell = axis.scale.min(f64::from(axis.source) - start);
        let last = (end.floor() as i32).min(axis.source - 1);
        let first = (start.ceil() as i32).min(last);
        let mut push = |source: i32, share: f64| {
            out.push((place as usize, source as usize, share as f32));
        };
        if f64::from(first) - start > 1e-3 {
            push(first - 1, (f64::from(first) - start) / cell);
        }
        for source in first..last {
            push(source, 1.0 / cell);
        }
        if end - f64::from(last) > 1e-3 {
            push(last, (end - f64::from(last)).min(1.0).min(cell) / cell);
        }
    }
    out
}
