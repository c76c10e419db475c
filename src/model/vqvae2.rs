//! Owns VQ-VAE-2 (Razavi et al. 2019, as in rosinality/vq-vae-2-pytorch): a top level of codes,
//! and a bottom level that depends on the decoded top. Must not know: published names, files,
//! threads.

use std::slice;

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::blocks::{Conv2d, ConvSpec, ConvTranspose2d};
use super::config::{QuantizerConfig, Vqvae2Config};
use super::conv::relu;
use super::residual::ResidualQuantizer;
use super::{CodeLevel, EncodedLevel, Tokenizer, lookup_map, quantize_map};
use crate::error::{Error, Result};

/// 4x4, stride 2, padding 1: halves the size.
const HALVE: ConvSpec = ConvSpec { kernel: 4, stride: 2, padding: 1, bias: true };

/// x + conv1x1(relu(conv3x3(relu(x)))).
struct ResBlock {
    conv3: Conv2d,
    conv1: Conv2d,
}

impl ResBlock {
    fn load(vb: VarBuilder, channels: usize, hidden: usize) -> CandleResult<ResBlock> {
        let vb = vb.pp("conv");
        Ok(ResBlock {
            conv3: Conv2d::load(vb.pp(1), channels, hidden, ConvSpec::same(3))?,
            conv1: Conv2d::load(vb.pp(3), hidden, channels, ConvSpec::same(1))?,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        self.conv1.forward(&relu(&self.conv3.forward(&relu(x)?)?)?)? + x
    }
}

/// `config.res_blocks` blocks at indices from `first`.
fn res_blocks(vb: &VarBuilder, config: &Vqvae2Config, first: usize) -> CandleResult<Vec<ResBlock>> {
    let load = |i: usize| ResBlock::load(vb.pp(first + i), config.channels, config.res_channels);
    (0..config.res_blocks).map(load).collect()
}

fn run(blocks: &[ResBlock], x: Tensor) -> CandleResult<Tensor> {
    relu(&blocks.iter().try_fold(x, |h, block| block.forward(&h))?)
}

/// Strided convolutions, a 3x3, residual blocks, ReLU.
struct Encoder {
    halvings: Vec<Conv2d>,
    last: Conv2d,
    blocks: Vec<ResBlock>,
}

impl Encoder {
    /// `halvings` 1 or 2; `vb` stands at `enc_*.blocks`.
    fn load(
        vb: VarBuilder,
        config: &Vqvae2Config,
        c_in: usize,
        halvings: usize,
    ) -> CandleResult<Encoder> {
        let width = config.channels;
        let half = width / 2;
        let convs = match halvings {
            1 => vec![Conv2d::load(vb.pp(0), c_in, half, HALVE)?],
            _ => vec![
                Conv2d::load(vb.pp(0), c_in, half, HALVE)?,
                Conv2d::load(vb.pp(2), half, width, HALVE)?,
            ],
        };
        let c_last = if halvings == 1 { half } else { width };
        let at = 2 * halvings;
        Ok(Encoder {
            halvings: convs,
            last: Conv2d::load(vb.pp(at), c_last, width, ConvSpec::same(3))?,
            blocks: res_blocks(&vb, config, at + 1)?,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let h = self.halvings.iter().try_fold(x.clone(), |h, conv| relu(&conv.forward(&h)?))?;
        run(&self.blocks, self.last.forward(&h)?)
    }
}

/// A 3x3, residual blocks, ReLU, transposed convolutions.
struct Decoder {
    first: Conv2d,
    blocks: Vec<ResBlock>,
    doublings: Vec<ConvTranspose2d>,
}

impl Decoder {
    /// `doublings` 1 or 2; `vb` stands at `dec*.blocks`.
    fn load(
        vb: VarBuilder,
        config: &Vqvae2Config,
        [c_in, c_out]: [usize; 2],
        doublings: usize,
    ) -> CandleResult<Decoder> {
        let width = config.channels;
        let at = config.res_blocks + 2;
        let double = |i: usize, c_in: usize, c_out: usize| {
            ConvTranspose2d::load(vb.pp(at + 2 * i), c_in, c_out, ConvTranspose2d::DOUBLE)
        };
        Ok(Decoder {
            first: Conv2d::load(vb.pp(0), c_in, width, ConvSpec::same(3))?,
            blocks: res_blocks(&vb, config, 1)?,
            doublings: match doublings {
                1 => vec![double(0, width, c_out)?],
                _ => vec![double(0, width, width / 2)?, double(1, width / 2, c_out)?],
            },
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let mut h = run(&self.blocks, self.first.forward(x)?)?;
        for (i, double) in self.doublings.iter().enumerate() {
            let x = if i > 0 { relu(&h)? } else { h };
            h = double.forward(&x)?;
        }
        Ok(h)
    }
}

/// The network with the quantizers of its two levels.
pub struct Vqvae2 {
    enc_b: Encoder,
    enc_t: Encoder,
    quantize_conv_t: Conv2d,
    quantize_t: ResidualQuantizer,
    dec_t: Decoder,
    quantize_conv_b: Conv2d,
    quantize_b: ResidualQuantizer,
    upsample_t: ConvTranspose2d,
    dec: Decoder,
}

impl Vqvae2 {
    /// Reads the model; `channels` is 1 or 3.
    pub fn load(
        vb: VarBuilder,
        config: &Vqvae2Config,
        quantizer: &QuantizerConfig,
        channels: usize,
    ) -> Result<Vqvae2> {
        let (width, dim) = (config.channels, quantizer.dim);
        let conv1 = ConvSpec::same(1);
        // Stored transposed, (dim, n).
        let codebook = |name: &str| {
            let embed = vb.pp(name).get((dim, quantizer.codes), "embed")?;
            ResidualQuantizer::new(quantizer, Some(embed.t()?.flatten_all()?.to_vec1()?), None)
        };
        let blocks = |name: &str| vb.pp(name).pp("blocks");
        Ok(Vqvae2 {
            enc_b: Encoder::load(blocks("enc_b"), config, channels, 2)?,
            enc_t: Encoder::load(blocks("enc_t"), config, width, 1)?,
            quantize_conv_t: Conv2d::load(vb.pp("quantize_conv_t"), width, dim, conv1)?,
            quantize_t: codebook("quantize_t")?,
            dec_t: Decoder::load(blocks("dec_t"), config, [dim, dim], 1)?,
            quantize_conv_b: Conv2d::load(vb.pp("quantize_conv_b"), dim + width, dim, conv1)?,
            quantize_b: codebook("quantize_b")?,
            upsample_t: ConvTranspose2d::load(
                vb.pp("upsample_t"),
                dim,
                dim,
                ConvTranspose2d::DOUBLE,
            )?,
            dec: Decoder::load(blocks("dec"), config, [2 * dim, channels], 2)?,
        })
    }
}

impl Tokenizer for Vqvae2 {
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        let (batch, _, _, _) = x.dims4()?;
        let enc_b = self.enc_b.forward(x)?;
        let enc_t = self.enc_t.forward(&enc_b)?;
        let latents = self.quantize_conv_t.forward(&enc_t)?;
        let (_, _, height, width) = latents.dims4()?;
        let top = quantize_map(&self.quantize_t, latents)?;
        let codes = [CodeLevel { codes: &top[0].codes, height, width }];
        let quant_t = lookup_map(&self.quantize_t, batch, &codes, x.device())?;
        let dec_t = self.dec_t.forward(&quant_t)?;
        let joined = Tensor::cat(&[&dec_t, &enc_b], 1)?;
        let bottom = quantize_map(&self.quantize_b, self.quantize_conv_b.forward(&joined)?)?;
        Ok(bottom.into_iter().chain(top).collect())
    }

    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        let [bottom, top] = levels else {
            return Err(Error::invalid(format!(
                "{} levels of codes where the model has two: bottom and top",
                levels.len()
            )));
        };
        if [bottom.height, bottom.width] != [2 * top.height, 2 * top.width] {
            return Err(Error::invalid(format!(
                "a bottom grid of {}x{} tokens over a top grid of {}x{}; it must be twice as large",
                bottom.height, bottom.width, top.height, top.width
            )));
        }
        let device = self.upsample_t.weight.device();
        let quant_t = lookup_map(&self.quantize_t, batch, slice::from_ref(top), device)?;
        let quant_b = lookup_map(&self.quantize_b, batch, slice::from_ref(bottom), device)?;
        let joined = Tensor::cat(&[&self.upsample_t.forward(&quant_t)?, &quant_b], 1)?;
        Ok(self.dec.forward(&joined)?)
    }
}
