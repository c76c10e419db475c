//! Owns the words for TOML that is no recipe.

use crate::util::error_text;

/// toml's message without its drawing: what, at which line.
pub(super) fn one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error_text::plain(error.message()).replace('\n', " ");
    let Some(span) = error.span() else { return message };
    let before = &text[..span.start];
    let line = 1 + before.matches('\n').count();
    match setting(before) {
        Some(name) => format!("line {line}, {name}: {message}"),
        None => format!("line {line}: {message}"),
    }
}

/// The setting whose value begins behind `before`.
fn setting(before: &str) -> Option<&str> {
    let line = before.rsplit('\n').next()?.trim_end().strip_suffix('=')?;
    let name = line.rsplit(['{', ',']).next()?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}
