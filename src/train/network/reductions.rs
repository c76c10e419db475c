//! Owns the sums that a step needs as numbers: in float64, and on the processor in the order of the
//! elements. Must not know: what is summed.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Layout, Result as TensorResult, Shape, Tensor, bail,
};

#[cfg(feature = "candle-cuda")]
use candle_core::CudaStorage;

use crate::error::Result;
#[cfg(feature = "candle-cuda")]
use crate::model::cuda::{compute, launches};
use crate::model::storage::slice;

/// The sum of the squares of all elements: finite where all of these are.
pub(crate) fn sum_of_squares(x: &Tensor) -> Result<f64> {
    Ok(x.contiguous()?.apply_op1_no_bwd(&Squares)?.to_scalar()?)
}

/// The mean of the squares of all elements.
pub(crate) fn mean_square(x: &Tensor) -> Result<f64> {
    Ok(sum_of_squares(x)? / x.elem_count().max(1) as f64)
}

/// The mean of the squared differences of two tensors of one shape.
pub(crate) fn mean_squared_difference(a: &Tensor, b: &Tensor) -> Result<f64> {
    let sum: f64 =
        a.contiguous()?.apply_op2_no_bwd(&b.contiguous()?, &SquaredDifferences)?.to_scalar()?;
    Ok(sum / a.elem_count().max(1) as f64)
}

/// The scalar sum of all elements, differentiable: the last dimension first, since sums of a whole tensor
/// have one block of threads on a GPU.
pub(crate) fn sum_by_rows(x: &Tensor) -> TensorResult<Tensor> {
    match x.rank() {
        0 => Ok(x.clone()),
        rank => x.sum(rank - 1)?.sum_all(),
    }
}

/// The scalar mean of all elements, summed as [`sum_by_rows`] does: what losses end with.
pub(crate) fn mean_by_rows(x: &Tensor) -> TensorResult<Tensor> {
    sum_by_rows(x)? / x.elem_count().max(1) as f64
}

struct Squares;

impl CustomOp1 for Squares {
    fn name(&self) -> &'static str {
        "vqtok-sum-of-squares"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let sum = slice::<f32>(x, layout)?.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
        Ok((CpuStorage::F64(vec![sum]), Shape::from(())))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> TensorResult<(CudaStorage, Shape)> {
        let plan = launches::squares(1, layout.shape().elem_count());
        Ok((compute::<f64>(&plan, &[(x, layout)], 1)?, Shape::from(())))
    }
}

struct SquaredDifferences;

impl CustomOp2 for SquaredDifferences {
    fn name(&self) -> &'static str {
        "vqtok-sum-of-squared-differences"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        al: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> TensorResult<(CpuStorage, Shape)> {
        if al.shape() != bl.shape() {
            bail!("differences of {:?} and {:?}", al.shape(), bl.shape());
        }
        let pairs = slice::<f32>(a, al)?.iter().zip(slice::<f32>(b, bl)?);
        let sum = pairs.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        Ok((CpuStorage::F64(vec![sum]), Shape::from(())))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        a: &CudaStorage,
        al: &Layout,
        b: &CudaStorage,
        bl: &Layout,
    ) -> TensorResult<(CudaStorage, Shape)> {
        if al.shape() != bl.shape() {
            bail!("differences of {:?} and {:?}", al.shape(), bl.shape());
        }
        let plan = launches::squares(2, al.shape().elem_count());
        Ok((compute::<f64>(&plan, &[(a, al), (b, bl)], 1)?, Shape::from(())))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn sums_are_those_of_float64_in_order() {
        let device = Device::Cpu;
        let x = Tensor::new(&[[1e20f32, 3.0], [-2.0, 0.5]], &device).unwrap();
        let t = x.t().unwrap();
        let squares = [1e20f32, -2.0, 3.0, 0.5].map(|v| f64::from(v) * f64::from(v));
        assert_eq!(sum_of_squares(&t).unwrap(), squares.iter().sum::<f64>());
        assert!(
            !sum_of_squares(&Tensor::new(&[1.0, f32::INFINITY], &device).unwrap())
                .unwrap()
                .is_finite()
        );
        assert!(
            sum_of_squares(&Tensor::new(&[f32::MAX; 9], &device).unwrap()).unwrap().is_finite()
        );
        let a = Tensor::new(&[1f32, 2.0, 4.0, 8.0], &device).unwrap();
        let b = Tensor::new(&[0f32, 0.0, 4.0, 9.0], &device).unwrap();
        assert_eq!(mean_squared_difference(&a, &b).unwrap(), 6.0 / 4.0);
        assert!(mean_squared_difference(&a, &x).is_err());
        let v = Var::from_tensor(&x).unwrap();
        let sum = sum_by_rows(&v).unwrap();
        let gradient = sum.backward().unwrap().get(&v).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(gradient, [[1.0, 1.0], [1.0, 1.0]]);
    }

    #[test]
    fn rows_are_summed_first_at_any_rank() {
        let numbers = |shape: &[usize]| {
            let count = shape.iter().product::<usize>();
            let values: Vec<f32> = (0..count).map(|i| i as f32 - 2.0).collect();
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        for (shape, sum) in [(&[][..], -2.0f32), (&[5], 0.0), (&[2, 3], 3.0), (&[2, 3, 4], 228.0)] {
            let x = numbers(shape);
            assert_eq!(sum_by_rows(&x).unwrap().to_scalar::<f32>().unwrap(), sum, "{shape:?}");
            let mean = mean_by_rows(&x).unwrap().to_scalar::<f32>().unwrap();
            assert_eq!(mean, sum / x.elem_count() as f32, "{shape:?}");
        }
        // 1 is lost beside 2^25, but not beside another row's.
        let x = Tensor::new(&[[33554432f32, 0.0, 0.0, 0.0], [1.0; 4]], &Device::Cpu).unwrap();
        assert_eq!(sum_by_rows(&x).unwrap().to_scalar::<f32>().unwrap(), 33554436.0);
        let v = Var::from_tensor(&numbers(&[2, 4])).unwrap();
        let gradients = mean_by_rows(&v).unwrap().backward().unwrap();
        assert_eq!(gradients.get(&v).unwrap().to_vec2::<f32>().unwrap(), [[0.125; 4]; 2]);
    }
}
