//! Owns UniTok (Ma et al. 2025): a ViTamin, whose first stages are convolutions, a projection to several
//! books' codes by attention, and the same way back.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::codec::Network;
use super::config::{TransformerConfig, UnitokConfig};
use super::layers::double_nearest;
use super::topology::Io;
use super::transformer::{LayerNorm, Linear, attend, heads_of, merged};
use crate::error::Result;

/// Of all norms but those of the projections.
const EPS: f64 = 1e-6;

/// A convolution with a bias, padded by half its window.
struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    groups: usize,
}

impl Conv {
    fn load(
        vb: VarBuilder,
        [input, output]: [usize; 2],
        kernel: usize,
        stride: usize,
    ) -> CandleResult<Conv> {
        let weight = vb.get((output, input, kernel, kernel), "weight")?;
        Ok(Conv { weight, bias: vb.get(output, "bias")?, stride, groups: 1 })
    }

    /// One filter a channel.
    fn depthwise(vb: VarBuilder, channels: usize, stride: usize) -> CandleResult<Conv> {
        let weight = vb.get((channels, 1, 3, 3), "weight")?;
        Ok(Conv { weight, bias: vb.get(channels, "bias")?, stride, groups: channels })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let padding = self.weight.dim(2)? / 2;
        let y = x.conv2d(&self.weight, padding, self.stride, 1, self.groups)?;
        y.broadcast_add(&self.bias.reshape((1, self.bias.elem_count(), 1, 1))?)
    }
}

/// Over the channels of each pixel.
struct LayerNorm2d(LayerNorm);

impl LayerNorm2d {
    fn load(vb: VarBuilder, channels: usize) -> CandleResult<LayerNorm2d> {
        Ok(LayerNorm2d(LayerNorm::with_eps(vb, channels, EPS)?))
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let rows = self.0.forward(&x.permute((0, 2, 3, 1))?.contiguous()?)?;
        rows.permute((0, 3, 1, 2))?.contiguous()
    }
}

/// How a block's input reaches its output.
enum Shortcut {
    /// As it is, or the mean of 3x3 pixels where the block halves, and a 1x1 where the width changes.
    Pooled { halves: bool, expand: Option<Conv> },
    /// Every pixel twice along both sides, then a 3x3.
    Doubled(Conv),
}

/// Norm, 1x1 to four times the width, 3x3 of each channel, 1x1, plus the input.
struct MbConv {
    shortcut: Shortcut,
    pre_norm: LayerNorm2d,
    conv1_1x1: Conv,
    /// Where the block doubles: the same, then a 3x3.
    up: Option<Conv>,
    conv2_kxk: Conv,
    conv3_1x1: Conv,
}

impl MbConv {
    fn of_encoder(
        vb: &VarBuilder,
        [input, output]: [usize; 2],
        hidden: usize,
        stride: usize,
    ) -> CandleResult<MbConv> {
        let expand = || Conv::load(vb.pp("shortcut").pp("expand"), [input, output], 1, 1);
        let expand = (input != output).then(expand).transpose()?;
        let shortcut = Shortcut::Pooled { halves: stride == 2, expand };
        MbConv::load(vb, shortcut, [input, output], hidden, (stride, None))
    }

    fn of_decoder(
        vb: &VarBuilder,
        [input, output]: [usize; 2],
        hidden: usize,
        doubles: bool,
    ) -> CandleResult<MbConv> {
        if !doubles {
            let shortcut = Shortcut::Pooled { halves: false, expand: None };
            return MbConv::load(vb, shortcut, [input, output], hidden, (1, None));
        }
        let doubled = Conv::load(vb.pp("shortcut").pp("conv"), [input, output], 3, 1)?;
        let up = Conv::load(vb.pp("up").pp("conv"), [hidden, hidden], 3, 1)?;
        let shortcut = Shortcut::Doubled(doubled);
        MbConv::load(vb, shortcut, [input, output], hidden, (1, Some(up)))
    }

