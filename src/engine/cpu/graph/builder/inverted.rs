//! Owns making steps of UniTok's inverted bottlenecks.

use super::Builder;
use crate::engine::cpu::graph::steps::{Before, DepthwiseLayer, Slot};
use crate::error::Result;
use crate::kernels::{Elementwise, Residual, channel_stride};
use crate::model::topology::{ConvGeometry, InvertedSide, InvertedSpec, Resample};

impl Builder<'_> {
    /// See `Emit::inverted_bottleneck`.
    pub(super) fn invert(&mut self, name: &str, outputs: usize, spec: InvertedSpec) -> Result<()> {
        let part = |part: &str| format!("{name}.{part}");
        let x = self.map();
        let normed = self.layer_normed(&part("pre_norm"), spec.eps, x)?;
        let conv1 = self.layer(&part("conv1_1x1"), ConvGeometry::POINT)?;
        let mut inner = self.through(conv1, normed, Before::Nothing);
        if spec.side == InvertedSide::Doubles {
            let up = self.layer(&part("up.conv"), ConvGeometry::SAME_3)?;
            let to = self.graph.acquire();
            self.graph.convolve_upsampled(up, inner, to, Before::Gelu);
            self.graph.release(inner);
            inner = to;
        } else {
            // Nine windows read each number: its function is computed once.
            self.graph.elementwise(Elementwise::Gelu, inner);
        }
        let windows = self.graph.acquire();
        let conv2 = self.depthwise_layer(&part("conv2_kxk"), spec)?;
        self.graph.convolve_depthwise(conv2, inner, windows);
        self.graph.release(inner);
        let shortcut = self.shortcut(name, spec.side, x)?;
        if shortcut != x {
            self.replace(shortcut, outputs);
        }
        let conv3 = self.layer(&part("conv3_1x1"), ConvGeometry::POINT)?;
        self.add_into(conv3, windows, shortcut, Before::Gelu);
        Ok(())
    }

    /// How the input reaches the output: its own slot, or a new one.
    fn shortcut(&mut self, name: &str, side: InvertedSide, x: Slot) -> Result<Slot> {
        let to = match side {
            InvertedSide::Doubles => {
                let conv = self.layer(&format!("{name}.shortcut.conv"), ConvGeometry::SAME_3)?;
                let to = self.graph.acquire();
                self.graph.convolve_upsampled(conv, x, to, Before::Nothing);
                return Ok(to);
            }
            InvertedSide::Halves => {
                let to = self.graph.acquire();
                self.graph.resample(x, to, Resample::Neighbours);
                to
            }
            InvertedSide::Keeps => x,
        };
        let expand = format!("{name}.shortcut.expand");
        if !self.has(&format!("{expand}.weight")) {
            return Ok(to);
        }
        let expanded = self.graph.acquire();
        let layer = self.layer(&expand, ConvGeometry::POINT)?;
        self.graph.convolve(layer, to, expanded, Before::Nothing, Residual::None);
        if to != x {
            self.graph.release(to);
        }
        Ok(expanded)
    }

    /// `[hidden, 1, 3, 3]` as `[3][3][channel stride]`.
    fn depthwise_layer(&self, name: &str, spec: InvertedSpec) -> Result<DepthwiseLayer> {
        let gap = channel_stride(spec.hidden) - spec.hidden;
        let weight = self.tensor(&format!("{name}.weight"))?.reshape((spec.hidden, 9))?.t()?;
        let weight = weight.contiguous()?.pad_with_zeros(1, 0, gap)?.flatten_all()?.to_vec1()?;
        let mut bias = self.tensor(&format!("{name}.bias"))?.to_vec1::<f32>()?;
        bias.resize(channel_stride(spec.hidden), 0.0);
        let stride = if spec.side == InvertedSide::Halves { 2 } else { 1 };
        Ok(DepthwiseLayer { name: name.to_owned(), weight, bias, stride })
    }
}
