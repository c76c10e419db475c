//! Owns a picture in blocks the size of its tokens: how far their colours reach, the page they lie on,
//! bars, slopes; and the steps between its pixels. Must not know: tokens, what is concluded.

use super::evenness::Part;
use super::features::{ends, luma};
use super::picture::Picture;
use crate::audit::Grid;

/// Blocks a side at most, and where tokens say too few, this many.
const SIDE_MAX: usize = 32;
const SIDE_MIN: usize = 4;
const SIDE: usize = 8;
/// Colours that are one.
const SAME: f32 = 12.0;
/// Colours that are clearly two.
const FAR: f32 = 24.0;
/// Lightness above which a pixel isn't of a black bar.
const LIT: f32 = 36.0;
/// Share of an edge that is straight where a bar ends: shapes on black have no such edges.
const STRAIGHT: f32 = 0.8;

/// Mean colours of blocks, row by row.
pub(super) struct Blocks {
    pub(super) height: usize,
    pub(super) width: usize,
    colours: Vec<[f32; 3]>,
}

/// The middle colour as an empty page.
pub(super) struct Page {
    pub(super) luma: f32,
    pub(super) share: f32,
    pub(super) far_share: f32,
    pub(super) far_box: f32,
    /// That rectangle, in blocks.
    pub(super) far: Part,
    pub(super) is_grey: bool,
}

impl Blocks {
    /// A picture with a pixel at least, in about as many blocks as it has tokens.
    pub(super) fn of(picture: &Picture, height: usize, width: usize) -> Blocks {
        let few = height.min(width) < SIDE_MIN;
        let side = |tokens: usize, pixels: usize| {
            let side = if few { SIDE } else { tokens.min(SIDE_MAX) };
            side.min(pixels)
        };
        let (height, width) = (side(height, picture.height), side(width, picture.width));
        let columns: Vec<usize> = (0..picture.width).map(|x| x * width / picture.width).collect();
        let mut sums = vec![[0.0_f32; 4]; height * width];
        for (y, line) in picture.rgb.chunks_exact(3 * picture.width).enumerate() {
            let row = &mut sums[y * height / picture.height * width..][..width];
            for (pixel, &column) in line.chunks_exact(3).zip(&columns) {
                let sum = &mut row[column];
                (0..3).for_each(|c| sum[c] += f32::from(pixel[c]));
                sum[3] += 1.0;
            }
        }
        let colours = sums.iter().map(|[r, g, b, count]| [r / count, g / count, b / count]);
        Blocks { height, width, colours: colours.collect() }
    }

    /// Lightness of each.
    pub(super) fn lumas(&self) -> Vec<f32> {
        self.colours.iter().map(|&colour| luma(colour)).collect()
    }

    /// Lightness of squares of so many blocks a side; those at the end that are no square are left out.
    pub(super) fn pooled(&self, side: usize) -> Vec<f32> {
        let (side, lumas) = (side.max(1), self.lumas());
        let mut pooled = Vec::new();
        for y in (0..self.height / side).map(|y| y * side) {
            for x in (0..self.width / side).map(|x| x * side) {
                let rows = (y..y + side).map(|y| &lumas[y * self.width + x..][..side]);
                pooled.push(rows.flatten().sum::<f32>() / (side * side) as f32);
            }
        }
        pooled
    }

    /// How far the colours reach, the outermost blocks (decoders err there) and both ends left out.
    pub(super) fn reach(&self) -> f32 {
        let inner = |side: usize| if side >= 6 { 1..side - 1 } else { 0..side };
        let reach = |channel: usize| {
            let rows = inner(self.height).map(|y| &self.colours[y * self.width..][..self.width]);
            let values = rows.flat_map(|row| row[inner(self.width)].iter());
            let [low, high] = ends(values.map(|colour| colour[channel]).collect());
            high - low
        };
        (0..3).map(reach).fold(0.0, f32::max)
    }

    /// The middle colour, what lies on it, and how much of the picture that takes.
    pub(super) fn page(&self) -> Page {
        let middle = [0, 1, 2].map(|channel| {
            let mut values: Vec<f32> = self.colours.iter().map(|colour| colour[channel]).collect();
            let at = values.len() / 2;
            *values.select_nth_unstable_by(at, f32::total_cmp).1
        });
        let count = self.colours.len() as f32;
        let (mut same, mut far) = (0.0, 0.0);
        let (mut rows, mut columns) = ([usize::MAX, 0], [usize::MAX, 0]);
        for (at, &colour) in self.colours.iter().enumerate() {
            let distance = apart(colour, middle);
            same += f32::from(u8::from(distance <= SAME));
            if distance > FAR {
                far += 1.0;
                let (y, x) = (at / self.width, at % self.width);
                rows = [rows[0].min(y), rows[1].max(y + 1)];
                columns = [columns[0].min(x), columns[1].max(x + 1)];
            }
        }
        let length = |[start, end]: [usize; 2]| end.saturating_sub(start) as f32;
        let [low, high] =
            [middle.map(|c| -c), middle].map(|c| c.into_iter().fold(f32::MIN, f32::max));
        Page {
            luma: luma(middle),
            share: same / count,
            far_share: far / count,
            far_box: length(rows) * length(columns) / count,
            far: [rows[0]..rows[1], columns[0]..columns[1]],
            is_grey: high + low <= SAME,
        }
    }

