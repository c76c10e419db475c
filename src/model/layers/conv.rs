//! Owns convolutions and what moves pixels without weights.

use candle_core::{DType, Result, Tensor};
use candle_nn::init::{FanInOut, Init, NonLinearity, NormalOrUniform};
use candle_nn::var_builder::VarBuilder;

use crate::model::conv;
use crate::model::topology::{ConvGeometry, ConvSpec};

/// PyTorch's initial weights of a convolution: uniform within 1/sqrt(fan in).
const CONV_INIT: Init = Init::Kaiming {
    dist: NormalOrUniform::Uniform,
    fan: FanInOut::FanIn,
    // sqrt(2 / (1 + 5)) times sqrt(3) is 1: the bound of kaiming_uniform(a = sqrt 5).
    non_linearity: NonLinearity::ExplicitGain(0.577_350_269_189_625_8),
};

/// A 2-d convolution; every convolution of every model goes through its `forward`.
#[derive(Debug, Clone)]
pub(crate) struct Conv2d {
    /// `[c_out, c_in, k, k]`
    pub weight: Tensor,
    /// `[c_out]`
    pub bias: Option<Tensor>,
    /// Where its window goes.
    pub geometry: ConvGeometry,
    /// Whether what it reads in training is rounded to bfloat16, and kept so for the backward pass.
    pub narrow: bool,
}

impl Conv2d {
    /// Reads the weight and the bias. `vb` of bfloat16 makes one that reads bfloat16.
    pub(crate) fn load(
        vb: VarBuilder,
        [c_in, c_out]: [usize; 2],
        spec: impl Into<ConvSpec>,
    ) -> Result<Conv2d> {
        let ConvSpec { geometry, bias, parameters } = spec.into();
        let kernel = geometry.kernel;
        let weight = vb.get_with_hints((c_out, c_in, kernel, kernel), parameters[0], CONV_INIT)?;
        let bound = 1.0 / ((c_in * kernel * kernel) as f64).sqrt();
        let init = Init::Uniform { lo: -bound, up: bound };
        let bias = bias.then(|| vb.get_with_hints(c_out, parameters[1], init)).transpose()?;
        Ok(Conv2d { weight, bias, geometry, narrow: vb.dtype() == DType::BF16 })
    }

    /// `[B, c_in, H, W]` to `[B, c_out, H', W']`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ConvGeometry { stride, before, after, .. } = self.geometry;
        if after > before {
            let more = after - before;
            return self.padded(
                &x.pad_with_zeros(2, 0, more)?.pad_with_zeros(3, 0, more)?,
                before,
                stride,
            );
        }
        self.padded(x, before, stride)
    }

    /// Whether candle's convolution on a GPU would leave outputs unwritten, without a word: it lays out all
    /// windows first, in one launch whose number of threads is cut to 32 bits.
    fn exceeds_candle(&self, x: &Tensor, padding: usize, stride: usize) -> Result<bool> {
        let (b, c, h, w) = x.dims4()?;
        let kernel = self.geometry.kernel;
        let out = |side: usize| (side + 2 * padding).saturating_sub(kernel) / stride.max(1) + 1;
        let laid_out =
            [b, c, kernel * kernel, out(h), out(w)].map(|n| n as u128).iter().product::<u128>();
        Ok(!x.device().is_cpu() && laid_out > u128::from(u32::MAX))
    }

    /// With `padding` zeros on each side.
    fn padded(&self, x: &Tensor, padding: usize, stride: usize) -> Result<Tensor> {
        if self.weight.is_variable() || self.exceeds_candle(x, padding, stride)? {
            // In training: the same sums with a backward pass of their own, several times faster.
            let padding = conv::Padding::same(padding);
            let x = &if self.narrow { x.to_dtype(DType::BF16)? } else { x.clone() };
            return conv::conv2d(x, &self.weight, self.bias.as_ref(), stride, padding);
        }
        let y = x.conv2d(&self.weight, padding, stride, 1, 1)?;
        match &self.bias {
            None => Ok(y),
            Some(bias) => y.broadcast_add(&bias.reshape((1, bias.elem_count(), 1, 1))?),
        }
    }
}

/// A 2-d transposed convolution, kernel 4, stride 2, padding 1: doubles the size.
#[derive(Debug, Clone)]
pub(crate) struct ConvTranspose2d {
    /// `[c_in, c_out, 4, 4]`
    pub weight: Tensor,
    /// `[c_out]`
    pub bias: Tensor,
}

impl ConvTranspose2d {
    /// Reads `weight` and `bias`.
    pub(crate) fn load(vb: VarBuilder, [c_in, c_out]: [usize; 2]) -> Result<ConvTranspose2d> {
        let weight = vb.get_with_hints((c_in, c_out, 4, 4), "weight", CONV_INIT)?;
        let bound = 1.0 / ((c_out * 16) as f64).sqrt();
        let bias = vb.get_with_hints(c_out, "bias", Init::Uniform { lo: -bound, up: bound })?;
        Ok(ConvTranspose2d { weight, bias })
    }

    /// `[B, c_in, H, W]` to `[B, c_out, 2H, 2W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if self.weight.is_variable() {
            // As for [`Conv2d`].
            return conv::conv_transpose2d(x, &self.weight, Some(&self.bias), 2, 1);
        }
        let y = x.conv_transpose2d(&self.weight, 1, 0, 2, 1)?;
        y.broadcast_add(&self.bias.reshape((1, self.bias.elem_count(), 1, 1))?)
    }
}

/// Every pixel twice along both sides, `[B, C, H, W]` to `[B, C, 2H, 2W]`; by broadcasting, since
/// the gradient of candle's `upsample_nearest2d` overwrites what others have added.
///
/// # Errors
/// A tensor that hasn't four dimensions.
pub fn double_nearest(x: &Tensor) -> Result<Tensor> {
    let (b, c, h, w) = x.dims4()?;
    x.reshape((b, c, h, 1, w, 1))?.broadcast_as((b, c, h, 2, w, 2))?.reshape((b, c, 2 * h, 2 * w))
}

/// A row of zeros above where the height is odd, a column of zeros on the left where the width is.
pub(crate) fn even(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    x.pad_with_zeros(2, height % 2, 0)?.pad_with_zeros(3, width % 2, 0)
}

/// Channel (columns dy + dx) C + c of a pixel becomes channel c of the pixel (rows y + dy, columns x + dx):
/// `[B, rows columns C, H, W]` to `[B, C, rows H, columns W]`.
pub(crate) fn depth_to_space(x: &Tensor, [rows, columns]: [usize; 2]) -> Result<Tensor> {
    let (b, together, h, w) = x.dims4()?;
    let c = together / (rows * columns);
    // [B, dy, dx, C, H, W] -> [B, C, H, dy, W, dx]
    let parts = x.reshape(&[b, rows, columns, c, h, w])?.permute([0, 3, 4, 1, 5, 2])?;
    parts.reshape((b, c, rows * h, columns * w))
}

/// The mean of the 3x3 pixels around every second one, those outside of the map left out.
pub(crate) fn mean_of_neighbours(x: &Tensor) -> Result<Tensor> {
    let mean = |x: &Tensor| {
        let padded = x.pad_with_zeros(2, 1, 1)?.pad_with_zeros(3, 1, 1)?;
        padded.avg_pool2d_with_stride((3, 3), (2, 2))
    };
    let (_, _, height, width) = x.dims4()?;
    let inside = Tensor::ones((1, 1, height, width), x.dtype(), x.device())?;
    mean(x)?.broadcast_div(&mean(&inside)?)
}
