//! Owns the choice of the nearest code for each latent, and the losses that hold both together.
//! Must not know: how codes learn.
//!
//! The search is one operation over rows `[rows, D]`; on the CPU plain Rust, in an order that depends on
//! shapes only.

use std::borrow::Cow;

#[cfg(feature = "candle-cuda")]
use candle_core::CudaStorage;
use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, Layout, Result as TensorResult, Shape, Tensor, bail,
};
use rayon::prelude::*;

use crate::error::Result;
#[cfg(feature = "candle-cuda")]
use crate::model::cuda::{compute, launches};
use crate::model::gemm::{Matrix, matmul};
use crate::model::quantizer::normalise_rows;
use crate::model::storage::slice;
use crate::train::network::parameters::flat;
use crate::train::quantizer::estimator::{code_loss, commitment};
use crate::train::quantizer::layout::rows_tensor;
use crate::train::quantizer::trainable::{Losses, QuantizeOutput};
use crate::train::settings::codebook::Estimator;

/// Rows that one product of rows and codes covers.
pub(super) const BLOCK_ROWS: usize = 64;

/// How latents and the codes of a codebook find each other, and what holds them together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Nearest {
    /// K.
    pub codes: usize,
    /// D.
    pub dim: usize,
    /// Latents and codes are brought to length one first.
    pub sphere: bool,
    /// beta.
    pub commitment: f64,
    /// Weight of the codes' own loss, where they learn by gradients.
    pub code_weight: f64,
    /// The way of the decoder's gradient.
    pub estimator: Estimator,
}

/// Latents with their codes.
pub(super) struct Assignment {
    z: Tensor,
    rows: Vec<f32>,
    pub(super) indices: Vec<u32>,
}

/// Vectors along dimension 1, made as long as one.
///
/// # Errors
/// A tensor without such a dimension.
pub(super) fn of_length_one(vectors: &Tensor) -> Result<Tensor> {
    // The inference divides by max(length, 1e-12); this is as good and has a gradient at zero.
    let length = (vectors.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?;
    Ok(vectors.broadcast_div(&length)?)
}

impl Nearest {
    /// Rows or codes on the host as they are compared.
    pub(super) fn compared<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        if !self.sphere {
            return Cow::Borrowed(rows);
        }
        let mut rows = rows.to_vec();
        normalise_rows(&mut rows, self.dim);
        Cow::Owned(rows)
    }

    /// Rows or codes `[rows, D]` where they are, as they are compared.
    pub(super) fn compared_rows(&self, rows: &Tensor) -> Result<Tensor> {
        if !self.sphere {
            return Ok(rows.clone());
        }
        Ok(rows.contiguous()?.apply_op1_no_bwd(&NormaliseRows)?)
    }

    /// A tensor as it is compared, vectors along dimension 1.
    pub(super) fn compared_tensor(&self, vectors: &Tensor) -> Result<Tensor> {
        if !self.sphere {
            return Ok(vectors.clone());
        }
        of_length_one(vectors)
    }

    /// The nearest of `codes` `[K, D]` (as compared) for each latent. Rows and indices come to the host, which
    /// counts the codes, moves averages and revives.
    pub(super) fn find(&self, z: &Tensor, codes: &Tensor) -> Result<Assignment> {
        let rows = self.compared_rows(&rows_tensor(z)?)?;
        let indices = search(&rows, codes)?;
        Ok(Assignment { z: self.compared_tensor(z)?, rows: flat(&rows)?, indices })
    }

    /// `quantized` `[B, D, h, w]` are the codes of `found`; `learns` where they have a gradient.
    pub(super) fn quantized(
        &self,
        found: Assignment,
        quantized: &Tensor,
        learns: bool,
    ) -> Result<QuantizeOutput> {
        let Assignment { z, rows, indices } = found;
        let codes = learns.then(|| code_loss(&z, quantized, self.code_weight)).transpose()?;
        let losses = Losses {
            commitment: Some(commitment(&z, quantized, self.commitment)?),
            codes,
            entropy: None,
        };
        let (latents, codes) = (self.estimator.pass(&z, quantized)?, quantized.detach());
        Ok(QuantizeOutput { latents, codes, losses, rows, indices })
    }
}

/// For each of `rows` `[rows, D]` the index of its nearest code of `[K, D]`, as [`nearest`] finds it.
pub(crate) fn search(rows: &Tensor, codes: &Tensor) -> Result<Vec<u32>> {
    let found = rows.contiguous()?.apply_op2_no_bwd(&codes.contiguous()?, &Search)?;
    Ok(found.to_vec1()?)
}

/// [`search`].
struct Search;

