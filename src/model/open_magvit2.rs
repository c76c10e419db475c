//! Owns Open-MAGVIT2 (SEED-Voken's improved model): blocks without biases, strided convolutions
//! that round up, a decoder modulated by its codes, depth-to-space. Must not know: published
//! names, files, threads.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::blocks::{
    Conv2d, ConvSpec, GroupNorm, NormSpec, ResnetBlock, Shortcut, normalise_groups,
};
use super::config::OpenMagvit2Config;
use super::network::Network;

fn norm(config: &OpenMagvit2Config) -> NormSpec {
    NormSpec { groups: config.norm_groups, eps: config.norm_eps }
}

/// `count` blocks without biases; the first changes the width.
fn blocks(
    vb: VarBuilder,
    widths: [usize; 2],
    count: usize,
    norm: NormSpec,
) -> CandleResult<Vec<ResnetBlock>> {
    ResnetBlock::load_stack(vb, count, widths, norm, false, Shortcut::Input)
}

struct Encoder {
    conv_in: Conv2d,
    /// Blocks of each level and the stride-2 convolution behind them.
    down: Vec<(Vec<ResnetBlock>, Option<Conv2d>)>,
    mid_block: Vec<ResnetBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn load(
        vb: VarBuilder,
        config: &OpenMagvit2Config,
        bits: usize,
        channels: usize,
    ) -> CandleResult<Encoder> {
        let norm = norm(config);
        let halving = ConvSpec { kernel: 3, stride: 2, padding: 1, bias: true };
        let mut width = config.ch;
        let mut down = Vec::new();
        for (i, &c_out) in config.widths.iter().enumerate() {
            let vb = vb.pp("down").pp(i);
            let level = blocks(vb.pp("block"), [width, c_out], config.res_blocks, norm)?;
            width = c_out;
            let last = i + 1 == config.widths.len();
            let conv = || Conv2d::load(vb.pp("downsample"), width, width, halving);
            down.push((level, (!last).then(conv).transpose()?));
        }
        Ok(Encoder {
            conv_in: Conv2d::load(
                vb.pp("conv_in"),
                channels,
                config.ch,
                ConvSpec::same(3).bias(false),
            )?,
            down,
            mid_block: blocks(vb.pp("mid_block"), [width; 2], config.res_blocks, norm)?,
            norm_out: GroupNorm::load(vb.pp("norm_out"), width, norm)?,
            conv_out: Conv2d::load(vb.pp("conv_out"), width, bits, ConvSpec::same(1))?,
        })
    }

    /// `[B, C, H, W]` to `[B, bits, H/f, W/f]`, rounding up.
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let mut h = self.conv_in.forward(x)?;
        for (level, halving) in &self.down {
            h = ResnetBlock::forward_stack(level, h)?;
            if let Some(conv) = halving {
                h = conv.forward(&h)?;
            }
        }
        let h = ResnetBlock::forward_stack(&self.mid_block, h)?;
        self.conv_out.forward(&self.norm_out.forward(&h)?.silu()?)
    }
}

/// GroupNorm whose scale and shift come from the codes' statistics over the whole grid.
struct Adaptive {
    /// `[C, bits]`
    gamma: (Tensor, Tensor),
    /// `[C, bits]`
    beta: (Tensor, Tensor),
    spec: NormSpec,
}

impl Adaptive {
    fn load(vb: VarBuilder, bits: usize, width: usize, spec: NormSpec) -> CandleResult<Adaptive> {
        let linear = |vb: VarBuilder| -> CandleResult<(Tensor, Tensor)> {
            Ok((vb.get((width, bits), "weight")?, vb.get(width, "bias")?))
        };
        Ok(Adaptive { gamma: linear(vb.pp("gamma"))?, beta: linear(vb.pp("beta"))?, spec })
    }

    /// `h` `[B, C, H, W]`, `q` `[B, bits, h, w]`. A grid of one token has no variance: the reference
    /// divides by zero there, and so do we.
    fn forward(&self, h: &Tensor, q: &Tensor) -> CandleResult<Tensor> {
        let (b, bits, height, width) = q.dims4()?;
        let count = height * width;
        let q = q.reshape((b, bits, count))?;
        let mean = q.mean_keepdim(2)?;
        let squares = q.broadcast_sub(&mean)?.sqr()?.sum(2)?;
        let deviation = ((squares / (count as f64 - 1.0))? + self.spec.eps)?.sqrt()?;
        let linear = |(weight, bias): &(Tensor, Tensor), x: &Tensor| {
            let y = x.matmul(&weight.t()?)?.broadcast_add(bias)?;
            y.reshape((b, bias.elem_count(), 1, 1))
        };
        normalise_groups(h, self.spec)?
            .broadcast_mul(&linear(&self.gamma, &deviation)?)?
            .broadcast_add(&linear(&self.beta, &mean.squeeze(2)?)?)
    }
}

