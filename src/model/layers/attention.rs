//! Owns attention over the pixels of a map.

use candle_core::{D, Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::conv::Conv2d;
use super::norm::Norm;
use crate::model::topology::{ConvGeometry, NormSpec};

/// Self-attention over all pixels: one head, 1x1 convolutions, scale C^-1/2.
#[derive(Debug, Clone)]
pub(crate) struct AttnBlock {
    /// Before the projections.
    pub norm: Norm,
    /// Queries.
    pub q: Conv2d,
    /// Keys.
    pub k: Conv2d,
    /// Values.
    pub v: Conv2d,
    /// Output.
    pub proj_out: Conv2d,
}

impl AttnBlock {
    /// Reads a block of `channels`; `codes` are those of what norms by codes read.
    pub(crate) fn load(
        vb: VarBuilder,
        channels: usize,
        codes: usize,
        norm: NormSpec,
    ) -> Result<AttnBlock> {
        let conv = |name: &str| Conv2d::load(vb.pp(name), [channels; 2], ConvGeometry::POINT);
        Ok(AttnBlock {
            norm: Norm::load(vb.pp("norm"), channels, codes, norm)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
        })
    }

    /// `[B, C, H, W]` to the same shape; `codes` are what norms by codes read.
    pub(crate) fn forward(&self, x: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let normed = self.norm.forward(x, codes)?;
        let flat = |conv: &Conv2d| conv.forward(&normed)?.reshape((b, c, h * w));
        // [B, HW, C] x [B, C, HW] -> [B, HW queries, HW keys]
        let scores = flat(&self.q)?.transpose(1, 2)?.contiguous()?.matmul(&flat(&self.k)?)?;
        let weights = candle_nn::ops::softmax(&(scores * (c as f64).powf(-0.5))?, D::Minus1)?;
        // [B, C, HW keys] x [B, HW keys, HW queries] -> [B, C, HW queries]
        let mixed = flat(&self.v)?.matmul(&weights.transpose(1, 2)?.contiguous()?)?;
        x + self.proj_out.forward(&mixed.reshape((b, c, h, w))?)?
    }
}
