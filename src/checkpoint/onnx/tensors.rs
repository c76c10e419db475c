//! Owns the weights of an ONNX file as far as their sizes go: what is said of a tensor must be there.
//! Must not know: their values.

use std::ops::Range;

use super::floats::{FloatKind, Held, Place};
use super::operators::TEXT;
use super::wire::{Fields, Value, message, numbers, text};
use crate::util::text::shorten;

/// Bytes of one tensor at most.
const BYTES_MAX: u64 = 1 << 36;

/// A tensor's outside.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a [u8],
    pub(super) elements: u64,
    pub(super) external: Option<External>,
    /// Whether it is of texts.
    pub(super) is_text: bool,
    /// The type of its values, and the bytes that hold them, where they are floats.
    floats: Option<(FloatKind, Floats<'a>)>,
}

/// The bytes of a tensor's floats within the file.
#[derive(Debug, PartialEq)]
enum Floats<'a> {
    /// One after the other.
    Plain(Vec<&'a [u8]>),
    /// As numbers of varying length.
    Packed(Vec<&'a [u8]>),
}

impl Tensor<'_> {
    /// The type of its floats.
    pub(super) fn float_kind(&self) -> Option<FloatKind> {
        self.floats.as_ref().map(|(kind, _)| *kind)
    }

    /// Where its floats lie in `file`, which it was read from; None where it has none.
    pub(super) fn held(&self, file: &[u8]) -> Option<Held> {
        let (kind, floats) = self.floats.as_ref()?;
        let range = |bytes: &&[u8]| -> Option<Range<usize>> {
            let start = (bytes.as_ptr() as usize).checked_sub(file.as_ptr() as usize)?;
            Some(start..start + bytes.len())
        };
        let places = match (&self.external, floats) {
            (Some(external), _) => {
                let end = external.offset.saturating_add(external.bytes);
                vec![Place::Beside(external.location.clone(), external.offset..end)]
            }
            (None, Floats::Plain(parts)) => {
                parts.iter().filter_map(range).map(Place::Here).collect()
            }
            (None, Floats::Packed(parts)) => {
                parts.iter().filter_map(range).map(Place::Packed).collect()
            }
        };
        let name = String::from_utf8_lossy(self.name).into_owned();
        Some(Held { name, kind: *kind, places, is_factor: false })
    }
}

/// Where weights lie that are not in the file itself.
#[derive(Debug, Default, PartialEq)]
pub(super) struct External {
    /// Relative to the file's folder.
    pub(super) location: String,
    offset: u64,
    bytes: u64,
}

impl External {
    /// How far the other file is read.
    pub(super) fn end(&self) -> Result<u64, String> {
        let end = self.offset.checked_add(self.bytes);
        end.ok_or_else(|| {
            format!("weights at byte {} of '{}'", self.offset, shorten(&self.location))
        })
    }
}

/// What a tensor says, and what is there.
#[derive(Default)]
struct Said<'a> {
    name: &'a [u8],
    dims: Vec<i64>,
    data_type: i64,
    raw: Option<&'a [u8]>,
    /// Bytes of values that are written one by one.
    typed: u64,
    /// Floats and doubles among them.
    floats: Vec<&'a [u8]>,
    /// Halves among them, as numbers.
    halves: Vec<&'a [u8]>,
    external: Option<External>,
    is_external: bool,
}

/// Bits of an element by ONNX's number of its type; None for types whose sizes vary or that no weights
/// are of.
fn bits(data_type: i64) -> Option<u64> {
    Some(match data_type {
        2 | 3 | 9 | 17..=20 | 24 => 8,
        4 | 5 | 10 | 16 => 16,
        1 | 6 | 12 => 32,
        7 | 11 | 13 | 14 => 64,
        15 => 128,
        21..=23 => 4,
        25 | 26 => 2,
        _ => return None,
    })
}

