//! Owns SimVQ (Zhu et al. 2024): codes that are a trained linear map of a frozen random table, so
//! that the gradient of any code moves them all. The model folder gets the mapped codes, an
//! ordinary codebook.

use candle_core::{DType, Tensor, Var};

use crate::error::{Error, Result};
use crate::model::gemm::{Matrix, matmul};
use crate::train::network::parameters::{Moved, Named, Parameters, flat, set_flat};
use crate::train::network::random::Draws;
use crate::train::quantizer::layout::like_latents;
use crate::train::quantizer::nearest::Nearest;
use crate::train::quantizer::trainable::{Follow, QuantizeOutput, TrainableQuantizer};
use crate::train::settings::codebook::CodebookStart;

const WEIGHT: &str = "quantize.proj.weight";
const BIAS: &str = "quantize.proj.bias";

/// The frozen table `[K, D]`: independent, of mean 0 and variance 1/D, near enough normal (each
/// the sum of twelve uniform numbers, which every machine adds to the same bits).
pub(super) fn table(codes: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut draws = Draws::new(seed, "simvq table", 0);
    let scale = 1.0 / (dim as f64).sqrt();
    let mut normal = || (0..12).map(|_| draws.fraction()).sum::<f64>() - 6.0;
    (0..codes * dim).map(|_| (normal() * scale) as f32).collect()
}

/// e = table W^T + b with W `[D, D]` and b `[D]` trained.
pub(super) struct SimVqCodes {
    nearest: Nearest,
    start: CodebookStart,
    table: Vec<f32>,
    table_tensor: Tensor,
    weight: Var,
    bias: Var,
}

impl SimVqCodes {
    /// Adds the map to `parameters`; `table` is `[K, D]`.
    pub(super) fn new(
        nearest: Nearest,
        start: CodebookStart,
        table: Vec<f32>,
        parameters: &Parameters,
        dtype: DType,
    ) -> Result<SimVqCodes> {
        let Nearest { codes, dim, .. } = nearest;
        let table_tensor = Tensor::from_slice(&table, (codes, dim), parameters.device())?;
        Ok(SimVqCodes {
            nearest,
            start,
            table_tensor: table_tensor.to_dtype(dtype)?,
            table,
            weight: parameters.variable((dim, dim), WEIGHT, dtype)?,
            bias: parameters.variable(dim, BIAS, dtype)?,
        })
    }

    /// table W^T + b, on the host: what is saved is what was searched, to the bit.
    fn mapped(&self, weight: &[f32], bias: &[f32]) -> Vec<f32> {
        let Nearest { codes, dim, .. } = self.nearest;
        let mut out = bias.repeat(codes);
        let table = Matrix::row_major(&self.table, codes, dim);
        matmul(&mut out, dim, true, table, Matrix::row_major(weight, dim, dim).transposed());
        out
    }
}

impl TrainableQuantizer for SimVqCodes {
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput> {
        let Nearest { codes: count, dim, .. } = self.nearest;
        let codes = self.mapped(&flat(&self.weight)?, &flat(&self.bias)?);
        let codes = Tensor::from_vec(codes, (count, dim), z.device())?;
        let found = self.nearest.find(z, &self.nearest.compared_rows(&codes)?)?;
        let at = Tensor::from_slice(&found.indices, found.indices.len(), z.device())?;
        let rows = self.table_tensor.index_select(&at, 0)?.matmul(&self.weight.t()?)?;
        let rows = self.nearest.compared_tensor(&rows.broadcast_add(&self.bias)?)?;
        let quantized = like_latents(&rows, z)?;
        self.nearest.quantized(found, &quantized, true)
    }

    fn wants_start(&self) -> bool {
        true
    }

    /// Gives the codes the mean and the covariance of the latents: b is the mean, W sqrt(D) times
    /// the Cholesky factor, since the table's covariance is the unit matrix over D. A random start
    /// leaves a linear layer's usual initial values.
    fn start(
        &mut self,
        rows: &[f32],
        _: usize,
        _: &mut Draws,
        _: &mut Follow<'_>,
    ) -> Result<Vec<Moved>> {
        let dim = self.nearest.dim;
        if self.start == CodebookStart::Kmeans && rows.len() > dim {
            let (mean, mut factor) = spread(&self.nearest.compared(rows), dim);
            factor.iter_mut().for_each(|v| *v *= (dim as f64).sqrt());
            set_flat(&self.weight, factor.iter().map(|v| *v as f32).collect())?;
            set_flat(&self.bias, mean.iter().map(|v| *v as f32).collect())?;
        }
        Ok(vec![Moved { name: WEIGHT, range: 0..dim * dim }, Moved { name: BIAS, range: 0..dim }])
    }

    fn codebook(&self, weights: &Named) -> Result<Option<Vec<f32>>> {
        match (weights.get(WEIGHT), weights.get(BIAS)) {
            (Some(weight), Some(bias)) => Ok(Some(self.mapped(weight, bias))),
            _ => Err(Error::invalid(format!("the weights have no {WEIGHT}"))),
        }
    }
}

/// Mean `[D]` of the rows and the lower Cholesky factor `[D, D]` of their covariance. Directions
/// without spread get a thousandth of the mean spread, so that the factor exists.
fn spread(rows: &[f32], dim: usize) -> (Vec<f64>, Vec<f64>) {
    let count = (rows.len() / dim) as f64;
    let mut mean = vec![0f64; dim];
    for row in rows.chunks_exact(dim) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / count);
    }
    let mut a = vec![0f64; dim * dim];
    for row in rows.chunks_exact(dim) {
        let centred: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m).collect();
        for (i, x) in centred.iter().enumerate() {
            for (a, y) in a[i * dim..].iter_mut().zip(&centred[..=i]) {
                *a += x * y / count;
            }
        }
    }
    let trace: f64 = (0..dim).map(|i| a[i * dim + i]).sum();
    let floor = (1e-6 * trace / dim as f64).max(1e-12);
    for i in 0..dim {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| a[i * dim + k] * a[j * dim + k]).sum();
            let rest = a[i * dim + j] - known;
            a[i * dim + j] = if i == j { rest.max(floor).sqrt() } else { rest / a[j * dim + j] };
        }
        a[i * dim + i + 1..(i + 1) * dim].fill(0.0);
    }
    (mean, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_standard_over_its_length() {
        let table = table(2000, 16, 7);
        let n = table.len() as f64;
        let mean = table.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let square = table.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / n;
        assert!(mean.abs() < 0.005 && (square * 16.0 - 1.0).abs() < 0.03, "{mean} {square}");
    }

    #[test]
    fn the_factor_times_itself_is_the_covariance() {
        // x, 2x + 1, and x in the third place again: one direction has no spread of its own.
        let rows: Vec<f32> =
            [-1.5f32, -0.5, 0.5, 1.5].iter().flat_map(|x| [*x, 2.0 * x + 1.0, -x]).collect();
        let (mean, a) = spread(&rows, 3);
        assert_eq!(mean, [0.0, 1.0, 0.0]);
        let covariance = [1.25, 2.5, -1.25, 2.5, 5.0, -2.5, -1.25, -2.5, 1.25];
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..3).map(|k| a[i * 3 + k] * a[j * 3 + k]).sum();
                assert!((product - covariance[i * 3 + j]).abs() < 1e-4, "{i} {j}: {product}");
            }
        }
    }
}
