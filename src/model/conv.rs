//! Owns convolutions with their own backward pass: candle's are right but ten times slower on the
//! CPU. Must not know: modules, names of weights.
//!
//! Four operations carry everything: forward, gradient of the input, gradient of the weight, that of the
//! bias. A transposed convolution is the second, and each of the first two is the other's backward pass.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, WithDType, bail,
};

use half::bf16;

use super::conv_float::ConvFloat;
use super::conv_kernels::bias_gradient;
use super::conv_sizes::ConvSizes;
pub use super::conv_sizes::Padding;
#[cfg(feature = "candle-cuda")]
use super::cuda::{compute, launches};
#[cfg(all(feature = "cuda", feature = "candle-cuda"))]
use super::cuda::{convolutions::Product, cudnn::convolve};
use super::storage::{for_float, slice};
#[cfg(feature = "candle-cuda")]
use candle_core::{CudaStorage, DType};

/// `conv2d(x, weight) + bias`: x `[B, C, H, W]`, weight `[O, C, k, k]`, bias `[O]`.
/// Differentiable in all three; no gradient is computed for what doesn't want one. `x` may be bfloat16 where
/// the rest is float32: products, sums and what comes out are float32, the gradient of `x` is bfloat16.
///
/// # Errors
/// Shapes that don't go together; other numbers than float32 and float64.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: Padding,
) -> Result<Tensor> {
    let (biased, bias) = (bias.is_some(), bias_or_zeros(bias, weight.dim(0)?, weight)?);
    let sizes = ConvSizes::of(x.dims(), weight.dims(), stride, padding)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Forward { sizes, biased })
}

/// `conv_transpose2d(x, weight) + bias`: x `[B, C, H, W]`, weight `[C, O, k, k]`, bias `[O]`,
/// result `[B, O, (H-1) stride - 2 padding + k, ...]`. Differentiable in all three.
///
/// # Errors
/// Shapes that don't go together; numbers that are neither float32 nor float64.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    let (biased, bias) = (bias.is_some(), bias_or_zeros(bias, weight.dim(1)?, x)?);
    let sizes = adjoint(x.dims(), weight.dims(), stride, padding)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, InputGradient { sizes, biased })
}

/// The convolution whose adjoint a transposed one is: from the output of that to its input.
fn adjoint(x: &[usize], w: &[usize], stride: usize, padding: usize) -> Result<ConvSizes> {
    let ([n, c, h, wd], [wc, o, kh, kw]) = (x, w) else {
        bail!("a transposed convolution of {x:?} with {w:?}: both need four dimensions");
    };
    let full = |size: usize, k: usize| (size.max(1) - 1) * stride + k;
    if c != wc || full(*h, *kh) <= 2 * padding || full(*wd, *kw) <= 2 * padding {
        bail!("a transposed convolution of {x:?} with {w:?}, padding {padding}");
    }
    let out = [*n, *o, full(*h, *kh) - 2 * padding, full(*wd, *kw) - 2 * padding];
    ConvSizes::of(&out, w, stride, Padding::same(padding))
}

fn bias_or_zeros(bias: Option<&Tensor>, channels: usize, like: &Tensor) -> Result<Tensor> {
    match bias {
        Some(b) if b.dims() == [channels] => b.contiguous(),
        Some(b) => bail!("bias {:?} on a convolution with {channels} channels", b.dims()),
        None => Tensor::zeros(channels, like.dtype(), like.device()),
    }
}

/// The elements of a contiguous tensor of bfloat16 as float32; None of any other.
fn widened(x: &CpuStorage, layout: &Layout) -> Result<Option<Vec<f32>>> {
    match x {
        CpuStorage::BF16(_) => {
            Ok(Some(slice::<bf16>(x, layout)?.iter().map(|v| v.to_f32()).collect()))
        }
        _ => Ok(None),
    }
}

/// Gradients of input, weight and bias, where they are wanted.
type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// x `[N, C, H, W]`, weight and bias `[O]` to y `[N, O, OH, OW]`.
struct Forward {
    sizes: ConvSizes,
    /// Whether the bias is more than zeros, which cuDNN's way leaves out.
    #[cfg_attr(not(all(feature = "cuda", feature = "candle-cuda")), expect(dead_code))]
    biased: bool,
}

