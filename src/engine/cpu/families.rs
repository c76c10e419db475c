//! Owns the convolutional families beside the canonical one as graphs: MaskGIT-VQ, Open-MAGVIT2 and
//! DALL-E's dVAE, layer by layer under their canonical names. Must not know: how a layer is
//! computed.

use candle_core::{DType, Device, Tensor};

use super::kernels::{Isa, Residual, Window};
use super::layer::ConvLayer;
use crate::engine::cpu::feature_map::{Modulation, Resample};
use crate::engine::cpu::graph::builder::Builder;
use crate::engine::cpu::graph::{Before, Graph, Slot};
use crate::error::Result;
use crate::model::config::{DalleConfig, MaskgitConfig, OpenMagvit2Config};
use crate::weights::store::Weights;

/// Pixels `[H, W, channels]` to latents.
pub fn maskgit_encoder(
    isa: Isa,
    weights: &Weights,
    config: &MaskgitConfig,
    channels: usize,
) -> Result<Graph> {
    let mut b =
        Builder::new(isa, weights, channels).group_norms(config.norm_groups, config.norm_eps);
    let image = b.graph.input();
    let mut x = b.conv_into_new("encoder.conv_in", image, Window::SAME_3, Before::Nothing)?;
    for i in 0..config.widths.len() {
        x = b.late_residuals(&format!("encoder.down.{i}.block"), config.res_blocks, x)?;
        if i + 1 < config.widths.len() {
            x = b.resample(x, Resample::Mean);
        }
    }
    x = b.late_residuals("encoder.mid", config.res_blocks, x)?;
    b.out("encoder", x, Window::POINT)
}

/// Looked-up codes `[h, w, dim]` to pixels.
pub fn maskgit_decoder(
    isa: Isa,
    weights: &Weights,
    config: &MaskgitConfig,
    dim: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, dim).group_norms(config.norm_groups, config.norm_eps);
    let codes = b.graph.input();
    let mut x = b.conv_into_new("decoder.conv_in", codes, Window::SAME_3, Before::Nothing)?;
    x = b.late_residuals("decoder.mid", config.res_blocks, x)?;
    for i in (0..config.widths.len()).rev() {
        x = b.late_residuals(&format!("decoder.up.{i}.block"), config.res_blocks, x)?;
        if i > 0 {
            x = b.upsample(&format!("decoder.up.{i}.upsample_conv"), x)?;
        }
    }
    b.out("decoder", x, Window::SAME_3)
}

/// Pixels `[H, W, channels]` to the values whose signs are the bits.
pub fn open_magvit2_encoder(
    isa: Isa,
    weights: &Weights,
    config: &OpenMagvit2Config,
    channels: usize,
) -> Result<Graph> {
    let mut b =
        Builder::new(isa, weights, channels).group_norms(config.norm_groups, config.norm_eps);
    let image = b.graph.input();
    let mut x = b.conv_into_new("encoder.conv_in", image, Window::SAME_3, Before::Nothing)?;
    for i in 0..config.widths.len() {
        x = b.residuals(&format!("encoder.down.{i}.block"), config.res_blocks, x)?;
        if i + 1 < config.widths.len() {
            let name = format!("encoder.down.{i}.downsample");
            x = b.conv_into_new(&name, x, Window::HALVE_UP_3, Before::Nothing)?;
        }
    }
    x = b.residuals("encoder.mid_block", config.res_blocks, x)?;
    b.out("encoder", x, Window::POINT)
}

/// Bits `[h, w, bits]`, -1 or 1, to pixels.
pub fn open_magvit2_decoder(
    isa: Isa,
    weights: &Weights,
    config: &OpenMagvit2Config,
    bits: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, bits).group_norms(config.norm_groups, config.norm_eps);
    let codes = b.graph.input();
    let mut x = b.conv_into_new("decoder.conv_in", codes, Window::SAME_3, Before::Nothing)?;
    x = b.residuals("decoder.mid_block", config.res_blocks, x)?;
    for i in (0..config.widths.len()).rev() {
        b.adapt(&format!("decoder.adaptive.{i}"), config, x)?;
        x = b.residuals(&format!("decoder.up.{i}.block"), config.res_blocks, x)?;
        if i > 0 {
            let name = format!("decoder.up.{i}.upsample.conv1");
            let width = b.tensor(&format!("{name}.weight"))?.dim(0)? / 4;
            let wide = b.conv_into_new(&name, x, Window::SAME_3, Before::Nothing)?;
            let to = b.graph.acquire();
            b.graph.shuffle(wide, to, width);
            b.graph.release(wide);
            x = to;
        }
    }
    b.out("decoder", x, Window::SAME_3)
}

