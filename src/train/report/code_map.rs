//! Owns the map of a codebook for the page: what codes look like, how often they are used, where
//! they lie.

use std::fmt::Write;

use base64::Engine as _;
use image::{Rgba, RgbaImage};

use super::pictures::of_unit;
use crate::data::contact_sheet::png;
use crate::error::Result;
use crate::train::evaluate::Evaluator;
use crate::util::charts::{Frame, codes_by_uses, rank_frequency};
use crate::util::html::{percent, short};
use crate::util::numbers;

/// Codes that are drawn, the most used first: more would make the page heavy and slow.
const SHOWN_MAX: usize = 1024;
/// Side of a tile of the mosaic, in pixels, at least.
const TILE_MIN: u32 = 12;
/// Pixels between tiles.
const GAP: u32 = 2;

/// The codes of a tokenizer over the images that it was judged on.
pub(crate) struct CodeMap {
    /// Residual levels: the map is of the first one's codes.
    depth: usize,
    /// Of all codes.
    uses: Vec<u64>,
    /// Drawn codes, most used first.
    shown: Vec<u32>,
    /// The middle of a field of each of them, `[C, f, f]` from 0 to 1.
    patches: Vec<f32>,
    factor: usize,
    channels: usize,
    /// Their places on the two main axes of all codes.
    places: Vec<(f64, f64)>,
    /// Shares of the codes' variance on these axes.
    explained: (f64, f64),
}

impl CodeMap {
    /// From an evaluator that has seen the images; `factor` pixels a token.
    pub(crate) fn new(evaluator: &Evaluator, factor: usize, channels: usize) -> Result<CodeMap> {
        let uses = evaluator.uses().to_vec();
        let mut shown: Vec<u32> = (0..).take(uses.len()).collect();
        shown.sort_by_key(|code| (std::cmp::Reverse(uses[*code as usize]), *code));
        shown.truncate(SHOWN_MAX);
        let patches = evaluator.patches(&shown, factor)?;
        let (vectors, dim) = evaluator.vectors()?;
        let (axes, explained) = main_axes(&vectors, dim);
        let place = |code: &u32| {
            let vector = &vectors[*code as usize * dim..][..dim];
            (dot(vector, &axes[0]), dot(vector, &axes[1]))
        };
        let places = shown.iter().map(place).collect();
        let depth = evaluator.depth();
        Ok(CodeMap { depth, uses, shown, patches, factor, channels, places, explained })
    }

    /// The section of the page; `images` is how many the uses are from.
    pub(crate) fn draw(&self, page: &mut String, images: usize) -> Result<()> {
        let used = self.uses.iter().filter(|n| **n > 0).count() as u64;
        let (codes, tokens) = (self.uses.len() as u64, self.uses.iter().sum::<u64>());
        let first = match self.depth {
            1 => String::new(),
            depth => format!(" of the first of {depth} levels"),
        };
        let _ = write!(
            page,
            "<h2>Codebook{first}</h2><p class=soft>{} of {} used ({}), over {} of {}.</p>",
            numbers::count(used),
            numbers::counted(codes, "code"),
            percent(used, codes),
            numbers::counted(tokens, "token"),
            numbers::counted(images, "image")
        );
        let part = match self.shown.len() < self.uses.len() {
            true => format!("the {} most used codes, ", numbers::count(self.shown.len() as u64)),
            false => "each code, ".into(),
        };
        let _ = write!(
            page,
            "<h3>What codes look like</h3><p class=soft>The middle of a field of {part}decoded; most \
             used first, unused ones faint.</p><img class=map alt=\"decoded codes\" src=\"{}\">",
            data_uri(&png(&self.mosaic())?)
        );
        let _ = write!(
            page,
            "<h3>Where they lie</h3><p class=soft>On the two main axes of the codes, {} % and {} % \
             of their variance; in the colour of their field, the area by their uses; unused ones \
             hollow.</p>",
            short((self.explained.0 * 1000.0).round() / 10.0),
            short((self.explained.1 * 1000.0).round() / 10.0)
        );
        self.scatter(page);
        page.push_str("<div class=charts><div class=card><h3>Uses by rank</h3>");
        rank_frequency(page, Frame::HALF, &self.ranks());
        page.push_str("</div><div class=card><h3>Codes by number of uses</h3>");
        codes_by_uses(page, Frame::HALF, &self.by_uses());
        page.push_str("</div></div>");
        Ok(())
    }

    fn patch(&self, index: usize) -> image::RgbImage {
        let size = self.channels * self.factor * self.factor;
        of_unit(&self.patches[index * size..][..size], self.channels, self.factor)
    }

