//! Owns the layers that the network families share, each made of plain candle operations with
//! right gradients: convolution, GroupNorm, residual block, attention, down- and upsampling.
//! Must not know: configurations of families, files, threads.

use super::conv;
use candle_core::{D, Result, Tensor};
use candle_nn::init::{FanInOut, Init, NonLinearity, NormalOrUniform};
use candle_nn::var_builder::VarBuilder;

/// Geometry of a square convolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSpec {
    /// Kernel height and width.
    pub kernel: usize,
    /// Step between output pixels.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

impl ConvSpec {
    /// Stride 1, padded so that the size stays; `kernel` is odd.
    pub const fn same(kernel: usize) -> ConvSpec {
        ConvSpec { kernel, stride: 1, padding: kernel / 2, bias: true }
    }

    /// The same geometry with or without a bias.
    pub const fn bias(self, bias: bool) -> ConvSpec {
        ConvSpec { bias, ..self }
    }
}

/// PyTorch's initial weights of a convolution: uniform within 1/sqrt(fan in).
const CONV_INIT: Init = Init::Kaiming {
    dist: NormalOrUniform::Uniform,
    fan: FanInOut::FanIn,
    // sqrt(2 / (1 + 5)) times sqrt(3) is 1: the bound of kaiming_uniform(a = sqrt 5).
    non_linearity: NonLinearity::ExplicitGain(0.577_350_269_189_625_8),
};

/// A 2-d convolution; every convolution of every model goes through its `forward`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[c_out, c_in, k, k]`
    pub weight: Tensor,
    /// `[c_out]`
    pub bias: Option<Tensor>,
    /// Geometry.
    pub spec: ConvSpec,
}

impl Conv2d {
    /// Reads `weight` and `bias`.
    pub fn load(vb: VarBuilder, c_in: usize, c_out: usize, spec: ConvSpec) -> Result<Conv2d> {
        Self::load_named(vb, ["weight", "bias"], c_in, c_out, spec)
    }

    /// Reads the weight and the bias under other names.
    pub fn load_named(
        vb: VarBuilder,
        [weight, bias]: [&str; 2],
        c_in: usize,
        c_out: usize,
        spec: ConvSpec,
    ) -> Result<Conv2d> {
        let shape = (c_out, c_in, spec.kernel, spec.kernel);
        let weight = vb.get_with_hints(shape, weight, CONV_INIT)?;
        let bound = 1.0 / ((c_in * spec.kernel * spec.kernel) as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let bias = spec.bias.then(|| vb.get_with_hints(c_out, bias, init)).transpose()?;
        Ok(Conv2d { weight, bias, spec })
    }

    /// `[B, c_in, H, W]` to `[B, c_out, H', W']`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.weight.is_variable() {
            // In training: the same sums with a backward pass of their own, several times faster.
            let padding = conv::Padding::same(self.spec.padding);
            return conv::conv2d(x, &self.weight, self.bias.as_ref(), self.spec.stride, padding);
        }
        let y = x.conv2d(&self.weight, self.spec.padding, self.spec.stride, 1, 1)?;
        match &self.bias {
            None => Ok(y),
            Some(bias) => y.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?),
        }
    }
}

/// A 2-d transposed convolution, kernel 4, stride 2, padding 1: doubles the size.
#[derive(Debug, Clone)]
pub struct ConvTranspose2d {
    /// `[c_in, c_out, k, k]`
    pub weight: Tensor,
    /// `[c_out]`
    pub bias: Tensor,
    /// Kernel, stride and padding.
    pub spec: ConvSpec,
}

impl ConvTranspose2d {
    /// Kernel 4, stride 2, padding 1.
    pub const DOUBLE: ConvSpec = ConvSpec { kernel: 4, stride: 2, padding: 1, bias: true };

