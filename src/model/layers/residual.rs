//! Owns the residual blocks of the families.

use candle_core::{Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::conv::Conv2d;
use super::norm::{ChannelAffine, Norm};
use crate::model::relu::relu;
use crate::model::topology::{BottleneckSpec, ConvGeometry, ResnetSpec, Shortcut};

/// GroupNorm, swish, 3x3, GroupNorm, swish, 3x3, plus the input through a 1x1 where the width
/// changes.
#[derive(Debug, Clone)]
pub(crate) struct ResnetBlock {
    /// Before `conv1`.
    pub norm1: Norm,
    /// `c_in` to `c_out`.
    pub conv1: Conv2d,
    /// Before `conv2`.
    pub norm2: Norm,
    /// `c_out` to `c_out`.
    pub conv2: Conv2d,
    /// Only where the width changes.
    pub nin_shortcut: Option<Conv2d>,
    /// What the shortcut acts on.
    pub shortcut: Shortcut,
}

impl ResnetBlock {
    /// Reads a block; `codes` are the channels of what norms by codes read.
    pub(crate) fn load(
        vb: VarBuilder,
        [c_in, c_out]: [usize; 2],
        codes: usize,
        ResnetSpec { norm, bias, shortcut }: ResnetSpec,
    ) -> Result<ResnetBlock> {
        let [conv3, conv1] = [ConvGeometry::SAME_3, ConvGeometry::POINT]
            .map(|geometry| if bias { geometry.into() } else { geometry.unbiased() });
        let shortcut_in = if shortcut == Shortcut::Input { c_in } else { c_out };
        Ok(ResnetBlock {
            norm1: Norm::load(vb.pp("norm1"), c_in, codes, norm)?,
            conv1: Conv2d::load(vb.pp("conv1"), [c_in, c_out], conv3)?,
            norm2: Norm::load(vb.pp("norm2"), c_out, codes, norm)?,
            conv2: Conv2d::load(vb.pp("conv2"), [c_out, c_out], conv3)?,
            nin_shortcut: (c_in != c_out)
                .then(|| Conv2d::load(vb.pp("nin_shortcut"), [shortcut_in, c_out], conv1))
                .transpose()?,
            shortcut,
        })
    }

    /// `[B, c_in, H, W]` to `[B, c_out, H, W]`; `codes` are what norms by codes read.
    pub(crate) fn forward(&self, x: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_silu(x, codes)?)?;
        let h = self.conv2.forward(&self.norm2.forward_silu(&h, codes)?)?;
        let skip = match (&self.nin_shortcut, self.shortcut) {
            (None, _) => x.clone(),
            (Some(conv), Shortcut::Input) => conv.forward(x)?,
            (Some(conv), Shortcut::Output) => conv.forward(&h)?,
        };
        skip + h
    }
}

/// x + conv2(silu(norm2(conv1(silu(norm1(x)))))) with norms that are but scales and shifts.
#[derive(Debug, Clone)]
pub(crate) struct AffineResidual {
    norm1: ChannelAffine,
    conv1: Conv2d,
    norm2: ChannelAffine,
    conv2: Conv2d,
}

impl AffineResidual {
    /// Reads a block that keeps its channels.
    pub(crate) fn load(vb: VarBuilder, channels: usize) -> Result<AffineResidual> {
        let conv = |name: &str| Conv2d::load(vb.pp(name), [channels; 2], ConvGeometry::SAME_3);
        Ok(AffineResidual {
            norm1: ChannelAffine::load(vb.pp("norm1"), channels)?,
            conv1: conv("conv1")?,
            norm2: ChannelAffine::load(vb.pp("norm2"), channels)?,
            conv2: conv("conv2")?,
        })
    }

    /// `[B, channels, H, W]` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.silu()?)?;
        x + self.conv2.forward(&self.norm2.forward(&h)?.silu()?)?
    }
}

/// x + conv2(relu(conv1(relu(x)))): 3x3 to `hidden` channels, 1x1 back.
#[derive(Debug, Clone)]
pub(crate) struct PlainResidual {
    conv1: Conv2d,
    conv2: Conv2d,
}

impl PlainResidual {
    /// Reads both convolutions, each from its own place.
    pub(crate) fn load(
        [conv1, conv2]: [VarBuilder; 2],
        channels: usize,
        hidden: usize,
    ) -> Result<PlainResidual> {
        Ok(PlainResidual {
            conv1: Conv2d::load(conv1, [channels, hidden], ConvGeometry::SAME_3)?,
            conv2: Conv2d::load(conv2, [hidden, channels], ConvGeometry::POINT)?,
        })
    }

    /// `[B, channels, H, W]` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&relu(x)?)?;
        x + self.conv2.forward(&relu(&h)?)?
    }
}

/// id(x) + gain * res(x), a ReLU before each of the four convolutions.
#[derive(Debug, Clone)]
pub(crate) struct Bottleneck {
    id_path: Option<Conv2d>,
    res_path: [Conv2d; 4],
    gain: f64,
}

impl Bottleneck {
    /// Reads a block; its middle is four times narrower than `c_out`.
    pub(crate) fn load(
        vb: VarBuilder,
        [c_in, c_out]: [usize; 2],
        spec: BottleneckSpec,
    ) -> Result<Bottleneck> {
        let BottleneckSpec { kernels, gain, parameters } = spec;
        let hidden = c_out / 4;
        let conv = |vb: VarBuilder, widths: [usize; 2], kernel: usize| {
            Conv2d::load(vb, widths, ConvGeometry::same(kernel).named(parameters))
        };
        let res = vb.pp("res_path");
        let layer = |i: usize, widths: [usize; 2]| {
            conv(res.pp(format!("conv_{}", i + 1)), widths, kernels[i])
        };
        let id_path = || conv(vb.pp("id_path"), [c_in, c_out], 1);
        Ok(Bottleneck {
            id_path: (c_in != c_out).then(id_path).transpose()?,
            res_path: [
                layer(0, [c_in, hidden])?,
                layer(1, [hidden, hidden])?,
                layer(2, [hidden, hidden])?,
                layer(3, [hidden, c_out])?,
            ],
            gain,
        })
    }

    /// `[B, c_in, H, W]` to `[B, c_out, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let identity = match &self.id_path {
            Some(conv) => conv.forward(x)?,
            None => x.clone(),
        };
        let residual =
            self.res_path.iter().try_fold(x.clone(), |h, conv| conv.forward(&relu(&h)?))?;
        identity + (residual * self.gain)?
    }
}
