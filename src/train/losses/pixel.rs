//! Owns the distance between an image and its reconstruction.

use candle_core::Tensor;

use crate::error::Result;
use crate::train::network::reductions::mean_by_rows;
use crate::train::settings::training::ReconstructionLoss;

impl ReconstructionLoss {
    /// The scalar; `variance` is that of the data set in the units of x.
    ///
    /// # Errors
    /// Tensors of different shapes.
    pub fn value(self, x: &Tensor, reconstruction: &Tensor, variance: f64) -> Result<Tensor> {
        let difference = (x - reconstruction)?;
        Ok(match self {
            ReconstructionLoss::Mse => mean_by_rows(&difference.sqr()?)?,
            ReconstructionLoss::MseOverVariance => {
                (mean_by_rows(&difference.sqr()?)? * (1.0 / variance))?
            }
            ReconstructionLoss::L1 => mean_by_rows(&difference.abs()?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::golden::Case;
    use candle_core::Var;

    #[test]
    fn golden_l1() {
        let Some(case) = Case::open("ops") else { return };
        let x = Var::from_tensor(&case.tensor("abs_mean.x")).unwrap();
        let y = Var::from_tensor(&case.tensor("abs_mean.y")).unwrap();
        let loss = ReconstructionLoss::L1.value(&x, &y, 1.0).unwrap();
        case.check("abs_mean.out", &[loss.to_scalar::<f32>().unwrap()]);
        let loss = (loss * case.tensor("abs_mean.upstream")).unwrap();
        let gradients = loss.backward().unwrap();
        case.check_tensor("abs_mean.grad_x", gradients.get(&x).unwrap());
        case.check_tensor("abs_mean.grad_y", gradients.get(&y).unwrap());
    }

    #[test]
    fn squared_losses_and_their_gradients() {
        let device = candle_core::Device::Cpu;
        let x = Var::new(&[1f64, -2.0, 0.5, 4.0], &device).unwrap();
        let y = Var::new(&[0f64, 1.0, 0.5, 2.0], &device).unwrap();
        for (loss, scale) in
            [(ReconstructionLoss::Mse, 1.0), (ReconstructionLoss::MseOverVariance, 4.0)]
        {
            let value = loss.value(&x, &y, 0.25).unwrap();
            assert_eq!(value.to_scalar::<f64>().unwrap(), 14.0 / 4.0 * scale);
            let gradient = value.backward().unwrap().get(&y).unwrap().to_vec1::<f64>().unwrap();
            assert_eq!(gradient, [-0.5 * scale, 1.5 * scale, 0.0, -scale]);
        }
    }
}