    /// Reads `weight` and `bias`.
    pub fn load(vb: VarBuilder, c_in: usize, c_out: usize, spec: ConvSpec) -> Result<Self> {
        let shape = (c_in, c_out, spec.kernel, spec.kernel);
        let weight = vb.get_with_hints(shape, "weight", CONV_INIT)?;
        let bound = 1.0 / ((c_out * spec.kernel * spec.kernel) as f64).sqrt();
        let bias = vb.get_with_hints(c_out, "bias", Init::Uniform { lo: -bound, up: bound })?;
        Ok(ConvTranspose2d { weight, bias, spec })
    }

    /// `[B, c_in, H, W]` to `[B, c_out, (H-1)*stride - 2*padding + k, ...]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = x.conv_transpose2d(&self.weight, self.spec.padding, 0, self.spec.stride, 1)?;
        y.broadcast_add(&self.bias.reshape((1, self.bias.elem_count(), 1, 1))?)
    }
}

/// Groups and epsilon of a GroupNorm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormSpec {
    /// Number of groups; divides the channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

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
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let channels = x.dim(1)?;
        let per_channel = |t: &Tensor| t.reshape((1, channels, 1, 1));
        normalise_groups(x, self.spec)?
            .broadcast_mul(&per_channel(&self.weight)?)?
            .broadcast_add(&per_channel(&self.bias)?)
    }
}

/// `(x - mean) / sqrt(var + eps)` of each group of channels, `[B, C, H, W]`.
pub fn normalise_groups(x: &Tensor, spec: NormSpec) -> Result<Tensor> {
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
pub fn finite_or_nan(deviation: Tensor) -> Result<Tensor> {
    &deviation + (deviation.detach() * 0.0)?
}

/// What the 1x1 shortcut of a residual block acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortcut {
    /// The block's input, as everywhere.
    Input,
    /// The output of `conv2`, dropping the input: MaskGIT-VQ's published behaviour.
    Output,
}

/// GroupNorm, swish, 3x3, GroupNorm, swish, 3x3, plus the input through a 1x1 where the width
/// changes.
#[derive(Debug, Clone)]
pub struct ResnetBlock {
    /// Before `conv1`.
    pub norm1: GroupNorm,
    /// `c_in` to `c_out`.
    pub conv1: Conv2d,
    /// Before `conv2`.
    pub norm2: GroupNorm,
    /// `c_out` to `c_out`.
    pub conv2: Conv2d,
    /// Only where the width changes.
    pub nin_shortcut: Option<Conv2d>,
    /// What the shortcut acts on.
    pub shortcut: Shortcut,
}

impl ResnetBlock {
    /// Reads a block; `bias` says whether its convolutions have one.
    pub fn load(
        vb: VarBuilder,
        c_in: usize,
        c_out: usize,
        norm: NormSpec,
        bias: bool,
        shortcut: Shortcut,
    ) -> Result<ResnetBlock> {
        let conv3 = ConvSpec::same(3).bias(bias);
        let conv1 = ConvSpec::same(1).bias(bias);
        let shortcut_in = if shortcut == Shortcut::Input { c_in } else { c_out };
        Ok(ResnetBlock {
            norm1: GroupNorm::load(vb.pp("norm1"), c_in, norm)?,
            conv1: Conv2d::load(vb.pp("conv1"), c_in, c_out, conv3)?,
            norm2: GroupNorm::load(vb.pp("norm2"), c_out, norm)?,
            conv2: Conv2d::load(vb.pp("conv2"), c_out, c_out, conv3)?,
            nin_shortcut: (c_in != c_out)
                .then(|| Conv2d::load(vb.pp("nin_shortcut"), shortcut_in, c_out, conv1))
                .transpose()?,
            shortcut,
        })
    }

    /// Reads `count` blocks `{vb}.0`, `{vb}.1`, ...; the first changes the width.
    pub fn load_stack(
        vb: VarBuilder,
        count: usize,
        [c_in, c_out]: [usize; 2],
        norm: NormSpec,
        bias: bool,
        shortcut: Shortcut,
    ) -> Result<Vec<ResnetBlock>> {
        let load = |j: usize| {
            let c_in = if j == 0 { c_in } else { c_out };
            ResnetBlock::load(vb.pp(j), c_in, c_out, norm, bias, shortcut)
        };
        (0..count).map(load).collect()
    }

