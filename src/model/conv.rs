//! Owns convolutions with their own backward pass: candle's are right but ten times slower on the
//! CPU. Must not know: modules, names of weights.
//!
//! Three functions of `conv_float` carry everything: forward, gradient of the input, gradient of
//! the weight. A transposed convolution is the same three with the roles of input and output
//! exchanged.
//!
//! On devices other than the CPU the calls go to candle's own kernels.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};

use super::conv_float::ConvFloat;
use super::conv_kernels::bias_gradient;
use super::conv_sizes::ConvSizes;
pub use super::conv_sizes::Padding;

/// `conv2d(x, weight) + bias`: x `[B, C, H, W]`, weight `[O, C, k, k]`, bias `[O]`.
/// Differentiable in all three; no gradient is computed for what doesn't want one.
///
/// # Errors
/// Shapes that don't go together; on the CPU, numbers that are neither float32 nor float64.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: Padding,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let x = if padding.before == padding.after {
            x.clone()
        } else {
            x.pad_with_zeros(2, padding.before, padding.after)?.pad_with_zeros(
                3,
                padding.before,
                padding.after,
            )?
        };
        let inner = if padding.before == padding.after { padding.before } else { 0 };
        let y = x.conv2d(weight, inner, stride, 1, 1)?;
        return add_bias(y, bias);
    }
    let bias = bias_or_zeros(bias, weight.dim(0)?, x)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Conv2dOp { stride, padding })
}

/// `conv_transpose2d(x, weight) + bias`: x `[B, C, H, W]`, weight `[C, O, k, k]`, bias `[O]`,
/// result `[B, O, (H-1) stride - 2 padding + k, ...]`. Differentiable in all three.
///
/// # Errors
/// Shapes that don't go together; on the CPU, numbers that are neither float32 nor float64.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let y = x.conv_transpose2d(weight, padding, 0, stride, 1)?;
        return add_bias(y, bias);
    }
    let bias = bias_or_zeros(bias, weight.dim(1)?, x)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, ConvTranspose2dOp { stride, padding })
}

/// max(x, 0), with NaN for NaN and the gradient 0 at 0 as PyTorch has them (candle's are 0 and 1).
///
/// # Errors
/// On the CPU, numbers that are neither float32 nor float64.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    leaky_relu(x, 0.0)
}

/// x where x > 0, else `slope` x; the gradient at 0 is `slope`. `slope` from 0 to 1.
pub(crate) fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op1(LeakyReluOp { slope });
    }
    x.maximum(&(x * slope)?)
}

fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(b) => y.broadcast_add(&b.reshape((1, b.elem_count(), 1, 1))?),
        None => Ok(y),
    }
}

fn bias_or_zeros(bias: Option<&Tensor>, channels: usize, like: &Tensor) -> Result<Tensor> {
    match bias {
        Some(b) if b.dims() == [channels] => b.contiguous(),
        Some(b) => bail!("bias {:?} on a convolution with {channels} channels", b.dims()),
        None => Tensor::zeros(channels, like.dtype(), like.device()),
    }
}

/// The elements of a contiguous tensor on the CPU.
pub(super) fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let data = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("an operation got a tensor that is not contiguous"),
    }
}

/// Calls `f` with the elements of contiguous CPU tensors.
pub(super) fn with_slices<T: WithDType, R, const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[T]; N]) -> R,
) -> Result<R> {
    let tensors = tensors.map(|t| t.contiguous());
    let mut held = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(t) => held.push(t.storage_and_layout()),
            Err(e) => bail!("{e}"),
        }
    }
    let mut slices: [&[T]; N] = [&[]; N];
    for (to, (storage, layout)) in slices.iter_mut().zip(&held) {
        let Storage::Cpu(storage) = &**storage else { bail!("a tensor that is not on the CPU") };
        *to = slice(storage, layout)?;
    }
    Ok(f(slices))
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Runs `$body` with the type alias `$t` as the element type of `$dtype`.
macro_rules! for_float {
    ($dtype:expr, $t:ident, $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            other => bail!("networks are trained in float32 or float64, not {other:?}"),
        }
    };
}
pub(super) use for_float;

struct Conv2dOp {
    stride: usize,
    padding: Padding,
}

