//! Owns 2x2 max pooling that hides no NaN and has a right gradient: candle's is a quarter of it,
//! and a maximum over a reshaped window gives every tied element the whole.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};

#[cfg(feature = "candle-cuda")]
use super::cuda::{compute, launches};
use super::storage::{for_float, slice};
#[cfg(feature = "candle-cuda")]
use candle_core::CudaStorage;

/// Maximum of each 2x2 window, stride 2: `[B, C, H, W]` to `[B, C, H/2, W/2]`, rounding down; NaN
/// where one is. Of equal values the first in row order gets the gradient.
pub(crate) fn max_pool2(x: &Tensor) -> Result<Tensor> {
    x.contiguous()?.apply_op1(MaxPool2)
}

struct MaxPool2;

/// Calls `f` with the place of each output and that of its maximum in `x`.
fn for_windows<T: WithDType>(
    x: &[T],
    height: usize,
    width: usize,
    mut f: impl FnMut(usize, usize),
) {
    let (out_h, out_w) = (height / 2, width / 2);
    for plane in 0..x.len() / (height * width).max(1) {
        for y in 0..out_h {
            for column in 0..out_w {
                let corner = (plane * height + 2 * y) * width + 2 * column;
                let mut best = corner;
                for at in [corner + 1, corner + width, corner + width + 1] {
                    if x[at] > x[best] || is_nan(x[at]) {
                        best = at;
                    }
                }
                f((plane * out_h + y) * out_w + column, best);
            }
        }
    }
}

fn is_nan<T: PartialOrd>(x: T) -> bool {
    x.partial_cmp(&x).is_none()
}

impl CustomOp1 for MaxPool2 {
    fn name(&self) -> &'static str {
        "vqtok-max-pool2"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let shape = Shape::from((b, c, h / 2, w / 2));
        for_float!(storage.dtype(), T, {
            let x = slice::<T>(storage, layout)?;
            let mut y = vec![0.0 as T; shape.elem_count()];
            for_windows(x, h, w, |to, from| y[to] = x[from]);
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (b, c, h, w) = layout.shape().dims4()?;
        let shape = Shape::from((b, c, h / 2, w / 2));
        let plan = launches::max_pool_2([b * c, h, w]);
        Ok((compute::<f32>(&plan, &[(x, layout)], shape.elem_count())?, shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(&dy.contiguous()?, &MaxPool2Gradient).map(Some)
    }
}

/// x and the gradient of the maxima to that of x.
struct MaxPool2Gradient;

impl CustomOp2 for MaxPool2Gradient {
    fn name(&self) -> &'static str {
        "vqtok-max-pool2-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        dy: &CpuStorage,
        dyl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, _, h, w) = xl.shape().dims4()?;
        for_float!(x.dtype(), T, {
            let (x, dy) = (slice::<T>(x, xl)?, slice::<T>(dy, dyl)?);
            let mut dx = vec![0.0 as T; x.len()];
            for_windows(x, h, w, |from, to| dx[to] += dy[from]);
            Ok((T::to_cpu_storage_owned(dx), xl.shape().clone()))
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
        let (b, c, h, w) = xl.shape().dims4()?;
        let plan = launches::max_pool_2_gradient([b * c, h, w]);
        let dx = compute::<f32>(&plan, &[(x, xl), (dy, dyl)], b * c * h * w)?;
        Ok((dx, xl.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Var;

    use super::*;
    use crate::train::golden::Case;

    #[test]
    fn golden_max_pool() {
        let Some(case) = Case::open("ops") else { return };
        let run = |op: &str| {
            let x = Var::from_tensor(&case.tensor(&format!("{op}.x"))).unwrap();
            let y = max_pool2(&x).unwrap();
            let loss = (&y * case.tensor(&format!("{op}.upstream"))).unwrap().sum_all().unwrap();
            (y, loss.backward().unwrap().get(&x).unwrap().clone())
        };
        let (y, gradient) = run("max_pool2d_k2");
        case.check_tensor("max_pool2d_k2.out", &y);
        case.check_tensor("max_pool2d_k2.grad_x", &gradient);
        let (_, gradient) = run("max_pool2d_k2_ties");
        let sums = (gradient.avg_pool2d(2).unwrap() * 4.0).unwrap();
        case.check_tensor("max_pool2d_k2_ties.grad_x_window_sum", &sums);
    }

    #[test]
    fn no_number_is_no_maximum_either() {
        for at in 0..4 {
            let mut window = [1f32; 4];
            window[at] = f32::NAN;
            let x = Tensor::new(&window, &candle_core::Device::Cpu).unwrap();
            let y = max_pool2(&x.reshape((1, 1, 2, 2)).unwrap()).unwrap();
            assert!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0].is_nan());
        }
    }

    #[test]
    fn odd_sides_lose_their_last_row() {
        let x = Tensor::arange(0f32, 15.0, &candle_core::Device::Cpu).unwrap();
        let y = max_pool2(&x.reshape((1, 1, 3, 5)).unwrap()).unwrap();
        assert_eq!(y.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [6.0, 8.0]);
    }
}
