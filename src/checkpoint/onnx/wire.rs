//! Owns the fields of protobuf messages, one after the other, within the bytes that are there.
//! Must not know: what the fields of ONNX mean.

/// A field's value; what is nested stays bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// An integer, however it was encoded.
    Number(u64),
    /// A text, a message or packed numbers.
    Bytes(&'a [u8]),
}

/// The fields of a message, numbered.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            let there = self.rest.len();
            return Err(format!("a field of {length} bytes where {there} are left"));
        };
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut value = 0_u64;
        for place in 0..10 {
            let Some((&byte, rest)) = self.rest.split_first() else {
                return Err("it ends within a number".into());
            };
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * place).min(63);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number of more than ten bytes".into())
    }

    fn field(&mut self) -> Result<(u64, Value<'a>), String> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Value::Bytes(self.take(4)?),
            kind => return Err(format!("a field of wire type {kind}")),
        };
        Ok((tag >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Numbers of a repeated field: alone, or packed.
pub(super) fn numbers(value: Value) -> Result<Vec<i64>, String> {
    match value {
        Value::Number(number) => Ok(vec![number as i64]),
        Value::Bytes(bytes) => {
            let mut packed = Fields::of(bytes);
            let mut numbers = Vec::new();
            while !packed.rest.is_empty() {
                numbers.push(packed.varint()? as i64);
            }
            Ok(numbers)
        }
    }
}

/// A text field; bytes that are none are shown as far as they are.
pub(super) fn text(value: Value) -> String {
    match value {
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Number(number) => number.to_string(),
    }
}

/// A nested message.
///
/// # Errors
/// A number in its place.
pub(super) fn message(value: Value<'_>) -> Result<&[u8], String> {
    match value {
        Value::Bytes(bytes) => Ok(bytes),
        Value::Number(_) => Err("a number where a message should be".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_they_were_written() {
        // 1: 300, 2: "ab", 3: packed [1, 128], 4: fixed64, 5: fixed32.
        let mut bytes = vec![0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1a, 3, 1, 0x80, 1, 0x21];
        bytes.extend([7; 8]);
        bytes.push(0x2d);
        bytes.extend([9; 4]);
        let fields: Vec<_> = Fields::of(&bytes).map(Result::unwrap).collect();
        assert_eq!(fields[0], (1, Value::Number(300)));
        assert_eq!((fields[1].0, text(fields[1].1)), (2, "ab".to_owned()));
        assert_eq!(numbers(fields[2].1).unwrap(), [1, 128]);
        assert_eq!((fields[3].0, fields[4]), (4, (5, Value::Bytes(&[9; 4]))));
    }

    #[test]
    fn every_cut_is_an_error_that_ends_the_message() {
        let bytes = [0x12, 0x03, 1, 2, 3, 0x08, 0x80, 0x01];
        for cut in [1, 2, 3, 4, 6, 7] {
            let fields: Vec<_> = Fields::of(&bytes[..cut]).collect();
            assert!(fields.last().unwrap().is_err(), "{cut}");
        }
        let endless = [0x80; 20];
        assert_eq!(Fields::of(&endless).count(), 1);
        let long = [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(Fields::of(&long).next().unwrap().is_err());
        assert!(Fields::of(&[0x0b]).next().unwrap().unwrap_err().contains("wire type 3"));
    }
}
