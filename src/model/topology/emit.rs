//! Owns the layers that networks are made of, as an emitter receives them.

use super::blocks::{InvertedSpec, Nonlinearity, TokenRow, TransformerSpec};
use super::geometry::{ConvSpec, NormSpec};
use crate::error::{Error, Result};
use crate::model::config::ResnetConfig;

/// Receives the layers of a network in the order in which they run. Each takes the map that the
/// one before it gave, the first one the network's input; names are those of the weights.
///
/// Layers that only some families have are refused unless an emitter has them.
pub(crate) trait Emit {
    /// A convolution to `outputs` channels.
    ///
    /// # Errors
    /// Here as everywhere: a weight that is missing or has another shape, a layer that isn't there.
    fn conv(&mut self, name: &str, outputs: usize, conv: impl Into<ConvSpec>) -> Result<()>;

    /// The last layer of an encoder: a convolution to what the quantizer takes.
    fn latents(&mut self, name: &str, outputs: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        self.conv(name, outputs, conv)
    }

    /// A convolution to `outputs` channels of which the first `kept` are read.
    fn conv_head(
        &mut self,
        name: &str,
        [outputs, kept]: [usize; 2],
        conv: impl Into<ConvSpec>,
    ) -> Result<()> {
        let _ = (outputs, kept, conv.into());
        Err(missing(name))
    }

    /// Every pixel twice along both sides, then a 3x3 convolution that keeps the channels.
    fn upsample(&mut self, name: &str) -> Result<()> {
        Err(missing(name))
    }

    /// A transposed 4x4 convolution of stride 2 and padding 1: twice the size.
    fn transposed(&mut self, name: &str, outputs: usize) -> Result<()> {
        let _ = outputs;
        Err(missing(name))
    }

    /// GroupNorm, then x * sigmoid(x).
    fn norm_silu(&mut self, name: &str, norm: NormSpec) -> Result<()>;

    /// max(x, 0).
    fn relu(&mut self) -> Result<()> {
        Err(missing("relu"))
    }

    /// x * sigmoid(x).
    fn silu(&mut self) -> Result<()> {
        Err(missing("silu"))
    }

    /// GroupNorm, SiLU, 3x3, GroupNorm, SiLU, 3x3, plus the input: `norm1`, `conv1`, `norm2`,
    /// `conv2`; where the width changes, the shortcut goes through a 1x1, `nin_shortcut`.
    fn resnet(&mut self, name: &str, outputs: usize, spec: ResnetSpec) -> Result<()>;

    /// One head of attention over all pixels, plus the input: `norm`, `q`, `k`, `v`, `proj_out`.
    fn attention(&mut self, name: &str, norm: NormSpec) -> Result<()>;

    /// x + conv2(relu(conv1(relu(x)))) with the names of both: 3x3 to `hidden` channels, 1x1 back.
    fn plain_residual(&mut self, names: [&str; 2], hidden: usize) -> Result<()> {
        let _ = hidden;
        Err(missing(names[0]))
    }

    /// id(x) + gain * res(x): four convolutions `res_path.conv_{1..4}`, each after a ReLU, the
    /// inner ones four times narrower than `outputs`; `id_path` is a 1x1 where the width changes.
    fn bottleneck(&mut self, name: &str, outputs: usize, spec: BottleneckSpec) -> Result<()> {
        let _ = (outputs, spec);
        Err(missing(name))
    }

    /// The same as [`Emit::resnet`] where the width stays and each norm is but a scale and a shift
    /// by channel: a BatchNorm that has learned its statistics.
    fn affine_resnet(&mut self, name: &str) -> Result<()> {
        Err(missing(name))
    }

    /// Says that norms by codes read the map of the last layer from now on, instead of the network's
    /// input, which the next layer takes.
    fn keep_codes(&mut self) -> Result<()> {
        Err(missing("kept codes"))
    }

    /// Another size without weights.
    fn resample(&mut self, how: Resample) -> Result<()> {
        Err(missing(&format!("{how:?}")))
    }

    /// Channel (columns dy + dx) C + c of a pixel becomes channel c of the pixel (rows y + dy,
    /// columns x + dx), for a patch of so many rows and columns.
    fn depth_to_space(&mut self, patch: [usize; 2]) -> Result<()> {
        let _ = patch;
        Err(missing("depth to space"))
    }

    /// GroupNorm whose scale and shift, `gamma` and `beta`, are linear in the deviation and the
    /// mean of the network's input over all of its pixels.
    fn adaptive_norm(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let _ = norm;
        Err(missing(name))
    }

    /// x W^T + b at every pixel, `[outputs, C]`.
    fn linear(&mut self, name: &str, outputs: usize) -> Result<()> {
        let _ = outputs;
        Err(missing(name))
    }

    /// A convolution whose stride is its window: each patch becomes a pixel.
    fn patch_embedding(&mut self, name: &str, outputs: usize, patch: [usize; 2]) -> Result<()> {
        let _ = (outputs, patch);
        Err(missing(name))
    }

    /// A transposed convolution whose stride is its window: each pixel becomes a patch.
    fn patch_pixels(&mut self, name: &str, outputs: usize, patch: [usize; 2]) -> Result<()> {
        let _ = (outputs, patch);
        Err(missing(name))
    }

