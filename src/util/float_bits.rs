//! Owns floats that pass through text without losing a bit.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A float64 that is written as the integer of its bits: as a decimal number it may change its last
/// bit in JSON. Equal where the bits are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bits(pub f64);

impl PartialEq for Bits {
    fn eq(&self, other: &Bits) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0.to_bits())
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bits, D::Error> {
        u64::deserialize(deserializer).map(|bits| Bits(f64::from_bits(bits)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_survives_json() {
        for value in [0.1 + 0.2, -0.0, f64::MIN_POSITIVE / 8.0, f64::INFINITY, f64::NAN] {
            let text = serde_json::to_string(&Bits(value)).unwrap();
            assert_eq!(text, value.to_bits().to_string());
            assert_eq!(serde_json::from_str::<Bits>(&text).unwrap(), Bits(value));
        }
    }
}
