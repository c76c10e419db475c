//! Owns the way from a network and a quantizer to a tokenizer, which most families share.
//! Must not know: layers, names.

use candle_core::{Device, Result as CandleResult, Tensor};

use super::residual::ResidualQuantizer;
use super::{CodeLevel, EncodedLevel, Tokenizer, lookup_map, quantize_map};
use crate::error::{Error, Result};

/// Both halves of a network, without the quantizer between them.
pub trait Network: Send + Sync {
    /// Images `[B, C, H, W]` to latents `[B, D, h, w]`; None where there is no encoder.
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>>;

    /// QuantizedModel latents `[B, D, h, w]` to images `[B, C, H, W]`; None where there is no decoder.
    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>>;
}

/// A network with its quantizer.
pub struct QuantizedModel<N> {
    /// The network.
    pub net: N,
    /// What stands between its halves.
    pub quantizer: ResidualQuantizer,
    /// Where the network's weights are.
    pub device: Device,
}

impl<N: Network> Tokenizer for QuantizedModel<N> {
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        let latents = self.net.latents(x)?.ok_or_else(|| Error::invalid("no encoder"))?;
        quantize_map(&self.quantizer, latents)
    }

    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        let q = lookup_map(&self.quantizer, batch, levels, &self.device)?;
        self.net.images(&q)?.ok_or_else(|| Error::invalid("no decoder"))
    }
}
