//! Owns reading numpy's arrays of integers.

use super::bytes::wide_numbers;

/// An array in C order.
pub(super) struct Array {
    /// numpy's word, such as `<u2`.
    pub dtype: String,
    pub shape: Vec<usize>,
    pub values: Vec<i64>,
}

impl Array {
    /// The values as codes.
    pub(super) fn codes(&self) -> Result<Vec<u32>, String> {
        let code = |value: &i64| u32::try_from(*value).map_err(|_| format!("{value} is no code"));
        self.values.iter().map(code).collect()
    }
}

fn wrong() -> String {
    "an array isn't one of numpy's".to_string()
}

/// The type and the shape that a header's text says.
pub(super) fn header(text: &[u8]) -> Result<(String, Vec<usize>), String> {
    let text = String::from_utf8_lossy(text);
    let between = |from: &str, to: char| text.split(from).nth(1)?.split(to).next();
    let dtype = between("'descr': '", '\'').ok_or_else(wrong)?;
    let sides = between("'shape': (", ')').ok_or_else(wrong)?.split(',').map(str::trim);
    let sides = sides.filter(|side| !side.is_empty());
    let sides = sides.map(|side| side.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    match text.contains("'fortran_order': False") {
        true => Ok((dtype.to_string(), sides)),
        false => Err(wrong()),
    }
}

/// Bytes of an element.
pub(super) fn width_of(dtype: &str) -> Result<usize, String> {
    match dtype {
        "|u1" => Ok(1),
        "<u2" | "<i2" => Ok(2),
        "<u4" | "<i4" => Ok(4),
        "<i8" => Ok(8),
        other => Err(format!("an array is of {other}")),
    }
}

/// A whole file's array.
pub(super) fn array(bytes: &[u8]) -> Result<Array, String> {
    let (head, rest) = bytes.split_at_checked(10).ok_or_else(wrong)?;
    if head[..8] != *b"\x93NUMPY\x01\x00" {
        return Err(wrong());
    }
    let length = usize::from(u16::from_le_bytes([head[8], head[9]]));
    let (text, values) = rest.split_at_checked(length).ok_or_else(wrong)?;
    let (dtype, shape) = header(text)?;
    let width = width_of(&dtype)?;
    let count = shape.iter().try_fold(1_usize, |all, side| all.checked_mul(*side));
    match count.and_then(|count| count.checked_mul(width)) == Some(values.len()) {
        true => {
            let values = wide_numbers(values, width, dtype.contains('i'));
            Ok(Array { dtype, shape, values })
        }
        false => Err(wrong()),
    }
}
