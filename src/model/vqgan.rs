//! Owns the canonical encoder and decoder (Esser et al. 2021, taming-transformers), which most
//! published tokenizers share. Must not know: published names, files, threads.

use candle_core::{Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::blocks::{
    AttnBlock, Conv2d, ConvSpec, Downsample, GroupNorm, NormSpec, ResnetBlock, Shortcut, Upsample,
};
use super::config::VqganConfig;
use super::network::Network;

fn norm(config: &VqganConfig) -> NormSpec {
    NormSpec { groups: config.norm_groups, eps: config.norm_eps }
}

fn resnet(vb: VarBuilder, c_in: usize, c_out: usize, norm: NormSpec) -> Result<ResnetBlock> {
    ResnetBlock::load(vb, c_in, c_out, norm, true, Shortcut::Input)
}

/// One differentiable piece of a network.
pub type Block<'a> = Box<dyn Fn(&Tensor) -> Result<Tensor> + 'a>;

/// Residual block, attention where the model has it, residual block.
#[derive(Debug, Clone)]
pub struct Mid {
    /// First.
    pub block_1: ResnetBlock,
    /// Between the blocks.
    pub attn_1: Option<AttnBlock>,
    /// Last.
    pub block_2: ResnetBlock,
}

impl Mid {
    fn load(vb: VarBuilder, width: usize, attention: bool, norm: NormSpec) -> Result<Mid> {
        Ok(Mid {
            block_1: resnet(vb.pp("block_1"), width, width, norm)?,
            attn_1: attention.then(|| AttnBlock::load(vb.pp("attn_1"), width, norm)).transpose()?,
            block_2: resnet(vb.pp("block_2"), width, width, norm)?,
        })
    }

    /// `[B, C, H, W]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = self.block_1.forward(x)?;
        if let Some(attn) = &self.attn_1 {
            h = attn.forward(&h)?;
        }
        self.block_2.forward(&h)
    }

    /// The same in pieces, appended to `blocks`.
    pub fn blocks<'a>(&'a self, blocks: &mut Vec<Block<'a>>) {
        blocks.push(Box::new(|x| self.block_1.forward(x)));
        if let Some(attn) = &self.attn_1 {
            blocks.push(Box::new(|x| attn.forward(x)));
        }
        blocks.push(Box::new(|x| self.block_2.forward(x)));
    }
}

/// Blocks of one resolution: `block[j]`, then `attn[j]` where the level has attention.
#[derive(Debug, Clone)]
pub struct Level {
    /// Residual blocks; the first changes the width.
    pub block: Vec<ResnetBlock>,
    /// As many as blocks, or none.
    pub attn: Vec<AttnBlock>,
}

impl Level {
    fn load(
        vb: &VarBuilder,
        [c_in, c_out]: [usize; 2],
        blocks: usize,
        attention: bool,
        norm: NormSpec,
    ) -> Result<Level> {
        let mut level = Level { block: Vec::new(), attn: Vec::new() };
        for j in 0..blocks {
            let c_in = if j == 0 { c_in } else { c_out };
            level.block.push(resnet(vb.pp("block").pp(j), c_in, c_out, norm)?);
            if attention {
                level.attn.push(AttnBlock::load(vb.pp("attn").pp(j), c_out, norm)?);
            }
        }
        Ok(level)
    }

    /// `[B, c_in, H, W]` to `[B, c_out, H, W]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = x.clone();
        for (j, block) in self.block.iter().enumerate() {
            h = block.forward(&h)?;
            if let Some(attn) = self.attn.get(j) {
                h = attn.forward(&h)?;
            }
        }
        Ok(h)
    }

    /// The same in pieces, appended to `blocks`.
    pub fn blocks<'a>(&'a self, blocks: &mut Vec<Block<'a>>) {
        for (j, block) in self.block.iter().enumerate() {
            blocks.push(Box::new(|x| block.forward(x)));
            if let Some(attn) = self.attn.get(j) {
                blocks.push(Box::new(|x| attn.forward(x)));
            }
        }
    }
}

/// Images to features before `quant_conv`.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// 3x3 from the image.
    pub conv_in: Conv2d,
    /// Highest resolution first.
    pub down: Vec<Level>,
    /// One fewer than levels: `down.{i}.downsample`.
    pub downsample: Vec<Downsample>,
    /// At the lowest resolution.
    pub mid: Mid,
    /// Before `conv_out`.
    pub norm_out: GroupNorm,
    /// 3x3 to `z_channels`.
    pub conv_out: Conv2d,
}

impl Encoder {
    /// Reads an encoder of `channels` (1 or 3) per pixel; `vb` stands at `encoder`.
    pub fn load(vb: VarBuilder, config: &VqganConfig, channels: usize) -> Result<Encoder> {
        let norm = norm(config);
        let conv3 = ConvSpec::same(3);
        let conv_in = Conv2d::load(vb.pp("conv_in"), channels, config.ch, conv3)?;
        let (mut down, mut downsample) = (Vec::new(), Vec::new());
        let mut width = config.ch;
        for (i, &c_out) in config.widths.iter().enumerate() {
            let vb = vb.pp("down").pp(i);
            let attention = config.attention.get(i).copied().unwrap_or(false);
            down.push(Level::load(&vb, [width, c_out], config.res_blocks, attention, norm)?);
            width = c_out;
            if i + 1 < config.widths.len() {
                downsample.push(Downsample::load(vb.pp("downsample"), width)?);
            }
        }
        Ok(Encoder {
            conv_in,
            down,
            downsample,
            mid: Mid::load(vb.pp("mid"), width, config.mid_attention, norm)?,
            norm_out: GroupNorm::load(vb.pp("norm_out"), width, norm)?,
            conv_out: Conv2d::load(vb.pp("conv_out"), width, config.z_channels, conv3)?,
        })
    }

