//! Owns the 3x3 convolutions over maps of latents, `[h * w, D]`.

use crate::error::{Error, Result};

/// Rows and columns of the window.
const SIDE: usize = 3;

/// D channels to D, the size kept by zeros around the map.
#[derive(Debug, Clone)]
pub(crate) struct Convolution {
    /// `[3, 3, D in, D out]`
    taps: Vec<f32>,
    /// `[D]`
    bias: Vec<f32>,
}

impl Convolution {
    /// `weight` is `[D out, D in, 3, 3]` as published.
    ///
    /// # Errors
    /// A weight that isn't of the bias' D channels.
    pub(crate) fn new(weight: Vec<f32>, bias: Vec<f32>) -> Result<Convolution> {
        let (dim, window) = (bias.len(), SIDE * SIDE);
        if dim == 0 || weight.len() != window * dim * dim {
            return Err(Error::internal("a convolution of other channels than its bias"));
        }
        let value =
            |tap: usize, input: usize, output: usize| weight[(output * dim + input) * window + tap];
        let taps = (0..window).flat_map(|tap| (0..dim).map(move |input| (tap, input)));
        let taps = taps.flat_map(|(tap, input)| (0..dim).map(move |output| (tap, input, output)));
        let taps = taps.map(|(tap, input, output)| value(tap, input, output)).collect();
        Ok(Convolution { taps, bias })
    }

    /// `[height * width, D]` to the same shape.
    pub(crate) fn forward(&self, x: &[f32], (height, width): (usize, usize)) -> Vec<f32> {
        let dim = self.bias.len();
        let mut y = self.bias.repeat(height * width);
        for (at, sums) in y.chunks_exact_mut(dim).enumerate() {
            let (row, column) = (at / width, at % width);
            for (tap, taps) in self.taps.chunks_exact(dim * dim).enumerate() {
                // The windows are one pixel ahead on both sides.
                let (down, across) = (row + tap / SIDE, column + tap % SIDE);
                if (1..=height).contains(&down) && (1..=width).contains(&across) {
                    let pixel = &x[((down - 1) * width + across - 1) * dim..][..dim];
                    for (value, taps) in pixel.iter().zip(taps.chunks_exact(dim)) {
                        sums.iter_mut().zip(taps).for_each(|(sum, tap)| *sum += value * tap);
                    }
                }
            }
        }
        y
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_candles_convolution() {
        use candle_core::{Device, Tensor};
        let (dim, height, width) = (3, 4, 5);
        let values = |count: usize| (0..count).map(|i| (i * 37 % 11) as f32 - 5.0).collect();
        let (weight, bias): (Vec<f32>, Vec<f32>) = (values(9 * dim * dim), values(dim));
        let x: Vec<f32> = values(height * width * dim);
        let own = Convolution::new(weight.clone(), bias.clone()).unwrap();
        let device = &Device::Cpu;
        let map = Tensor::from_vec(x.clone(), (1, height, width, dim), device).unwrap();
        let map = map.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
        let kernel = Tensor::from_vec(weight, (dim, dim, 3, 3), device).unwrap();
        let bias = Tensor::from_vec(bias, (1, dim, 1, 1), device).unwrap();
        let made = map.conv2d(&kernel, 1, 1, 1, 1).unwrap().broadcast_add(&bias).unwrap();
        let made = made.permute((0, 2, 3, 1)).unwrap().flatten_all().unwrap();
        // Small whole numbers: exact whatever the order of sums.
        assert_eq!(own.forward(&x, (height, width)), made.to_vec1::<f32>().unwrap());
        assert!(Convolution::new(vec![0.0; 9], vec![0.0; 2]).is_err());
    }
}