    fn mosaic(&self) -> RgbaImage {
        let factor = self.factor as u32;
        let zoom = TILE_MIN.div_ceil(factor);
        let (tile, count) = (factor * zoom, self.shown.len() as u32);
        // About twice as wide as high.
        let columns = ((2 * count) as f64).sqrt().ceil().max(1.0) as u32;
        let (width, height) =
            (columns * (tile + GAP) - GAP, count.div_ceil(columns) * (tile + GAP));
        let mut mosaic = RgbaImage::new(width, height.saturating_sub(GAP).max(1));
        for (i, code) in self.shown.iter().enumerate() {
            let patch = self.patch(i);
            let alpha = if self.uses[*code as usize] > 0 { 255 } else { 56 };
            let (column, row) = (i as u32 % columns, i as u32 / columns);
            let (x0, y0) = (column * (tile + GAP), row * (tile + GAP));
            for (x, y) in (0..tile).flat_map(|x| (0..tile).map(move |y| (x, y))) {
                let [r, g, b] = patch.get_pixel(x / zoom, y / zoom).0;
                mosaic.put_pixel(x0 + x, y0 + y, Rgba([r, g, b, alpha]));
            }
        }
        mosaic
    }

    fn scatter(&self, page: &mut String) {
        let range = |pick: fn(&(f64, f64)) -> f64| {
            let values = || self.places.iter().map(pick);
            let (low, high) =
                values().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), v| (a.min(v), b.max(v)));
            (low, (high - low).max(1e-12))
        };
        let ((x0, wide), (y0, high)) = (range(|p| p.0), range(|p| p.1));
        let most = self.uses.iter().copied().max().unwrap_or(0).max(1) as f64;
        let _ = write!(page, "<svg viewBox=\"0 0 860 420\" role=img>");
        // The most used first, so that small dots lie on large ones.
        for (i, (code, (x, y))) in self.shown.iter().zip(&self.places).enumerate() {
            let uses = self.uses[*code as usize];
            let (x, y) = (24.0 + 812.0 * (x - x0) / wide, 396.0 - 372.0 * (y - y0) / high);
            if uses == 0 {
                let _ = write!(page, "<circle class=dead cx={x:.1} cy={y:.1} r=2 />");
                continue;
            }
            let patch = self.patch(i);
            let pixels = u64::from(patch.width() * patch.height());
            let mean = [0, 1, 2].map(|c| {
                patch
                    .pixels()
                    .map(|p| u64::from(p[c]))
                    .sum::<u64>()
                    .div_ceil(pixels.max(1))
                    .min(255)
            });
            let radius = 2.0 + 12.0 * (uses as f64 / most).sqrt();
            let _ = write!(
                page,
                "<circle class=code cx={x:.1} cy={y:.1} r={radius:.1} style=\"fill:#{:02x}{:02x}{:02x}\">\
                 <title>{code}: {}</title></circle>",
                mean[0],
                mean[1],
                mean[2],
                numbers::count(uses)
            );
        }
        page.push_str("</svg>");
    }

    /// (rank from 1, uses), at up to 200 ranks at equal steps of their logarithm.
    fn ranks(&self) -> Vec<(u64, u64)> {
        let mut uses = self.uses.clone();
        uses.sort_unstable_by_key(|n| std::cmp::Reverse(*n));
        let used = uses.iter().filter(|n| **n > 0).count();
        let mut ranks: Vec<usize> =
            (0..200).map(|i| (used as f64).powf(f64::from(i) / 199.0) as usize).collect();
        ranks.dedup();
        let ranks = ranks.into_iter().filter(|rank| (1..=used).contains(rank));
        ranks.map(|rank| (rank as u64, uses[rank - 1])).collect()
    }

    fn by_uses(&self) -> Vec<u64> {
        let mut bars = vec![0; 2];
        for uses in &self.uses {
            let bar = (u64::BITS - uses.leading_zeros()) as usize;
            bars.resize(bars.len().max(bar + 1), 0);
            bars[bar] += 1;
        }
        bars
    }
}

/// A PNG file as an address that needs no file.
pub(crate) fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", base64::engine::general_purpose::STANDARD.encode(png))
}

fn dot(vector: &[f32], axis: &[f64]) -> f64 {
    vector.iter().zip(axis).map(|(v, a)| f64::from(*v) * a).sum()
}

/// The two main axes of rows `[K, dim]` as unit vectors, and their shares of the variance, by power
/// iteration. Each axis points to where its largest component is positive.
fn main_axes(rows: &[f32], dim: usize) -> ([Vec<f64>; 2], (f64, f64)) {
    let count = (rows.len() / dim.max(1)).max(1) as f64;
    let mut mean = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count);
    }
    let mut covariance = vec![0.0; dim * dim];
    for row in rows.chunks_exact(dim) {
        let centred: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m).collect();
        for (line, a) in covariance.chunks_exact_mut(dim).zip(&centred) {
            line.iter_mut().zip(&centred).for_each(|(c, b)| *c += a * b / count);
        }
    }
    let total: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum::<f64>().max(f64::MIN_POSITIVE);
    let mut axis = || {
        let (axis, value) = largest(&covariance, dim);
        for (line, a) in covariance.chunks_exact_mut(dim).zip(&axis) {
            line.iter_mut().zip(&axis).for_each(|(c, b)| *c -= value * a * b);
        }
        (axis, value.max(0.0) / total)
    };
    let ((first, a), (second, b)) = (axis(), axis());
    ([first, second], (a, b))
}

