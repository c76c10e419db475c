//! Owns the Fréchet distance of two sets of features, each taken for a Gaussian. Must not know: what the
//! features are.

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::symmetric::{eigenvalues, factor};
use crate::error::Result;

/// A set of features, as sums in float64: whole sets take as much memory as one.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FeatureSums {
    count: u64,
    sums: Vec<f64>,
    /// `[n, n]`, of which the half above the diagonal is added up.
    products: Vec<f64>,
}

/// Mean and covariance.
struct Gaussian {
    mean: Vec<f64>,
    covariance: Vec<f64>,
}

impl FeatureSums {
    /// Adds features of one length, in their order.
    pub(super) fn add(&mut self, features: &[&[f32]]) {
        let Some(n) = features.first().map(|first| first.len()) else { return };
        self.sums.resize(n, 0.0);
        self.products.resize(n * n, 0.0);
        self.count += features.len() as u64;
        let wide: Vec<Vec<f64>> =
            features.iter().map(|one| one.iter().map(|&x| f64::from(x)).collect()).collect();
        for one in &wide {
            self.sums.iter_mut().zip(one).for_each(|(sum, x)| *sum += x);
        }
        // As many at a time as stay near the core.
        for some in wide.chunks(32) {
            self.products.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
                for one in some {
                    let of_row = one[i];
                    row[i..].iter_mut().zip(&one[i..]).for_each(|(sum, x)| *sum += of_row * x);
                }
            });
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The covariance is divided by one less than the number, as numpy's.
    fn gaussian(&self) -> Gaussian {
        let (n, count) = (self.sums.len(), self.count as f64);
        let mean: Vec<f64> = self.sums.iter().map(|sum| sum / count).collect();
        let mut covariance = vec![0.0; n * n];
        for i in 0..n {
            for j in i..n {
                let apart = self.products[i * n + j] - count * mean[i] * mean[j];
                covariance[i * n + j] = apart / (count - 1.0);
                covariance[j * n + i] = covariance[i * n + j];
            }
        }
        Gaussian { mean, covariance }
    }

    /// |m - m'|^2 + tr(C + C' - 2 (C C')^(1/2)); None of fewer than two features in either.
    ///
    /// # Errors
    /// Too little memory.
    pub(super) fn distance(&self, other: &FeatureSums) -> Result<Option<f64>> {
        if self.count.min(other.count) < 2 || self.sums.len() != other.sums.len() {
            return Ok(None);
        }
        let n = self.sums.len();
        let (a, b) = (self.gaussian(), other.gaussian());
        let apart: f64 = a.mean.iter().zip(&b.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let trace = |of: &Gaussian| (0..n).map(|i| of.covariance[i * n + i]).sum::<f64>();
        let both = trace(&a) + trace(&b);
        // With C = L L^T the eigenvalues of C C' that aren't zero are those of L^T C' L, which is
        // symmetric and has the rank of C alone: no noise of zeros is under the root.
        let (l, rank) = factor(&a.covariance, n);
        let roots: f64 = match rank {
            0 => 0.0,
            rank => {
                let l = Tensor::from_vec(l, (n, rank), &Device::Cpu)?;
                let c = Tensor::from_vec(b.covariance, (n, n), &Device::Cpu)?;
                let inner = l.t()?.contiguous()?.matmul(&c.matmul(&l)?)?;
                let inner: Vec<f64> = inner.flatten_all()?.to_vec1()?;
                eigenvalues(inner, rank).into_iter().map(|value| value.max(0.0).sqrt()).sum()
            }
        };
        Ok(Some(apart + both - 2.0 * roots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::random::{fnv1a64, unit};

    fn set(name: &str, count: usize, n: usize, spread: f32) -> Vec<Vec<f32>> {
        let key = fnv1a64(name);
        let number = |i: usize| unit(key, i as u64) * spread + 0.25 * (i % n) as f32;
        (0..count).map(|k| (0..n).map(|i| number(k * n + i)).collect()).collect()
    }

    fn sums(set: &[Vec<f32>], together: usize) -> FeatureSums {
        let mut sums = FeatureSums::default();
        for some in set.chunks(together) {
            sums.add(&some.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        sums
    }

    #[test]
    fn distances_are_those_of_pytorch_fid() {
        // `benches/peers/evaluate_torch.py golden` prints them.
        for (counts, n, golden) in GOLDEN {
            let (a, b) = (set("a", counts[0], n, 1.0), set("b", counts[1], n, 1.5));
            let found = sums(&a, 7).distance(&sums(&b, 64)).unwrap().unwrap();
            assert!((found - golden).abs() < 1e-7 * golden, "{counts:?} {n}: {found} {golden}");
        }
        let a = sums(&set("a", 100, 24, 1.0), 100);
        assert!(a.distance(&a).unwrap().unwrap().abs() < 1e-9);
        assert_eq!(sums(&set("a", 1, 24, 1.0), 1).distance(&a).unwrap(), None);
        assert_eq!(FeatureSums::default().distance(&FeatureSums::default()).unwrap(), None);
    }

    /// The last of fewer features than they have numbers.
    const GOLDEN: [([usize; 2], usize, f64); 3] = [
        ([100, 120], 24, 3.525_615_192_155_925),
        ([500, 400], 64, 7.863_073_674_174_373),
        ([20, 16], 32, 19.838_565_673_405_61),
    ];

    #[test]
    fn sums_are_the_same_in_whatever_pieces_they_come() {
        let set = set("a", 50, 24, 1.0);
        assert_eq!(sums(&set, 50), sums(&set, 3));
    }
}
