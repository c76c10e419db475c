//! Owns how far latents are from getting another code. Must not know: how codes are found.

use rayon::prelude::*;

use super::{ROWS, SearchTable, VectorQuantizer, dot_block, normalise_rows};
use crate::model::config::QuantizerRule;

impl VectorQuantizer {
    /// Of each of the latents `z`, `[T, channels]`, the distance to the boundary between its best code
    /// and its second best, as a share of its length: as much as it has to move before it gets
    /// another code. None for rules whose boundaries aren't such planes, and where there is one code.
    pub(crate) fn margins(&self, mut z: Vec<f32>, channels: usize) -> Option<Vec<f32>> {
        if self.config.codes < 2 || channels == 0 {
            return None;
        }
        match (self.config.rule, &self.search) {
            (QuantizerRule::Sign | QuantizerRule::SignHigh, _) => {
                Some(z.chunks_exact(channels).map(|z| of_signs(z) as f32).collect())
            }
            (QuantizerRule::Logits, _) => {
                Some(z.chunks_exact(channels).map(|z| of_logits(z) as f32).collect())
            }
            (rule, Some(table)) if table.dim == channels => {
                if rule == QuantizerRule::L2Normalised {
                    normalise_rows(&mut z, channels);
                }
                Some(z.par_chunks(ROWS * channels).flat_map_iter(|z| table.margins(z)).collect())
            }
            _ => None,
        }
    }
}

fn length(z: impl Iterator<Item = f64>) -> f64 {
    // Of nothing every share is the largest there is.
    z.map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE)
}

fn wide(z: &[f32]) -> impl Iterator<Item = f64> + '_ {
    z.iter().map(|&x| f64::from(x))
}

fn of_signs(z: &[f32]) -> f64 {
    wide(z).map(f64::abs).fold(f64::INFINITY, f64::min) / length(wide(z))
}

fn of_logits(z: &[f32]) -> f64 {
    let (mut best, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
    for x in wide(z) {
        (best, second) = if x > best { (x, best) } else { (best, second.max(x)) };
    }
    (best - second) / std::f64::consts::SQRT_2 / length(wide(z))
}

impl SearchTable {
    /// Of up to ROWS rows.
    fn margins(&self, z: &[f32]) -> Vec<f32> {
        let count = z.len() / self.dim;
        let row = |r: usize| &z[r.min(count - 1) * self.dim..][..self.dim];
        let rows: [&[f32]; ROWS] = std::array::from_fn(row);
        let mut lowest = [[(f32::INFINITY, 0); 2]; ROWS];
        for (block, codes) in self.packed.chunks_exact(self.dim * super::LANES).enumerate() {
            for (two, dots) in lowest.iter_mut().zip(dot_block(&rows, codes)) {
                for (lane, dot) in dots.into_iter().enumerate() {
                    let code = block * super::LANES + lane;
                    let score = self.offset[code] + self.factor * dot;
                    if score < two[0].0 {
                        *two = [(score, code), two[0]];
                    } else if score < two[1].0 {
                        two[1] = (score, code);
                    }
                }
            }
        }
        let margin =
            |(z, [(_, a), (_, b)]): (&&[f32], &[(f32, usize); 2])| self.margin(z, *a, *b) as f32;
        rows.iter().zip(&lowest).take(count).map(margin).collect()
    }

    /// From `z` to the plane on which two codes are as good, in float64: their scores are nearly equal.
    fn margin(&self, z: &[f32], a: usize, b: usize) -> f64 {
        let factor = f64::from(self.factor);
        let score = |code| {
            let dot: f64 = wide(z).zip(self.vector(code)).map(|(z, e)| z * e).sum();
            f64::from(self.offset[code]) + factor * dot
        };
        let between = length(self.vector(a).zip(self.vector(b)).map(|(a, b)| a - b));
        (score(b) - score(a)).abs() / (factor.abs() * between * length(wide(z)))
    }

    fn vector(&self, code: usize) -> impl Iterator<Item = f64> + '_ {
        let lanes = super::LANES;
        let first = code / lanes * self.dim * lanes + code % lanes;
        (0..self.dim).map(move |d| f64::from(self.packed[first + d * lanes]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::QuantizerConfig;

    fn quantizer(rule: QuantizerRule, book: &[f32], dim: usize) -> VectorQuantizer {
        let config = QuantizerConfig::new(rule, book.len() / dim, dim);
        VectorQuantizer::new(&config, Some(book.to_vec()), None).unwrap()
    }

    #[test]
    fn a_margin_is_the_way_to_the_plane_between_two_codes() {
        // Codes at 0, 4 and 20 on a line: the planes lie at 2 and 12.
        let l2 = quantizer(QuantizerRule::L2, &[0.0, 0.0, 4.0, 0.0, 20.0, 0.0], 2);
        let z = vec![3.0, 4.0, 2.0, 0.0, 12.5, 0.0, 1.0, 0.0, 30.0, 40.0];
        let margins = l2.margins(z, 2).unwrap();
        let wanted = [0.2, 0.0, 0.04, 1.0, 0.36];
        margins.iter().zip(wanted).for_each(|(m, w)| assert!((m - w).abs() < 1e-6, "{margins:?}"));
        // At equal angles from both unit vectors.
        let unit = quantizer(QuantizerRule::L2Normalised, &[2.0, 0.0, 0.0, 1.0], 2);
        let margins = unit.margins(vec![5.0, 5.0, 1.0, 0.0], 2).unwrap();
        assert!(margins[0].abs() < 1e-6 && (margins[1] - 0.5f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn signs_and_logits_have_margins_and_one_code_has_none() {
        assert!((of_signs(&[3.0, -4.0]) - 0.6).abs() < 1e-12);
        assert!((of_logits(&[0.0, 3.0, 4.0]) - 1.0 / 2f64.sqrt() / 5.0).abs() < 1e-12);
        assert_eq!(quantizer(QuantizerRule::L2, &[1.0], 1).margins(vec![1.0], 1), None);
    }
}
