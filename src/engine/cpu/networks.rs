//! Owns the canonical networks as plans: which layers, by their canonical names, in which order;
//! `families` has the others.
//! Must not know: how a layer is computed.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::families;
use super::kernels::{Level, Window};
use super::layer::Layer;
use super::plan::{Added, Before, Norm, Plan, Slot};
use super::rearrange::{side_by_side, transposed};
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, VqganConfig, VqvaeConfig};

/// Weights under canonical names.
pub type Weights = BTreeMap<String, Tensor>;

/// A plan under construction, with what all of its layers share.
pub(super) struct Builder<'a> {
    /// What has been built so far.
    pub plan: Plan,
    weights: &'a Weights,
    groups: usize,
    epsilon: f64,
}

/// Encoder and decoder of a model, where its family is one of ours and it has them.
pub fn plans(
    level: Level,
    weights: &Weights,
    config: &ModelConfig,
) -> Result<(Option<Plan>, Option<Plan>)> {
    let (channels, dim) = (config.pixels.channels, config.quantizer.dim);
    let parts = config.parts();
    let (encoder, decoder) = match &config.architecture {
        Architecture::Vqgan(c) => (
            parts.encoder().then(|| vqgan_encoder(level, weights, c, channels)),
            parts.decoder().then(|| vqgan_decoder(level, weights, c, dim)),
        ),
        Architecture::Vqvae(c) => (
            Some(vqvae_encoder(level, weights, c, channels)),
            Some(vqvae_decoder(level, weights, c, dim)),
        ),
        Architecture::Maskgit(c) => (
            parts.encoder().then(|| families::maskgit_encoder(level, weights, c, channels)),
            parts.decoder().then(|| families::maskgit_decoder(level, weights, c, dim)),
        ),
        Architecture::OpenMagvit2(c) => (
            parts.encoder().then(|| families::open_magvit2_encoder(level, weights, c, channels)),
            parts.decoder().then(|| families::open_magvit2_decoder(level, weights, c, dim)),
        ),
        Architecture::Dalle(c) => (
            parts.encoder().then(|| families::dalle_encoder(level, weights, c, channels)),
            parts.decoder().then(|| families::dalle_decoder(level, weights, c, channels)),
        ),
        // A transformer is candle's; a network with a quantizer in its middle is `two_levels`.
        Architecture::VitVqgan(_) | Architecture::Vqvae2(_) => (None, None),
    };
    Ok((encoder.transpose()?, decoder.transpose()?))
}

/// Pixels in the input range, `[H, W, channels]`, to latents in front of the quantizer.
pub fn vqgan_encoder(
    level: Level,
    weights: &Weights,
    config: &VqganConfig,
    channels: usize,
) -> Result<Plan> {
    let mut b = Builder::new(level, weights, channels).normed(config);
    let image = b.plan.input();
    let mut x = b.conv_into_new("encoder.conv_in", image, Window::SAME_3, Before::Nothing)?;
    for (i, &attention) in config.attention.iter().enumerate() {
        for j in 0..config.res_blocks {
            x = b.residual(&format!("encoder.down.{i}.block.{j}"), x)?;
            if attention {
                b.attention(&format!("encoder.down.{i}.attn.{j}"), x)?;
            }
        }
        if i + 1 < config.attention.len() {
            let name = format!("encoder.down.{i}.downsample.conv");
            x = b.conv_into_new(&name, x, Window::HALVE_3, Before::Nothing)?;
        }
    }
    x = b.middle("encoder.mid", x, config.mid_attention)?;
    let norm = b.norm("encoder.norm_out")?;
    x = b.conv_into_new("encoder.conv_out", x, Window::SAME_3, Before::NormSilu(norm))?;
    x = b.conv_into_new("quant_conv", x, Window::POINT, Before::Nothing)?;
    Ok(b.plan.finish(x))
}

