//! Owns the building of a graph from a checkpoint's weights: the layers and blocks that networks
//! share, by name. Must not know: which networks there are (`networks`, `families`, `two_levels`).

use candle_core::{DType, Tensor};

use crate::engine::cpu::graph::{Before, Graph, Norm, Slot};
use crate::engine::cpu::kernels::{Isa, Residual, Window};
use crate::engine::cpu::layer::ConvLayer;
use crate::engine::cpu::rearrange::{side_by_side, transposed};
use crate::error::{Error, Result};
use crate::model::config::VqganConfig;
use crate::weights::store::{Weight, Weights};

/// A graph under construction, with what all of its layers share.
pub(crate) struct Builder<'a> {
    /// What has been built so far.
    pub graph: Graph,
    weights: &'a Weights,
    groups: usize,
    epsilon: f64,
}

impl<'a> Builder<'a> {
    pub fn new(isa: Isa, weights: &'a Weights, channels: usize) -> Self {
        Builder { graph: Graph::new(isa, channels), weights, groups: 1, epsilon: 0.0 }
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
        self.weights.get(name).is_some()
    }

    /// A tensor of the checkpoint, float32.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        Ok(self.weight(name)?.tensor()?.to_dtype(DType::F32)?)
    }

    /// The same where it lies.
    fn weight(&self, name: &str) -> Result<&Weight> {
        let missing = || Error::invalid(format!("the checkpoint has no tensor `{name}`"));
        self.weights.get(name).ok_or_else(missing)
    }

    fn layer(&self, name: &str, window: Window) -> Result<ConvLayer> {
        let weight = self.weight(&format!("{name}.weight"))?.clone();
        let bias_name = format!("{name}.bias");
        let bias = self.has(&bias_name).then(|| self.tensor(&bias_name));
        ConvLayer::new(name, weight, bias.transpose()?.as_ref(), window)
    }

    /// A GroupNorm; [`Before`] takes its index.
    pub fn norm(&mut self, name: &str) -> Result<usize> {
        let norm = Norm {
            groups: self.groups,
            epsilon: self.epsilon,
            weight: self.tensor(&format!("{name}.weight"))?.to_vec1()?,
            bias: self.tensor(&format!("{name}.bias"))?.to_vec1()?,
        };
        Ok(self.graph.norm(norm))
    }

    /// Adds a convolution from a slot into another.
    pub fn conv(
        &mut self,
        name: &str,
        from: Slot,
        to: Slot,
        window: Window,
        before: Before,
        residual: Residual,
    ) -> Result<()> {
        let layer = self.layer(name, window)?;
        self.graph.convolve(layer, from, to, before, residual);
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
        let to = self.graph.acquire();
        self.conv(name, from, to, window, before, Residual::None)?;
        self.graph.release(from);
        Ok(to)
    }

    /// Nearest neighbour to twice the size, then 3x3.
    pub fn upsample(&mut self, name: &str, from: Slot) -> Result<Slot> {
        let layer = self.layer(name, Window::SAME_3)?;
        let to = self.graph.acquire();
        self.graph.convolve_upsampled(layer, from, to);
        self.graph.release(from);
        Ok(to)
    }

    /// ReLU, 3x3, ReLU, 1x1, plus the input, in the input's slot.
    pub fn plain_residual(&mut self, [conv1, conv2]: [&str; 2], x: Slot) -> Result<()> {
        let inner = self.graph.acquire();
        self.conv(conv1, x, inner, Window::SAME_3, Before::Relu, Residual::None)?;
        self.conv(conv2, inner, x, Window::POINT, Before::Relu, Residual::Output)?;
        self.graph.release(inner);
        Ok(())
    }

    /// What stands before it, then a transposed 4x4 of stride 2.
    pub fn transposed(&mut self, name: &str, from: Slot, before: Before) -> Result<Slot> {
        let weight = self.tensor(&format!("{name}.weight"))?;
        let channels = weight.dim(1)?;
        let (weight, bias) = transposed(&weight, &self.tensor(&format!("{name}.bias"))?)?;
        let layer = ConvLayer::new(name, weight, Some(&bias), Window::SAME_3)?;
        let (inner, to) = (self.graph.acquire(), self.graph.acquire());
        self.graph.convolve(layer, from, inner, before, Residual::None);
        self.graph.shuffle(inner, to, channels);
        self.graph.release(from);
        self.graph.release(inner);
        Ok(to)
    }

    /// GroupNorm, SiLU, 3x3, GroupNorm, SiLU, 3x3, plus the input, in the input's slot; or plus a
    /// 1x1 of it where the width changes, in that one's slot.
    pub fn residual(&mut self, name: &str, x: Slot) -> Result<Slot> {
        let norm1 = self.norm(&format!("{name}.norm1"))?;
        let norm2 = self.norm(&format!("{name}.norm2"))?;
        let inner = self.graph.acquire();
        let (conv1, conv2) = (format!("{name}.conv1"), format!("{name}.conv2"));
        let silu = Before::NormSilu(norm1);
        self.conv(&conv1, x, inner, Window::SAME_3, silu, Residual::None)?;
        let shortcut = format!("{name}.nin_shortcut");
        let to = if self.has(&format!("{shortcut}.weight")) {
            self.conv_into_new(&shortcut, x, Window::POINT, Before::Nothing)?
        } else {
            x
        };
        self.conv(&conv2, inner, to, Window::SAME_3, Before::NormSilu(norm2), Residual::Output)?;
        self.graph.release(inner);
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
        let layer = ConvLayer::new(&format!("{name}.qkv"), weight, Some(&bias), Window::POINT)?;
        let (projected, mixed) = (self.graph.acquire(), self.graph.acquire());
        self.graph.convolve(layer, x, projected, Before::Norm(norm), Residual::None);
        self.graph.attend(projected, mixed, channels);
        self.graph.release(projected);
        let out = format!("{name}.proj_out");
        self.conv(&out, mixed, x, Window::POINT, Before::Nothing, Residual::Output)?;
        self.graph.release(mixed);
        Ok(())
    }

    /// Residual block, attention where there is one, residual block: the bottom of the canonical
    /// networks.
    pub fn middle(&mut self, name: &str, x: Slot, attention: bool) -> Result<Slot> {
        let x = self.residual(&format!("{name}.block_1"), x)?;
        if attention {
            self.attention(&format!("{name}.attn_1"), x)?;
        }
        self.residual(&format!("{name}.block_2"), x)
    }
}