/// Reads a tensor's outside.
///
/// # Errors
/// A size that its values don't have.
pub(super) fn tensor(bytes: &[u8]) -> Result<Tensor<'_>, String> {
    let mut said = Said::default();
    for field in Fields::of(bytes) {
        let (number, value) = field?;
        match (number, value) {
            (1, value) => said.dims.extend(numbers(value)?),
            (2, Value::Number(number)) => said.data_type = number as i64,
            (8, value) => said.name = message(value)?,
            (9, value) => said.raw = Some(message(value)?),
            (13, value) => entry(message(value)?, said.external.get_or_insert_default())?,
            (14, Value::Number(number)) => said.is_external = number == 1,
            (4 | 5 | 6 | 7 | 10 | 11, Value::Bytes(values)) => {
                said.typed += values.len() as u64;
                match number {
                    4 | 10 => said.floats.push(values),
                    5 => said.halves.push(values),
                    _ => {}
                }
            }
            (4 | 5 | 6 | 7 | 10 | 11, Value::Number(_)) => said.typed += 1,
            _ => {}
        }
    }
    said.checked()
}

fn entry(bytes: &[u8], external: &mut External) -> Result<(), String> {
    let (mut key, mut value) = (String::new(), String::new());
    for field in Fields::of(bytes) {
        match field? {
            (1, found) => key = text(found),
            (2, found) => value = text(found),
            _ => {}
        }
    }
    let number = |value: &str| {
        value.trim().parse().map_err(|_| format!("weights whose {key} is '{}'", shorten(value)))
    };
    match key.as_str() {
        "location" => external.location = value,
        "offset" => external.offset = number(&value)?,
        "length" => external.bytes = number(&value)?,
        _ => {}
    }
    Ok(())
}

impl<'a> Said<'a> {
    fn checked(self) -> Result<Tensor<'a>, String> {
        let name = shorten(&String::from_utf8_lossy(self.name));
        let sides = self.dims.iter().map(|&side| u64::try_from(side).ok());
        let elements = sides.into_iter().try_fold(1_u64, |all, side| all.checked_mul(side?));
        let of_type = bits(self.data_type);
        let is_text = self.data_type == TEXT;
        let bytes =
            elements.and_then(|n| n.checked_mul(of_type.unwrap_or(8))).map(|b| b.div_ceil(8));
        let (Some(elements), Some(bytes)) = (elements, bytes.filter(|bytes| *bytes <= BYTES_MAX))
        else {
            return Err(format!("its weights '{name}' say they are {:?}", self.dims));
        };
        if of_type.is_none() && !is_text {
            let kind = self.data_type;
            return Err(format!("its weights '{name}' are of type {kind}, which isn't known"));
        }
        let short = |there: u64| {
            Err(format!("its weights '{name}' are of {bytes} bytes, {there} of which are there"))
        };
        let external = match (self.is_external, self.external) {
            (true, Some(external)) if external.bytes == 0 || external.bytes == bytes => {
                Some(External { bytes, ..external })
            }
            (true, Some(external)) => return short(external.bytes),
            (true, None) => return Err(format!("its weights '{name}' lie nowhere")),
            (false, _) => None,
        };
        match (&external, self.raw) {
            (Some(_), _) => {}
            (None, Some(raw)) if raw.len() as u64 != bytes => return short(raw.len() as u64),
            // A value takes at least a byte, or an eighth of one where several are packed into it.
            (None, None) if !is_text && self.typed < elements.div_ceil(8) => {
                return short(self.typed);
            }
            (None, None) if is_text && self.typed < elements && elements > 1 << 16 => {
                return short(self.typed);
            }
            (None, _) => {}
        }
        let floats = FloatKind::of(self.data_type).map(|kind| {
            let halves = matches!(kind, FloatKind::F16 | FloatKind::Bf16);
            let floats = match self.raw {
                Some(raw) => Floats::Plain(vec![raw]),
                None if halves => Floats::Packed(self.halves),
                None => Floats::Plain(self.floats),
            };
            (kind, floats)
        });
        Ok(Tensor { name: self.name, elements, external, is_text, floats })
    }
}
