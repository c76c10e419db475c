//! Owns what one image shows in a few numbers: how many codes it takes, how common they are, how light,
//! how even and how sharp its picture is. Must not know: other images, what is concluded.

use super::blocks::{self, Blocks, Steps};
use super::evenness::{evenness, stripiness};
use super::picture::Picture;
use crate::audit::Grid;
use crate::audit::patterns::CommonCodes;

/// Share of a picture that a small thing takes at most.
pub(super) const FAR_BOX: f32 = 0.16;

/// An image in numbers. Those of a picture are NaN where there is none; lightness is 0 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Features {
    /// Tokens of its first level.
    pub tokens: f32,
    /// Different codes among them.
    pub unique_codes: f32,
    /// How evenly they lie: 1 of one colour; NaN of a grid without an inside.
    pub even: f32,
    /// How far they change in one direction alone.
    pub stripy: f32,
    /// Mean bits of a token by how common its code is in the set; NaN where that isn't known.
    pub bits: f32,
    /// The same of a token beside its left or upper neighbour.
    pub pair_bits: f32,
    /// Mean lightness.
    pub luma: f32,
    /// Logarithm of how far its colours spread.
    pub chroma_spread: f32,
    /// Logarithms of the variance of lightness: of pixels, of blocks the size of a token, of blocks twice
    /// as long, of quarters of the picture.
    pub spread: [f32; 4],
    /// Logarithms of the mean step between pixels side by side, and one above the other.
    pub steps: [f32; 2],
    /// How far the colours of blocks reach, the outermost blocks and the 2 % at either end left out.
    pub reach: f32,
    /// Lightness that 2 % of the blocks are below.
    pub darkest: f32,
    /// Lightness that 2 % of the blocks are above.
    pub lightest: f32,
    /// Lightness of the middle colour: that of an empty page.
    pub page_luma: f32,
    /// Share of the blocks in that colour.
    pub page_share: f32,
    /// Share of the blocks far from it.
    pub far_share: f32,
    /// Share of the picture that a rectangle around those takes.
    pub far_box: f32,
    /// How evenly the codes around it lie, where the page is grey and the rectangle small; 0 elsewhere.
    pub page_even: f32,
    /// Share of a side that is black bars at both ends, with straight edges.
    pub bars: f32,
    /// How much of the variance of blocks an even slope explains.
    pub slope: f32,
    /// The steepest steps between pixels in units of the picture's contrast.
    pub sharpness: f32,
}

impl Features {
    /// Of an image's first level and its picture; `common` knows how common codes are.
    pub(super) fn of(
        grid: &Grid,
        picture: Option<&Picture>,
        common: Option<&CommonCodes>,
    ) -> Features {
        let [bits, pair_bits] = match common {
            Some(common) => common.bits(grid),
            None => [f32::NAN; 2],
        };
        let tokens = Features {
            tokens: grid.codes.len() as f32,
            unique_codes: unique(&grid.codes) as f32,
            even: evenness(grid, None),
            stripy: stripiness(grid),
            bits,
            pair_bits,
            ..Features::unseen()
        };
        match picture {
            Some(picture) if picture.width * picture.height > 0 => tokens.seen(grid, picture),
            _ => tokens,
        }
    }

    /// Whether there was a picture.
    pub(super) fn is_seen(&self) -> bool {
        !self.luma.is_nan()
    }

    fn unseen() -> Features {
        const NONE: f32 = f32::NAN;
        Features {
            tokens: 0.0,
            unique_codes: 0.0,
            even: NONE,
            stripy: NONE,
            bits: NONE,
            pair_bits: NONE,
            luma: NONE,
            chroma_spread: NONE,
            spread: [NONE; 4],
            steps: [NONE; 2],
            reach: NONE,
            darkest: NONE,
            lightest: NONE,
            page_luma: NONE,
            page_share: NONE,
            far_share: NONE,
            far_box: NONE,
            page_even: NONE,
            bars: NONE,
            slope: NONE,
            sharpness: NONE,
        }
    }

