//! Owns the step from latents to codes on this engine: the blocked search where the rule is one,
//! the reference quantizer for the rest. Must not know: networks.

use candle_core::Device;

use super::builder::Weights;
use super::families;
use super::kernels::{Buffer, Codebook, Level, nearest};
use super::maps::Shape;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, QuantizerRule};
use crate::model::quantizer::{Quantizer, normalise_rows};
use crate::model::{load_quantizer, weights};

/// The quantizer of a model, packed for this engine.
pub struct Coder {
    reference: Quantizer,
    rule: QuantizerRule,
    codes: usize,
    book: Option<Codebook>,
    /// What distances are measured to, `[K, D]`; empty for rules without.
    measured: Vec<f32>,
    /// What DALL-E's decoder starts with instead of a codebook, `[K, init]`.
    rows: Option<Vec<f32>>,
}

impl Coder {
    /// Reads the codebook, and the projection where the rule has one.
    pub fn new(level: Level, config: &ModelConfig, all: &Weights) -> Result<Coder> {
        let vb = weights::Weights::new(all.clone()).var_builder(&Device::Cpu);
        let reference = load_quantizer(config, &vb)?;
        let rule = config.quantizer.rule;
        let dim = config.quantizer.dim;
        let floats = |name: &str| -> Result<Vec<f32>> {
            let vb = vb.pp("quantize");
            Ok(vb.get_unchecked(name)?.flatten_all()?.to_vec1()?)
        };
        let mut measured = Vec::new();
        let book = match rule {
            QuantizerRule::L2 | QuantizerRule::L2Normalised | QuantizerRule::Dot => {
                measured = floats("embedding.weight")?;
                if rule == QuantizerRule::L2Normalised {
                    normalise_rows(&mut measured, dim);
                }
                Some(match rule {
                    QuantizerRule::Dot => Codebook::largest(level, &measured, dim, None),
                    _ => Codebook::nearest(level, &measured, dim),
                })
            }
            QuantizerRule::Projection if config.parts().encoder() => {
                let (weight, bias) = (floats("proj.weight")?, floats("proj.bias")?);
                let inputs = weight.len() / config.quantizer.codes;
                Some(Codebook::largest(level, &weight, inputs, Some(&bias)))
            }
            _ => None,
        };
        let dalle = matches!(config.architecture, Architecture::Dalle(_));
        let rows = (dalle && config.parts().decoder()).then(|| families::dalle_rows(all));
        let (rows, codes) = (rows.transpose()?, config.quantizer.codes);
        Ok(Coder { reference, rule, codes, book, measured, rows })
    }

    /// The vectors of codes as the decoder takes them, `[T, D]`.
    pub fn lookup(&self, codes: &[u32]) -> Result<Vec<f32>> {
        let Some(rows) = &self.rows else { return self.reference.lookup(codes) };
        self.reference.check(codes)?;
        let length = rows.len() / self.codes.max(1);
        Ok(codes
            .iter()
            .flat_map(|&code| &rows[code as usize * length..][..length])
            .copied()
            .collect())
    }

    /// Codes and squared distances of the latents `[h, w, stride]` (NaN for rules without one).
    pub fn quantize(
        &self,
        latents: &[f32],
        shape: Shape,
        codes: &mut [u32],
        distances: &mut [f32],
        scratch: &mut Buffer,
    ) -> Result<()> {
        let Shape { channels, stride, .. } = shape;
        let latents = &latents[..codes.len() * stride];
        let rows = || latents.chunks_exact(stride).flat_map(|row| &row[..channels]).copied();
        let Some(book) = &self.book else {
            let (found, measured) = self.reference.quantize(rows().collect(), channels)?;
            codes.copy_from_slice(&found);
            distances.copy_from_slice(&measured);
            return Ok(());
        };
        if book.dim() != channels {
            return Err(Error::invalid(format!(
                "the encoder gives {channels} channels where the quantizer takes {}: this checkpoint can decode only",
                book.dim()
            )));
        }
        let mut normalised = Vec::new();
        let (latents, stride) = if self.rule == QuantizerRule::L2Normalised {
            normalised.extend(rows());
            normalise_rows(&mut normalised, channels);
            (&normalised[..], channels)
        } else {
            (latents, stride)
        };
        nearest(book, latents, stride, codes, scratch);
        debug_assert!(codes.iter().all(|&code| (code as usize) < self.codes));
        if self.measured.is_empty() {
            distances.fill(f32::NAN);
            return Ok(());
        }
        for ((z, distance), &code) in latents.chunks_exact(stride).zip(distances).zip(&*codes) {
            let e = &self.measured[code as usize * channels..][..channels];
            let square = |(z, e): (&f32, &f32)| f64::from(z - e) * f64::from(z - e);
            *distance = z.iter().zip(e).map(square).sum::<f64>() as f32;
        }
        Ok(())
    }
}
