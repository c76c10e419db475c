//! Owns MaskGIT-VQ as open-muse published it: no biases inside blocks, average pooling, no
//! attention, no 1x1 around the quantizer. Must not know: published names, files, threads.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::blocks::{Conv2d, ConvSpec, GroupNorm, NormSpec, ResnetBlock, Shortcut, double_nearest};
use super::config::MaskgitConfig;
use super::network::Network;

fn norm(config: &MaskgitConfig) -> NormSpec {
    NormSpec { groups: config.norm_groups, eps: config.norm_eps }
}

/// `count` blocks without biases; the first changes the width.
fn blocks(
    vb: VarBuilder,
    widths: [usize; 2],
    count: usize,
    norm: NormSpec,
) -> CandleResult<Vec<ResnetBlock>> {
    ResnetBlock::load_stack(vb, count, widths, norm, false, Shortcut::Output)
}

struct Encoder {
    conv_in: Conv2d,
    down: Vec<Vec<ResnetBlock>>,
    mid: Vec<ResnetBlock>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    fn load(
        vb: VarBuilder,
        config: &MaskgitConfig,
        dim: usize,
        channels: usize,
    ) -> CandleResult<Encoder> {
        let norm = norm(config);
        let conv_in = ConvSpec::same(3).bias(false);
        let mut width = config.ch;
        let mut down = Vec::new();
        for (i, &c_out) in config.widths.iter().enumerate() {
            let vb = vb.pp("down").pp(i).pp("block");
            down.push(blocks(vb, [width, c_out], config.res_blocks, norm)?);
            width = c_out;
        }
        Ok(Encoder {
            conv_in: Conv2d::load(vb.pp("conv_in"), channels, config.ch, conv_in)?,
            down,
            mid: blocks(vb.pp("mid"), [width; 2], config.res_blocks, norm)?,
            norm_out: GroupNorm::load(vb.pp("norm_out"), width, norm)?,
            conv_out: Conv2d::load(vb.pp("conv_out"), width, dim, ConvSpec::same(1))?,
        })
    }

    /// `[B, C, H, W]` to `[B, D, H/f, W/f]`, rounding down.
    fn forward(&self, x: &Tensor) -> CandleResult<Tensor> {
        let mut h = self.conv_in.forward(x)?;
        for (i, level) in self.down.iter().enumerate() {
            h = ResnetBlock::forward_stack(level, h)?;
            if i + 1 < self.down.len() {
                h = h.avg_pool2d(2)?;
            }
        }
        let h = ResnetBlock::forward_stack(&self.mid, h)?;
        self.conv_out.forward(&self.norm_out.forward(&h)?.silu()?)
    }
}

struct Decoder {
    conv_in: Conv2d,
    mid: Vec<ResnetBlock>,
    /// Blocks of each level and the convolution after doubling; run from the last to the first.
    up: Vec<(Vec<ResnetBlock>, Option<Conv2d>)>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    fn load(
        vb: VarBuilder,
        config: &MaskgitConfig,
        dim: usize,
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
            let vb = vb.pp("up").pp(i);
            let level = blocks(vb.pp("block"), [width, c_out], config.res_blocks, norm)?;
            width = c_out;
            let doubled = || Conv2d::load(vb.pp("upsample_conv"), width, width, conv3);
            up.push((level, (i > 0).then(doubled).transpose()?));
        }
        up.reverse();
        Ok(Decoder {
            conv_in: Conv2d::load(vb.pp("conv_in"), dim, deepest, conv3)?,
            mid: blocks(vb.pp("mid"), [deepest; 2], config.res_blocks, norm)?,
            up,
            norm_out: GroupNorm::load(vb.pp("norm_out"), width, norm)?,
            conv_out: Conv2d::load(vb.pp("conv_out"), width, channels, conv3)?,
        })
    }

    /// `[B, D, h, w]` to `[B, C, h*f, w*f]`.
    fn forward(&self, q: &Tensor) -> CandleResult<Tensor> {
        let mut h = ResnetBlock::forward_stack(&self.mid, self.conv_in.forward(q)?)?;
        for (level, doubled) in self.up.iter().rev() {
            h = ResnetBlock::forward_stack(level, h)?;
            if let Some(conv) = doubled {
                h = conv.forward(&double_nearest(&h)?)?;
            }
        }
        self.conv_out.forward(&self.norm_out.forward(&h)?.silu()?)
    }
}

/// The network.
pub struct Maskgit {
    encoder: Option<Encoder>,
    decoder: Option<Decoder>,
}

impl Maskgit {
    /// Reads what `config.parts` names; `dim` is the length of a code, `channels` 1 or 3.
    pub fn load(
        vb: VarBuilder,
        config: &MaskgitConfig,
        dim: usize,
        channels: usize,
    ) -> CandleResult<Maskgit> {
        let encoder = || Encoder::load(vb.pp("encoder"), config, dim, channels);
        let decoder = || Decoder::load(vb.pp("decoder"), config, dim, channels);
        Ok(Maskgit {
            encoder: config.parts.encoder().then(encoder).transpose()?,
            decoder: config.parts.decoder().then(decoder).transpose()?,
        })
    }
}

impl Network for Maskgit {
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>> {
        self.encoder.as_ref().map(|encoder| encoder.forward(x)).transpose()
    }

    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>> {
        self.decoder.as_ref().map(|decoder| decoder.forward(q)).transpose()
    }
}
