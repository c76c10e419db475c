//! Owns lookup-free quantization in training (MAGVIT-v2, Yu et al. 2024): signs as codes, and the
//! entropies that make each latent sure and all of them together varied; with latents on the sphere, binary
//! spherical quantization (BSQ, Zhao et al. 2024). Must not know: codebooks.
//!
//! A latent r has the code probabilities p_k = softmax over k of 2 r.c_k / tau, c_k in {-1, 1}^D.
//! They are products over the bits, p(bit b = 1) = sigmoid(4 r_b / tau). So the mean entropy of
//! the latents is a sum over bits, and the entropy of the mean, which is none, costs 2^D numbers
//! and not 2^D a latent. Value and gradient are computed here, on the host and in float64, rather than
//! by the tensors' own differentiation: on any device of a training.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use crate::error::Result;
use crate::model::quantizer::sign_bits;
use crate::train::network::parameters::Named;
use crate::train::quantizer::estimator::{commitment, straight_through};
use crate::train::quantizer::layout::{laid_out, like_latents, rows_of};
use crate::train::quantizer::nearest::of_length_one;
use crate::train::quantizer::trainable::{Losses, QuantizeOutput, TrainableQuantizer};
use crate::train::settings::codebook::SignLatents;

/// Added to the mean probabilities in the logarithm.
const EPSILON: f64 = 1e-5;
/// Latents are divided into at most so many parts, each with its own sum over all codes.
const PARTS: usize = 32;

/// Both entropies in nats, and their gradients by the latents, `[rows, D]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entropies {
    /// Mean over the latents of -sum p log p.
    pub sample: f64,
    /// -sum m log(m + 1e-5), m the mean over the latents of p.
    pub batch: f64,
    /// Of `sample`.
    pub sample_gradient: Vec<f64>,
    /// Of `batch`.
    pub batch_gradient: Vec<f64>,
}

/// The probability that each bit of a latent is set.
fn set_probabilities(row: &[f64], tau: f64) -> Vec<f64> {
    row.iter().map(|r| 1.0 / (1.0 + (-4.0 * r / tau).exp())).collect()
}

/// p_k for every code, into `p` of 2^D numbers, bit b of k for channel b.
fn code_probabilities(set: &[f64], p: &mut [f64]) {
    p[0] = 1.0;
    for (b, s) in set.iter().enumerate() {
        let (low, high) = p.split_at_mut(1 << b);
        for (low, high) in low.iter_mut().zip(high) {
            *high = *low * s;
            *low *= 1.0 - s;
        }
    }
}

/// Latents of one of a few parts, whatever the number of threads.
fn part_of(rows: &[f64], bits: usize) -> usize {
    (rows.len() / bits).div_ceil(PARTS).max(1) * bits
}

/// The probability of each code, mean over all latents, `[2^bits]`.
fn mean_probabilities(rows: &[f64], bits: usize, tau: f64) -> Vec<f64> {
    let count = (rows.len() / bits).max(1) as f64;
    let sums: Vec<Vec<f64>> = rows
        .par_chunks(part_of(rows, bits))
        .map(|rows| {
            let (mut sum, mut p) = (vec![0.0; 1 << bits], vec![0.0; 1 << bits]);
            for row in rows.chunks_exact(bits) {
                code_probabilities(&set_probabilities(row, tau), &mut p);
                sum.iter_mut().zip(&p).for_each(|(sum, p)| *sum += p);
            }
            sum
        })
        .collect();
    let mut mean = vec![0.0; 1 << bits];
    for sum in sums {
        mean.iter_mut().zip(sum).for_each(|(m, s)| *m += s / count);
    }
    mean
}

