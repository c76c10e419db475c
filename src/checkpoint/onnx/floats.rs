//! Owns where the floats of an ONNX file's weights lie, and whether they are numbers: one NaN makes every
//! code the same without a word. Must not know: what is computed of them.

use std::ops::Range;

use half::{bf16, f16};

use super::wire::{Value, numbers};
use crate::util::text::shorten;

/// Types of floats that weights are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FloatKind {
    F16,
    Bf16,
    F32,
    F64,
}

impl FloatKind {
    /// By ONNX's number of a type; None for what is no float, or one of eight bits and fewer.
    pub(super) fn of(data_type: i64) -> Option<FloatKind> {
        match data_type {
            1 => Some(FloatKind::F32),
            10 => Some(FloatKind::F16),
            11 => Some(FloatKind::F64),
            16 => Some(FloatKind::Bf16),
            _ => None,
        }
    }

    /// The word of a precision.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            FloatKind::F16 => "f16",
            FloatKind::Bf16 => "bf16",
            FloatKind::F32 => "f32",
            FloatKind::F64 => "f64",
        }
    }

    fn bytes(self) -> usize {
        match self {
            FloatKind::F16 | FloatKind::Bf16 => 2,
            FloatKind::F32 => 4,
            FloatKind::F64 => 8,
        }
    }

    /// The value that some bytes are.
    pub(super) fn value(self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (FloatKind::F16, &[a, b]) => f64::from(f16::from_le_bytes([a, b])),
            (FloatKind::Bf16, &[a, b]) => f64::from(bf16::from_le_bytes([a, b])),
            (FloatKind::F32, &[a, b, c, d]) => f64::from(f32::from_le_bytes([a, b, c, d])),
            (FloatKind::F64, bytes) => bytes.try_into().map_or(0.0, f64::from_le_bytes),
            _ => 0.0,
        }
    }
}

/// Where some of a tensor's values lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// One after the other, little-endian, at these bytes of the file.
    Here(Range<usize>),
    /// Halves as numbers of varying length, at these bytes.
    Packed(Range<usize>),
    /// At these bytes of the file beside it that has this name.
    Beside(String, Range<u64>),
}

/// A tensor of floats, and where they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) name: String,
    pub(super) kind: FloatKind,
    pub(super) places: Vec<Place>,
    /// Whether a layer multiplies by it: then infinite ones are no masks.
    pub(super) is_factor: bool,
}

impl Held {
    /// Why the tensor's values can't be weights; `beside` gives the bytes of a file by its name.
    ///
    /// # Errors
    /// A NaN; an infinite one that a layer multiplies by.
    pub(super) fn check<'a>(
        &self,
        file: &'a [u8],
        beside: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<(), String> {
        for place in &self.places {
            let bytes = match place {
                Place::Here(range) | Place::Packed(range) => file.get(range.clone()),
                Place::Beside(name, range) => beside(name).and_then(|bytes| {
                    bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
                }),
            };
            let Some(bytes) = bytes else { continue };
            match place {
                Place::Packed(_) => {
                    let halves = numbers(Value::Bytes(bytes))?;
                    let halves: Vec<u8> =
                        halves.iter().flat_map(|&half| (half as u16).to_le_bytes()).collect();
                    self.check_bytes(&halves)?;
                }
                _ => self.check_bytes(bytes)?,
            }
        }
        Ok(())
    }

    fn check_bytes(&self, bytes: &[u8]) -> Result<(), String> {
        let refused = |value: f64| value.is_nan() || self.is_factor && value.is_infinite();
        let mut values = bytes.chunks_exact(self.kind.bytes()).map(|some| self.kind.value(some));
        match values.find(|&value| refused(value)) {
            None => Ok(()),
            Some(value) => {
                let what = if value.is_nan() { "NaN" } else { "infinite values" };
                let name = shorten(&self.name);
                Err(format!("its weights '{name}' hold {what}: the export or the training broke"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(kind: FloatKind, places: Vec<Place>, is_factor: bool) -> Held {
        Held { name: "w".to_owned(), kind, places, is_factor }
    }

    #[test]
    fn nan_is_found_wherever_it_lies_and_infinity_where_it_multiplies() {
        use FloatKind::*;
        let cases: [(FloatKind, Vec<u8>, Vec<u8>); 4] = [
            (F16, f16::NAN.to_le_bytes().into(), f16::NEG_INFINITY.to_le_bytes().into()),
            (Bf16, bf16::NAN.to_le_bytes().into(), bf16::NEG_INFINITY.to_le_bytes().into()),
            (F32, f32::NAN.to_le_bytes().into(), f32::NEG_INFINITY.to_le_bytes().into()),
            (F64, f64::NAN.to_le_bytes().into(), f64::NEG_INFINITY.to_le_bytes().into()),
        ];
        for (kind, nan, infinite) in cases {
            let width = nan.len();
            let one = vec![0; width];
            let file = |last: &[u8]| [&one[..], &one, last].concat();
            let all = vec![Place::Here(width..3 * width)];
            let check = |last: &[u8], factor| {
                held(kind, all.clone(), factor).check(&file(last), |_| None).is_ok()
            };
            assert!(check(&one, true) && check(&infinite, false), "{kind:?}");
            assert!(!check(&nan, false) && !check(&infinite, true), "{kind:?}");
            // The file beside it, which is read where it is said to be.
            let other = file(&nan);
            let at = |range: Range<u64>| vec![Place::Beside("data".to_owned(), range)];
            let beside = |name: &str| (name == "data").then_some(&other[..]);
            let width = width as u64;
            assert!(held(kind, at(0..2 * width), true).check(&[], beside).is_ok(), "{kind:?}");
            assert!(held(kind, at(0..3 * width), true).check(&[], beside).is_err(), "{kind:?}");
        }
        // 0x7e00, a NaN of sixteen bits, as a number of three bytes.
        let packed = [0x00, 0x80, 0xfc, 0x01];
        let places = |end| vec![Place::Packed(0..end)];
        assert!(held(F16, places(1), true).check(&packed, |_| None).is_ok());
        assert!(held(F16, places(4), false).check(&packed, |_| None).is_err());
    }
}
