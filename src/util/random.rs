//! Owns seeded numbers, the same everywhere: splitmix64 by index and in sequence, and the hash that
//! makes a seed of a name.

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
}
