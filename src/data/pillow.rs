//! Owns Pillow's resampling (before version 13), bit for bit: two passes, horizontal first, 8-bit
//! between them, weights in 22-bit fixed point. Must not know: which rule asks for which size.
//!
//! After `src/libImaging/Resample.c` of Pillow 11. Only the columns and rows of the asked region
//! are computed; every pixel equals that of the whole picture.

use image::RgbImage;

use super::taps::{self, PRECISION, Taps};

/// The kernels that the published pipelines use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    /// 1 on (-0.5, 0.5].
    Box,
    /// The triangle on (-1, 1).
    Bilinear,
    /// Keys' cubic with a = -0.5.
    Bicubic,
    /// sinc(x) sinc(x/3) on [-3, 3).
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Filter::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Filter::Bilinear => (1.0 - x.abs()).max(0.0),
            Filter::Bicubic => bicubic(x.abs()),
            Filter::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Filter::Lanczos => 0.0,
        }
    }
}

fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// A rectangle of an output picture, in its pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Region {
    pub(super) x: u64,
    pub(super) y: u64,
    pub(super) width: u32,
    pub(super) height: u32,
}

/// The `region` of `image` resized to `width` x `height`. The region must lie inside that size.
pub(super) fn resize(
    image: &RgbImage,
    width: u64,
    height: u64,
    filter: Filter,
    region: Region,
) -> RgbImage {
    let (source_width, source_height) = (image.width() as usize, image.height() as usize);
    let columns = (u64::from(image.width()) != width)
        .then(|| Weights::new(source_width, width, filter, region.x, region.width));
    let rows = (u64::from(image.height()) != height)
        .then(|| Weights::new(source_height, height, filter, region.y, region.height));

    // The source rows that the vertical pass reads.
    let (first, last) = match &rows {
        Some(rows) => rows.span(),
        None => (region.y as usize, region.y as usize + region.height as usize),
    };
    let stride = source_width * 3;
    let source = &image.as_raw()[first * stride..last * stride];
    let out_stride = region.width as usize * 3;
    let between: Vec<u8> = match &columns {
        Some(columns) => horizontal(source, stride, columns, out_stride),
        None => {
            let start = region.x as usize * 3;
            source
                .chunks_exact(stride)
                .flat_map(|row| &row[start..start + out_stride])
                .copied()
                .collect()
        }
    };
    let data = match &rows {
        Some(rows) => vertical(&between, out_stride, first, rows),
        None => between,
    };
    RgbImage::from_raw(region.width, region.height, data)
        .expect("both passes fill region.width * region.height pixels")
}

/// For each output position the source positions it is made of and their weights.
struct Weights {
    /// First source position and number of taps.
    bounds: Vec<(usize, usize)>,
    /// `taps` entries a position, zero behind its own number.
    values: Vec<i32>,
    taps: usize,
}

impl Weights {
    /// `count` positions from `start` on, of `size` positions made from `source` ones.
    fn new(source: usize, size: u64, filter: Filter, start: u64, count: u32) -> Weights {
        let scale = source as f64 / size as f64;
        let filter_scale = scale.max(1.0);
        let support = filter.support() * filter_scale;
        let inverse = 1.0 / filter_scale;
        let taps = support.ceil() as usize * 2 + 1;
        let mut bounds = Vec::with_capacity(count as usize);
        let mut values = vec![0; taps * count as usize];
        let mut exact = vec![0.0; taps];
        for (position, values) in (start..).zip(values.chunks_exact_mut(taps)) {
            let center = (position as f64 + 0.5) * scale;
            let low = ((center - support + 0.5) as i64).max(0);
            let high = ((center + support + 0.5) as i64).min(source as i64);
            let count = (high - low) as usize;
            let mut sum = 0.0;
            for (x, weight) in exact[..count].iter_mut().enumerate() {
                *weight = filter.weight(((x as i64 + low) as f64 - center + 0.5) * inverse);
                sum += *weight;
            }
            for (value, weight) in values.iter_mut().zip(&exact[..count]) {
                let weight = if sum == 0.0 { *weight } else { weight / sum };
                let half = if weight < 0.0 { -0.5 } else { 0.5 };
                *value = (half + weight * f64::from(1u32 << PRECISION)) as i32;
            }
            bounds.push((low as usize, count));
        }
        Weights { bounds, values, taps }
    }

    /// The first source position that is read, and the one behind the last.
    fn span(&self) -> (usize, usize) {
        let first = self.bounds.first().map_or(0, |bound| bound.0);
        let last = self.bounds.last().map_or(0, |bound| bound.0 + bound.1);
        (first, last)
    }
}

impl Taps for Weights {
    fn taps(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.bounds
            .iter()
            .zip(self.values.chunks_exact(self.taps))
            .map(|(&(low, count), values)| (low, &values[..count]))
    }
}

fn horizontal(source: &[u8], stride: usize, columns: &Weights, out_stride: usize) -> Vec<u8> {
    let mut out = vec![0; source.len() / stride * out_stride];
    taps::across(source, stride, columns, &mut out, out_stride);
    out
}

fn vertical(source: &[u8], stride: usize, first: usize, rows: &Weights) -> Vec<u8> {
    let mut out = vec![0; stride * rows.bounds.len()];
    for ((low, weights), out) in rows.taps().zip(out.chunks_exact_mut(stride)) {
        taps::down(&source[(low - first) * stride..], weights, out);
    }
    out
}
