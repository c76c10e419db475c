//! Owns what the errors and panics of the Parquet and Arrow crates become before a user sees them:
//! one line of plain words, whatever those crates print of their own structs.

use std::error::Error as StdError;
use std::io;

use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use crate::util::{error_text, panics};

/// Reads with these crates: their panics are errors too, in words that say nothing of their code.
pub(crate) fn reading<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    panics::catch(work).unwrap_or_else(|_panic| Err("damaged where no reader can go on".into()))
}

/// An error of theirs in one line.
pub(crate) fn told(error: impl Into<ParquetError>) -> String {
    match error.into() {
        ParquetError::External(inner) => told_of(inner.as_ref()),
        ParquetError::IndexOutOfBound(..) => "it lacks a column that it should have".into(),
        ParquetError::NeedMoreData(_) | ParquetError::NeedMoreDataRange(_) => {
            "it ends too early".into()
        }
        other => in_words(&other.to_string()),
    }
}

/// The same of what they wrapped, which may be the system's reason or one another's errors.
fn told_of(error: &(dyn StdError + 'static)) -> String {
    if let Some(system) = error.downcast_ref::<io::Error>() {
        return error_text::reason(system);
    }
    match error.downcast_ref::<ArrowError>() {
        Some(ArrowError::IoError(_, system)) => error_text::reason(system),
        Some(ArrowError::ExternalError(inner)) => told_of(inner.as_ref()),
        _ => in_words(&error.to_string()),
    }
}

/// What they put before a reason.
const PREFIXES: [&str; 13] = [
    "Parquet error: ",
    "Parquet argument error: ",
    "Arrow: ",
    "EOF: ",
    "NYI: ",
    "External: ",
    "External error: ",
    "Schema error: ",
    "Invalid argument error: ",
    "Compute error: ",
    "Cast error: ",
    "Internal: ",
    "Parser error: ",
];

fn in_words(message: &str) -> String {
    let mut message = message.lines().next().unwrap_or_default();
    while let Some(rest) = PREFIXES.iter().find_map(|prefix| message.strip_prefix(prefix)) {
        message = rest;
    }
    let schema = ["ARROW:schema", "the encoded schema", "ncompatible arrow schema"];
    if ["nvalid utf-8", "nvalid utf8"].iter().any(|words| message.contains(words)) {
        return "a name or text in it is no UTF-8".into();
    }
    if schema.iter().any(|words| message.contains(words)) {
        return "the Arrow schema in its footer is damaged".into();
    }
    if message.contains("Parquet does not support more than") || message.trim().is_empty() {
        return "damaged where no reader can go on".into();
    }
    // A place for a value that they never fill in.
    error_text::plain(&without_structs(message).replace("{}", "")).into_owned()
}

/// Debug output shortened to what a user can read: `Some(3)` is 3, `List(Field { .. })` a List, and
/// a struct's fields are left out.
fn without_structs(message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some((at, name, open)) = next_struct(rest) {
        let inner_from = open + 1;
        let close = closing(rest, open);
        out += &rest[..at];
        match name {
            "Some" | "Ok" | "Err" => {
                out += &without_structs(&rest[inner_from..close.unwrap_or(rest.len())]);
            }
            name => out += name,
        }
        rest = close.map_or("", |close| &rest[close + 1..]);
    }
    out + rest
}

/// The first `Name(` or `Name {`: where the name begins, it, and where its bracket stands.
fn next_struct(text: &str) -> Option<(usize, &str, usize)> {
    let mut from = 0;
    while let Some(open) = text[from..].find(['(', '{']).map(|at| from + at) {
        let before = text[..open].trim_end_matches(' ');
        let spaced = before.len() < open;
        let name_from = before
            .rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8));
        let name = &before[name_from..];
        // A word before a bracket is a sentence's; before a brace it is a struct's.
        let fits = text.as_bytes()[open] == b'{' || !spaced;
        if fits && name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Some((name_from, name, open));
        }
        from = open + 1;
    }
    None
}

/// Where the bracket that opens at `open` closes.
fn closing(text: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'{' | b'[' => depth += 1,
            b')' | b'}' | b']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_struct_of_a_library_is_told() {
        let general = |text: &str| told(ParquetError::General(text.into()));
        assert_eq!(
            told(ParquetError::ArrowError(
                "Unable to get root as message stored in ARROW:schema: Utf8Error { error: \
                 Utf8Error { valid_up_to: 362 }, error_trace: ErrorTrace([TableField { .. }]) }"
                    .into()
            )),
            "the Arrow schema in its footer is damaged"
        );
        assert_eq!(
            general("expected List(Field { name: \"a\" }) but found Some(Int32) in a (b)"),
            "expected List but found Int32 in a (b)"
        );
        assert_eq!(general("cut Utf8Error { at: ["), "cut Utf8Error");
        assert_eq!(general("Invalid page (at 3) of ä{x}"), "Invalid page (at 3) of ä{x}");
        assert_eq!(told(ParquetError::EOF("eof at 3".into())), "eof at 3");
        let unfilled = "Received multiple fields for union from remote {}LogicalType";
        assert_eq!(general(unfilled), "Received multiple fields for union from remote LogicalType");
        assert_eq!(general("invalid utf8"), "a name or text in it is no UTF-8");
        assert_eq!(
            told(ParquetError::IndexOutOfBound(3, 2)),
            "it lacks a column that it should have"
        );
        assert_eq!(general("Parquet error: External: "), "damaged where no reader can go on");
    }

    #[test]
    fn the_systems_reason_comes_through_every_wrapper() {
        let full = || io::Error::from_raw_os_error(28);
        let wrapped = ArrowError::ExternalError(Box::new(full()));
        for error in [
            ParquetError::External(Box::new(full())),
            ParquetError::from(ArrowError::IoError("x".into(), full())),
            ParquetError::from(wrapped),
        ] {
            assert_eq!(told(error), "No space left on device");
        }
    }

    #[test]
    fn a_panic_of_a_reader_is_told_without_its_words() {
        let panic = reading(|| -> Result<(), String> { panic!("called `Option::unwrap()`") });
        assert_eq!(panic, Err("damaged where no reader can go on".into()));
        assert_eq!(reading(|| Ok(3)), Ok(3));
        assert_eq!(reading(|| Err::<(), _>("why".into())), Err("why".into()));
    }
}
