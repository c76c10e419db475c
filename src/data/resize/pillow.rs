//! Owns Pillow's resampling, bit for bit: two passes, 8-bit between them, weights in 22-bit fixed
//! point; horizontal first, except what version 13 does the other way round. Must not know: which
//! rule asks for which size.
//!
//! After `src/libImaging/Resample.c` of Pillow 11. Only the columns and rows of the asked region
//! are computed; every pixel equals that of the whole picture.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::data::resize::pillow_kernels;
use crate::data::resize::pillow_kernels::{PRECISION, Taps};
use crate::error::Error;

/// Which Pillow the rules that rest on it are equal to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub enum PillowVersion {
    /// Up to 12, which the published scripts ran on: horizontally first.
    #[default]
    Twelve,
    /// From 13 on: tall pictures vertically first.
    Thirteen,
}

impl PillowVersion {
    /// Whether a picture of `from` (width, height) becomes one of `to` vertically first: where it
    /// loses height, and more than twice as many rows as columns.
    fn vertical_first(self, from: (u32, u32), to: (u64, u64)) -> bool {
        // Both below 2^63: sizes of pictures are u32, those of results are bounded by the rules.
        let lost = |from: u32, to: u64| i64::from(from).saturating_sub_unsigned(to);
        let (columns, rows) = (lost(from.0, to.0), lost(from.1, to.1));
        self == PillowVersion::Thirteen && rows > 0 && rows > columns.saturating_mul(2)
    }
}

impl From<PillowVersion> for u32 {
    fn from(version: PillowVersion) -> u32 {
        match version {
            PillowVersion::Twelve => 12,
            PillowVersion::Thirteen => 13,
        }
    }
}

impl TryFrom<u32> for PillowVersion {
    type Error = Error;

    fn try_from(number: u32) -> Result<PillowVersion, Error> {
        match number {
            12 => Ok(PillowVersion::Twelve),
            13 => Ok(PillowVersion::Thirteen),
            _ => Err(Error::invalid(format!(
                "pillow {number}: use 12 (for every version up to it) or 13 (for those from it on)"
            ))),
        }
    }
}

impl FromStr for PillowVersion {
    type Err = Error;

    fn from_str(text: &str) -> Result<PillowVersion, Error> {
        let number: Option<u32> = text.parse().ok();
        number.map_or_else(
            || Err(Error::invalid(format!("pillow {text:?}: use 12 or 13"))),
            PillowVersion::try_from,
        )
    }
}

impl fmt::Display for PillowVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        u32::from(*self).fmt(f)
    }
}