/// Pixels `[H, W, channels]` to the logits of the codes.
pub fn dalle_encoder(
    isa: Isa,
    weights: &Weights,
    config: &DalleConfig,
    channels: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, channels);
    let layer = b.dalle_layer("encoder.blocks.input", Window::same(7), 1.0)?;
    let image = b.graph.input();
    let mut x = b.graph.acquire();
    b.graph.convolve(layer, image, x, Before::Nothing, Residual::None);
    for group in 1..=4 {
        for block in 1..=config.blocks {
            let name = format!("encoder.blocks.group_{group}.block_{block}");
            x = b.dalle_block(&name, x, [3, 3, 3, 1], config.blocks)?;
        }
        if group < 4 {
            x = b.resample(x, Resample::Largest);
        }
    }
    let layer = b.dalle_layer("encoder.blocks.output.conv", Window::POINT, 1.0)?;
    let to = b.graph.acquire();
    b.graph.convolve(layer, x, to, Before::Relu, Residual::None);
    Ok(b.graph.finish(to))
}

/// What the decoder's first layer makes of each code, `[K, init]`, to the pixels' means.
pub fn dalle_decoder(
    isa: Isa,
    weights: &Weights,
    config: &DalleConfig,
    channels: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, config.init);
    // A map of its own, whose pixels lie a channel stride apart, as the blocks want them.
    let eye = Tensor::eye(config.init, DType::F32, &Device::Cpu)?;
    let eye = eye.reshape((config.init, config.init, 1, 1))?;
    let layer = ConvLayer::new("decoder.blocks.input", eye, None, Window::POINT)?;
    let codes = b.graph.input();
    let mut x = b.graph.acquire();
    b.graph.convolve(layer, codes, x, Before::Nothing, Residual::None);
    for group in 1..=4 {
        for block in 1..=config.blocks {
            let name = format!("decoder.blocks.group_{group}.block_{block}");
            x = b.dalle_block(&name, x, [1, 3, 3, 3], config.blocks)?;
        }
        if group < 4 {
            x = b.resample(x, Resample::Double);
        }
    }
    // Means, then the scales of the Laplace distributions, which pictures don't need.
    let name = "decoder.blocks.output.conv";
    let weight = b.tensor(&format!("{name}.w"))?.narrow(0, 0, channels)?;
    let bias = b.tensor(&format!("{name}.b"))?.narrow(0, 0, channels)?;
    let layer =
        ConvLayer::new(name, weight.contiguous()?, Some(&bias.contiguous()?), Window::POINT)?;
    let to = b.graph.acquire();
    b.graph.convolve(layer, x, to, Before::Relu, Residual::None);
    Ok(b.graph.finish(to))
}

/// Row `code` of `[K, init]`: DALL-E's decoder starts with a 1x1 convolution of one-hot codes.
pub fn dalle_rows(weights: &Weights) -> Result<Vec<f32>> {
    let b = Builder::new(Isa::Portable, weights, 1);
    let columns = b.tensor("decoder.blocks.input.w")?;
    let (init, codes, _, _) = columns.dims4()?;
    let rows = columns.reshape((init, codes))?.t()?.contiguous()?;
    Ok(rows.broadcast_add(&b.tensor("decoder.blocks.input.b")?)?.flatten_all()?.to_vec1()?)
}

