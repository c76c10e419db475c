//! Owns the inverted bottleneck of UniTok's convolutional stages.

use candle_core::{Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::conv::{double_nearest, mean_of_neighbours};
use super::transformer::LayerNorm;
use crate::model::topology::{InvertedSide, InvertedSpec};

/// A convolution with a bias, padded by half its window.
#[derive(Debug, Clone)]
struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: usize,
    groups: usize,
}

impl Conv {
    fn load(vb: VarBuilder, [input, output]: [usize; 2], kernel: usize) -> Result<Conv> {
        let weight = vb.get((output, input, kernel, kernel), "weight")?;
        Ok(Conv { weight, bias: vb.get(output, "bias")?, stride: 1, groups: 1 })
    }

    /// One filter a channel.
    fn depthwise(vb: VarBuilder, channels: usize, stride: usize) -> Result<Conv> {
        let weight = vb.get((channels, 1, 3, 3), "weight")?;
        Ok(Conv { weight, bias: vb.get(channels, "bias")?, stride, groups: channels })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let padding = self.weight.dim(2)? / 2;
        let y = x.conv2d(&self.weight, padding, self.stride, 1, self.groups)?;
        y.broadcast_add(&self.bias.reshape((1, self.bias.elem_count(), 1, 1))?)
    }
}

/// How the input reaches the output.
#[derive(Debug, Clone)]
enum Shortcut {
    /// As it is.
    Same,
    /// The mean of neighbours.
    Pooled,
    /// Every pixel twice along both sides, then a 3x3.
    Doubled(Conv),
}

/// Norm, 1x1 to a larger width, 3x3 of each channel, 1x1, plus the input.
#[derive(Debug, Clone)]
pub(crate) struct InvertedBottleneck {
    shortcut: Shortcut,
    /// Behind the shortcut, where the width changes and the size doesn't grow.
    expand: Option<Conv>,
    pre_norm: LayerNorm,
    conv1_1x1: Conv,
    /// Where the size doubles: the same, then a 3x3.
    up: Option<Conv>,
    conv2_kxk: Conv,
    conv3_1x1: Conv,
}

impl InvertedBottleneck {
    /// Reads a block from `input` to `output` channels.
    pub(crate) fn load(
        vb: VarBuilder,
        [input, output]: [usize; 2],
        spec: InvertedSpec,
    ) -> Result<InvertedBottleneck> {
        let InvertedSpec { hidden, side, eps } = spec;
        let (doubles, halves) = (side == InvertedSide::Doubles, side == InvertedSide::Halves);
        let shortcut = match side {
            InvertedSide::Doubles => {
                Shortcut::Doubled(Conv::load(vb.pp("shortcut").pp("conv"), [input, output], 3)?)
            }
            InvertedSide::Halves => Shortcut::Pooled,
            InvertedSide::Keeps => Shortcut::Same,
        };
        let expand = || Conv::load(vb.pp("shortcut").pp("expand"), [input, output], 1);
        let up = || Conv::load(vb.pp("up").pp("conv"), [hidden, hidden], 3);
        Ok(InvertedBottleneck {
            shortcut,
            expand: (!doubles && input != output).then(expand).transpose()?,
            pre_norm: LayerNorm::load(vb.pp("pre_norm"), input, eps)?,
            conv1_1x1: Conv::load(vb.pp("conv1_1x1"), [input, hidden], 1)?,
            up: doubles.then(up).transpose()?,
            conv2_kxk: Conv::depthwise(vb.pp("conv2_kxk"), hidden, if halves { 2 } else { 1 })?,
            conv3_1x1: Conv::load(vb.pp("conv3_1x1"), [hidden, output], 1)?,
        })
    }

    /// `[B, input, H, W]` to `[B, output, h, w]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let skip = match &self.shortcut {
            Shortcut::Doubled(conv) => conv.forward(&double_nearest(x)?)?,
            Shortcut::Pooled => mean_of_neighbours(x)?,
            Shortcut::Same => x.clone(),
        };
        let skip = match &self.expand {
            Some(conv) => conv.forward(&skip)?,
            None => skip,
        };
        let mut h = self.conv1_1x1.forward(&self.pre_norm.forward(x)?)?.gelu_erf()?;
        if let Some(up) = &self.up {
            h = up.forward(&double_nearest(&h)?)?;
        }
        let h = self.conv2_kxk.forward(&h)?.gelu_erf()?;
        self.conv3_1x1.forward(&h)? + skip
    }
}