    fn load(
        vb: &VarBuilder,
        shortcut: Shortcut,
        [input, output]: [usize; 2],
        hidden: usize,
        (stride, up): (usize, Option<Conv>),
    ) -> CandleResult<MbConv> {
        Ok(MbConv {
            shortcut,
            pre_norm: LayerNorm2d::load(vb.pp("pre_norm"), input)?,
            conv1_1x1: Conv::load(vb.pp("conv1_1x1"), [input, hidden], 1, 1)?,
            up,
            conv2_kxk: Conv::depthwise(vb.pp("conv2_kxk"), hidden, stride)?,
            conv3_1x1: Conv::load(vb.pp("conv3_1x1"), [hidden, output], 1, 1)?,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let skip = match &self.shortcut {
            Shortcut::Doubled(conv) => conv.forward(&double_nearest(x)?)?,
            Shortcut::Pooled { halves, expand } => {
                let x = if *halves { mean_of_neighbours(x)? } else { x.clone() };
                match expand {
                    Some(conv) => conv.forward(&x)?,
                    None => x,
                }
            }
        };
        let mut h = self.conv1_1x1.forward(&self.pre_norm.forward(x)?)?.gelu_erf()?;
        if let Some(up) = &self.up {
            h = up.forward(&double_nearest(&h)?)?;
        }
        let h = self.conv2_kxk.forward(&h)?.gelu_erf()?;
        self.conv3_1x1.forward(&h)? + skip
    }
}

/// The mean of the 3x3 pixels around every second one, those outside of the picture left out.
fn mean_of_neighbours(x: &Tensor) -> CandleResult<Tensor> {
    let mean = |x: &Tensor| {
        let padded = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        padded.avg_pool2d_with_stride((3, 3), (2, 2))
    };
    let (_, _, height, width) = x.dims4()?;
    let inside = Tensor::ones((1, 1, height, width), x.dtype(), x.device())?;
    mean(x)?.broadcast_div(&mean(&inside)?)
}

/// w2(gelu(w0(n)) * w1(n)) of the normed input.
struct GeGlu {
    norm: LayerNorm,
    w0: Linear,
    w1: Linear,
    w2: Linear,
}

impl GeGlu {
    fn load(vb: VarBuilder, dim: usize, hidden: usize) -> CandleResult<GeGlu> {
        Ok(GeGlu {
            norm: LayerNorm::with_eps(vb.pp("norm"), dim, EPS)?,
            w0: Linear::load(vb.pp("w0"), [dim, hidden], true)?,
            w1: Linear::load(vb.pp("w1"), [dim, hidden], true)?,
            w2: Linear::load(vb.pp("w2"), [hidden, dim], true)?,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let x = self.norm.forward(x)?;
        // candle's `gelu` is the approximation by tanh.
        self.w2.forward(&(self.w0.forward(&x)?.gelu()? * self.w1.forward(&x)?)?)
    }
}

/// A pre-norm layer of the transformers.
struct Layer {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    mlp: GeGlu,
    heads: usize,
}

impl Layer {
    fn load(vb: VarBuilder, config: &TransformerConfig) -> CandleResult<Layer> {
        let TransformerConfig { dim, heads, mlp_dim, .. } = *config;
        Ok(Layer {
            norm1: LayerNorm::with_eps(vb.pp("norm1"), dim, EPS)?,
            qkv: Linear::load(vb.pp("attn").pp("qkv"), [dim, 3 * dim], true)?,
            proj: Linear::load(vb.pp("attn").pp("proj"), [dim, dim], true)?,
            norm2: LayerNorm::with_eps(vb.pp("norm2"), dim, EPS)?,
            mlp: GeGlu::load(vb.pp("mlp"), dim, mlp_dim)?,
            heads,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let mixed = attend(&self.qkv.forward(&self.norm1.forward(x)?)?, self.heads)?;
        let x = (x + self.proj.forward(&mixed)?)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?
    }
}

/// The projection between a transformer's width and that of the codes, by attention whose heads are as
/// wide as the codes: going down their mean is taken, going up they lie side by side.
struct Projection {
    norm1: LayerNorm,
    qkv: Linear,
    attn_proj: Linear,
    proj: Linear,
    norm3: LayerNorm,
    norm2: LayerNorm,
    mlp: GeGlu,
    heads: usize,
    narrows: bool,
}

impl Projection {
    fn load(
        vb: VarBuilder,
        [input, output]: [usize; 2],
        hidden: usize,
    ) -> CandleResult<Projection> {
        let (attn, width) = (vb.pp("attn"), input.max(output));
        // Keys have a bias of zeros, which the file holds.
        let biases = ["q_bias", "zero_k_bias", "v_bias"];
        let biases = biases.map(|name| attn.get(width, name));
        let [q, k, v] = biases;
        let bias = Tensor::cat(&[q?, k?, v?], 0)?;
        let weight = attn.pp("qkv").get((3 * width, input), "weight")?;
        Ok(Projection {
            norm1: LayerNorm::load(vb.pp("norm1"), input)?,
            qkv: Linear { weight, bias: Some(bias) },
            attn_proj: Linear::load(attn.pp("proj"), [output, output], true)?,
            proj: Linear::load(vb.pp("proj"), [input, output], true)?,
            norm3: LayerNorm::load(vb.pp("norm3"), input)?,
            norm2: LayerNorm::load(vb.pp("norm2"), output)?,
            mlp: GeGlu::load(vb.pp("mlp"), output, hidden)?,
            heads: width / input.min(output),
            narrows: input > output,
        })
    }

    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let heads = heads_of(&self.qkv.forward(&self.norm1.forward(x)?)?, self.heads)?;
        let mixed = if self.narrows { heads.mean(1)? } else { merged(&heads)? };
        let x = (self.proj.forward(&self.norm3.forward(x)?)? + self.attn_proj.forward(&mixed)?)?;
        &x + self.mlp.forward(&self.norm2.forward(&x)?)?
    }
}

struct Encoder {
    conv1: Conv,
    norm1: LayerNorm2d,
    conv2: Conv,
    stages: Vec<MbConv>,
    pool_norm: LayerNorm2d,
    pool: Conv,
    /// `[1, 1, dim]`
    pos_embed: Tensor,
    blocks: Vec<Layer>,
    norm: LayerNorm,
    quant_proj: Projection,
}

struct Decoder {
    post_quant_proj: Projection,
    blocks: Vec<Layer>,
    norm: LayerNorm,
    up_conv1: Conv,
    stages: Vec<MbConv>,
    conv1: Conv,
    norm1: LayerNorm2d,
    conv2: Conv,
}

/// The network.
pub(crate) struct Unitok {
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

impl Unitok {
    /// Reads what `config.parts` names.
    pub(crate) fn load(vb: VarBuilder, config: &UnitokConfig, io: Io) -> Result<Unitok> {
        let encoder = || Encoder::load(&vb, config, io);
        let decoder = || Decoder::load(&vb, config, io);
        Ok(Unitok {
            encoder: config.parts.encoder().then(encoder).transpose()?,
            decoder: config.parts.decoder().then(decoder).transpose()?,
        })
    }
}

impl Encoder {
    fn load(vb: &VarBuilder, config: &UnitokConfig, io: Io) -> CandleResult<Encoder> {
        let side = vb.pp("encoder");
        let backbone = side.pp("patch_embed").pp("backbone");
        let (stem, pool) = (backbone.pp("stem"), backbone.pp("pool"));
        let (first, dim) = (config.stem, config.encoder.dim);
        let (mut stages, mut width) = (Vec::new(), first);
        for (s, stage) in config.stages.iter().enumerate() {
            for d in 0..stage.encoder_blocks {
                let vb = backbone.pp("stages").pp(s).pp(d);
                let stride = if d == 0 { 2 } else { 1 };
                stages.push(MbConv::of_encoder(&vb, [width, stage.width], stage.hidden, stride)?);
                width = stage.width;
            }
        }
        let block = |l: usize| Layer::load(side.pp("blocks").pp(l), &config.encoder);
        Ok(Encoder {
            conv1: Conv::load(stem.pp("conv1"), [io.channels, first], 3, 2)?,
            norm1: LayerNorm2d::load(stem.pp("norm1"), first)?,
            conv2: Conv::load(stem.pp("conv2"), [first, first], 3, 1)?,
            stages,
            pool_norm: LayerNorm2d::load(pool.pp("norm"), width)?,
            pool: Conv::load(pool.pp("proj"), [width, dim], 3, 2)?,
            pos_embed: side.get((1, 1, dim), "pos_embed")?,
            blocks: (0..config.encoder.depth).map(block).collect::<CandleResult<_>>()?,
            norm: LayerNorm::with_eps(side.pp("norm"), dim, EPS)?,
            quant_proj: Projection::load(vb.pp("quant_proj"), [dim, io.dim], config.quant_hidden)?,
        })
    }

    /// `[B, C, H, W]` to `[B, D, h, w]`.
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let x = self.norm1.forward(&self.conv1.forward(x)?)?.gelu_erf()?;
        let x = self.conv2.forward(&x)?;
        let x = self.stages.iter().try_fold(x, |x, block| block.forward(&x))?;
        let x = self.pool.forward(&self.pool_norm.forward(&x)?)?;
        let (_, _, height, width) = x.dims4()?;
        let rows = x.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let rows = rows.broadcast_add(&self.pos_embed)?;
        let rows = self.blocks.iter().try_fold(rows, |x, block| block.forward(&x))?;
        let z = self.quant_proj.forward(&self.norm.forward(&rows)?)?;
        let (batch, _, dim) = z.dims3()?;
        z.transpose(1, 2)?.reshape((batch, dim, height, width))
    }
}

impl Decoder {
    fn load(vb: &VarBuilder, config: &UnitokConfig, io: Io) -> CandleResult<Decoder> {
        let (side, dim) = (vb.pp("decoder"), config.decoder.dim);
        let block = |l: usize| Layer::load(side.pp("blocks").pp(l), &config.decoder);
        let Some(last) = config.stages.last() else { candle_core::bail!("no stage") };
        let (mut stages, mut width) = (Vec::new(), last.width);
        for (place, stage) in config.stages.iter().rev().enumerate() {
            for d in 0..stage.decoder_blocks {
                let vb = side.pp(format!("up_conv{}", place + 2)).pp(d);
                stages.push(MbConv::of_decoder(&vb, [width, stage.width], stage.hidden, d == 0)?);
                width = stage.width;
            }
        }
        let end = side.pp(format!("up_conv{}", config.stages.len() + 2));
        let post = vb.pp("post_quant_proj");
        Ok(Decoder {
            post_quant_proj: Projection::load(post, [io.dim, dim], config.post_quant_hidden)?,
            blocks: (0..config.decoder.depth).map(block).collect::<CandleResult<_>>()?,
            norm: LayerNorm::with_eps(side.pp("norm"), dim, EPS)?,
            up_conv1: Conv::load(side.pp("up_conv1").pp("conv"), [dim, last.width], 3, 1)?,
            stages,
            conv1: Conv::load(end.pp("conv1").pp("conv"), [width, config.stem], 3, 1)?,
            norm1: LayerNorm2d::load(end.pp("norm1"), config.stem)?,
            conv2: Conv::load(end.pp("conv2"), [config.stem, io.channels], 3, 1)?,
        })
    }

    /// `[B, D, h, w]` to `[B, C, H, W]`.
    fn forward(&self, q: &Tensor) -> CandleResult<Tensor> {
        let (batch, _, height, width) = q.dims4()?;
        let rows = q.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let rows = self.post_quant_proj.forward(&rows)?;
        let rows = self.blocks.iter().try_fold(rows, |x, block| block.forward(&x))?;
        let rows = self.norm.forward(&rows)?;
        let dim = rows.dim(2)?;
        let x = rows.transpose(1, 2)?.reshape((batch, dim, height, width))?;
        let x = self.up_conv1.forward(&double_nearest(&x)?)?;
        let x = self.stages.iter().try_fold(x, |x, block| block.forward(&x))?;
        let x = self.conv1.forward(&double_nearest(&x)?)?;
        self.conv2.forward(&self.norm1.forward(&x)?.gelu_erf()?)
    }
}

impl Network for Unitok {
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>> {
        self.encoder.as_ref().map(|encoder| encoder.forward(x)).transpose()
    }

    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>> {
        self.decoder.as_ref().map(|decoder| decoder.forward(q)).transpose()
    }
}
