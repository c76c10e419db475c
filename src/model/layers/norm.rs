//! Owns GroupNorm, plain and modulated, and the scale and shift that a BatchNorm comes to.

use candle_core::{Result, Tensor};
use candle_nn::init::Init;
use candle_nn::var_builder::VarBuilder;

use super::conv::Conv2d;
use crate::model::group_norm::group_norm;
use crate::model::topology::{ConvGeometry, NormSpec};

/// GroupNorm (Wu and He 2018) with affine parameters.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    /// `[C]`
    pub weight: Tensor,
    /// `[C]`
    pub bias: Tensor,
    /// Groups and epsilon.
    pub spec: NormSpec,
}

impl GroupNorm {
    /// Reads `weight` and `bias`.
    ///
    /// # Errors
    /// Channels that the groups don't divide; a weight that is missing or has another shape.
    pub fn load(vb: VarBuilder, channels: usize, spec: NormSpec) -> Result<GroupNorm> {
        if spec.groups == 0 || !channels.is_multiple_of(spec.groups) {
            candle_core::bail!(
                "`{}`: {channels} channels can't be normalised in {} groups",
                vb.prefix(),
                spec.groups
            );
        }
        let weight = vb.get_with_hints(channels, "weight", Init::Const(1.0))?;
        let bias = vb.get_with_hints(channels, "bias", Init::Const(0.0))?;
        Ok(GroupNorm { weight, bias, spec })
    }

    /// `[B, C, H, W]` to the same shape.
    ///
    /// # Errors
    /// Another number of channels than the weights have.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let Some(y) = self.trained(x, false)? {
            return Ok(y);
        }
        let channels = x.dim(1)?;
        let per_channel = |t: &Tensor| t.reshape((1, channels, 1, 1));
        normalise_groups(x, self.spec)?
            .broadcast_mul(&per_channel(&self.weight)?)?
            .broadcast_add(&per_channel(&self.bias)?)
    }

    /// `y / (1 + e^-y)` of [`Self::forward`].
    ///
    /// # Errors
    /// As there.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        match self.trained(x, true)? {
            Some(y) => Ok(y),
            None => self.forward(x)?.silu(),
        }
    }

    /// In training: the same with a backward pass of its own, many times faster.
    fn trained(&self, x: &Tensor, silu: bool) -> Result<Option<Tensor>> {
        if !self.weight.is_variable() {
            return Ok(None);
        }
        group_norm(x, (&self.weight, &self.bias), self.spec, silu)
    }
}

/// A GroupNorm, plain or modulated by the codes at each pixel.
#[derive(Debug, Clone)]
pub(crate) enum Norm {
    /// Plain.
    Plain(GroupNorm),
    /// MoVQ's (Zheng et al. 2022).
    Spatial(Box<SpatialNorm>),
}

impl Norm {
    /// Reads a norm of `channels`; `codes` are the channels of what modulates it.
    pub(crate) fn load(
        vb: VarBuilder,
        channels: usize,
        codes: usize,
        spec: NormSpec,
    ) -> Result<Norm> {
        if !spec.by_codes {
            return Ok(Norm::Plain(GroupNorm::load(vb, channels, spec)?));
        }
        let conv = |name: &str| Conv2d::load(vb.pp(name), [codes, channels], ConvGeometry::POINT);
        Ok(Norm::Spatial(Box::new(SpatialNorm {
            norm_layer: GroupNorm::load(vb.pp("norm_layer"), channels, spec)?,
            conv_y: conv("conv_y")?,
            conv_b: conv("conv_b")?,
        })))
    }

    /// `x` `[B, C, H, W]` to the same shape; `codes` `[B, D, h, w]`, whose sides divide `x`'s.
    pub(crate) fn forward(&self, x: &Tensor, codes: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Plain(norm) => norm.forward(x),
            Norm::Spatial(norm) => norm.forward(x, codes),
        }
    }

    /// `y / (1 + e^-y)` of [`Self::forward`].
    pub(crate) fn forward_silu(&self, x: &Tensor, codes: &Tensor) -> Result<Tensor> {
        match self {
            Norm::Plain(norm) => norm.forward_silu(x),
            Norm::Spatial(norm) => norm.forward(x, codes)?.silu(),
        }
    }
}

/// norm_layer(x) * conv_y(codes) + conv_b(codes), the codes' pixels repeated to `x`'s size.
#[derive(Debug, Clone)]
pub(crate) struct SpatialNorm {
    norm_layer: GroupNorm,
    conv_y: Conv2d,
    conv_b: Conv2d,
}

