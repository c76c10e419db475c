//! Owns the contract of a model, images to codes and back, and how a network and a quantizer make
//! one.

use candle_core::{Device, Result as CandleResult, Tensor};

use super::finite;
use super::residual::ResidualQuantizer;
use crate::error::{Error, Result};

/// One level of an encoded batch.
#[derive(Debug, Clone)]
pub struct EncodedLevel {
    /// What went into the quantizer, `[B, D, h, w]` (dVAE: the logits); residual levels share what
    /// went into the first.
    pub latents: Tensor,
    /// `[B, h, w]`, row-major; of several scales, each image's one after another. `[B, h, w, D]` where a
    /// token is a list of bits.
    pub codes: Vec<u32>,
    /// Squared distances, same order; NaN where the rule has none.
    pub distances: Vec<f32>,
    /// Why the codes mean nothing, in one line, where something on the way to them isn't finite.
    pub unusable: Option<String>,
}

/// One level of codes to decode, `[B, h, w]` row-major; `[B, h, w, D]` where a token is a list of bits.
#[derive(Debug, Clone, Copy)]
pub struct CodeLevel<'a> {
    /// `B * height * width` codes, or lists of bits.
    pub codes: &'a [u32],
    /// h, in tokens.
    pub height: usize,
    /// w, in tokens.
    pub width: usize,
}

/// Images to codes and back: a network with its quantizer.
pub(crate) trait Codec: Send + Sync {
    /// Images `[B, C, H, W]`, already in the input range, to levels, the finest first.
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>>;

    /// Levels of codes of `batch` images, the finest first, to images `[B, C, H, W]` in the output
    /// range.
    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor>;
}

/// Both halves of a network, without the quantizer between them.
pub(crate) trait Network: Send + Sync {
    /// Images `[B, C, H, W]` to latents `[B, D, h, w]`; None where there is no encoder.
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>>;

    /// QuantizedModel latents `[B, D, h, w]` to images `[B, C, H, W]`; None where there is no decoder.
    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>>;
}

/// A network with its quantizer.
pub(crate) struct QuantizedModel<N> {
    /// The network.
    pub net: N,
    /// What stands between its halves.
    pub quantizer: ResidualQuantizer,
    /// Where the network's weights are.
    pub device: Device,
}

impl<N: Network> Codec for QuantizedModel<N> {
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        let latents = self.net.latents(x)?.ok_or_else(|| Error::internal("no encoder"))?;
        quantize_map(&self.quantizer, latents)
    }

    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        let q = lookup_map(&self.quantizer, batch, levels, &self.device)?;
        self.net.images(&q)?.ok_or_else(|| Error::internal("no decoder"))
    }
}

/// Quantizes `[B, D, h, w]`, residual level by residual level.
pub(crate) fn quantize_map(
    quantizer: &ResidualQuantizer,
    latents: Tensor,
) -> Result<Vec<EncodedLevel>> {
    let (_, channels, height, width) = latents.dims4()?;
    let rows = latents.permute((0, 2, 3, 1))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    let unusable = quantizer.unusable(&rows, channels);
    let rule = quantizer.config().rule;
    let level = |(codes, distances): (Vec<u32>, Vec<f32>)| EncodedLevel {
        latents: latents.clone(),
        unusable: unusable.clone().or_else(|| finite::distances(rule, &distances)),
        codes,
        distances,
    };
    Ok(quantizer.quantize(rows, channels, (height, width))?.into_iter().map(level).collect())
}

/// The sum of the vectors of the residual levels' codes, or of the scales', `[B, D, h, w]`.
pub(crate) fn lookup_map(
    quantizer: &ResidualQuantizer,
    batch: usize,
    levels: &[CodeLevel],
    device: &Device,
) -> Result<Tensor> {
    let (height, width) = levels.first().map_or((0, 0), |level| (level.height, level.width));
    for level in levels {
        if level.codes.len() != batch * height * width * quantizer.config().values() {
            return Err(Error::invalid(format!(
                "{} codes for {batch} grids of {height}x{width}",
                level.codes.len()
            )));
        }
    }
    let codes: Vec<&[u32]> = levels.iter().map(|level| level.codes).collect();
    let vectors = quantizer.lookup(&codes, (height, width))?;
    let dim = quantizer.config().dim;
    let latents = quantizer.config().latents_of((height, width));
    let (height, width) = latents.map_err(Error::invalid)?;
    let rows = Tensor::from_vec(vectors, (batch, height, width, dim), device)?;
    Ok(rows.permute((0, 3, 1, 2))?.contiguous()?)
}
