//! Owns seeded numbers, the same everywhere: splitmix64 by index and in sequence, the hash that makes
//! a seed of a name, and draws that are a function of what they are for. Must not know: what is
//! drawn.

/// FNV-1a, 64 bits.
pub fn fnv1a64(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Output `i` (from 0) of splitmix64 seeded with `seed`.
pub fn splitmix64(seed: u64, i: u64) -> u64 {
    mix(seed.wrapping_add(i.wrapping_add(1).wrapping_mul(GAMMA)))
}

/// Output `i` uniform in [-1, 1): 2u - 1 with 24 bits, exact in float32.
pub fn unit(seed: u64, i: u64) -> f32 {
    let bits = (splitmix64(seed, i) >> 40) as i32 - (1 << 23);
    bits as f32 / (1u32 << 23) as f32
}

/// The first `count` outputs, as [`unit`].
#[cfg(test)]
pub(crate) fn units(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| unit(seed, i)).collect()
}

/// The outputs one after the other, from the seed on.
#[derive(Debug, Clone)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }
}

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The draws for one purpose.
#[derive(Debug, Clone)]
pub struct Draws {
    key: u64,
    next: u64,
}

impl Draws {
    /// The draws that belong to `purpose` and `counter` (a step, an epoch) under `seed`.
    pub fn new(seed: u64, purpose: &str, counter: u64) -> Draws {
        Draws::of(splitmix64(splitmix64(seed, fnv1a64(purpose)), counter))
    }

    /// The draws that belong to `key`, a hash of what they are for.
    pub(crate) fn of(key: u64) -> Draws {
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
    fn numbers_are_those_of_the_reference() {
        assert_eq!(splitmix64(1234567, 0), 6457827717110365317);
        let mut sequence = SplitMix64(7);
        for i in 0..100 {
            assert_eq!(sequence.next(), splitmix64(7, i));
            let float = (splitmix64(7, i) >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            assert_eq!(unit(7, i).to_bits(), float.to_bits());
        }
        assert_eq!(fnv1a64(""), 0xcbf2_9ce4_8422_2325);
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
