//! Owns what other people's error messages become before a user sees them: the system's without
//! their numbers, those of TOML and JSON readers without Rust's names of types.

use std::borrow::Cow;
use std::io;

use crate::util::text;

/// A message without the system's numbers and Rust's names of types.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    let mut plain = Cow::Borrowed(text);
    while let Some((start, end)) = number_of_system(&plain) {
        plain.to_mut().replace_range(start..end, "");
    }
    for (theirs, ours) in REPLACED {
        if plain.contains(theirs) {
            plain = Cow::Owned(plain.replace(theirs, ours));
        }
    }
    if let Some(better) = names_in_words(&plain).or_else(|| types_in_words(&plain)) {
        plain = Cow::Owned(better);
    }
    plain
}

/// The system's reason in words alone: a file in a folder's place, or the other way round, is told
/// as that, and error numbers are left out.
pub(crate) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::IsADirectory => "it is a folder, where a file is needed".into(),
        io::ErrorKind::NotADirectory => "a file stands where a folder is needed".into(),
        io::ErrorKind::AlreadyExists => "something else of this name is in the way".into(),
        io::ErrorKind::QuotaExceeded => "No space left on device for this user".into(),
        _ if error.raw_os_error() == Some(libc::EMFILE) => {
            "too many open files; raise the limit with `ulimit -n`".into()
        }
        _ => text::printable(&plain(&error.to_string())).into_owned(),
    }
}

/// Phrases of Rust's and of libraries', and what a user would say.
const REPLACED: [(&str, &str); 11] = [
    ("Parquet error: ", ""),
    ("stream did not contain valid UTF-8", "it is not text (UTF-8)"),
    ("invalid digit found in string", "a whole number belongs here"),
    ("cannot parse integer from empty string", "a whole number belongs here"),
    ("invalid float literal", "a number belongs here"),
    ("cannot parse float from empty string", "a number belongs here"),
    ("number too large to fit in target type", "the number is too large"),
    ("number too small to fit in target type", "the number is too small"),
    (" is not in 0..=", " is not from 0 to "),
    ("wanted string or table", "text belongs here"),
    ("failed to fill whole buffer", "it ends too early"),
];

/// serde's words about names: ``unknown field `a`, expected one of `b`, `c` ``.
fn names_in_words(text: &str) -> Option<String> {
    if let Some((before, rest)) = text.split_once("missing field `") {
        let (name, after) = rest.split_once('`')?;
        return Some(format!("{before}the setting `{name}` is missing{after}"));
    }
    if let Some((before, rest)) = text.split_once("duplicate field `") {
        let (name, after) = rest.split_once('`')?;
        return Some(format!("{before}the setting `{name}` is given twice{after}"));
    }
    let kinds = [("unknown field `", "there is no setting"), ("unknown variant `", "there is no")];
    let (theirs, ours) = kinds.iter().find(|(theirs, _)| text.contains(theirs))?;
    let (before, rest) = text.split_once(theirs)?;
    // The name is the user's own, and may hold anything.
    if let Some(end) = rest.rfind("`, expected ") {
        let known = &rest[end + "`, expected ".len()..];
        let known = known.strip_prefix("one of ").unwrap_or(known);
        return Some(format!("{before}{ours} `{}`; use {known}", &rest[..end]));
    }
    let end = rest.rfind("`, there are no")?;
    Some(format!("{before}{ours} `{}`; nothing is set here", &rest[..end]))
}

/// The place of ` (os error 21)`.
fn number_of_system(text: &str) -> Option<(usize, usize)> {
    const OPEN: &str = " (os error ";
    let mut from = 0;
    while let Some(start) = text[from..].find(OPEN).map(|at| from + at) {
        let digits = start + OPEN.len();
        let close = text[digits..].find(')').map(|at| digits + at)?;
        if text[digits..close].bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            return Some((start, close + 1));
        }
        from = digits;
    }
    None
}

/// serde's `invalid type: string "a", expected usize` as `the text "a" where a whole number (0 or
/// more) belongs`.
fn types_in_words(text: &str) -> Option<String> {
    if let Some((before, after)) =
        text.split_once("data did not match any variant of untagged enum ")
    {
        let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
        return Some(
            format!("{before}none of the forms that are allowed here {rest}").trim().into(),
        );
    }
    let kinds = ["invalid type: ", "invalid value: ", "invalid length "];
    let (start, kind) = kinds.iter().find_map(|kind| Some((text.find(kind)?, *kind)))?;
    let told = &text[start + kind.len()..];
    // The last one: the text before it may be the user's own.
    let (found, wanted) = told.rsplit_once(", expected ")?;
    // serde_json's place stands behind the type.
    let (wanted, place) = match wanted.find(" at line ") {
        Some(at) => wanted.split_at(at),
        None => (wanted, ""),
    };
    let found = match kind {
        "invalid length " => format!("{found} values"),
        _ => found_in_words(found),
    };
    let wanted = wanted_in_words(wanted);
    let before = &text[..start];
    Some(format!("{before}{found} where {wanted} belongs{place}"))
}

fn found_in_words(found: &str) -> String {
    let number = ["integer ", "floating point "].iter().find_map(|kind| found.strip_prefix(kind));
    if let Some(number) = number {
        // `99` as i128, where it is larger than any type that is asked for.
        let number = number.split("` as ").next().unwrap_or(number);
        return format!("the number {}", short_number(number.trim_matches('`')));
    }
    for (theirs, ours) in [("string ", "the text "), ("boolean ", ""), ("character ", "")] {
        if let Some(rest) = found.strip_prefix(theirs) {
            return format!("{ours}{}", text::shorten(rest.trim_matches('`')));
        }
    }
    let words = match found {
        "sequence" => "a list",
        "map" | "Option value" | "newtype struct" => "a table",
        "null" | "unit value" | "Option value None" => "nothing",
        "byte array" => "bytes",
        other => other,
    };
    words.to_string()
}