    /// Adds a vector of its own to every pixel of a grid, `[1, T, C]`, or one to all, `[1, 1, C]`.
    fn positions(&mut self, name: &str, grid: Option<[usize; 2]>) -> Result<()> {
        let _ = grid;
        Err(missing(name))
    }

    /// LayerNorm over the channels of each pixel.
    fn layer_norm(&mut self, name: &str, eps: f64) -> Result<()> {
        let _ = eps;
        Err(missing(name))
    }

    /// A function of every number.
    fn nonlinearity(&mut self, what: Nonlinearity) -> Result<()> {
        Err(missing(&format!("{what:?}")))
    }

    /// A layer of a pre-norm transformer over the pixels: x + out(attention(norm(x))), then x plus the
    /// feed-forward block of its norm.
    fn transformer_layer(&mut self, name: &str, spec: TransformerSpec) -> Result<()> {
        let _ = spec;
        Err(missing(name))
    }

    /// One row of the class, patches and latents, each with its position.
    fn token_row(&mut self, row: TokenRow) -> Result<()> {
        Err(missing(row.side))
    }

    /// The pixels from `first` on, as a map of so many rows and columns.
    fn take_pixels(&mut self, first: usize, [height, width]: [usize; 2]) -> Result<()> {
        Err(missing(&format!("{height}x{width} pixels from {first} on")))
    }

    /// Takes the channels of T pixels, one pixel after another, for C rows of T numbers: the columns of
    /// those are the new pixels.
    fn pixels_as_channels(&mut self) -> Result<()> {
        Err(missing("pixels as channels"))
    }

    /// Softmax over the channels, each of which is the logit of a code: their mixture, by the `weight` of
    /// that name, `[codes, dim]`.
    fn mixture(&mut self, name: &str, [codes, dim]: [usize; 2]) -> Result<()> {
        let _ = (codes, dim);
        Err(missing(name))
    }

    /// Norm, 1x1 to a larger width, 3x3 of each channel by itself, 1x1, plus the input: `pre_norm`,
    /// `conv1_1x1`, `conv2_kxk`, `conv3_1x1`, with GELU between them.
    fn inverted_bottleneck(
        &mut self,
        name: &str,
        outputs: usize,
        spec: InvertedSpec,
    ) -> Result<()> {
        let _ = (outputs, spec);
        Err(missing(name))
    }

    /// A projection to another width by attention, whose heads are as wide as the narrower side: going
    /// down their mean is taken, going up they lie side by side; beside a linear map and in front of a
    /// gated block of width `hidden`.
    fn attention_projection(&mut self, name: &str, outputs: usize, hidden: usize) -> Result<()> {
        let _ = (outputs, hidden);
        Err(missing(name))
    }

    /// Says that the names to come are those below this one.
    fn enter(&mut self, part: &'static str) -> Result<()> {
        Err(missing(part))
    }
}

fn missing(layer: &str) -> Error {
    Error::internal(format!("`{layer}` is a layer that this engine doesn't have"))
}

/// What kind of residual block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ResnetSpec {
    /// Both norms.
    pub norm: NormSpec,
    /// Whether the convolutions have biases.
    pub bias: bool,
    /// What the 1x1 shortcut acts on.
    pub shortcut: Shortcut,
}

impl ResnetSpec {
    /// The blocks of a network whose convolutions have no biases.
    pub(crate) fn unbiased(config: &ResnetConfig, shortcut: Shortcut) -> ResnetSpec {
        let norm = NormSpec::new(config.norm_groups, config.norm_eps);
        ResnetSpec { norm, bias: false, shortcut }
    }
}

/// What the 1x1 shortcut of a residual block acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortcut {
    /// The block's input, as everywhere.
    Input,
    /// The output of `conv2`, dropping the input: MaskGIT-VQ's published behaviour.
    Output,
}

/// A bottleneck's four windows and the factor of its path.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BottleneckSpec {
    /// Sides of the windows of `conv_1` to `conv_4`.
    pub kernels: [usize; 4],
    /// Factor of the residual path.
    pub gain: f64,
    /// What each convolution's weight and bias are called.
    pub parameters: [&'static str; 2],
}

/// How a map changes its size without weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resample {
    /// The mean of 2x2 pixels, rounding the size down.
    Mean,
    /// The largest of 2x2 pixels, rounding the size down.
    Largest,
    /// Every pixel twice along both sides.
    Double,
    /// A row of zeros above where the height is odd, a column of zeros on the left where the width
    /// is: what halves an even side then halves an odd one as TensorFlow's `SAME` does.
    Even,
    /// The mean of the 3x3 pixels around every second one, those outside of the map left out: rounds the
    /// size up.
    Neighbours,
}

/// `count` residual blocks `{name}.0`, `{name}.1`, ...; the first changes the width.
pub(super) fn resnets(
    e: &mut impl Emit,
    name: &str,
    count: usize,
    outputs: usize,
    spec: ResnetSpec,
) -> Result<()> {
    (0..count).try_for_each(|j| e.resnet(&format!("{name}.{j}"), outputs, spec))
}