    /// The tokens of some blocks and those beside them, which see them.
    pub(super) fn around(&self, part: &Part, grid: &Grid) -> Part {
        let sides = [(self.height, grid.height), (self.width, grid.width)];
        [0, 1].map(|way| {
            let (range, (blocks, tokens)) = (&part[way], sides[way]);
            let start = (range.start * tokens / blocks).saturating_sub(1);
            start..(range.end * tokens).div_ceil(blocks) + 1
        })
    }

    /// How much of the colours' variance an even slope explains, from 0 to 1.
    pub(super) fn slope(&self) -> f32 {
        let centre = |side: usize| (side as f32 - 1.0) / 2.0;
        let (mut all, mut explained) = (0.0, 0.0);
        for channel in 0..3 {
            let values = || self.colours.iter().map(|colour| colour[channel]);
            let mean = values().sum::<f32>() / self.colours.len() as f32;
            let mut sums = [[0.0; 2]; 2];
            for (at, value) in values().enumerate() {
                let place = [(at / self.width) as f32 - centre(self.height), {
                    (at % self.width) as f32 - centre(self.width)
                }];
                all += (value - mean).powi(2);
                for (sum, place) in sums.iter_mut().zip(place) {
                    sum[0] += place * (value - mean);
                    sum[1] += place * place;
                }
            }
            let of =
                |[with, places]: [f32; 2]| if places > 0.0 { with * with / places } else { 0.0 };
            explained += sums.map(of).iter().sum::<f32>();
        }
        if all > 0.0 { explained / all } else { 0.0 }
    }
}

/// The largest difference of a channel.
fn apart(a: [f32; 3], b: [f32; 3]) -> f32 {
    (0..3).map(|c| (a[c] - b[c]).abs()).fold(0.0, f32::max)
}

/// The share of a side that is black bars at both of its ends with straight edges; 0 for none. Of the
/// lightness of pixels, row by row, in so many blocks down and across.
pub(super) fn bars(luma: &[f32], width: usize, blocks: [usize; 2]) -> f32 {
    let height = luma.len() / width;
    let block = [height as f32 / blocks[0] as f32, width as f32 / blocks[1] as f32];
    let lying = bars_along([height, width], block[0], |depth, at| luma[depth * width + at]);
    lying.max(bars_along([width, height], block[1], |depth, at| luma[at * width + depth]))
}

fn bars_along([depth, length]: [usize; 2], block: f32, luma: impl Fn(usize, usize) -> f32) -> f32 {
    let edge = |turned: bool| {
        let lit = |at: usize, step: usize| {
            let step = if turned { depth - 1 - step } else { step };
            luma(step, at) > LIT
        };
        let first = |at: usize| (0..depth).find(|&step| lit(at, step)).unwrap_or(depth);
        let mut edges: Vec<usize> = (0..length).map(first).collect();
        edges.sort_unstable();
        let middle = edges[length / 2];
        let near = (block / 4.0).max(1.0);
        let straight = edges.iter().filter(|&&edge| edge.abs_diff(middle) as f32 <= near).count();
        let is_bar = straight as f32 >= STRAIGHT * length as f32;
        (is_bar && middle as f32 >= (0.75 * block).max(1.0)).then_some(middle)
    };
    match edge(false).zip(edge(true)) {
        Some((start, end)) if start + end < depth => (start + end) as f32 / depth as f32,
        _ => 0.0,
    }
}

/// Differences of lightness between neighbouring pixels.
pub(super) struct Steps {
    /// Mean of those side by side, and of those one above the other.
    pub(super) means: [f32; 2],
    /// What one in 500 is above, or the fourth of few.
    pub(super) steepest: f32,
}

impl Steps {
    /// Of a picture's lightness, row by row.
    pub(super) fn of(luma: &[f32], width: usize) -> Steps {
        // In sixteenths, so that they can be counted rather than sorted.
        let mut counts = vec![0_u32; 4097];
        let (mut sums, mut numbers) = ([0.0_f64; 2], [0_usize; 2]);
        let mut take = |way: usize, a: f32, b: f32| {
            let step = (a - b).abs();
            sums[way] += f64::from(step);
            numbers[way] += 1;
            counts[(step * 16.0) as usize] += 1;
        };
        luma.chunks_exact(width).for_each(|row| row.windows(2).for_each(|w| take(0, w[0], w[1])));
        luma.iter().zip(&luma[width..]).for_each(|(above, below)| take(1, *above, *below));
        let means = [0, 1].map(|way| (sums[way] / numbers[way].max(1) as f64) as f32);
        let rank = ((numbers[0] + numbers[1]) / 500).max(4) as u32;
        let mut above = 0;
        let steepest = counts.iter().rposition(|&count| {
            above += count;
            above >= rank
        });
        Steps { means, steepest: steepest.unwrap_or(0) as f32 / 16.0 }
    }
}