/// Looked-up codes, `[h, w, dim]`, to pixels in the output range.
pub fn vqgan_decoder(
    level: Level,
    weights: &Weights,
    config: &VqganConfig,
    dim: usize,
) -> Result<Plan> {
    let own = config.decoder();
    let mut b = Builder::new(level, weights, dim).normed(config);
    let codes = b.plan.input();
    let mut x = b.conv_into_new("post_quant_conv", codes, Window::POINT, Before::Nothing)?;
    x = b.conv_into_new("decoder.conv_in", x, Window::SAME_3, Before::Nothing)?;
    x = b.middle("decoder.mid", x, own.mid_attention)?;
    for (i, &attention) in own.attention.iter().enumerate().rev() {
        for j in 0..own.blocks {
            x = b.residual(&format!("decoder.up.{i}.block.{j}"), x)?;
            if attention {
                b.attention(&format!("decoder.up.{i}.attn.{j}"), x)?;
            }
        }
        if i > 0 {
            x = b.upsample(&format!("decoder.up.{i}.upsample.conv"), x)?;
        }
    }
    let norm = b.norm("decoder.norm_out")?;
    x = b.conv_into_new("decoder.conv_out", x, Window::SAME_3, Before::NormSilu(norm))?;
    Ok(b.plan.finish(x))
}

/// Pixels in the input range, `[H, W, channels]`, to latents in front of the quantizer.
pub fn vqvae_encoder(
    level: Level,
    weights: &Weights,
    config: &VqvaeConfig,
    channels: usize,
) -> Result<Plan> {
    let mut b = Builder::new(level, weights, channels);
    let mut x = b.plan.input();
    let mut before = Before::Nothing;
    for i in 1..=config.downsamples {
        x = b.conv_into_new(&format!("enc.conv{i}"), x, Window::HALVE_4, before)?;
        before = Before::Relu;
    }
    let name = format!("enc.conv{}", config.downsamples + 1);
    x = b.conv_into_new(&name, x, Window::SAME_3, before)?;
    for i in 0..config.res_blocks {
        let conv = |part: &str| format!("enc.res.{i}.{part}");
        b.plain_residual([&conv("conv1"), &conv("conv2")], x)?;
    }
    x = b.conv_into_new("enc.proj", x, Window::POINT, Before::Relu)?;
    Ok(b.plan.finish(x))
}

/// Looked-up codes, `[h, w, dim]`, to pixels in the output range.
pub fn vqvae_decoder(
    level: Level,
    weights: &Weights,
    config: &VqvaeConfig,
    dim: usize,
) -> Result<Plan> {
    let mut b = Builder::new(level, weights, dim);
    let codes = b.plan.input();
    let mut x = b.conv_into_new("dec.conv", codes, Window::SAME_3, Before::Nothing)?;
    for i in 0..config.res_blocks {
        let conv = |part: &str| format!("dec.res.{i}.{part}");
        b.plain_residual([&conv("conv1"), &conv("conv2")], x)?;
    }
    for i in 1..=config.downsamples {
        x = b.transposed(&format!("dec.up{i}"), x, Before::Relu)?;
    }
    Ok(b.plan.finish(x))
}

impl<'a> Builder<'a> {
    pub fn new(level: Level, weights: &'a Weights, channels: usize) -> Self {
        Builder { plan: Plan::new(level, channels), weights, groups: 1, epsilon: 0.0 }
    }

    /// With the GroupNorms of a configuration.
    pub fn normed(self, config: &VqganConfig) -> Self {
        self.group_norms(config.norm_groups, config.norm_eps)
    }

    /// With GroupNorms of so many groups.
    pub fn group_norms(self, groups: usize, epsilon: f64) -> Self {
        Builder { groups, epsilon, ..self }
    }