/// The eigenvector of the largest eigenvalue of a symmetric matrix without negative ones, and that.
fn largest(matrix: &[f64], dim: usize) -> (Vec<f64>, f64) {
    // Any start that is not orthogonal to the answer; the powers of a number hardly ever are.
    let mut axis: Vec<f64> = (0..dim).map(|i| 0.9_f64.powi(i as i32)).collect();
    let mut value = 0.0;
    for _ in 0..300 {
        let next: Vec<f64> = matrix
            .chunks_exact(dim.max(1))
            .map(|line| line.iter().zip(&axis).map(|(m, a)| m * a).sum())
            .collect();
        value = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        if value <= 0.0 || !value.is_finite() {
            return (vec![0.0; dim], 0.0);
        }
        axis = next.into_iter().map(|v| v / value).collect();
    }
    let peak = axis.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).unwrap_or(0.0);
    if peak < 0.0 {
        axis.iter_mut().for_each(|v| *v = -*v);
    }
    (axis, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_axes_are_those_of_the_spread() {
        // Along (3, 4)/5 with a spread of 10, across it with 1, nothing in the third dimension.
        let rows: Vec<f32> = (0..100)
            .flat_map(|i| {
                let (a, b) = ((i % 10) as f32 - 4.5, ((i / 10) as f32 - 4.5) / 10.0);
                [a * 0.6 - b * 0.8 + 7.0, a * 0.8 + b * 0.6, 2.0]
            })
            .collect();
        let (axes, explained) = main_axes(&rows, 3);
        let close = |a: &[f64], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(close(&axes[0], [0.6, 0.8, 0.0]), "{axes:?}");
        assert!(close(&axes[1], [0.8, -0.6, 0.0]), "{axes:?}");
        assert!((explained.0 - 100.0 / 101.0).abs() < 1e-6, "{explained:?}");
        assert!((explained.1 - 1.0 / 101.0).abs() < 1e-6, "{explained:?}");
        // Codes that are all alike have no spread at all; one dimension has one axis.
        assert_eq!(main_axes(&[1.0; 12], 3).1, (0.0, 0.0));
        assert!(main_axes(&[1.0, 2.0, 5.0], 1).1.0 > 0.999);
    }

    fn map(uses: Vec<u64>, factor: usize, channels: usize) -> CodeMap {
        let shown: Vec<u32> = (0..uses.len() as u32).collect();
        let size = channels * factor * factor;
        CodeMap {
            patches: (0..shown.len() * size).map(|i| (i % 5) as f32 / 4.0).collect(),
            places: shown.iter().map(|c| (f64::from(*c), f64::from(c % 3))).collect(),
            depth: 1,
            uses,
            shown,
            factor,
            channels,
            explained: (0.5, 0.25),
        }
    }

    #[test]
    fn the_mosaic_shows_each_code_and_the_section_its_numbers() {
        let map = map(vec![1000, 4, 4, 1, 0], 4, 3);
        assert_eq!(map.ranks(), [(1, 1000), (2, 4), (3, 4), (4, 1)]);
        assert_eq!(map.by_uses()[..4], [1, 1, 0, 2]);
        assert_eq!(map.by_uses().iter().sum::<u64>(), 5);
        let mosaic = map.mosaic();
        // Four columns of 12 pixels and their gaps, two rows.
        assert_eq!(mosaic.dimensions(), (4 * 14 - 2, 2 * 14 - 2));
        assert_eq!(mosaic.get_pixel(12, 0).0, [0; 4]);
        assert_eq!(mosaic.get_pixel(3, 0).0[3], 255);
        assert_eq!(mosaic.get_pixel(0, 14).0[3], 56);
        let mut page = String::new();
        map.draw(&mut page, 9).unwrap();
        for words in ["4 of 5 codes used (80.00 %)", "1,009 tokens of 9 images", "50 % and 25 %"] {
            assert!(page.contains(words), "{words}: {page}");
        }
        assert_eq!(
            (page.matches("class=code").count(), page.matches("class=dead").count()),
            (4, 1)
        );
        let mut empty = String::new();
        super::tests::map(vec![0, 0], 8, 1).draw(&mut empty, 0).unwrap();
        assert!(empty.contains("0 of 2 codes used"));
    }
}
