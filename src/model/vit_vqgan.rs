//! Owns ViT-VQGAN (Yu et al. 2022, as in enhancing-transformers): patches, a transformer on each
//! side, a fixed grid.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::codec::Network;
use super::config::{TransformerConfig, VitVqganConfig};
use super::topology::Io;
use super::transformer::{LayerNorm, Linear, attend, patches};

struct Layer {
    attention_norm: LayerNorm,
    to_qkv: Linear,
    to_out: Linear,
    mlp_norm: LayerNorm,
    mlp_in: Linear,
    mlp_out: Linear,
    heads: usize,
}

impl Layer {
    fn load(vb: VarBuilder, config: &TransformerConfig) -> CandleResult<Layer> {
        let TransformerConfig { dim, heads, head_dim, mlp_dim, .. } = *config;
        let inner = heads * head_dim;
        let (attention, mlp) = (vb.pp(0), vb.pp(1));
        Ok(Layer {
            attention_norm: LayerNorm::load(attention.pp("norm"), dim)?,
            to_qkv: Linear::load(attention.pp("fn").pp("to_qkv"), [dim, 3 * inner], false)?,
            to_out: Linear::load(attention.pp("fn").pp("to_out"), [inner, dim], true)?,
            mlp_norm: LayerNorm::load(mlp.pp("norm"), dim)?,
            mlp_in: Linear::load(mlp.pp("fn").pp("net").pp(0), [dim, mlp_dim], true)?,
            mlp_out: Linear::load(mlp.pp("fn").pp("net").pp(2), [mlp_dim, dim], true)?,
            heads,
        })
    }

    fn attend(&self, x: &Tensor) -> CandleResult<Tensor> {
        let qkv = self.to_qkv.forward(&self.attention_norm.forward(x)?)?;
        self.to_out.forward(&attend(&qkv, self.heads)?)
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let x = (self.attend(x)? + x)?;
        let hidden = self.mlp_in.forward(&self.mlp_norm.forward(&x)?)?.tanh()?;
        self.mlp_out.forward(&hidden)? + x
    }
}

struct Transformer {
    layers: Vec<Layer>,
    norm: LayerNorm,
}

impl Transformer {
    fn load(vb: VarBuilder, config: &TransformerConfig) -> CandleResult<Transformer> {
        let layer = |l: usize| Layer::load(vb.pp("layers").pp(l), config);
        Ok(Transformer {
            layers: (0..config.depth).map(layer).collect::<CandleResult<_>>()?,
            norm: LayerNorm::load(vb.pp("norm"), config.dim)?,
        })
    }

    /// `[B, T, dim]` to the same shape.
    fn forward(&self, x: Tensor) -> CandleResult<Tensor> {
        let x = self.layers.iter().try_fold(x, |x, layer| layer.forward(&x))?;
        self.norm.forward(&x)
    }
}

/// Images to latents.
struct Encoder {
    /// A convolution whose stride is its kernel: a linear map of each patch, `[dim, C*ph*pw]`.
    to_patch_embedding: Linear,
    /// `[1, T, dim]`
    en_pos_embedding: Tensor,
    transformer: Transformer,
    pre_quant: Linear,
}

/// Quantized latents to images.
struct Decoder {
    post_quant: Linear,
    /// `[1, T, dim]`
    de_pos_embedding: Tensor,
    transformer: Transformer,
    /// A transposed convolution whose stride is its kernel: `[dim, C*ph*pw]` and the bias `[C]`.
    to_pixel: (Tensor, Tensor),
}