/// Channel (2 dy + dx) C + c of a pixel becomes channel c of the pixel (2y + dy, 2x + dx).
fn depth_to_space(x: &Tensor) -> CandleResult<Tensor> {
    let (b, c4, h, w) = x.dims4()?;
    let c = c4 / 4;
    // [B, dy, dx, C, H, W] -> [B, C, H, dy, W, dx]
    x.reshape(&[b, 2, 2, c, h, w])?.permute([0, 3, 4, 1, 5, 2])?.reshape((b, c, 2 * h, 2 * w))
}

struct UpLevel {
    adaptive: Adaptive,
    block: Vec<ResnetBlock>,
    upsample: Option<Conv2d>,
}

struct Decoder {
    conv_in: Conv2d,
    mid_block: Vec<ResnetBlock>,
    /// Highest resolution first; run from the last to the first.
    up: Vec<UpLevel>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn load(
        vb: VarBuilder,
        config: &OpenMagvit2Config,
        bits: usize,
        channels: usize,
    ) -> CandleResult<Decoder> {
        let norm = norm(config);
        let conv3 = ConvSpec::same(3);
        let Some(&deepest) = config.widths.last() else {
            candle_core::bail!("the decoder needs at least one level");
        };
        let mut width = deepest;
        let mut up = Vec::new();
        for (i, &c_out) in config.widths.iter().enumerate().rev() {
            let adaptive = Adaptive::load(vb.pp("adaptive").pp(i), bits, width, norm)?;
            let vb = vb.pp("up").pp(i);
            let block = blocks(vb.pp("block"), [width, c_out], config.res_blocks, norm)?;
            width = c_out;
            let conv = || Conv2d::load(vb.pp("upsample").pp("conv1"), width, 4 * width, conv3);
            up.push(UpLevel { adaptive, block, upsample: (i > 0).then(conv).transpose()? });
        }
        up.reverse();
        Ok(Decoder {
            conv_in: Conv2d::load(vb.pp("conv_in"), bits, deepest, conv3)?,
            mid_block: blocks(vb.pp("mid_block"), [deepest; 2], config.res_blocks, norm)?,
            up,
            norm_out: GroupNorm::load(vb.pp("norm_out"), width, norm)?,
            conv_out: Conv2d::load(vb.pp("conv_out"), width, channels, conv3)?,
        })
    }

    /// `[B, bits, h, w]` to `[B, C, h*f, w*f]`.
    fn forward(&self, q: &Tensor) -> CandleResult<Tensor> {
        let mut h = ResnetBlock::forward_stack(&self.mid_block, self.conv_in.forward(q)?)?;
        for level in self.up.iter().rev() {
            h = ResnetBlock::forward_stack(&level.block, level.adaptive.forward(&h, q)?)?;
            if let Some(conv) = &level.upsample {
                h = depth_to_space(&conv.forward(&h)?)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward(&h)?.silu()?)
    }
}

/// The network.
pub struct OpenMagvit2 {
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

impl OpenMagvit2 {
    /// Reads what `config.parts` names; `bits` is the length of a code, `channels` 1 or 3.
    pub fn load(
        vb: VarBuilder,
        config: &OpenMagvit2Config,
        bits: usize,
        channels: usize,
    ) -> CandleResult<OpenMagvit2> {
        let encoder = || Encoder::load(vb.pp("encoder"), config, bits, channels);
        let decoder = || Decoder::load(vb.pp("decoder"), config, bits, channels);
        Ok(OpenMagvit2 {
            encoder: config.parts.encoder().then(encoder).transpose()?,
            decoder: config.parts.decoder().then(decoder).transpose()?,
        })
    }
}

impl Network for OpenMagvit2 {
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>> {
        self.encoder.as_ref().map(|encoder| encoder.forward(x)).transpose()
    }

    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>> {
        self.decoder.as_ref().map(|decoder| decoder.forward(q)).transpose()
    }
}
