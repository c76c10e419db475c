//! Owns DALL-E's dVAE (Ramesh et al. 2021, openai/DALL-E): four groups of bottleneck blocks on each
//! side, codes as the largest logit. Must not know: published names, files, threads.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::blocks::{Conv2d, ConvSpec, double_nearest};
use super::config::DalleConfig;
use super::conv::relu;
use super::pool::max_pool2;
use super::residual::ResidualQuantizer;
use super::{CodeLevel, EncodedLevel, Tokenizer, quantize_map};
use crate::error::{Error, Result};

fn conv(vb: VarBuilder, c_in: usize, c_out: usize, kernel: usize) -> CandleResult<Conv2d> {
    Conv2d::load_named(vb, ["w", "b"], c_in, c_out, ConvSpec::same(kernel))
}

/// id(x) + gain * res(x), a ReLU before each of the four convolutions.
struct Block {
    id_path: Option<Conv2d>,
    res_path: [Conv2d; 4],
    gain: f64,
}

impl Block {
    /// `kernels` are those of conv_1 to conv_4; the middle is four times narrower than `c_out`.
    fn load(
        vb: VarBuilder,
        [c_in, c_out]: [usize; 2],
        kernels: [usize; 4],
        gain: f64,
    ) -> CandleResult<Block> {
        let hidden = c_out / 4;
        let res = vb.pp("res_path");
        let layer = |i: usize, c_in: usize, c_out: usize| {
            conv(res.pp(format!("conv_{}", i + 1)), c_in, c_out, kernels[i])
        };
        Ok(Block {
            id_path: (c_in != c_out).then(|| conv(vb.pp("id_path"), c_in, c_out, 1)).transpose()?,
            res_path: [
                layer(0, c_in, hidden)?,
                layer(1, hidden, hidden)?,
                layer(2, hidden, hidden)?,
                layer(3, hidden, c_out)?,
            ],
            gain,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let identity = match &self.id_path {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        let residual =
            self.res_path.iter().try_fold(x.clone(), |h, conv| conv.forward(&relu(&h)?))?;
        identity + (residual * self.gain)?
    }
}

/// The groups between input and output of one side.
fn groups(
    vb: &VarBuilder,
    config: &DalleConfig,
    first: usize,
    widths: [usize; 4],
    kernels: [usize; 4],
) -> CandleResult<Vec<Vec<Block>>> {
    let layers = (4 * config.blocks) as f64;
    let mut width = first;
    let mut groups = Vec::new();
    for (g, c_out) in widths.into_iter().enumerate() {
        let vb = vb.pp(format!("group_{}", g + 1));
        let mut group = Vec::new();
        for b in 0..config.blocks {
            let vb = vb.pp(format!("block_{}", b + 1));
            group.push(Block::load(vb, [width, c_out], kernels, 1.0 / (layers * layers))?);
            width = c_out;
        }
        groups.push(group);
    }
    Ok(groups)
}

/// Runs the groups, with `between` after all but the last.
fn run(
    groups: &[Vec<Block>],
    x: Tensor,
    between: impl Fn(&Tensor) -> CandleResult<Tensor>,
) -> CandleResult<Tensor> {
    let mut h = x;
    for (g, group) in groups.iter().enumerate() {
        h = group.iter().try_fold(h, |h, block| block.forward(&h))?;
        if g + 1 < groups.len() {
            h = between(&h)?;
        }
    }
    Ok(h)
}

struct Encoder {
    input: Conv2d,
    groups: Vec<Vec<Block>>,
    output: Conv2d,
}

struct Decoder {
    /// A 1x1 convolution of one-hot codes: column `code` of `[init, K, 1, 1]`, kept as rows.
    input: Tensor,
    bias: Tensor,
    groups: Vec<Vec<Block>>,
    output: Conv2d,
}

/// The network; its codes need no codebook.
pub struct Dalle {
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
    quantizer: ResidualQuantizer,
    channels: usize,
}

impl Dalle {
    /// Reads what `config.parts` names; `channels` is 1 or 3.
    pub fn load(
        vb: VarBuilder,
        config: &DalleConfig,
        channels: usize,
        quantizer: ResidualQuantizer,
    ) -> CandleResult<Dalle> {
        let DalleConfig { hidden: n, init, parts, .. } = *config;
        let codes = quantizer.config().codes;
        let encoder = || -> CandleResult<Encoder> {
            let vb = vb.pp("encoder").pp("blocks");
            Ok(Encoder {
                input: conv(vb.pp("input"), channels, n, 7)?,
                groups: groups(&vb, config, n, [n, 2 * n, 4 * n, 8 * n], [3, 3, 3, 1])?,
                output: conv(vb.pp("output").pp("conv"), 8 * n, codes, 1)?,
            })
        };
        let decoder = || -> CandleResult<Decoder> {
            let vb = vb.pp("decoder").pp("blocks");
            let columns = vb.pp("input").get((init, codes, 1, 1), "w")?;
            Ok(Decoder {
                input: columns.reshape((init, codes))?.t()?.contiguous()?,
                bias: vb.pp("input").get(init, "b")?,
                groups: groups(&vb, config, init, [8 * n, 4 * n, 2 * n, n], [1, 3, 3, 3])?,
                output: conv(vb.pp("output").pp("conv"), n, 2 * channels, 1)?,
            })
        };
        Ok(Dalle {
            encoder: parts.encoder().then(encoder).transpose()?,
            decoder: parts.decoder().then(decoder).transpose()?,
            quantizer,
            channels,
        })
    }

    fn images(&self, decoder: &Decoder, batch: usize, level: &CodeLevel) -> CandleResult<Tensor> {
        let CodeLevel { codes, height, width } = *level;
        let codes = Tensor::new(codes, decoder.input.device())?;
        let rows = decoder.input.index_select(&codes, 0)?.broadcast_add(&decoder.bias)?;
        let init = decoder.bias.elem_count();
        let h = rows.reshape((batch, height, width, init))?.permute((0, 3, 1, 2))?.contiguous()?;
        let h = run(&decoder.groups, h, double_nearest)?;
        // Means, then the scales of the Laplace distributions, which pictures don't need.
        decoder.output.forward(&relu(&h)?)?.narrow(1, 0, self.channels)
    }
}

impl Tokenizer for Dalle {
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        let encoder = self.encoder.as_ref().ok_or_else(|| Error::invalid("no encoder"))?;
        let h = run(&encoder.groups, encoder.input.forward(x)?, max_pool2)?;
        let logits = encoder.output.forward(&relu(&h)?)?;
        quantize_map(&self.quantizer, logits)
    }

    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        let decoder = self.decoder.as_ref().ok_or_else(|| Error::invalid("no decoder"))?;
        self.quantizer.check(&levels.iter().map(|level| level.codes).collect::<Vec<_>>())?;
        Ok(self.images(decoder, batch, &levels[0])?)
    }
}
