//! Owns reading JSON as Python writes it: its `NaN`, `Infinity` and `-Infinity`, which JSON doesn't
//! have, are null, and half a pair of surrogates, which no text has, is U+FFFD. Must not know: what a
//! value means.

use serde_json::Value;

const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// The value that a text holds.
///
/// # Errors
/// serde_json's, where it is no JSON with those mended either.
pub(super) fn value(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).or_else(|error| match mended(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    })
}

/// The text with null in the words' place and U+FFFD in that of halves of surrogates; None where it has
/// neither.
fn mended(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut kept, mut at, mut in_string) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        let rest = &text[at..];
        let word = WORDS.iter().find(|word| !in_string && rest.starts_with(word));
        let (length, instead): (usize, Option<&[u8]>) = match word {
            Some(word) => (word.len(), Some(b"null")),
            None if in_string && byte == b'\\' => escape(rest),
            None => (1, None),
        };
        if let Some(instead) = instead {
            out.extend_from_slice(&text[kept..at]);
            out.extend_from_slice(instead);
            kept = at + length;
        }
        in_string ^= byte == b'"';
        at += length;
    }
    out.extend_from_slice(&text[kept..]);
    (kept > 0).then_some(out)
}

/// How long an escape is, and what stands for one that is half a pair of surrogates.
fn escape(text: &[u8]) -> (usize, Option<&'static [u8]>) {
    let unit = |text: &[u8]| {
        let digits = text.strip_prefix(b"\\u")?.get(..4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        u32::from_str_radix(digits, 16).ok()
    };
    match (unit(text), text.get(6..).and_then(unit)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, None),
        (Some(0xD800..=0xDFFF), _) => (6, Some(br"\ufffd")),
        // What is escaped ends no string.
        _ => (2, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pythons_words_are_null() {
        let text = br#"{"a": NaN, "b":[Infinity,-Infinity], "NaN \" NaN": "\\NaN", "c": 1}"#;
        let expected = r#"{"a":null,"b":[null,null],"NaN \" NaN":"\\NaN","c":1}"#;
        assert_eq!(value(text).unwrap().to_string(), expected);
        assert_eq!(value(b"NaN").unwrap(), Value::Null);
        let text = br#"["\ud800", "\ud83d\ude00\udc00x", "\\ud800", "\ud83d\ud83d\ude00"]"#;
        let expected = ["\u{fffd}", "\u{1f600}\u{fffd}x", "\\ud800", "\u{fffd}\u{1f600}"];
        assert_eq!(value(text).unwrap(), Value::from(expected.map(Value::from).to_vec()));
        for broken in
            [&b"{\"a\": nan}"[..], b"[1NaN]", b"[-NaN]", b"[NaNs]", b"[NaN", b"\"NaN", b"\"\\"]
        {
            assert!(value(broken).is_err(), "{}", broken.escape_ascii());
        }
    }
}