impl CustomOp3 for Forward {
    fn name(&self) -> &'static str {
        "vqtok-conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = &self.sizes;
        if let Some(x) = widened(x, xl)? {
            let y = f32::forward(g, &x, slice(w, wl)?, slice(b, bl)?)?;
            return Ok((CpuStorage::F32(y), g.output_shape()));
        }
        for_float!(x.dtype(), T, {
            let y = T::forward(g, slice(x, xl)?, slice(w, wl)?, slice(b, bl)?)?;
            Ok((T::to_cpu_storage_owned(y), g.output_shape()))
        })
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let g = &self.sizes;
        let shape = g.output_shape();
        #[cfg(feature = "cuda")]
        {
            let bias = self.biased.then_some((b, bl));
            if let Some(y) = convolve(Product::Forward, g, [(x, xl), (w, wl)], bias)? {
                return Ok((y, shape));
            }
        }
        let inputs = [(x, xl), (w, wl), (b, bl)];
        let plan = launches::conv_forward(g, x.dtype() == DType::BF16);
        Ok((compute::<f32>(&plan, &inputs, shape.elem_count())?, shape))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let (g, dy) = (self.sizes, dy.contiguous()?);
        let dx = || {
            let zeros = Tensor::zeros(g.channels, dy.dtype(), dy.device())?;
            dy.apply_op3_no_bwd(w, &zeros, &InputGradient { sizes: g, biased: false })?
                .to_dtype(x.dtype())
        };
        let dx = x.track_op().then(dx);
        let dw = w.track_op().then(|| x.apply_op2_no_bwd(&dy, &WeightGradient(g)));
        let db = b.track_op().then(|| dy.apply_op1_no_bwd(&ChannelSums));
        Ok((dx.transpose()?, dw.transpose()?, db.transpose()?))
    }
}

/// The gradient of y, weight and a bias `[C]` to the gradient of x plus the bias: a transposed convolution.
struct InputGradient {
    sizes: ConvSizes,
    /// Whether the bias is more than zeros, which cuDNN's way leaves out.
    #[cfg_attr(not(all(feature = "cuda", feature = "candle-cuda")), expect(dead_code))]
    biased: bool,
}

impl CustomOp3 for InputGradient {
    fn name(&self) -> &'static str {
        "vqtok-conv-transpose2d"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        dyl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = &self.sizes;
        for_float!(dy.dtype(), T, {
            let dx = T::input_gradient(g, slice(dy, dyl)?, slice(w, wl)?, slice(b, bl)?)?;
            Ok((T::to_cpu_storage_owned(dx), g.input_shape()))
        })
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        dy: &CudaStorage,
        dyl: &Layout,
        w: &CudaStorage,
        wl: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let g = &self.sizes;
        let shape = g.input_shape();
        #[cfg(feature = "cuda")]
        {
            let bias = self.biased.then_some((b, bl));
            if let Some(dx) = convolve(Product::InputGradient, g, [(dy, dyl), (w, wl)], bias)? {
                return Ok((dx, shape));
            }
        }
        let plan = launches::conv_input_gradient(g);
        let inputs = [(dy, dyl), (w, wl), (b, bl)];
        Ok((compute::<f32>(&plan, &inputs, shape.elem_count())?, shape))
    }

    /// `x` is what a transposed convolution takes, in the place of the gradient of y.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let (g, dy) = (self.sizes, dy.contiguous()?);
        let dx = || {
            let zeros = Tensor::zeros(g.filters, dy.dtype(), dy.device())?;
            dy.apply_op3_no_bwd(w, &zeros, &Forward { sizes: g, biased: false })
        };
        let dx = x.track_op().then(dx);
        let dw = w.track_op().then(|| dy.apply_op2_no_bwd(x, &WeightGradient(g)));
        let db = b.track_op().then(|| dy.apply_op1_no_bwd(&ChannelSums));
        Ok((dx.transpose()?, dw.transpose()?, db.transpose()?))
    }
}

/// x and the gradient of y to that of the weight `[O, C, kh, kw]`.
struct WeightGradient(ConvSizes);

impl CustomOp2 for WeightGradient {
    fn name(&self) -> &'static str {
        "vqtok-conv-weight-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        dy: &CpuStorage,
        dyl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = &self.0;
        if let Some(x) = widened(x, xl)? {
            let dw = f32::weight_gradient(g, &x, slice(dy, dyl)?)?;
            return Ok((CpuStorage::F32(dw), g.weight_shape()));
        }
        for_float!(x.dtype(), T, {
            let dw = T::weight_gradient(g, slice(x, xl)?, slice(dy, dyl)?)?;
            Ok((T::to_cpu_storage_owned(dw), g.weight_shape()))
        })
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        xl: &Layout,
        dy: &CudaStorage,
        dyl: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        let g = &self.0;
        let shape = g.weight_shape();
        #[cfg(feature = "cuda")]
        if let Some(dw) = convolve(Product::WeightGradient, g, [(x, xl), (dy, dyl)], None)? {
            return Ok((dw, shape));
        }
        let plan = launches::conv_weight_gradient(g, x.dtype() == DType::BF16);
        Ok((compute::<f32>(&plan, &[(x, xl), (dy, dyl)], shape.elem_count())?, shape))
    }
}

/// Sums over images and pixels of `[N, C, H, W]`, `[C]`: the gradient of a bias.
struct ChannelSums;

impl CustomOp1 for ChannelSums {
    fn name(&self) -> &'static str {
        "vqtok-channel-sums"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, channels, height, width) = layout.shape().dims4()?;
        for_float!(dy.dtype(), T, {
            let sums = bias_gradient(slice::<T>(dy, layout)?, channels, height * width);
            Ok((T::to_cpu_storage_owned(sums), Shape::from(channels)))
        })
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, dy: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (images, channels, height, width) = layout.shape().dims4()?;
        let plan = launches::channel_sums([images, channels, height * width]);
        Ok((compute::<f32>(&plan, &[(dy, layout)], channels)?, Shape::from(channels)))
    }
}