impl SpatialNorm {
    fn forward(&self, x: &Tensor, codes: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let spread = |conv: &Conv2d| repeated(&conv.forward(codes)?, height, width);
        self.norm_layer.forward(x)?.mul(&spread(&self.conv_y)?)? + spread(&self.conv_b)?
    }
}

/// Every pixel as often as makes the map `height` x `width`.
fn repeated(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    if !height.is_multiple_of(h) || !width.is_multiple_of(w) {
        candle_core::bail!("codes of {w}x{h} can't modulate a map of {width}x{height}");
    }
    let (down, across) = (height / h, width / w);
    let x = x.reshape((b, c, h, 1, w, 1))?.broadcast_as((b, c, h, down, w, across))?;
    x.reshape((b, c, height, width))
}

/// x * weight + bias by channel: what a BatchNorm does once it has learned its statistics.
#[derive(Debug, Clone)]
pub(crate) struct ChannelAffine {
    weight: Tensor,
    bias: Tensor,
}

impl ChannelAffine {
    /// Reads `weight` and `bias`, `[C]` each.
    pub(crate) fn load(vb: VarBuilder, channels: usize) -> Result<ChannelAffine> {
        Ok(ChannelAffine { weight: vb.get(channels, "weight")?, bias: vb.get(channels, "bias")? })
    }

    /// `[B, C, H, W]` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let per_channel = |t: &Tensor| t.reshape((1, t.elem_count(), 1, 1));
        x.broadcast_mul(&per_channel(&self.weight)?)?.broadcast_add(&per_channel(&self.bias)?)
    }
}

/// `(x - mean) / sqrt(var + eps)` of each group of channels, `[B, C, H, W]`.
fn normalise_groups(x: &Tensor, spec: NormSpec) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    // [B, G, C/G*H, W]: the sums are taken over rows first and then over the rows' means, which
    // keeps float32's error small where a group holds hundreds of thousands of values.
    let grouped = x.reshape((b, spec.groups, c / spec.groups * h, w))?;
    let mean = |t: &Tensor| t.mean_keepdim(3)?.mean_keepdim(2);
    let centred = grouped.broadcast_sub(&mean(&grouped)?)?;
    let deviation = finite_or_nan((mean(&centred.sqr()?)? + spec.eps)?.sqrt()?)?;
    centred.broadcast_div(&deviation)?.reshape((b, c, h, w))
}

/// The divisor of a norm, NaN where it overflowed: an infinite one would make zeros of whatever it
/// divides, which look like any other values.
pub(crate) fn finite_or_nan(deviation: Tensor) -> Result<Tensor> {
    &deviation + (deviation.detach() * 0.0)?
}

/// GroupNorm whose scale and shift come from the codes' statistics over the whole grid.
#[derive(Debug, Clone)]
pub(crate) struct AdaptiveNorm {
    /// `[C, bits]`
    gamma: (Tensor, Tensor),
    /// `[C, bits]`
    beta: (Tensor, Tensor),
    spec: NormSpec,
}

impl AdaptiveNorm {
    /// Reads `gamma` and `beta`.
    pub(crate) fn load(
        vb: VarBuilder,
        bits: usize,
        width: usize,
        spec: NormSpec,
    ) -> Result<AdaptiveNorm> {
        let linear = |vb: VarBuilder| -> Result<(Tensor, Tensor)> {
            Ok((vb.get((width, bits), "weight")?, vb.get(width, "bias")?))
        };
        Ok(AdaptiveNorm { gamma: linear(vb.pp("gamma"))?, beta: linear(vb.pp("beta"))?, spec })
    }

    /// `h` `[B, C, H, W]`, `q` `[B, bits, h, w]`. A grid of one token has no variance: the reference
    /// divides by zero there, and so do we.
    pub(crate) fn forward(&self, h: &Tensor, q: &Tensor) -> Result<Tensor> {
        let (b, bits, height, width) = q.dims4()?;
        let count = height * width;
        let q = q.reshape((b, bits, count))?;
        let mean = q.mean_keepdim(2)?;
        let squares = q.broadcast_sub(&mean)?.sqr()?.sum(2)?;
        let deviation = ((squares / (count as f64 - 1.0))? + self.spec.eps)?.sqrt()?;
        let linear = |(weight, bias): &(Tensor, Tensor), x: &Tensor| {
            let y = x.matmul(&weight.t()?)?.broadcast_add(bias)?;
            y.reshape((b, bias.elem_count(), 1, 1))
        };
        normalise_groups(h, self.spec)?
            .broadcast_mul(&linear(&self.gamma, &deviation)?)?
            .broadcast_add(&linear(&self.beta, &mean.squeeze(2)?)?)
    }
}
