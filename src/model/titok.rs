//! Owns TiTok (Yu et al. 2024): latent tokens beside the patches of an image, of which a transformer
//! makes a row of codes; a transformer that makes patches of them again, and MaskGIT-VQ's decoder behind
//! the first published ones.

use candle_core::{D, Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::codec::Network;
use super::config::{TitokConfig, TitokPixels, TransformerConfig};
use super::conv::{Padding, conv2d};
use super::sequential::{Builder, Sequential};
use super::topology::{Io, maskgit};
use super::transformer::{LayerNorm, Linear, attend, patches};
use crate::error::Result;

/// A pre-norm layer with PyTorch's names.
struct Layer {
    ln_1: LayerNorm,
    in_proj: Linear,
    out_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    c_proj: Linear,
    heads: usize,
}

impl Layer {
    fn load(vb: VarBuilder, config: &TransformerConfig) -> CandleResult<Layer> {
        let TransformerConfig { dim, heads, mlp_dim, .. } = *config;
        let (attn, mlp) = (vb.pp("attn"), vb.pp("mlp"));
        Ok(Layer {
            ln_1: LayerNorm::load(vb.pp("ln_1"), dim)?,
            in_proj: Linear {
                weight: attn.get((3 * dim, dim), "in_proj_weight")?,
                bias: Some(attn.get(3 * dim, "in_proj_bias")?),
            },
            out_proj: Linear::load(attn.pp("out_proj"), [dim, dim], true)?,
            ln_2: LayerNorm::load(vb.pp("ln_2"), dim)?,
            c_fc: Linear::load(mlp.pp("c_fc"), [dim, mlp_dim], true)?,
            c_proj: Linear::load(mlp.pp("c_proj"), [mlp_dim, dim], true)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let qkv = self.in_proj.forward(&self.ln_1.forward(x)?)?;
        let x = (x + self.out_proj.forward(&attend(&qkv, self.heads)?)?)?;
        let hidden = self.c_fc.forward(&self.ln_2.forward(&x)?)?.gelu_erf()?;
        x + self.c_proj.forward(&hidden)?
    }
}

/// What both sides have around their layers.
struct Transformer {
    /// `[1, dim]`
    class_embedding: Tensor,
    /// `[1 + patches, dim]`
    positional_embedding: Tensor,
    /// `[K, dim]`
    latent_token_positional_embedding: Tensor,
    ln_pre: LayerNorm,
    transformer: Vec<Layer>,
    ln_post: LayerNorm,
}

impl Transformer {
    fn load(
        vb: &VarBuilder,
        config: &TransformerConfig,
        [patches, latents]: [usize; 2],
    ) -> CandleResult<Transformer> {
        let dim = config.dim;
        let layer = |l: usize| Layer::load(vb.pp("transformer").pp(l), config);
        Ok(Transformer {
            class_embedding: vb.get((1, dim), "class_embedding")?,
            positional_embedding: vb.get((1 + patches, dim), "positional_embedding")?,
            latent_token_positional_embedding: vb
                .get((latents, dim), "latent_token_positional_embedding")?,
            ln_pre: LayerNorm::load(vb.pp("ln_pre"), dim)?,
            transformer: (0..config.depth).map(layer).collect::<CandleResult<_>>()?,
            ln_post: LayerNorm::load(vb.pp("ln_post"), dim)?,
        })
    }

    /// The class, patches and latents, `[B, T, dim]` each but the first, after all layers: the same in one
    /// row.
    fn forward(&self, patches: &Tensor, latents: &Tensor) -> CandleResult<Tensor> {
        let (batch, _, dim) = patches.dims3()?;
        let class = self.class_embedding.unsqueeze(0)?.broadcast_as((batch, 1, dim))?;
        let image = Tensor::cat(&[&class.contiguous()?, patches], 1)?;
        let image = image.broadcast_add(&self.positional_embedding)?;
        let latents = latents.broadcast_add(&self.latent_token_positional_embedding)?;
        let x = self.ln_pre.forward(&Tensor::cat(&[&image, &latents], 1)?)?;
        self.transformer.iter().try_fold(x, |x, layer| layer.forward(&x))
    }
}

struct Encoder {
    patch_embed: Linear,
    sides: Transformer,
    /// `[K, dim]`
    latent_tokens: Tensor,
    conv_out: Linear,
}

/// From the patches' last states to pixels.
enum Ffn {
    /// Logits of the codes of MaskGIT-VQ, whose decoder takes their mixture.
    Logits { first: Linear, second: Linear, codes: Tensor, decoder: Sequential },
    /// Pixels, which a 3x3 convolution smooths.
    Pixels { first: Linear, conv_out: (Tensor, Tensor) },
}

struct Decoder {
    decoder_embed: Linear,
    /// `[1, 1, dim]`
    mask_token: Tensor,
    sides: Transformer,
    ffn: Ffn,
}

/// The network.
pub(crate) struct Titok {
    config: TitokConfig,
    channels: usize,
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

impl Titok {
    /// Reads what `config.parts` names.
    pub(crate) fn load(vb: VarBuilder, config: &TitokConfig, io: Io) -> Result<Titok> {
        let counts = [config.grid[0] * config.grid[1], config.latents];
        let [height, width] = config.patch;
        let encoder = || -> Result<Encoder> {
            let (side, dim) = (vb.pp("encoder"), config.encoder.dim);
            let patch = [io.channels, height, width];
            Ok(Encoder {
                patch_embed: Linear::of_patches(side.pp("patch_embed"), dim, patch)?,
                sides: Transformer::load(&side, &config.encoder, counts)?,
                latent_tokens: vb.get((config.latents, dim), "latent_tokens")?,
                conv_out: Linear::of_point(side.pp("conv_out"), [dim, io.dim])?,
            })
        };
        let decoder = || -> Result<Decoder> {
            let (side, dim) = (vb.pp("decoder"), config.decoder.dim);
            Ok(Decoder {
                decoder_embed: Linear::load(side.pp("decoder_embed"), [io.dim, dim], true)?,
                mask_token: side.get((1, 1, dim), "mask_token")?,
                sides: Transformer::load(&side, &config.decoder, counts)?,
                ffn: Ffn::load(&vb, config, io)?,
            })
        };
        Ok(Titok {
            encoder: config.parts.encoder().then(encoder).transpose()?,
            decoder: config.parts.decoder().then(decoder).transpose()?,
            config: config.clone(),
            channels: io.channels,
        })
    }

    /// `[B, C, H, W]` to `[B, D, 1, K]`.
    fn encode(&self, encoder: &Encoder, x: &Tensor) -> CandleResult<Tensor> {
        let (batch, count) = (x.dim(0)?, self.config.latents);
        let tokens = encoder.patch_embed.forward(&patches(x, self.config.patch)?)?;
        let dim = tokens.dim(2)?;
        let latents = encoder.latent_tokens.unsqueeze(0)?.broadcast_as((batch, count, dim))?;
        let all = encoder.sides.forward(&tokens, &latents.contiguous()?)?;
        let latents = all.narrow(1, all.dim(1)? - count, count)?;
        let mut latents = encoder.sides.ln_post.forward(&latents.contiguous()?)?;
        if self.config.legacy {
            // What was published takes the rows of the tokens for those of the channels.
            latents = latents.reshape((batch, dim, count))?.transpose(1, 2)?.contiguous()?;
        }
        encoder.conv_out.forward(&latents)?.transpose(1, 2)?.unsqueeze(2)
    }

    /// `[B, D, 1, K]` to `[B, C, H, W]`.
    fn decode(&self, decoder: &Decoder, q: &Tensor) -> CandleResult<Tensor> {
        let (batch, _, height, width) = q.dims4()?;
        let TitokConfig { grid: [gh, gw], patch, latents, .. } = self.config;
        if (height, width) != (1, latents) {
            candle_core::bail!("a grid of {height}x{width} tokens where the model has 1x{latents}");
        }
        let latents = q.squeeze(2)?.transpose(1, 2)?.contiguous()?;
        let latents = decoder.decoder_embed.forward(&latents)?;
        let dim = latents.dim(2)?;
        let masks = decoder.mask_token.broadcast_as((batch, gh * gw, dim))?.contiguous()?;
        let all = decoder.sides.forward(&masks, &latents)?;
        let states = all.narrow(1, 1, gh * gw)?.contiguous()?;
        let states = decoder.sides.ln_post.forward(&states)?;
        decoder.ffn.forward(&states, ([gh, gw], patch, self.channels))
    }
}

impl Ffn {
    fn load(vb: &VarBuilder, config: &TitokConfig, io: Io) -> Result<Ffn> {
        let (side, dim, [height, width]) = (vb.pp("decoder"), config.decoder.dim, config.patch);
        let ffn = side.pp("ffn");
        let Some(TitokPixels { hidden, codes, dim: code, resnets }) = &config.pixels else {
            let outputs = height * width * io.channels;
            let (conv, c) = (side.pp("conv_out"), io.channels);
            return Ok(Ffn::Pixels {
                first: Linear::of_point(ffn.pp(0), [dim, outputs])?,
                conv_out: (conv.get((c, c, 3, 3), "weight")?, conv.get(c, "bias")?),
            });
        };
        let mut e = Builder::new(vb.pp("pixel"), *code);
        maskgit::decoder(&mut e, resnets, Io { channels: io.channels, dim: *code })?;
        Ok(Ffn::Logits {
            first: Linear::of_point(ffn.pp(0), [dim, *hidden])?,
            second: Linear::of_point(ffn.pp(2), [*hidden, *codes])?,
            codes: vb.pp("pixel_quantize").get((*codes, *code), "embedding.weight")?,
            decoder: e.finish(),
        })
    }

    /// `[B, patches, dim]` to `[B, C, H, W]`.
    fn forward(
        &self,
        states: &Tensor,
        ([gh, gw], [ph, pw], channels): ([usize; 2], [usize; 2], usize),
    ) -> CandleResult<Tensor> {
        let batch = states.dim(0)?;
        match self {
            Ffn::Logits { first, second, codes, decoder } => {
                let logits = second.forward(&first.forward(states)?.tanh()?)?;
                let shares = candle_nn::ops::softmax(&logits, D::Minus1)?;
                let (count, code) = codes.dims2()?;
                let mixture = shares.reshape((batch * gh * gw, count))?.matmul(codes)?;
                let map = mixture.reshape((batch, gh, gw, code))?.permute((0, 3, 1, 2))?;
                decoder.forward(&map.contiguous()?)
            }
            Ffn::Pixels { first, conv_out: (weight, bias) } => {
                // [B, gh, gw, ph, pw, C] -> [B, C, gh, ph, gw, pw]
                let pixels = first.forward(states)?.reshape(&[batch, gh, gw, ph, pw, channels])?;
                let image = pixels.permute([0, 5, 1, 3, 2, 4])?;
                let image = image.reshape((batch, channels, gh * ph, gw * pw))?;
                conv2d(&image, weight, Some(bias), 1, Padding::same(1))
            }
        }
    }
}

impl Network for Titok {
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>> {
        self.encoder.as_ref().map(|encoder| self.encode(encoder, x)).transpose()
    }

    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>> {
        self.decoder.as_ref().map(|decoder| self.decode(decoder, q)).transpose()
    }
}
