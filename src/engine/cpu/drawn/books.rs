//! Holds codes against the codebooks that they came of: each the right one by its rule.

use candle_core::Tensor;

use super::model::Drawn;
use crate::model::config::{ModelConfig, QuantizerConfig, QuantizerRule};
use crate::model::fsq::Fsq;
use crate::model::quantizer::{normalise_rows, sign_bits, sign_bits_high};

/// Codebooks as each rule compares with them.
pub(super) struct Books<'a> {
    config: &'a ModelConfig,
    /// D of a code.
    length: usize,
    /// `[K, D]` of each level, as they are; empty for rules without.
    pub per_level: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

impl<'a> Books<'a> {
    pub(super) fn new(drawn: &'a Drawn) -> Books<'a> {
        let QuantizerConfig { rule, codes, .. } = drawn.config.quantizer;
        let length = drawn.config.quantizer.code_length();
        let floats = |tensor: &Tensor| -> Vec<f32> {
            tensor.flatten_all().expect("flat").to_vec1().expect("floats")
        };
        let weights = &drawn.weights;
        let transposed = |name: &str| {
            weights
                .get(name)
                .map(|embed| floats(&embed.t().expect("rows").contiguous().expect("rows")))
        };
        let name = match rule {
            QuantizerRule::Projection => "quantize.proj.weight",
            _ => "quantize.embedding.weight",
        };
        let mut per_level: Vec<Vec<f32>> = match weights.get(name) {
            Some(all) => floats(all).chunks_exact(codes * length).map(<[f32]>::to_vec).collect(),
            None => ["quantize_b.embed", "quantize_t.embed"]
                .into_iter()
                .filter_map(transposed)
                .collect(),
        };
        if rule == QuantizerRule::L2Normalised {
            per_level.iter_mut().for_each(|book| normalise_rows(book, length));
        }
        let bias = weights.get("quantize.proj.bias").map(floats).unwrap_or_default();
        Books { config: &drawn.config, length, per_level, bias }
    }

    /// Every level's codes, each of what the levels before it left over, or of its own part.
    pub(super) fn all_right(&self, latents: &[f32], codes: &[Vec<u32>]) -> Result<(), String> {
        if self.config.quantizer.books > 1 {
            let part = |book: usize| -> Vec<f32> {
                let rows = latents.chunks_exact(self.config.quantizer.dim);
                rows.flat_map(|z| &z[book * self.length..][..self.length]).copied().collect()
            };
            let mut books = codes.iter().enumerate();
            return books.try_for_each(|(book, codes)| self.right(book, &part(book), codes, 0.0));
        }
        let mut rest = latents.to_vec();
        for (level, codes) in codes.iter().enumerate() {
            self.right(level, &rest, codes, 0.0)?;
            if level + 1 < self.config.quantizer.depth {
                let dim = self.config.quantizer.dim;
                for (z, &code) in rest.chunks_exact_mut(dim).zip(codes) {
                    let e = &self.per_level[level][code as usize * dim..][..dim];
                    z.iter_mut().zip(e).for_each(|(z, e)| *z -= e);
                }
            }
        }
        Ok(())
    }

    /// Whether no code is better than the one that was found by more than the rounding of the
    /// scores in float32 can hide, and what latents that are off by `slack` of the largest add.
    pub(super) fn right(
        &self,
        level: usize,
        latents: &[f32],
        codes: &[u32],
        slack: f64,
    ) -> Result<(), String> {
        let wrong = match self.config.quantizer.rule {
            QuantizerRule::Sign
            | QuantizerRule::SignHigh
            | QuantizerRule::Fsq
            | QuantizerRule::Logits => self.first_other(latents, codes),
            _ => self.first_beaten(level, latents, codes, slack),
        };
        match wrong {
            Some(token) => Err(format!("level {level}, token {token}: not the rule's code")),
            None => Ok(()),
        }
    }

    /// The first token whose code isn't the only right one, of rules without rounding.
    fn first_other(&self, latents: &[f32], codes: &[u32]) -> Option<usize> {
        let mut all = latents.chunks_exact(latents.len() / codes.len()).zip(codes);
        if self.config.quantizer.values() > 1 {
            return all.position(|(z, &bit)| u32::from(z[0] > 0.0) != bit);
        }
        match self.config.quantizer.rule {
            QuantizerRule::Sign => all.position(|(z, &code)| sign_bits(z) != code),
            QuantizerRule::SignHigh => all.position(|(z, &code)| sign_bits_high(z) != code),
            QuantizerRule::Fsq => {
                let fsq = Fsq::new(&self.config.quantizer.levels).expect("levels");
                let right = fsq.codes_of(&fsq.round(latents));
                assert_eq!(right.len(), codes.len());
                right.iter().zip(codes).position(|(right, code)| right != code)
            }
            _ => {
                let best = |z: &[f32]| {
                    let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    z.iter().position(|&v| v == largest)
                };
                all.position(|(z, &code)| best(z) != Some(code as usize))
            }
        }
    }

    /// The first token of some for which another code is better, whatever rounding did.
    fn first_beaten(
        &self,
        level: usize,
        latents: &[f32],
        codes: &[u32],
        slack: f64,
    ) -> Option<usize> {
        let QuantizerConfig { rule, codes: count, .. } = self.config.quantizer;
        let dim = self.length;
        let mut latents = latents.to_vec();
        if rule == QuantizerRule::L2Normalised {
            normalise_rows(&mut latents, dim);
        }
        let largest = latents.iter().fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
        let moved = slack * largest * (dim as f64).sqrt();
        // All of a few tokens, not to take longer than the networks.
        let step = (codes.len() * count * dim / 400_000).max(1);
        let mut some = latents.chunks_exact(dim).zip(codes).enumerate().step_by(step);
        let beaten = some.find(|(_, (z, code))| {
            let (mine, reach) = self.score(level, z, **code as usize, moved);
            let scores = (0..count).map(|k| self.score(level, z, k, moved));
            let best = scores.map(|(s, reach)| s + reach).fold(f64::INFINITY, f64::min);
            mine - reach > best
        });
        beaten.map(|(token, _)| token)
    }

    /// Code `k`'s score for a latent and how far float32 may be from it, where the latent itself
    /// may be off by `moved`.
    fn score(&self, level: usize, z: &[f32], k: usize, moved: f64) -> (f64, f64) {
        let (rule, dim) = (self.config.quantizer.rule, self.length);
        let e = &self.per_level[level][k * dim..][..dim];
        let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
            z.iter().zip(e).map(|(&z, &e)| f(f64::from(z), f64::from(e))).sum()
        };
        let (zz, ee) = (sum(&|z, _| z * z), sum(&|_, e| e * e));
        let reach = (dim + 8) as f64 * f64::from(f32::EPSILON);
        match rule {
            QuantizerRule::Dot | QuantizerRule::Projection => {
                let bias = self.bias.get(k).map_or(0.0, |&b| f64::from(b));
                let size = (zz * ee).sqrt() + bias.abs();
                (-sum(&|z, e| z * e) - bias, reach * size + moved * ee.sqrt())
            }
            _ => {
                let size = zz.sqrt() + ee.sqrt();
                (sum(&|z, e| (z - e) * (z - e)), reach * size * size + 2.0 * moved * size)
            }
        }
    }
}