/// A number with as many digits as are read.
fn short_number(number: &str) -> String {
    const DIGITS_MAX: usize = 20;
    match number.parse::<f64>() {
        Ok(value) if number.len() > DIGITS_MAX => format!("{value:e}"),
        _ => text::shorten(number),
    }
}

fn wanted_in_words(wanted: &str) -> String {
    let words = match wanted {
        "usize" | "u128" | "u64" => "a whole number (0 or more)",
        "u32" => "a whole number from 0 to 4294967295",
        "u16" => "a whole number from 0 to 65535",
        "u8" => "a whole number from 0 to 255",
        "isize" | "i128" | "i64" | "i32" | "i16" | "i8" => "a whole number",
        "f64" | "f32" => "a number",
        "bool" | "a boolean" => "true or false",
        "a string" | "string" | "str" | "a borrowed string" => "text",
        "a sequence" => "a list",
        "a map" => "a table",
        "unit" | "null" => "nothing",
        "variant identifier" | "variant of enum" => "one of the known names",
        _ => "",
    };
    if !words.is_empty() {
        return words.to_string();
    }
    if let Some(count) = ["a tuple of size ", "an array of length ", "an array of size "]
        .iter()
        .find_map(|begin| wanted.strip_prefix(begin))
    {
        return format!("a list of {count} values");
    }
    let named = |begin: &str| wanted.starts_with(begin);
    if named("tuple struct ") || named("tuple variant ") {
        return "a list".into();
    }
    if named("internally tagged enum ") || named("adjacently tagged enum ") {
        return "a table with its kind".into();
    }
    if named("struct ") || named("struct variant ") {
        return "a table".into();
    }
    if named("enum ") || named("variant ") || named("unit variant ") {
        return "one of the known names".into();
    }
    wanted.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_the_system_are_words() {
        let told = |number| reason(&io::Error::from_raw_os_error(number));
        assert_eq!(told(libc::EISDIR), "it is a folder, where a file is needed");
        assert_eq!(told(libc::ENOTDIR), "a file stands where a folder is needed");
        assert_eq!(told(libc::ENOENT), "No such file or directory");
        assert_eq!(told(libc::ENOSPC), "No space left on device");
        assert_eq!(reason(&io::Error::other("cut\nshort")), "cut\\nshort");
    }

    #[test]
    fn numbers_of_the_system_go_and_everything_else_stays() {
        let nested = "External: a (os error 5), b (os error 28) (os error x)";
        assert_eq!(plain(nested), "External: a, b (os error x)");
        for same in ["", "three (os error", "a file called (os error 3", "expected more"] {
            assert!(matches!(plain(same), Cow::Borrowed(text) if text == same), "{same}");
        }
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    #[allow(dead_code)]
    struct Table {
        steps: usize,
        side: u32,
        share: f64,
        on: bool,
        name: String,
        pair: (f64, f64),
        kind: Kind,
        within: Option<Within>,
    }

    #[derive(Debug, serde::Deserialize)]
    struct Within {}

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Kind {
        Plain,
    }

    fn assert_said(line: &str, said: &str) {
        let error = toml::from_str::<Table>(line).unwrap_err();
        assert_eq!(plain(error.message()), said, "{line}: {}", error.message());
    }

    #[test]
    fn types_are_told_in_words() {
        for (line, said) in [
            ("steps = \"a\"", "the text \"a\" where a whole number (0 or more) belongs"),
            ("steps = -1", "the number -1 where a whole number (0 or more) belongs"),
            ("steps = 1.5", "the number 1.5 where a whole number (0 or more) belongs"),
            ("steps = 1e300", "the number 1e300 where a whole number (0 or more) belongs"),
            ("steps = []", "a list where a whole number (0 or more) belongs"),
            ("side = -1", "the number -1 where a whole number from 0 to 4294967295 belongs"),
            ("share = \"x, expected y\"", "the text \"x, expected y\" where a number belongs"),
            ("on = 1", "the number 1 where true or false belongs"),
            ("name = true", "true where text belongs"),
            ("pair = [1.0]", "1 values where a list of 2 values belongs"),
            ("pair = 3", "the number 3 where a list of 2 values belongs"),
            ("within = 2020", "the number 2020 where a table belongs"),
            (
                "steps = 99999999999999999999",
                "the number 99999999999999999999 where a whole number (0 or more) belongs",
            ),
        ] {
            assert_said(line, said);
        }
        let error = serde_json::from_str::<Table>("{\"steps\": null}").unwrap_err().to_string();
        let said = plain(&error);
        assert!(
            said.starts_with("nothing where a whole number (0 or more) belongs at line 1"),
            "{said}"
        );
    }

    #[test]
    fn names_that_are_unknown_or_missing_are_told_in_words() {
        assert_said(
            "colour = 3",
            "there is no setting `colour`; use `steps`, `side`, `share`, `on`, `name`, `pair`, \
             `kind`, `within`",
        );
        assert_said("kind = \"x`, y\"", "there is no `x`, y`; use `plain`");
        assert_said("steps = 3", "the setting `side` is missing");
    }
}