/// The kernels that the published pipelines use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
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
pub(crate) struct Region {
    pub(crate) x: u64,
    pub(crate) y: u64,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// The `region` of `image` resized to `full` (width, height). The region must lie inside that size.
pub(crate) fn resize(
    image: &RgbImage,
    full: (u64, u64),
    filter: (Filter, PillowVersion),
    region: Region,
) -> RgbImage {
    let extent = (f64::from(image.width()), f64::from(image.height()));
    resize_extent(image, extent, full, filter, region)
}

/// The same of the part of `image` from its corner to `extent` (width, height), which may end within
/// a pixel.
pub(crate) fn resize_extent(
    image: &RgbImage,
    extent: (f64, f64),
    full: (u64, u64),
    (filter, version): (Filter, PillowVersion),
    region: Region,
) -> RgbImage {
    let (source_width, source_height) = (image.width() as usize, image.height() as usize);
    let unchanged =
        |source: u32, extent: f64, full: u64| u64::from(source) == full && extent == full as f64;
    let columns = (!unchanged(image.width(), extent.0, full.0))
        .then(|| FilterTaps::new((source_width, extent.0), full.0, filter, region.x, region.width));
    let rows = (!unchanged(image.height(), extent.1, full.1)).then(|| {
        FilterTaps::new((source_height, extent.1), full.1, filter, region.y, region.height)
    });

    // The source rows that the vertical pass reads.
    let (first, last) = match &rows {
        Some(rows) => rows.span(),
        None => (region.y as usize, region.y as usize + region.height as usize),
    };
    let stride = source_width * 3;
    let source = &image.as_raw()[first * stride..last * stride];
    let out_stride = region.width as usize * 3;
    let across = |source: &[u8]| match &columns {
        Some(columns) => horizontal(source, stride, columns, out_stride),
        None => cut(source, stride, region.x as usize * 3, out_stride),
    };
    let data = match &rows {
        Some(rows) if version.vertical_first(image.dimensions(), full) => {
            across(&vertical(source, stride, first, rows))
        }
        Some(rows) => vertical(&across(source), out_stride, first, rows),
        None => across(source),
    };
    #[allow(clippy::expect_used, reason = "the passes above make that many")]
    RgbImage::from_raw(region.width, region.height, data)
        .expect("both passes fill region.width * region.height pixels")
}

/// Pillow's `reduce`: the mean of each block of `factors` (across, down) pixels, by whole numbers as
/// it computes it; blocks at the edge are as large as is left. Without change where both are 1.
pub(crate) fn reduce(image: &RgbImage, factors: (u32, u32)) -> RgbImage {
    if factors == (1, 1) {
        return image.clone();
    }
    let (width, height) = image.dimensions();
    RgbImage::from_fn(width.div_ceil(factors.0), height.div_ceil(factors.1), |x, y| {
        let (left, top) = (x * factors.0, y * factors.1);
        let (right, bottom) = ((left + factors.0).min(width), (top + factors.1).min(height));
        let count = u64::from(right - left) * u64::from(bottom - top);
        let mut sums = [count / 2; 3];
        for (y, x) in (top..bottom).flat_map(|y| (left..right).map(move |x| (y, x))) {
            let pixel = image.get_pixel(x, y).0;
            sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += u64::from(value));
        }
        // A division by multiplying with the reciprocal in 24 bits.
        image::Rgb(sums.map(|sum| ((sum * ((1 << 24) / count)) >> 24) as u8))
    })
}

/// `out_stride` bytes from `start` on of each row.
fn cut(source: &[u8], stride: usize, start: usize, out_stride: usize) -> Vec<u8> {
    let rows = source.chunks_exact(stride);
    rows.flat_map(|row| &row[start..start + out_stride]).copied().collect()
}

/// For each output position the source positions it is made of and their weights.
struct FilterTaps {
    /// First source position and number of taps.
    bounds: Vec<(usize, usize)>,
    /// `taps` entries a position, zero behind its own number.
    values: Vec<i32>,
    taps: usize,
}

impl FilterTaps {
    /// `count` positions from `start` on, of `size` positions made from `extent` of `source` ones.
    fn new(
        (source, extent): (usize, f64),
        size: u64,
        filter: Filter,
        start: u64,
        count: u32,
    ) -> FilterTaps {
        let scale = extent / size as f64;
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
        FilterTaps { bounds, values, taps }
    }

    /// The first source position that is read, and the one after the last.
    fn span(&self) -> (usize, usize) {
        let first = self.bounds.first().map_or(0, |bound| bound.0);
        let last = self.bounds.last().map_or(0, |bound| bound.0 + bound.1);
        (first, last)
    }
}

impl Taps for FilterTaps {
    fn taps(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.bounds
            .iter()
            .zip(self.values.chunks_exact(self.taps))
            .map(|(&(low, count), values)| (low, &values[..count]))
    }
}

fn horizontal(source: &[u8], stride: usize, columns: &FilterTaps, out_stride: usize) -> Vec<u8> {
    let mut out = vec![0; source.len() / stride * out_stride];
    pillow_kernels::across(source, stride, columns, &mut out, out_stride);
    out
}

fn vertical(source: &[u8], stride: usize, first: usize, rows: &FilterTaps) -> Vec<u8> {
    let mut out = vec![0; stride * rows.bounds.len()];
    for ((low, weights), out) in rows.taps().zip(out.chunks_exact_mut(stride)) {
        pillow_kernels::down(&source[(low - first) * stride..], weights, out);
    }
    out
}
