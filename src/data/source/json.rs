//! Owns reading JSON as Python writes it: its `NaN`, `Infinity` and `-Infinity`, which JSON doesn't
//! have, are null. Must not know: what a value means.

use serde_json::Value;

const WORDS: [&[u8]; 3] = [b"-Infinity", b"Infinity", b"NaN"];

/// The value that a text holds.
///
/// # Errors
/// serde_json's, where it is no JSON with these words in it either.
pub(super) fn value(text: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(text).or_else(|error| match without_words(text) {
        Some(text) => serde_json::from_slice(&text),
        None => Err(error),
    })
}

/// The text with null in the words' place; None where it has none outside of strings.
fn without_words(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let (mut kept, mut at, mut in_string) = (0, 0, false);
    while let Some(&byte) = text.get(at) {
        let word = WORDS.iter().find(|word| !in_string && text[at..].starts_with(word));
        if let Some(word) = word {
            out.extend_from_slice(&text[kept..at]);
            out.extend_from_slice(b"null");
            at += word.len();
            kept = at;
            continue;
        }
        // What is escaped ends no string.
        at += if in_string && byte == b'\\' { 2 } else { 1 };
        in_string ^= byte == b'"';
    }
    out.extend_from_slice(&text[kept..]);
    (kept > 0).then_some(out)
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
        for broken in
            [&b"{\"a\": nan}"[..], b"[1NaN]", b"[-NaN]", b"[NaNs]", b"[NaN", b"\"NaN", b"\"\\"]
        {
            assert!(value(broken).is_err(), "{}", broken.escape_ascii());
        }
    }
}