impl Builder<'_> {
    /// `count` residual blocks `{name}.0`, `{name}.1`, ...
    fn residuals(&mut self, name: &str, count: usize, mut x: Slot) -> Result<Slot> {
        for j in 0..count {
            x = self.residual(&format!("{name}.{j}"), x)?;
        }
        Ok(x)
    }

    /// The same, with the 1x1 behind the second convolution instead of beside both: where the
    /// width changes, the output is y + W y, a 1x1 convolution with W plus the unit matrix.
    fn late_residuals(&mut self, name: &str, count: usize, mut x: Slot) -> Result<Slot> {
        for j in 0..count {
            let name = format!("{name}.{j}");
            let shortcut = format!("{name}.nin_shortcut");
            if !self.has(&format!("{shortcut}.weight")) {
                x = self.residual(&name, x)?;
                continue;
            }
            let norm1 = self.norm(&format!("{name}.norm1"))?;
            let norm2 = self.norm(&format!("{name}.norm2"))?;
            let (conv1, conv2) = (format!("{name}.conv1"), format!("{name}.conv2"));
            let inner = self.conv_into_new(&conv1, x, Window::SAME_3, Before::NormSilu(norm1))?;
            let y = self.conv_into_new(&conv2, inner, Window::SAME_3, Before::NormSilu(norm2))?;
            let weight = self.tensor(&format!("{shortcut}.weight"))?;
            let outputs = weight.dim(0)?;
            let unit = Tensor::eye(outputs, DType::F32, &Device::Cpu)?;
            let weight = (weight.reshape((outputs, outputs))? + unit)?;
            let weight = weight.reshape((outputs, outputs, 1, 1))?;
            let layer = ConvLayer::new(&shortcut, weight, None, Window::POINT)?;
            let to = self.graph.acquire();
            self.graph.convolve(layer, y, to, Before::Nothing, Residual::None);
            self.graph.release(y);
            x = to;
        }
        Ok(x)
    }

    /// `norm_out`, SiLU, `conv_out`: the end of a graph.
    fn out(mut self, side: &str, x: Slot, window: Window) -> Result<Graph> {
        let norm = self.norm(&format!("{side}.norm_out"))?;
        let name = format!("{side}.conv_out");
        let x = self.conv_into_new(&name, x, window, Before::NormSilu(norm))?;
        Ok(self.graph.finish(x))
    }

    fn resample(&mut self, from: Slot, how: Resample) -> Slot {
        let to = self.graph.acquire();
        self.graph.resample(from, to, how);
        self.graph.release(from);
        to
    }

    /// The GroupNorm that the codes modulate, in place.
    fn adapt(&mut self, name: &str, config: &OpenMagvit2Config, x: Slot) -> Result<()> {
        let linear = |part: &str| -> Result<(Vec<f32>, Vec<f32>)> {
            let weight = self.tensor(&format!("{name}.{part}.weight"))?;
            let bias = self.tensor(&format!("{name}.{part}.bias"))?;
            Ok((weight.flatten_all()?.to_vec1()?, bias.to_vec1()?))
        };
        let modulation = Modulation {
            groups: config.norm_groups,
            epsilon: config.norm_eps,
            gamma: linear("gamma")?,
            beta: linear("beta")?,
        };
        self.graph.adapt(modulation, x);
        Ok(())
    }

    fn dalle_layer(&self, name: &str, window: Window, gain: f64) -> Result<ConvLayer> {
        let weight = (self.tensor(&format!("{name}.w"))? * gain)?;
        let bias = (self.tensor(&format!("{name}.b"))? * gain)?;
        ConvLayer::new(name, weight, Some(&bias), window)
    }

    /// id(x) + gain * res(x), a ReLU before each of the four convolutions. The gain, one over the
    /// square of the layers, goes into the last one's weights.
    fn dalle_block(
        &mut self,
        name: &str,
        x: Slot,
        kernels: [usize; 4],
        blocks: usize,
    ) -> Result<Slot> {
        let layers = (4 * blocks) as f64;
        let mut from = x;
        for (i, kernel) in kernels.into_iter().enumerate().take(3) {
            let layer = self.dalle_layer(
                &format!("{name}.res_path.conv_{}", i + 1),
                Window::same(kernel),
                1.0,
            )?;
            let to = self.graph.acquire();
            self.graph.convolve(layer, from, to, Before::Relu, Residual::None);
            if from != x {
                self.graph.release(from);
            }
            from = to;
        }
        let to = if self.has(&format!("{name}.id_path.w")) {
            let layer = self.dalle_layer(&format!("{name}.id_path"), Window::POINT, 1.0)?;
            let to = self.graph.acquire();
            self.graph.convolve(layer, x, to, Before::Nothing, Residual::None);
            self.graph.release(x);
            to
        } else {
            x
        };
        let last = format!("{name}.res_path.conv_4");
        let layer = self.dalle_layer(&last, Window::same(kernels[3]), 1.0 / (layers * layers))?;
        self.graph.convolve(layer, from, to, Before::Relu, Residual::Output);
        self.graph.release(from);
        Ok(to)
    }
}
