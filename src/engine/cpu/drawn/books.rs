//! Holds codes against the codebooks that they came of: each the right one by its rule.

use candle_core::Tensor;

use super::model::Drawn;
use crate::model::config::{ModelConfig, QuantizerConfig, QuantizerRule};
use crate::model::fsq::Fsq;
use crate::model::quantizer::{normalise_rows, sign_bits};

/// Codebooks as each rule compares with them.
pub(super) struct Books<'a> {
    config: &'a ModelConfig,
    /// `[K, D]` of each level, as they are; empty for rules without.
    pub per_level: Vec<Vec<f32>>,
    bias: Vec<f32>,
}

impl<'a> Books<'a> {
    pub(super) fn new(drawn: &'a Drawn) -> Books<'a> {
        let QuantizerConfig { rule, codes, dim, .. } = drawn.config.quantizer;
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
            Some(all) => floats(all).chunks_exact(codes * dim).map(<[f32]>::to_vec).collect(),
            None => ["quantize_b.embed", "quantize_t.embed"]
                .into_iter()
                .filter_map(transposed)
                .collect(),
        };
        if rule == QuantizerRule::L2Normalised {
            per_level.iter_mut().for_each(|book| normalise_rows(book, dim));
        }
        let bias = weights.get("quantize.proj.bias").map(floats).unwrap_or_default();
        Books { config: &drawn.config, per_level, bias }
    }

    /// Every level's codes, each of what the levels before it left over.
    pub(super) fn all_right(&self, latents: &[f32], codes: &[Vec<u32>]) -> Result<(), String> {
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
        let QuantizerConfig { rule, codes: count, dim, .. } = self.config.quantizer;
        let wrong =
            |token: usize| Err(format!("level {level}, token {token}: not the rule's code"));
        let width = latents.len() / codes.len();
        match rule {
            QuantizerRule::Sign => {
                let all = latents.chunks_exact(width).zip(codes);
                return match all.into_iter().position(|(z, &code)| sign_bits(z) != code) {
                    Some(token) => wrong(token),
                    None => Ok(()),
                };
            }
            QuantizerRule::Fsq => {
                let fsq = Fsq::new(&self.config.quantizer.levels).expect("levels");
                return if fsq.codes_of(&fsq.round(latents)) == codes { Ok(()) } else { wrong(0) };
            }
            QuantizerRule::Logits => {
                let best = |z: &[f32]| {
                    let largest = z.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                    z.iter().position(|&v| v == largest)
                };
                let mut all = latents.chunks_exact(width).zip(codes);
                return match all.position(|(z, &code)| best(z) != Some(code as usize)) {
                    Some(token) => wrong(token),
                    None => Ok(()),
                };
            }
            _ => {}
        }
        let mut latents = latents.to_vec();
        if rule == QuantizerRule::L2Normalised {
            normalise_rows(&mut latents, dim);
        }
        let largest = latents.iter().fold(0.0, |most: f64, v| most.max(f64::from(v.abs())));
        let (unit, moved) = (f64::from(f32::EPSILON), slack * largest * (dim as f64).sqrt());
        let book = &self.per_level[level];
        // Score and how far float32 may be from it.
        let score = |z: &[f32], k: usize| -> (f64, f64) {
            let e = &book[k * dim..][..dim];
            let sum = |f: &dyn Fn(f64, f64) -> f64| -> f64 {
                z.iter().zip(e).map(|(&z, &e)| f(f64::from(z), f64::from(e))).sum()
            };
            let (zz, ee) = (sum(&|z, _| z * z), sum(&|_, e| e * e));
            let reach = (dim + 8) as f64 * unit;
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
        };
        // All of a few tokens, not to take longer than the networks.
        let step = (codes.len() * count * dim / 400_000).max(1);
        for (token, (z, &code)) in latents.chunks_exact(dim).zip(codes).enumerate().step_by(step) {
            let (mine, reach) = score(z, code as usize);
            let scores = (0..count).map(|k| score(z, k));
            let best = scores.map(|(s, reach)| s + reach).fold(f64::INFINITY, f64::min);
            if mine - reach > best {
                return wrong(token);
            }
        }
        Ok(())
    }
}