impl CustomOp2 for Search {
    fn name(&self) -> &'static str {
        "vqtok-nearest"
    }

    fn cpu_fwd(
        &self,
        rows: &CpuStorage,
        rl: &Layout,
        codes: &CpuStorage,
        cl: &Layout,
    ) -> TensorResult<(CpuStorage, Shape)> {
        let ([_, dim], [_, other]) = (rl.dims(), cl.dims()) else {
            bail!("rows {:?} among codes {:?}", rl.shape(), cl.shape());
        };
        if dim != other {
            bail!("rows {:?} among codes {:?}", rl.shape(), cl.shape());
        }
        let (indices, _) = nearest(slice(rows, rl)?, slice(codes, cl)?, *dim);
        let count = indices.len();
        Ok((CpuStorage::U32(indices), Shape::from(count)))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        rows: &CudaStorage,
        rl: &Layout,
        codes: &CudaStorage,
        cl: &Layout,
    ) -> TensorResult<(CudaStorage, Shape)> {
        let (count, dim) = rl.shape().dims2()?;
        let (among, other) = cl.shape().dims2()?;
        if dim != other {
            bail!("rows {:?} among codes {:?}", rl.shape(), cl.shape());
        }
        let plan = launches::nearest_codes(count, among, dim);
        Ok((compute::<u32>(&plan, &[(rows, rl), (codes, cl)], count)?, Shape::from(count)))
    }
}

/// Rows of length one.
struct NormaliseRows;

impl CustomOp1 for NormaliseRows {
    fn name(&self) -> &'static str {
        "vqtok-normalise-rows"
    }

    fn cpu_fwd(&self, rows: &CpuStorage, layout: &Layout) -> TensorResult<(CpuStorage, Shape)> {
        let (_, dim) = layout.shape().dims2()?;
        let mut rows = slice::<f32>(rows, layout)?.to_vec();
        normalise_rows(&mut rows, dim);
        Ok((CpuStorage::F32(rows), layout.shape().clone()))
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, rows: &CudaStorage, layout: &Layout) -> TensorResult<(CudaStorage, Shape)> {
        let (count, dim) = layout.shape().dims2()?;
        let plan = launches::unit_rows([count, dim]);
        let rows = compute::<f32>(&plan, &[(rows, layout)], count * dim)?;
        Ok((rows, layout.shape().clone()))
    }
}

/// For each row the index of its nearest code (ties to the lower) and the squared distance, as
/// |r|^2 + |e|^2 - 2 r.e in float32. A NaN row gets code 0 and the distance NaN.
pub fn nearest(rows: &[f32], codes: &[f32], dim: usize) -> (Vec<u32>, Vec<f32>) {
    let count = codes.len() / dim;
    let norms: Vec<f32> = codes.chunks_exact(dim).map(square_norm).collect();
    let mut indices = vec![0u32; rows.len() / dim];
    let mut distances = vec![0f32; rows.len() / dim];
    rows.par_chunks(BLOCK_ROWS * dim)
        .zip(indices.par_chunks_mut(BLOCK_ROWS))
        .zip(distances.par_chunks_mut(BLOCK_ROWS))
        .for_each(|((rows, indices), distances)| {
            let n = rows.len() / dim;
            let mut products = vec![0f32; n * count];
            let right = Matrix::row_major(codes, count, dim).transposed();
            matmul(&mut products, count, false, Matrix::row_major(rows, n, dim), right);
            for (i, row) in rows.chunks_exact(dim).enumerate() {
                let own = square_norm(row);
                let (mut best, mut at) = (f32::INFINITY, 0);
                for (k, (product, norm)) in
                    products[i * count..][..count].iter().zip(&norms).enumerate()
                {
                    let d = own + norm - 2.0 * product;
                    if d < best {
                        (best, at) = (d, k as u32);
                    }
                }
                indices[i] = at;
                distances[i] = if own.is_finite() { best } else { f32::NAN };
            }
        });
    (indices, distances)
}

fn square_norm(row: &[f32]) -> f32 {
    row.iter().map(|v| v * v).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::network::random::Draws;

    fn cloud(rows: usize, dim: usize) -> Vec<f32> {
        let mut draws = Draws::new(3, "cloud", 0);
        (0..rows * dim).map(|_| draws.below(2000) as f32 / 1000.0 - 1.0).collect()
    }

    #[test]
    fn the_nearest_code_is_that_of_the_plain_loop_and_ties_go_down() {
        let (rows, mut codes) = (cloud(150, 5), cloud(40, 5));
        let copy = codes[..5].to_vec();
        codes[35..40].copy_from_slice(&copy); // Code 7 equals code 0.
        let (indices, distances) = nearest(&rows, &codes, 5);
        for (i, row) in rows.chunks(5).enumerate() {
            let d = |k: usize| -> f64 {
                codes[k * 5..][..5].iter().zip(row).map(|(a, b)| f64::from(a - b).powi(2)).sum()
            };
            let best = (0..40).map(d).fold(f64::INFINITY, f64::min);
            assert!(d(indices[i] as usize) <= best + 1e-5);
            assert!((f64::from(distances[i]) - best).abs() < 1e-5);
            assert_ne!(indices[i], 7);
        }
        let (_, distances) = nearest(&[f32::NAN; 5], &codes, 5);
        assert!(distances[0].is_nan());
    }
}
