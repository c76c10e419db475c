//! Owns how gradients pass a quantizer, and the losses that hold latents and codes together.
//! Must not know: how a code was chosen.
//!
//! Latents and codes are `[B, D, h, w]`.

use candle_core::Tensor;

use crate::error::Result;
use crate::train::network::reductions::mean_by_rows;
use crate::train::settings::codebook::Estimator;

impl Estimator {
    /// What the decoder gets: the value of `quantized`, with a gradient to `z`.
    ///
    /// # Errors
    /// Tensors of different shapes.
    pub fn pass(self, z: &Tensor, quantized: &Tensor) -> Result<Tensor> {
        match self {
            Estimator::StraightThrough => straight_through(z, quantized),
            Estimator::Rotation => rotation(z, quantized),
        }
    }
}

/// z + sg(q - z)
///
/// # Errors
/// Tensors of different shapes.
pub fn straight_through(z: &Tensor, quantized: &Tensor) -> Result<Tensor> {
    Ok((z + (quantized.detach() - z.detach())?)?)
}

/// q~ = s [z - 2 (z.w) w + 2 (z.u) q^] along the channels, with u and q^ of length one along z and
/// q, w along u + q^, s = |q| / |z|, all four detached.
pub(crate) fn rotation(z: &Tensor, quantized: &Tensor) -> Result<Tensor> {
    let (fixed, quantized) = (z.detach(), quantized.detach());
    // A latent of exactly zero has no direction; the smallest length gives a finite answer.
    let length = |t: &Tensor| t.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12f64);
    let (z_length, q_length) = (length(&fixed)?, length(&quantized)?);
    let u = fixed.broadcast_div(&z_length)?;
    let q_hat = quantized.broadcast_div(&q_length)?;
    let w = (&u + &q_hat)?;
    let w = w.broadcast_div(&length(&w)?)?;
    let along = |direction: &Tensor| (z * direction)?.sum_keepdim(1);
    let mirrored = (z - (w.broadcast_mul(&along(&w)?)? * 2.0)?)?;
    let turned = (mirrored + (q_hat.broadcast_mul(&along(&u)?)? * 2.0)?)?;
    Ok(turned.broadcast_mul(&(q_length / z_length)?)?)
}

/// The commitment beta mean((sg(q) - z)^2): its gradient reaches the encoder only.
///
/// # Errors
/// Tensors of different shapes.
pub fn commitment(z: &Tensor, quantized: &Tensor, beta: f64) -> Result<Tensor> {
    Ok((mean_by_rows(&(quantized.detach() - z)?.sqr()?)? * beta)?)
}

/// What pulls codes that learn by gradients: weight mean((q - sg(z))^2). In the right form the
/// weight is 1 and beta stands at the commitment; taming-transformers has them exchanged.
///
/// # Errors
/// Tensors of different shapes.
pub fn code_loss(z: &Tensor, quantized: &Tensor, weight: f64) -> Result<Tensor> {
    Ok((mean_by_rows(&(quantized - z.detach())?.sqr()?)? * weight)?)
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::train::golden::Case;
    use crate::train::quantizer::{
        layout::{lookup, to_rows},
        nearest::nearest,
    };

    fn quantized(case: &Case, z: &str) -> Tensor {
        let codes = case.f32("codebook");
        let (indices, _) = nearest(&to_rows(&case.f32(z), 8, 16), &codes, 8);
        let as_i64: Vec<i64> = indices.iter().map(|i| i64::from(*i)).collect();
        assert_eq!(as_i64, case.i64("indices"));
        let values = lookup(&codes, 8, &indices, 16);
        Tensor::from_vec(values, (2, 8, 4, 4), &Device::Cpu).unwrap()
    }

    fn gradient(loss: &Tensor, var: &Var) -> Tensor {
        loss.backward().unwrap().get(var).unwrap().clone()
    }

    #[test]
    fn golden_straight_through_and_commitment() {
        let Some(case) = Case::open("vq_ema") else { return };
        let z = Var::from_tensor(&case.tensor("z0")).unwrap();
        let q = quantized(&case, "z0");
        let commitment = commitment(&z, &q, 0.25).unwrap();
        case.check_scalar("commitment_loss", f64::from(commitment.to_scalar::<f32>().unwrap()));
        case.check_tensor("grad_z_commit", &gradient(&commitment, &z));
        let through = Estimator::StraightThrough.pass(&z, &q).unwrap();
        let upstream = (through * case.tensor("upstream")).unwrap().sum_all().unwrap();
        case.check_tensor("grad_z", &gradient(&(commitment + upstream).unwrap(), &z));
    }

    #[test]
    fn golden_rotation() {
        let Some(case) = Case::open("vq_rotation") else { return };
        let z = Var::from_tensor(&case.tensor("z")).unwrap();
        let q = quantized(&case, "z");
        case.check_tensor("quantized", &q);
        let turned = Estimator::Rotation.pass(&z, &q).unwrap();
        case.check_tensor("rotated", &turned);
        let upstream = (turned * case.tensor("upstream")).unwrap().sum_all().unwrap();
        case.check_tensor("grad_z_rotation", &gradient(&upstream, &z));
        let commitment = commitment(&z, &q, 0.25).unwrap();
        case.check_scalar("commitment_loss", f64::from(commitment.to_scalar::<f32>().unwrap()));
        case.check_tensor("grad_z", &gradient(&(commitment + upstream).unwrap(), &z));
    }

    #[test]
    fn a_rotation_survives_zero_latents_and_opposite_codes() {
        let z = Var::new(&[[[[0f32, 1.0]], [[0.0, 0.0]]]], &Device::Cpu).unwrap();
        let q = Tensor::new(&[[[[1f32, -1.0]], [[2.0, 0.0]]]], &Device::Cpu).unwrap();
        let turned = rotation(&z, &q).unwrap();
        let gradient = gradient(&turned.sum_all().unwrap(), &z);
        for t in [turned, gradient] {
            let values: Vec<f32> = t.flatten_all().unwrap().to_vec1().unwrap();
            assert!(values.iter().all(|v| v.is_finite()), "{values:?}");
        }
    }
}
