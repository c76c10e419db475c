//! Owns JSON as Python's `json.dumps` writes it, which is what the writers of most formats use: a blank
//! behind commas and colons, nothing but ASCII.

use std::io;

use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

/// A value as `json.dumps` writes it.
pub(super) fn dumps(value: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let written = value.serialize(&mut Serializer::with_formatter(&mut out, Python));
    // Keys are texts and writing to memory doesn't fail.
    debug_assert!(written.is_ok());
    out
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        text: &str,
    ) -> io::Result<()> {
        for c in text.chars() {
            match c {
                ' '..='~' => out.write_all(&[c as u8])?,
                _ => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        write!(out, "\\u{unit:04x}")?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn texts_are_written_as_python_writes_them() {
        let value = json!({"a": [1, 2], "é": "猫\u{1f431}\n\"\u{7f}", "n": null});
        let text = String::from_utf8(super::dumps(&value)).unwrap();
        assert_eq!(text, r#"{"a": [1, 2], "\u00e9": "\u732b\ud83d\udc31\n\"\u007f", "n": null}"#);
    }
}
