//! Owns how norms come before convolutions: as what those apply on reading, or, where the codes
//! modulate them, as maps of their own.

use candle_core::Tensor;

use super::Builder;
use crate::engine::cpu::graph::steps::{Before, ChannelAffine, Norm, Slot};
use crate::engine::cpu::layer::ConvLayer;
use crate::engine::cpu::rearrange::side_by_side;
use crate::error::Result;
use crate::kernels::{Residual, channel_stride};
use crate::model::topology::{ConvGeometry, NormSpec};

impl Builder<'_> {
    /// Adds a GroupNorm; [`Before`] takes its index.
    pub(super) fn norm(&mut self, name: &str, norm: NormSpec) -> Result<usize> {
        let norm = Norm {
            groups: norm.groups,
            epsilon: norm.eps,
            weight: self.tensor(&format!("{name}.weight"))?.to_vec1()?,
            bias: self.tensor(&format!("{name}.bias"))?.to_vec1()?,
        };
        Ok(self.graph.norm(norm))
    }

    /// A norm in front of the next convolution: the map that reads, the norm as it stands in front,
    /// which a norm by codes doesn't: that makes a map of its own.
    pub(super) fn normed(
        &mut self,
        name: &str,
        from: Slot,
        norm: NormSpec,
    ) -> Result<(Slot, Before)> {
        if !norm.by_codes {
            return Ok((from, Before::NormSilu(self.norm(name, norm)?)));
        }
        let index = self.norm(&format!("{name}.norm_layer"), norm)?;
        let part = |part: &str| -> Result<(Tensor, Tensor)> {
            let name = format!("{name}.{part}");
            Ok((self.tensor(&format!("{name}.weight"))?, self.tensor(&format!("{name}.bias"))?))
        };
        let (weight, bias) = side_by_side(&[part("conv_y")?, part("conv_b")?])?;
        let layer = ConvLayer::new(name, weight, Some(&bias), ConvGeometry::POINT)?;
        let (by, to) = (self.graph.acquire(), self.graph.acquire());
        self.graph.convolve(layer, self.codes, by, Before::Nothing, Residual::None);
        self.graph.modulate(index, from, by, to);
        self.graph.release(by);
        Ok((to, Before::Silu))
    }

    /// Gives a map back that [`Builder::normed`] made of `from`.
    pub(super) fn release_normed(&mut self, normed: Slot, from: Slot) {
        if normed != from {
            self.graph.release(normed);
        }
    }

    /// Adds the scale and shift of a layer with `weight` and `bias`.
    pub(super) fn affine(&mut self, name: &str) -> Result<usize> {
        let padded = |part: &str| -> Result<Vec<f32>> {
            let mut values = self.tensor(&format!("{name}.{part}"))?.to_vec1::<f32>()?;
            values.resize(channel_stride(values.len()), 0.0);
            Ok(values)
        };
        let affine = ChannelAffine { scale: padded("weight")?, shift: padded("bias")? };
        Ok(self.graph.affine(affine))
    }
}