    /// One block after another, `[B, c_in, H, W]` to `[B, c_out, H, W]`.
    pub fn forward_stack(blocks: &[ResnetBlock], x: Tensor) -> Result<Tensor> {
        blocks.iter().try_fold(x, |h, block| block.forward(&h))
    }

    /// `[B, c_in, H, W]` to `[B, c_out, H, W]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward(x)?.silu()?)?;
        let h = self.conv2.forward(&self.norm2.forward(&h)?.silu()?)?;
        let skip = match (&self.nin_shortcut, self.shortcut) {
            (None, _) => x.clone(),
            (Some(conv), Shortcut::Input) => conv.forward(x)?,
            (Some(conv), Shortcut::Output) => conv.forward(&h)?,
        };
        skip + h
    }
}

/// Self-attention over all pixels: one head, 1x1 convolutions, scale C^-1/2.
#[derive(Debug, Clone)]
pub struct AttnBlock {
    /// Before the projections.
    pub norm: GroupNorm,
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
    /// Reads a block of `channels`.
    pub fn load(vb: VarBuilder, channels: usize, norm: NormSpec) -> Result<AttnBlock> {
        let conv = |name: &str| Conv2d::load(vb.pp(name), channels, channels, ConvSpec::same(1));
        Ok(AttnBlock {
            norm: GroupNorm::load(vb.pp("norm"), channels, norm)?,
            q: conv("q")?,
            k: conv("k")?,
            v: conv("v")?,
            proj_out: conv("proj_out")?,
        })
    }

    /// `[B, C, H, W]` to the same shape.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let normed = self.norm.forward(x)?;
        let flat = |conv: &Conv2d| conv.forward(&normed)?.reshape((b, c, h * w));
        // [B, HW, C] x [B, C, HW] -> [B, HW queries, HW keys]
        let scores = flat(&self.q)?.transpose(1, 2)?.contiguous()?.matmul(&flat(&self.k)?)?;
        let weights = candle_nn::ops::softmax(&(scores * (c as f64).powf(-0.5))?, D::Minus1)?;
        // [B, C, HW keys] x [B, HW keys, HW queries] -> [B, C, HW queries]
        let mixed = flat(&self.v)?.matmul(&weights.transpose(1, 2)?.contiguous()?)?;
        x + self.proj_out.forward(&mixed.reshape((b, c, h, w))?)?
    }
}

/// Halves the size (rounding down): zeros (0,1,0,1), then 3x3 with stride 2.
#[derive(Debug, Clone)]
pub struct Downsample {
    /// Stride 2, no padding of its own.
    pub conv: Conv2d,
}

impl Downsample {
    /// Reads `conv`.
    pub fn load(vb: VarBuilder, channels: usize) -> Result<Downsample> {
        let spec = ConvSpec { kernel: 3, stride: 2, padding: 0, bias: true };
        Ok(Downsample { conv: Conv2d::load(vb.pp("conv"), channels, channels, spec)? })
    }

    /// `[B, C, H, W]` to `[B, C, floor(H/2), floor(W/2)]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?)
    }
}

/// Doubles the size: nearest neighbour, then 3x3.
#[derive(Debug, Clone)]
pub struct Upsample {
    /// After the doubling.
    pub conv: Conv2d,
}

impl Upsample {
    /// Reads `conv`.
    pub fn load(vb: VarBuilder, channels: usize) -> Result<Upsample> {
        Ok(Upsample { conv: Conv2d::load(vb.pp("conv"), channels, channels, ConvSpec::same(3))? })
    }

    /// `[B, C, H, W]` to `[B, C, 2H, 2W]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.conv.forward(&double_nearest(x)?)
    }
}

/// Every pixel twice along both sides, `[B, C, H, W]` to `[B, C, 2H, 2W]`; by broadcasting, since
/// the gradient of candle's `upsample_nearest2d` overwrites what others have added.
pub fn double_nearest(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    x.reshape((b, c, h, 1, w, 1))?.broadcast_as((b, c, h, 2, w, 2))?.reshape((b, c, 2 * h, 2 * w))
}
