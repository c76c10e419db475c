//! Owns the reference engine where its latents are looked at too: how far each is from getting another
//! code. Must not know: what it is compared with.

use candle_core::{Device, Tensor};

use super::candle::CandleEngine;
use super::interface::{Encoded, PixelBatch};
use crate::error::Result;
use crate::model::config::{Architecture, ModelConfig};
use crate::model::load_quantizer;
use crate::model::opened::Opened;
use crate::model::residual::ResidualQuantizer;

/// The reference engine on the CPU, in float32.
pub(crate) struct Reference {
    engine: CandleEngine,
    /// None where a model has several of them, or codes several scales.
    quantizer: Option<ResidualQuantizer>,
}

/// What goes into the quantizer, `[T, channels]`, and the codes of each level that come out.
pub(crate) struct Latents {
    rows: Vec<f32>,
    channels: usize,
    codes: Vec<Vec<u32>>,
}

impl Reference {
    /// Of an opened model.
    ///
    /// # Errors
    /// Damaged weights, a network that they don't make.
    pub(crate) fn open(opened: Opened) -> Result<Reference> {
        let quantizer = match &opened.config.architecture {
            Architecture::Vqvae2(_) => None,
            // A code of one scale changes what the next ones see.
            _ if opened.config.quantizer.scales.is_some() => None,
            // Each book has a part of a latent, and margins are of whole ones.
            _ if opened.config.quantizer.books > 1 => None,
            _ => {
                let vb = opened.weights.reader().var_builder(&Device::Cpu);
                Some(load_quantizer(&opened.config, &vb)?)
            }
        };
        Ok(Reference { engine: CandleEngine::open(opened, &Device::Cpu)?, quantizer })
    }

    /// What it is.
    pub(crate) fn config(&self) -> &ModelConfig {
        use super::interface::Engine;
        self.engine.config()
    }

    /// Codes and latents of a batch.
    ///
    /// # Errors
    /// A batch or a model that doesn't suit.
    pub(crate) fn encode(&self, batch: &PixelBatch) -> Result<(Encoded, Latents)> {
        let (encoded, latents) = self.engine.encode_with_latents(batch)?;
        let (mut rows, mut channels) = (Vec::new(), 0);
        // Residual levels share the first one's.
        for latents in latents.iter().filter_map(|levels| levels.first()) {
            channels = latents.dim(1)?;
            rows.extend(row_major(latents)?);
        }
        let codes = encoded.levels.iter().map(|level| level.codes.clone()).collect();
        Ok((encoded, Latents { rows, channels, codes }))
    }

    /// By level, how far the latents of `tokens` are from getting another code, as
    /// [`VectorQuantizer::margins`](crate::model::quantizer::VectorQuantizer::margins) says; None
    /// where that can't be said of this model.
    ///
    /// # Errors
    /// Codes that aren't this model's.
    pub(crate) fn margins(
        &self,
        latents: &Latents,
        tokens: &[Vec<usize>],
    ) -> Result<Option<Vec<Vec<f32>>>> {
        let Some(quantizer) = &self.quantizer else { return Ok(None) };
        let channels = latents.channels;
        let mut margins = Vec::with_capacity(tokens.len());
        for (index, (level, tokens)) in quantizer.levels().iter().zip(tokens).enumerate() {
            let mut rows = Vec::with_capacity(tokens.len() * channels);
            for &token in tokens {
                rows.extend_from_slice(&latents.rows[token * channels..][..channels]);
            }
            for (before, codes) in quantizer.levels()[..index].iter().zip(&latents.codes) {
                let codes: Vec<u32> = tokens.iter().map(|&token| codes[token]).collect();
                rows.iter_mut().zip(before.lookup(&codes)?).for_each(|(z, e)| *z -= e);
            }
            match level.margins(rows, channels) {
                Some(of_level) => margins.push(of_level),
                None => return Ok(None),
            }
        }
        Ok(Some(margins))
    }
}

/// `[1, D, h, w]` as `[h * w, D]`.
fn row_major(latents: &Tensor) -> Result<Vec<f32>> {
    Ok(latents.permute((0, 2, 3, 1))?.contiguous()?.flatten_all()?.to_vec1()?)
}
