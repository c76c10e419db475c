//! Owns the rectifiers: candle's have another gradient at 0 than PyTorch's, and hide NaN.

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, WithDType};

#[cfg(feature = "candle-cuda")]
use super::cuda::{compute, launches};
use super::storage::{for_float, slice};
#[cfg(feature = "candle-cuda")]
use candle_core::CudaStorage;

/// max(x, 0), with NaN for NaN and the gradient 0 at 0 as PyTorch has them (candle's are 0 and 1).
///
/// # Errors
/// Numbers that are neither float32 nor float64.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    leaky_relu(x, 0.0)
}

/// x where x > 0, else `slope` x; the gradient at 0 is `slope`. `slope` from 0 to 1.
pub(crate) fn leaky_relu(x: &Tensor, slope: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op1(LeakyRelu { slope })
}

/// x to y.
struct LeakyRelu {
    slope: f64,
}

impl CustomOp1 for LeakyRelu {
    fn name(&self) -> &'static str {
        "vqtok-leaky-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        for_float!(x.dtype(), T, {
            let slope = self.slope as T;
            let x = slice::<T>(x, layout)?;
            let y: Vec<T> = x.iter().map(|v| if *v > 0.0 { *v } else { slope * *v }).collect();
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (count, shape) = (layout.shape().elem_count(), layout.shape().clone());
        let plan = launches::leaky_relu(count, self.slope);
        Ok((compute::<f32>(&plan, &[(x, layout)], count)?, shape))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let gradient = LeakyReluGradient { slope: self.slope };
        x.apply_op2_no_bwd(&dy.contiguous()?, &gradient).map(Some)
    }
}

/// x and the gradient of y to that of x.
struct LeakyReluGradient {
    slope: f64,
}

impl CustomOp2 for LeakyReluGradient {
    fn name(&self) -> &'static str {
        "vqtok-leaky-relu-gradient"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        dy: &CpuStorage,
        dyl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        for_float!(x.dtype(), T, {
            let slope = self.slope as T;
            let pairs = slice::<T>(x, xl)?.iter().zip(slice::<T>(dy, dyl)?);
            let dx = pairs.map(|(x, d)| if *x > 0.0 { *d } else { slope * *d }).collect();
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
        let (count, shape) = (xl.shape().elem_count(), xl.shape().clone());
        let plan = launches::leaky_relu_gradient(count, self.slope);
        Ok((compute::<f32>(&plan, &[(x, xl), (dy, dyl)], count)?, shape))
    }
}