    fn seen(self, grid: &Grid, picture: &Picture) -> Features {
        let pixels = Pixels::of(picture);
        let blocks = Blocks::of(picture, grid.height, grid.width);
        let steps = Steps::of(&pixels.luma, picture.width);
        let lumas = blocks.lumas();
        let [darkest, lightest] = ends(lumas.clone());
        let page = blocks.page();
        let page_even = match page.is_grey && page.far_box > 0.0 && page.far_box <= FAR_BOX {
            true => evenness(grid, Some(&blocks.around(&page.far, grid))),
            false => 0.0,
        };
        let bars = blocks::bars(&pixels.luma, picture.width, [blocks.height, blocks.width]);
        let spread = [
            pixels.luma_variance,
            variance(&lumas),
            variance(&blocks.pooled(2)),
            variance(&blocks.pooled(blocks.height.min(blocks.width) / 2)),
        ];
        let contrast = {
            let [low, high] = ends(pixels.luma);
            (high - low).max(8.0)
        };
        Features {
            luma: pixels.mean_luma,
            chroma_spread: (pixels.chroma_deviation + 2.0).ln(),
            spread: spread.map(|variance| (variance + 4.0).ln()),
            steps: steps.means.map(|mean| (mean + 0.5).ln()),
            reach: blocks.reach(),
            darkest,
            lightest,
            page_luma: page.luma,
            page_share: page.share,
            far_share: page.far_share,
            far_box: page.far_box,
            page_even,
            bars,
            slope: blocks.slope(),
            sharpness: steps.steepest / contrast,
            ..self
        }
    }
}

/// Lightness and colour of all pixels.
struct Pixels {
    luma: Vec<f32>,
    mean_luma: f32,
    luma_variance: f32,
    chroma_deviation: f32,
}

impl Pixels {
    fn of(picture: &Picture) -> Pixels {
        let luma: Vec<f32> = picture.rgb.chunks_exact(3).map(luma_of).collect();
        let count = luma.len() as f64;
        let (mut blue, mut red) = ([0.0_f64; 2], [0.0_f64; 2]);
        for (pixel, luma) in picture.rgb.chunks_exact(3).zip(&luma) {
            for (sums, channel) in [(&mut red, pixel[0]), (&mut blue, pixel[2])] {
                let difference = f64::from(f32::from(channel) - luma);
                sums[0] += difference;
                sums[1] += difference * difference;
            }
        }
        let spread = |[sum, squares]: [f64; 2]| squares / count - (sum / count).powi(2);
        let deviation = (spread(blue) + spread(red)).max(0.0).sqrt();
        let mean = luma.iter().map(|&luma| f64::from(luma)).sum::<f64>() / count;
        Pixels {
            mean_luma: mean as f32,
            luma_variance: variance(&luma),
            chroma_deviation: deviation as f32,
            luma,
        }
    }
}

/// Lightness of a pixel, as JPEG has it.
pub(super) fn luma_of(pixel: &[u8]) -> f32 {
    luma([pixel[0], pixel[1], pixel[2]].map(f32::from))
}

/// The same of a colour.
pub(super) fn luma(rgb: [f32; 3]) -> f32 {
    0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
}

/// The values that 2 % are below, and that 2 % are above; there is one at least.
pub(super) fn ends(mut values: Vec<f32>) -> [f32; 2] {
    let last = values.len() - 1;
    let low = last * 2 / 100;
    let [low, high] =
        [low, last - low].map(|at| *values.select_nth_unstable_by(at, f32::total_cmp).1);
    [low, high]
}

/// The variance of some values; 0 of none.
pub(super) fn variance(values: &[f32]) -> f32 {
    let count = values.len().max(1) as f64;
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let squares = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>();
    (squares / count) as f32
}

/// How many different codes there are.
fn unique(codes: &[u32]) -> usize {
    let mut sorted = codes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.len()
}

#[cfg(test)]
mod tests;