/// The network.
pub(crate) struct VitVqgan {
    config: VitVqganConfig,
    channels: usize,
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

impl VitVqgan {
    /// Reads what `config.parts` names.
    pub(crate) fn load(vb: VarBuilder, config: &VitVqganConfig, io: Io) -> CandleResult<VitVqgan> {
        let (channels, code) = (io.channels, io.dim);
        let [ph, pw] = config.patch;
        let tokens = config.grid[0] * config.grid[1];
        let patch = channels * ph * pw;
        let encoder = || -> CandleResult<Encoder> {
            let side = vb.pp("encoder");
            let dim = config.encoder.dim;
            let embedding = side.pp("to_patch_embedding").pp(0);
            Ok(Encoder {
                to_patch_embedding: Linear::of_patches(embedding, dim, [channels, ph, pw])?,
                en_pos_embedding: side.get((1, tokens, dim), "en_pos_embedding")?,
                transformer: Transformer::load(side.pp("transformer"), &config.encoder)?,
                pre_quant: Linear::load(vb.pp("pre_quant"), [dim, code], true)?,
            })
        };
        let decoder = || -> CandleResult<Decoder> {
            let side = vb.pp("decoder");
            let dim = config.decoder.dim;
            let pixel = side.pp("to_pixel").pp(1);
            let weight = pixel.get((dim, channels, ph, pw), "weight")?.reshape((dim, patch))?;
            Ok(Decoder {
                post_quant: Linear::load(vb.pp("post_quant"), [code, dim], true)?,
                de_pos_embedding: side.get((1, tokens, dim), "de_pos_embedding")?,
                transformer: Transformer::load(side.pp("transformer"), &config.decoder)?,
                to_pixel: (weight, pixel.get(channels, "bias")?),
            })
        };
        Ok(VitVqgan {
            encoder: config.parts.encoder().then(encoder).transpose()?,
            decoder: config.parts.decoder().then(decoder).transpose()?,
            config: config.clone(),
            channels,
        })
    }

    /// `[B, C, H, W]` to `[B, D, h, w]`.
    fn encode(&self, encoder: &Encoder, x: &Tensor) -> CandleResult<Tensor> {
        let [gh, gw] = self.config.grid;
        let b = x.dim(0)?;
        let tokens = encoder.to_patch_embedding.forward(&patches(x, self.config.patch)?)?;
        let tokens = tokens.broadcast_add(&encoder.en_pos_embedding)?;
        let z = encoder.pre_quant.forward(&encoder.transformer.forward(tokens)?)?;
        let dim = z.dim(2)?;
        z.transpose(1, 2)?.reshape((b, dim, gh, gw))
    }

    /// `[B, D, h, w]` to `[B, C, H, W]`.
    fn decode(&self, decoder: &Decoder, q: &Tensor) -> CandleResult<Tensor> {
        let ([ph, pw], [gh, gw]) = (self.config.patch, self.config.grid);
        let (b, dim, h, w) = q.dims4()?;
        if [h, w] != [gh, gw] {
            candle_core::bail!("a grid of {h}x{w} tokens where the model has {gh}x{gw}");
        }
        let tokens = decoder.post_quant.forward(&q.reshape((b, dim, gh * gw))?.transpose(1, 2)?)?;
        let tokens = tokens.broadcast_add(&decoder.de_pos_embedding)?;
        let hidden = decoder.transformer.forward(tokens)?;
        let width = hidden.dim(2)?;
        let (weight, bias) = &decoder.to_pixel;
        let pixels = hidden.reshape((b * gh * gw, width))?.matmul(weight)?;
        // [B, gh, gw, C, ph, pw] -> [B, C, gh, ph, gw, pw]
        let pixels = pixels.reshape(&[b, gh, gw, self.channels, ph, pw])?;
        let image = pixels.permute([0, 3, 1, 4, 2, 5])?;
        let image = image.reshape((b, self.channels, gh * ph, gw * pw))?;
        image.broadcast_add(&bias.reshape((1, self.channels, 1, 1))?)
    }
}

impl Network for VitVqgan {
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>> {
        self.encoder.as_ref().map(|encoder| self.encode(encoder, x)).transpose()
    }

    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>> {
        self.decoder.as_ref().map(|decoder| self.decode(decoder, q)).transpose()
    }
}