/// The entropies of latents `[rows, bits]` at temperature `tau`. The order of every sum depends on
/// the number of latents only.
pub(super) fn entropies(rows: &[f64], bits: usize, tau: f64) -> Entropies {
    let count = (rows.len() / bits).max(1) as f64;
    let part = part_of(rows, bits);
    let slope = 4.0 / (tau * count);

    let mut sample = 0.0;
    let mut sample_gradient = Vec::with_capacity(rows.len());
    for r in rows {
        // H(sigmoid(x)) = log(1 + e^-|x|) + |x| sigmoid(-|x|)
        let x = 4.0 * r / tau;
        let small = 1.0 / (1.0 + x.abs().exp());
        sample += (-x.abs()).exp().ln_1p() + x.abs() * small;
        sample_gradient.push(-x * small * (1.0 - small) * slope);
    }

    let mean = mean_probabilities(rows, bits, tau);
    let batch = -mean.iter().map(|m| m * (m + EPSILON).ln()).sum::<f64>();
    // d batch / d m_k
    let by_mean: Vec<f64> = mean.iter().map(|m| -(m + EPSILON).ln() - m / (m + EPSILON)).collect();

    let mut batch_gradient = vec![0.0; rows.len()];
    batch_gradient.par_chunks_mut(part).zip(rows.par_chunks(part)).for_each(|(out, rows)| {
        let mut p = vec![0.0; 1 << bits];
        for (out, row) in out.chunks_exact_mut(bits).zip(rows.chunks_exact(bits)) {
            let set = set_probabilities(row, tau);
            code_probabilities(&set, &mut p);
            p.iter_mut().zip(&by_mean).for_each(|(p, g)| *p *= g);
            let all: f64 = p.iter().sum();
            // Folding the upper half onto the lower leaves, for each bit, the sum where it is set.
            for b in (0..bits).rev() {
                let (low, high) = p[..2 << b].split_at_mut(1 << b);
                let with: f64 = high.iter().sum();
                low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
                out[b] = slope * (with - set[b] * all);
            }
        }
    });
    Entropies { sample: sample / count, batch, sample_gradient, batch_gradient }
}

/// LFQ: nothing to learn but the encoder.
pub(super) struct LfqCodes {
    /// D.
    pub bits: usize,
    /// Where they lie before signs are taken.
    pub latents: SignLatents,
    /// beta.
    pub commitment: f64,
    /// Weight of the entropies.
    pub entropy_weight: f64,
    /// tau.
    pub temperature: f64,
}

impl LfqCodes {
    /// weight (sample - batch), with its gradient.
    fn entropy_loss(&self, z: &Tensor) -> Result<Tensor> {
        let rows: Vec<f64> =
            z.permute((0, 2, 3, 1))?.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        let e = entropies(&rows, self.bits, self.temperature);
        let w = self.entropy_weight;
        let gradient: Vec<f64> =
            e.sample_gradient.iter().zip(&e.batch_gradient).map(|(s, b)| w * (s - b)).collect();
        let gradient = Tensor::from_slice(&gradient, gradient.len(), z.device())?;
        let gradient = like_latents(&gradient.to_dtype(z.dtype())?, z)?;
        // A linear function with this gradient, moved to the right value.
        let linear = (z * gradient)?.sum_all()?;
        let value = Tensor::new(w * (e.sample - e.batch), z.device())?.to_dtype(z.dtype())?;
        Ok((&linear + (value - linear.detach())?)?)
    }
}

impl TrainableQuantizer for LfqCodes {
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput> {
        let z = &match self.latents {
            // As long as their codes: signs move them by less, so that the gradient that passes straight through
            // is nearer to the truth.
            SignLatents::Sphere => (of_length_one(z)? * (self.bits as f64).sqrt())?,
            SignLatents::Free => z.clone(),
        };
        let rows = rows_of(z)?;
        let indices = rows.chunks_exact(self.bits).map(sign_bits).collect();
        let signs = rows.iter().map(|r| if *r > 0.0 { 1.0 } else { -1.0 }).collect();
        let signs = laid_out(signs, z)?;
        let entropy = (self.entropy_weight > 0.0).then(|| self.entropy_loss(z)).transpose()?;
        let losses = Losses {
            commitment: Some(commitment(z, &signs, self.commitment)?),
            codes: None,
            entropy,
        };
        let latents = straight_through(z, &signs)?;
        Ok(QuantizeOutput { latents, codes: signs, losses, rows, indices })
    }

    fn codebook(&self, _: &Named) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::train::network::random::Draws;

    fn latents(rows: usize, bits: usize, scale: f64) -> Vec<f64> {
        let mut draws = Draws::new(11, "latents", 0);
        (0..rows * bits).map(|_| (2.0 * draws.fraction() - 1.0) * scale).collect()
    }

