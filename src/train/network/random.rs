//! Owns randomness: every draw is a function of (seed, purpose, counter), so that a resumed run
//! needs to remember nothing but its step.

pub use crate::util::random::{Draws, fnv1a64, splitmix64, unit};

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
}
