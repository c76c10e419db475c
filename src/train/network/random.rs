//! Owns randomness: every draw is a function of (seed, purpose, counter), so that a resumed run
//! needs to remember nothing but its step.

pub use crate::util::random::{fnv1a64, splitmix64, unit};

/// The draws for one purpose.
#[derive(Debug, Clone)]
pub struct Draws {
    key: u64,
    next: u64,
}

impl Draws {
    /// The draws that belong to `purpose` and `counter` (a step, an epoch) under `seed`.
    pub fn new(seed: u64, purpose: &str, counter: u64) -> Draws {
        let key = splitmix64(splitmix64(seed, fnv1a64(purpose)), counter);
        Draws { key, next: 0 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        let bits = splitmix64(self.key, self.next);
        self.next += 1;
        bits
    }

    /// Uniform in 0..bound, without bias (Lemire 2019). `bound` must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        debug_assert!(bound > 0);
        loop {
            let wide = u128::from(self.bits()) * u128::from(bound);
            // The low half below 2^64 mod bound belongs to values drawn once too often.
            if wide as u64 >= bound.wrapping_neg() % bound {
                return (wide >> 64) as u64;
            }
        }
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn fraction(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// `count` numbers uniform in [-bound, bound), in float32.
    pub fn uniform(&mut self, count: usize, bound: f32) -> Vec<f32> {
        (0..count).map(|_| (2.0 * self.fraction() - 1.0) as f32 * bound).collect()
    }

    /// A random order of 0..n (Fisher-Yates).
    pub fn permutation(&mut self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        for i in (1..n).rev() {
            order.swap(i, self.below(i as u64 + 1) as usize);
        }
        order
    }

    /// `count` different numbers below `n`, in random order; all of them where `count >= n`.
    pub fn distinct(&mut self, count: usize, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        let count = count.min(n);
        for i in 0..count {
            order.swap(i, i + self.below((n - i) as u64) as usize);
        }
        order.truncate(count);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_gives_the_published_numbers() {
        assert_eq!(fnv1a64("sample"), 0xf3d8_02fe_7a8b_a4c7);
        // All of these are exact in float32: 24 bits over 2^23.
        let expected = [
            0.481_401_562_690_734_86_f64,
            0.208_273_053_169_250_5,
            0.698_897_957_801_818_8,
            0.136_507_987_976_074_22,
            0.695_630_311_965_942_4,
            0.407_911_896_705_627_44,
            -0.818_477_153_778_076_2,
            -0.843_659_520_149_231,
        ];
        for (i, want) in expected.iter().enumerate() {
            assert_eq!(f64::from(unit(fnv1a64("sample"), i as u64)), *want);
        }
    }

    #[test]
    fn permutations_are_whole_and_differ_by_epoch() {
        let a = Draws::new(1, "order", 0).permutation(1000);
        let b = Draws::new(1, "order", 1).permutation(1000);
        assert_ne!(a, b);
        assert_eq!(a, Draws::new(1, "order", 0).permutation(1000));
        for mut order in [a, b] {
            order.sort_unstable();
            assert!(order.iter().enumerate().all(|(i, v)| i == *v as usize));
        }
        let mut some = Draws::new(1, "x", 3).distinct(10, 12);
        some.sort_unstable();
        some.dedup();
        assert_eq!(some.len(), 10);
    }

    #[test]
    fn below_is_uniform() {
        let mut draws = Draws::new(7, "uniform", 0);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[draws.below(6) as usize] += 1;
        }
        // Standard deviation of one count: 91; five of them.
        assert!(counts.iter().all(|c| c.abs_diff(10_000) < 456), "{counts:?}");
    }
}
