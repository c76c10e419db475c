//! Owns DALL-E's dVAE around its network: codes as the largest logit, which need no codebook.

use candle_core::Tensor;
use candle_nn::var_builder::VarBuilder;

use super::autoencoder::Autoencoder;
use super::codec::{CodeLevel, Codec, EncodedLevel, Network, quantize_map};
use super::config::{Architecture, DalleConfig};
use super::residual::ResidualQuantizer;
use super::topology::Io;
use crate::error::{Error, Result};

/// The network with what stands between its halves.
pub(crate) struct Dalle {
    network: Autoencoder,
    input: Option<OneHot>,
    quantizer: ResidualQuantizer,
}

/// The decoder's first layer, a 1x1 convolution of one-hot codes: column `code` of
/// `[init, K, 1, 1]`, kept as rows.
struct OneHot {
    rows: Tensor,
    bias: Tensor,
}

impl Dalle {
    /// Reads what `config.parts` names.
    pub(crate) fn load(
        vb: VarBuilder,
        config: &DalleConfig,
        io: Io,
        quantizer: ResidualQuantizer,
    ) -> Result<Dalle> {
        let network = Autoencoder::load(vb.clone(), &Architecture::Dalle(config.clone()), io)?;
        let input = || -> Result<OneHot> {
            let (vb, codes) = (vb.pp("decoder.blocks.input"), quantizer.config().codes);
            let columns = vb.get((config.init, codes, 1, 1), "w")?;
            let rows = columns.reshape((config.init, codes))?.t()?.contiguous()?;
            Ok(OneHot { rows, bias: vb.get(config.init, "b")? })
        };
        let input = config.parts.decoder().then(input).transpose()?;
        Ok(Dalle { network, input, quantizer })
    }
}

impl OneHot {
    /// `[batch, init, h, w]`
    fn forward(&self, batch: usize, level: &CodeLevel) -> candle_core::Result<Tensor> {
        let CodeLevel { codes, height, width } = *level;
        let codes = Tensor::new(codes, self.rows.device())?;
        let rows = self.rows.index_select(&codes, 0)?.broadcast_add(&self.bias)?;
        let init = self.bias.elem_count();
        rows.reshape((batch, height, width, init))?.permute((0, 3, 1, 2))?.contiguous()
    }
}

impl Codec for Dalle {
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        let logits = self.network.latents(x)?.ok_or_else(|| Error::internal("no encoder"))?;
        quantize_map(&self.quantizer, logits)
    }

    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        let input = self.input.as_ref().ok_or_else(|| Error::internal("no decoder"))?;
        self.quantizer.check(&levels.iter().map(|level| level.codes).collect::<Vec<_>>())?;
        self.network.decode(&input.forward(batch, &levels[0])?)
    }
}