    /// `[B, C, H, W]` to `[B, z_channels, H/f, W/f]`, f = 2^(levels-1), rounding down.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut h = self.conv_in.forward(x)?;
        for (i, level) in self.down.iter().enumerate() {
            h = level.forward(&h)?;
            if let Some(downsample) = self.downsample.get(i) {
                h = downsample.forward(&h)?;
            }
        }
        let h = self.mid.forward(&h)?;
        self.conv_out.forward(&self.norm_out.forward(&h)?.silu()?)
    }
}

/// Features after `post_quant_conv` to images.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// 3x3 from `z_channels`.
    pub conv_in: Conv2d,
    /// At the lowest resolution.
    pub mid: Mid,
    /// Highest resolution first, as the names count; run from the last to the first.
    pub up: Vec<Level>,
    /// `upsample[i]` follows `up[i]`; None at level 0.
    pub upsample: Vec<Option<Upsample>>,
    /// Before `conv_out`.
    pub norm_out: GroupNorm,
    /// 3x3 to the image.
    pub conv_out: Conv2d,
}

impl Decoder {
    /// Reads a decoder to `channels` (1 or 3) per pixel; `vb` stands at `decoder`.
    pub fn load(vb: VarBuilder, config: &VqganConfig, channels: usize) -> Result<Decoder> {
        let norm = norm(config);
        let own = config.decoder();
        let conv3 = ConvSpec::same(3);
        let Some(&deepest) = own.widths.last() else {
            candle_core::bail!("the decoder needs at least one level");
        };
        let conv_in = Conv2d::load(vb.pp("conv_in"), config.z_channels, deepest, conv3)?;
        let mid = Mid::load(vb.pp("mid"), deepest, own.mid_attention, norm)?;
        let (mut up, mut upsample) = (Vec::new(), Vec::new());
        let mut width = deepest;
        for (i, &c_out) in own.widths.iter().enumerate().rev() {
            let vb = vb.pp("up").pp(i);
            let attention = own.attention.get(i).copied().unwrap_or(false);
            up.push(Level::load(&vb, [width, c_out], own.blocks, attention, norm)?);
            width = c_out;
            let doubles = i > 0;
            upsample.push(doubles.then(|| Upsample::load(vb.pp("upsample"), width)).transpose()?);
        }
        up.reverse();
        upsample.reverse();
        Ok(Decoder {
            conv_in,
            mid,
            up,
            upsample,
            norm_out: GroupNorm::load(vb.pp("norm_out"), width, norm)?,
            conv_out: Conv2d::load(vb.pp("conv_out"), width, channels, conv3)?,
        })
    }

    /// `[B, z_channels, h, w]` to the last activation, `[B, widths[0], h*f, w*f]`: what `conv_out`
    /// sees (training needs its gradient).
    pub fn features(&self, z: &Tensor) -> Result<Tensor> {
        let mut h = self.mid.forward(&self.conv_in.forward(z)?)?;
        for (level, upsample) in self.up.iter().zip(&self.upsample).rev() {
            h = level.forward(&h)?;
            if let Some(upsample) = upsample {
                h = upsample.forward(&h)?;
            }
        }
        self.norm_out.forward(&h)?.silu()
    }

    /// `[B, z_channels, h, w]` to `[B, C, h*f, w*f]`.
    pub fn forward(&self, z: &Tensor) -> Result<Tensor> {
        self.conv_out.forward(&self.features(z)?)
    }
}

/// Encoder with `quant_conv`, decoder with `post_quant_conv`; the quantizer stands between them.
#[derive(Debug, Clone)]
pub struct Vqgan {
    /// Images to features.
    pub encoder: Option<Encoder>,
    /// 1x1, `z_channels` to D.
    pub quant_conv: Option<Conv2d>,
    /// Features to images.
    pub decoder: Option<Decoder>,
    /// 1x1, D to `z_channels`.
    pub post_quant_conv: Option<Conv2d>,
}

impl Vqgan {
    /// Reads what `config.parts` names; `dim` is the length of a code, `channels` 1 or 3.
    pub fn load(
        vb: VarBuilder,
        config: &VqganConfig,
        dim: usize,
        channels: usize,
    ) -> Result<Vqgan> {
        let conv1 = ConvSpec::same(1);
        let mut vqgan =
            Vqgan { encoder: None, quant_conv: None, decoder: None, post_quant_conv: None };
        if config.parts.encoder() {
            vqgan.encoder = Some(Encoder::load(vb.pp("encoder"), config, channels)?);
            let conv = Conv2d::load(vb.pp("quant_conv"), config.z_channels, dim, conv1)?;
            vqgan.quant_conv = Some(conv);
        }
        if config.parts.decoder() {
            vqgan.decoder = Some(Decoder::load(vb.pp("decoder"), config, channels)?);
            let conv = Conv2d::load(vb.pp("post_quant_conv"), dim, config.z_channels, conv1)?;
            vqgan.post_quant_conv = Some(conv);
        }
        Ok(vqgan)
    }
}

impl Network for Vqgan {
    fn latents(&self, x: &Tensor) -> Result<Option<Tensor>> {
        match (&self.encoder, &self.quant_conv) {
            (Some(encoder), Some(conv)) => Ok(Some(conv.forward(&encoder.forward(x)?)?)),
            _ => Ok(None),
        }
    }

    fn images(&self, q: &Tensor) -> Result<Option<Tensor>> {
        match (&self.decoder, &self.post_quant_conv) {
            (Some(decoder), Some(conv)) => Ok(Some(decoder.forward(&conv.forward(q)?)?)),
            _ => Ok(None),
        }
    }
}
