//! Owns how names that others chose (keys, paths, tensor names) stand in messages: on one line,
//! with nothing in them that a terminal obeys or that reorders what is read.

use std::borrow::Cow;
use std::path::Path;

use super::secrets::without_secrets;

/// Whether `c` steers a terminal, ends a line, or reorders the characters around it, instead of
/// being one that is read.
pub(crate) fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with every steering character escaped (`\n`, `\u{1b}`); all others stay as they are, so
/// that an ordinary name is printed as it is written.
///
/// Addresses keep no secrets: a password before `@`, a signature behind `?`.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    match without_secrets(text) {
        Cow::Owned(shown) => Cow::Owned(escaped(&shown, is_steering).into_owned()),
        Cow::Borrowed(text) => escaped(text, is_steering),
    }
}

/// A path for a message: as [`printable`], with U+FFFD for bytes that are no UTF-8, and `''` for one
/// that is empty.
pub(crate) fn path(path: impl AsRef<Path>) -> String {
    match &*path.as_ref().to_string_lossy() {
        "" => "''".into(),
        path => printable(path).into_owned(),
    }
}

/// A path for a machine: as it is, with U+FFFD for bytes that are no UTF-8, which JSON can't hold.
pub(crate) fn lossy(path: &Path) -> Cow<'_, str> {
    path.to_string_lossy()
}

/// A text of several lines for a person: as [`printable`], but line feeds end its lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && is_steering(c))
}

/// A name cut to at most 80 characters, and [`printable`].
pub(crate) fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", printable(&text[..end])),
        None => printable(text).into_owned(),
    }
}

/// A name out of an untrusted file, quoted, escaped and cut for a message of one line.
pub(crate) fn quoted(name: &str) -> String {
    const CHARS_MAX: usize = 120;
    match name.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// The bytes of a text file without its byte order mark.
///
/// # Errors
/// Where it is UTF-16.
pub(crate) fn without_byte_order_mark(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(rest),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err("its text is UTF-16; save it as UTF-8".into()),
        all => Ok(all),
    }
}

fn escaped(text: &str, steers: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&steers) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' if steers(c) => out.extend(c.escape_default()),
            c if steers(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_escaped_and_nothing_else() {
        let plain = "caf\u{e9}/e\u{301} 'a' \"b\" \\n 日本 \u{1f468}\u{200d}\u{1f469}.jpg";
        assert!(matches!(printable(plain), Cow::Borrowed(same) if same == plain));
        assert_eq!(printable("a\nb\r\tc"), "a\\nb\\r\\tc");
        assert_eq!(printable("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(printable("\u{9b}2J\u{7f}\0"), "\\u{9b}2J\\u{7f}\\u{0}");
        assert_eq!(printable("x\u{202e}gpj.exe\u{2028}"), "x\\u{202e}gpj.exe\\u{2028}");
        for c in ('\0'..=' ').chain('\u{7f}'..='\u{a0}') {
            let text = c.to_string();
            assert!(!printable(&text).contains(char::is_control), "{c:?}");
        }
    }

    #[test]
    fn lines_keep_their_ends() {
        assert_eq!(lines("one\ntwo\u{1b}[2J"), "one\ntwo\\u{1b}[2J");
    }

    #[test]
    fn paths_that_are_no_text_are_readable() {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"a\xFF\nb");
        assert_eq!(path(Path::new(name)), "a\u{fffd}\\nb");
        assert_eq!(path(""), "''");
    }

    #[test]
    fn long_names_are_cut_between_characters() {
        let name = "\u{e9}".repeat(80);
        assert_eq!(shorten(&name), name);
        assert_eq!(shorten(&format!("{name}x")), format!("{name}..."));
        assert_eq!(quoted("a\"\n"), "\"a\\\"\\n\"");
        assert_eq!(quoted(&"b".repeat(121)), format!("\"{}\"...", "b".repeat(120)));
    }
}