    #[test]
    fn entropies_are_those_of_the_whole_softmax() {
        let (bits, tau) = (5, 0.5);
        let rows = latents(70, bits, 0.4);
        let e = entropies(&rows, bits, tau);
        let (mut sample, mut mean) = (0.0, vec![0.0; 32]);
        for row in rows.chunks(bits) {
            let sign = |k: usize, b: usize| if k >> b & 1 == 1 { 1.0 } else { -1.0 };
            let logits: Vec<f64> = (0..32)
                .map(|k| row.iter().enumerate().map(|(b, r)| 2.0 * r * sign(k, b) / tau).sum())
                .collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            for (k, l) in logits.iter().enumerate() {
                let p = l.exp() / sum;
                sample -= p * p.ln() / 70.0;
                mean[k] += p / 70.0;
            }
        }
        let batch: f64 = mean.iter().map(|m| -m * (m + EPSILON).ln()).sum();
        assert!((e.sample - sample).abs() < 1e-12 && (e.batch - batch).abs() < 1e-12, "{e:?}");
    }

    #[test]
    fn gradients_equal_central_differences() {
        for (bits, tau, scale) in [(4, 0.5, 0.4), (3, 0.01, 0.02), (1, 1.0, 2.0)] {
            let rows = latents(40, bits, scale);
            let e = entropies(&rows, bits, tau);
            let h = 1e-6 * tau;
            for i in 0..rows.len() {
                let at = |d: f64| {
                    let mut moved = rows.clone();
                    moved[i] += d;
                    let e = entropies(&moved, bits, tau);
                    [e.sample, e.batch]
                };
                let (up, down) = (at(h), at(-h));
                for (j, mine) in [e.sample_gradient[i], e.batch_gradient[i]].iter().enumerate() {
                    let difference = (up[j] - down[j]) / (2.0 * h);
                    let off = (mine - difference).abs();
                    let bound = 1e-5 * difference.abs() + 1e-7 / tau;
                    assert!(off < bound, "{bits} {i} {j}: {mine} {difference}");
                }
            }
        }
    }

    #[test]
    fn latents_on_the_sphere_keep_their_signs_and_pass_gradients_along_it_only() {
        let values = [[3_f32, -4.0], [0.0, 0.0], [-1e-3, -1e-3]];
        let z: Vec<f32> = (0..2).flat_map(|c| values.map(|row| row[c])).collect();
        let z = Var::from_vec(z, (1, 2, 1, 3), &Device::Cpu).unwrap();
        let codes = LfqCodes {
            bits: 2,
            latents: SignLatents::Sphere,
            commitment: 0.25,
            entropy_weight: 0.1,
            temperature: 1.0,
        };
        let out = codes.forward(&z).unwrap();
        assert_eq!(out.indices, [1, 0, 0]);
        let root = 2_f32.sqrt();
        let expected = [0.6 * root, -0.8 * root, 0.0, 0.0, -1.0, -1.0];
        for (found, expected) in out.rows.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{:?}", out.rows);
        }
        let weights =
            Tensor::new(&[[[[1_f32, 1.0, 1.0]], [[2.0, 2.0, 2.0]]]], &Device::Cpu).unwrap();
        let loss = (out.latents * weights).unwrap().sum_all().unwrap();
        let loss = out.losses.added_to(&loss).unwrap();
        let gradient = loss.backward().unwrap().get(&z).unwrap().flatten_all().unwrap();
        let g: Vec<f32> = gradient.to_vec1().unwrap();
        assert!(g.iter().all(|v| v.is_finite()), "{g:?}");
        // Across the first latent, none along it.
        assert!((3.0 * g[0] - 4.0 * g[3]).abs() < 1e-5 && g[0].abs() > 0.1, "{g:?}");
    }

    #[test]
    fn extreme_latents_stay_finite() {
        let e = entropies(&[1e30, -1e30, 0.0, 700.0], 2, 0.01);
        let all = e.sample_gradient.iter().chain(&e.batch_gradient);
        assert!(all.chain([&e.sample, &e.batch]).all(|v| v.is_finite()), "{e:?}");
    }
}