    /// Whether the checkpoint has a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.weights.contains_key(name)
    }

    /// A tensor of the checkpoint, float32.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}`"));
        let tensor = self.weights.get(name).ok_or_else(missing)?;
        Ok(tensor.to_dtype(DType::F32)?)
    }

    fn layer(&self, name: &str, window: Window) -> Result<Layer> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let bias_name = format!("{name}.bias");
        let bias = self.has(&bias_name).then(|| self.tensor(&bias_name));
        Layer::new(name, weight, bias.transpose()?.as_ref(), window)
    }

    /// A GroupNorm; [`Before`] takes its index.
    pub fn norm(&mut self, name: &str) -> Result<usize> {
        let norm = Norm {
            groups: self.groups,
            epsilon: self.epsilon,
            weight: self.tensor(&format!("{name}.weight"))?.to_vec1()?,
            bias: self.tensor(&format!("{name}.bias"))?.to_vec1()?,
        };
        Ok(self.plan.norm(norm))
    }

    fn conv(
        &mut self,
        name: &str,
        from: Slot,
        to: Slot,
        window: Window,
        before: Before,
        added: Added,
    ) -> Result<()> {
        let layer = self.layer(name, window)?;
        self.plan.convolve(layer, from, to, before, added);
        Ok(())
    }

    /// Convolves into another slot and gives the old one back.
    pub fn conv_into_new(
        &mut self,
        name: &str,
        from: Slot,
        window: Window,
        before: Before,
    ) -> Result<Slot> {
        let to = self.plan.acquire();
        self.conv(name, from, to, window, before, Added::Nothing)?;
        self.plan.release(from);
        Ok(to)
    }

    /// Nearest neighbour to twice the size, then 3x3.
    pub fn upsample(&mut self, name: &str, from: Slot) -> Result<Slot> {
        let layer = self.layer(name, Window::SAME_3)?;
        let to = self.plan.acquire();
        self.plan.convolve_upsampled(layer, from, to);
        self.plan.release(from);
        Ok(to)
    }

    /// ReLU, 3x3, ReLU, 1x1, plus the input, in the input's slot.
    pub fn plain_residual(&mut self, [conv1, conv2]: [&str; 2], x: Slot) -> Result<()> {
        let inner = self.plan.acquire();
        self.conv(conv1, x, inner, Window::SAME_3, Before::Relu, Added::Nothing)?;
        self.conv(conv2, inner, x, Window::POINT, Before::Relu, Added::Output)?;
        self.plan.release(inner);
        Ok(())
    }

    /// What stands before it, then a transposed 4x4 of stride 2.
    pub fn transposed(&mut self, name: &str, from: Slot, before: Before) -> Result<Slot> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let channels = weight.dim(1)?;
        let (weight, bias) = transposed(&weight, &self.tensor(&format!("{name}.bias"))?)?;
        let layer = Layer::new(name, weight, Some(&bias), Window::SAME_3)?;
        let (inner, to) = (self.plan.acquire(), self.plan.acquire());
        self.plan.convolve(layer, from, inner, before, Added::Nothing);
        self.plan.shuffle(inner, to, channels);
        self.plan.release(from);
        self.plan.release(inner);
        Ok(to)
    }

    /// GroupNorm, SiLU, 3x3, GroupNorm, SiLU, 3x3, plus the input, in the input's slot; or plus a
    /// 1x1 of it where the width changes, in that one's slot.
    pub fn residual(&mut self, name: &str, x: Slot) -> Result<Slot> {
        let norm1 = self.norm(&format!("{name}.norm1"))?;
        let norm2 = self.norm(&format!("{name}.norm2"))?;
        let inner = self.plan.acquire();
        let (conv1, conv2) = (format!("{name}.conv1"), format!("{name}.conv2"));
        let silu = Before::NormSilu(norm1);
        self.conv(&conv1, x, inner, Window::SAME_3, silu, Added::Nothing)?;
        let shortcut = format!("{name}.nin_shortcut");
        let to = if self.has(&format!("{shortcut}.weight")) {
            self.conv_into_new(&shortcut, x, Window::POINT, Before::Nothing)?
        } else {
            x
        };
        self.conv(&conv2, inner, to, Window::SAME_3, Before::NormSilu(norm2), Added::Output)?;
        self.plan.release(inner);
        Ok(to)
    }

    /// Adds attention over all pixels to `x`.
    pub fn attention(&mut self, name: &str, x: Slot) -> Result<()> {
        let norm = self.norm(&format!("{name}.norm"))?;
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.{part}");
            Ok((self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?))
        };
        let parts = [part("q")?, part("k")?, part("v")?];
        let channels = parts[0].0.dim(0)?;
        let (weight, bias) = side_by_side(&parts)?;
        let layer = Layer::new(&format!("{name}.qkv"), weight, Some(&bias), Window::POINT)?;
        let (projected, mixed) = (self.plan.acquire(), self.plan.acquire());
        self.plan.convolve(layer, x, projected, Before::Norm(norm), Added::Nothing);
        self.plan.attend(projected, mixed, channels);
        self.plan.release(projected);
        let out = format!("{name}.proj_out");
        self.conv(&out, mixed, x, Window::POINT, Before::Nothing, Added::Output)?;
        self.plan.release(mixed);
        Ok(())
    }

    fn middle(&mut self, name: &str, x: Slot, attention: bool) -> Result<Slot> {
        let x = self.residual(&format!("{name}.block_1"), x)?;
        if attention {
            self.attention(&format!("{name}.attn_1"), x)?;
        }
        self.residual(&format!("{name}.block_2"), x)
    }
}