impl CustomOp3 for Conv2dOp {
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
        use candle_core::backend::BackendStorage;
        let g = ConvSizes::of(xl.dims(), wl.dims(), self.stride, self.padding)?;
        let shape = Shape::from((g.batch, g.filters, g.out_h, g.out_w));
        for_float!(x.dtype(), T, {
            let y = T::forward(&g, slice(x, xl)?, slice(w, wl)?, slice(b, bl)?)?;
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let g = ConvSizes::of(x.dims(), w.dims(), self.stride, self.padding)?;
        for_float!(x.dtype(), T, {
            with_slices::<T, _, 3>([x, w, dy], |[xs, ws, dys]| {
                let device = x.device();
                let zeros = vec![0.0 as T; g.channels];
                let dx = x.track_op().then(|| {
                    let dx = T::input_gradient(&g, dys, ws, &zeros)?;
                    Tensor::from_vec(dx, x.shape(), device)
                });
                let dw = w
                    .track_op()
                    .then(|| Tensor::from_vec(T::weight_gradient(&g, xs, dys)?, w.shape(), device));
                let db = b.track_op().then(|| {
                    Tensor::from_vec(
                        bias_gradient(dys, g.filters, g.out_plane()),
                        b.shape(),
                        device,
                    )
                });
                Ok((dx.transpose()?, dw.transpose()?, db.transpose()?))
            })?
        })
    }
}

struct ConvTranspose2dOp {
    stride: usize,
    padding: usize,
}

impl ConvTranspose2dOp {
    /// The convolution whose adjoint this is: from our output to our input.
    fn adjoint(&self, x: &[usize], w: &[usize]) -> Result<ConvSizes> {
        let ([n, c, h, wd], [wc, o, kh, kw]) = (x, w) else {
            bail!("a transposed convolution of {x:?} with {w:?}: both need four dimensions");
        };
        let full = |size: usize, k: usize| (size.max(1) - 1) * self.stride + k;
        if c != wc || full(*h, *kh) <= 2 * self.padding || full(*wd, *kw) <= 2 * self.padding {
            bail!("a transposed convolution of {x:?} with {w:?}, padding {}", self.padding);
        }
        let out = [*n, *o, full(*h, *kh) - 2 * self.padding, full(*wd, *kw) - 2 * self.padding];
        ConvSizes::of(&out, w, self.stride, Padding::same(self.padding))
    }
}

impl CustomOp3 for ConvTranspose2dOp {
    fn name(&self) -> &'static str {
        "vqtok-conv-transpose2d"
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
        use candle_core::backend::BackendStorage;
        let g = self.adjoint(xl.dims(), wl.dims())?;
        let shape = Shape::from((g.batch, g.channels, g.height, g.width));
        for_float!(x.dtype(), T, {
            let y = T::input_gradient(&g, slice(x, xl)?, slice(w, wl)?, slice(b, bl)?)?;
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let g = self.adjoint(x.dims(), w.dims())?;
        for_float!(x.dtype(), T, {
            with_slices::<T, _, 3>([x, w, dy], |[xs, ws, dys]| {
                let device = x.device();
                let zeros = vec![0.0 as T; g.filters];
                let dx = x
                    .track_op()
                    .then(|| Tensor::from_vec(T::forward(&g, dys, ws, &zeros)?, x.shape(), device));
                let dw = w
                    .track_op()
                    .then(|| Tensor::from_vec(T::weight_gradient(&g, dys, xs)?, w.shape(), device));
                let db = b.track_op().then(|| {
                    let sums = bias_gradient(dys, g.channels, g.height * g.width);
                    Tensor::from_vec(sums, b.shape(), device)
                });
                Ok((dx.transpose()?, dw.transpose()?, db.transpose()?))
            })?
        })
    }
}

struct LeakyReluOp {
    slope: f64,
}

impl CustomOp1 for LeakyReluOp {
    fn name(&self) -> &'static str {
        "vqtok-leaky-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        for_float!(x.dtype(), T, {
            let slope = self.slope as T;
            let x = slice::<T>(x, layout)?;
            let y: Vec<T> = x.iter().map(|v| if *v > 0.0 { *v } else { slope * *v }).collect();
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        for_float!(x.dtype(), T, {
            let slope = self.slope as T;
            with_slices::<T, _, 2>([x, dy], |[xs, dy]| {
                let dx: Vec<T> = xs
                    .iter()
                    .zip(dy)
                    .map(|(x, d)| if *x > 0.0 { *d } else { slope * *d })
                    .collect();
                Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
            })?
        })
    }
}
