//! Owns parts of residual blocks that are more than one step.

use candle_core::{DType, Device, Tensor};

use super::Builder;
use crate::engine::cpu::graph::steps::Slot;
use crate::engine::cpu::layer::ConvLayer;
use crate::error::Result;
use crate::kernels::Residual;
use crate::model::topology::{ConvGeometry, NormSpec};

impl Builder<'_> {
    /// GroupNorm, SiLU and the 3x3 `conv` into a new slot; the map stays.
    pub(super) fn half_block(&mut self, name: &str, half: usize, norm: NormSpec) -> Result<Slot> {
        let (from, before) = self.normed(&format!("{name}.norm{half}"), self.x, norm)?;
        let layer = self.layer(&format!("{name}.conv{half}"), ConvGeometry::SAME_3)?;
        let inner = self.graph.acquire();
        self.graph.convolve(layer, from, inner, before, Residual::None);
        self.release_normed(from, self.x);
        Ok(inner)
    }

    /// A residual block whose 1x1 stands after the second convolution instead of beside both, and
    /// whose width changes: the output is y + W y, a 1x1 convolution with W plus the unit matrix.
    pub(super) fn resnet_post_shortcut(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        for half in [1, 2] {
            let from = self.x;
            self.x = self.half_block(name, half, norm)?;
            self.graph.release(from);
        }
        let shortcut = format!("{name}.nin_shortcut");
        let weight = self.tensor(&format!("{shortcut}.weight"))?;
        let outputs = weight.dim(0)?;
        let unit = Tensor::eye(outputs, DType::F32, &Device::Cpu)?;
        let weight = (weight.reshape((outputs, outputs))? + unit)?;
        let weight = weight.reshape((outputs, outputs, 1, 1))?;
        self.convolve(ConvLayer::new(&shortcut, weight, None, ConvGeometry::POINT)?);
        Ok(())
    }

    /// Copies the network's input into a map of its own, whose pixels lie a channel stride apart,
    /// as blocks want them.
    pub(super) fn copy_input(&mut self) -> Result<()> {
        let eye = Tensor::eye(self.channels, DType::F32, &Device::Cpu)?;
        let eye = eye.reshape((self.channels, self.channels, 1, 1))?;
        self.convolve(ConvLayer::new("input", eye, None, ConvGeometry::POINT)?);
        Ok(())
    }
}
