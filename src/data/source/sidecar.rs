//! Owns what files beside an image say of it: `x.txt`, `x.caption` and `x.json` beside `x.jpg`, as
//! img2dataset, trainers of captioned images and annotation tools write them. Must not know: whether
//! they lie in a folder or in an archive.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use serde_json::Value;

use super::container::fields::Fields;
use super::container::odd::Oddities;
use super::image::Facts;
use super::names::{FACT_BYTES_MAX, JSON_CAPTIONS, JSON_LABELS};
use super::{json, uri};
use crate::storage::{self, Coming};
use crate::util::text;

/// Largest file that is read, and longest text of a fact.
pub(crate) const BYTES_MAX: u64 = FACT_BYTES_MAX as u64;

/// What a file beside an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Text,
    Caption,
    Json,
}

impl Side {
    /// In the order in which they are asked: the first caption is taken.
    pub(crate) const ALL: [Side; 3] = [Side::Text, Side::Caption, Side::Json];

    /// The kind that an extension (any case) says.
    pub(crate) fn of(extension: &[u8]) -> Option<Side> {
        Side::ALL
            .into_iter()
            .find(|side| side.extension().as_bytes().eq_ignore_ascii_case(extension))
    }

    fn extension(self) -> &'static str {
        match self {
            Side::Text => "txt",
            Side::Caption => "caption",
            Side::Json => "json",
        }
    }

    /// The spellings that are looked for: `txt`, `TXT`, `Txt`.
    fn spellings(self) -> [String; 3] {
        let lower = self.extension();
        let capital = format!("{}{}", lower[..1].to_ascii_uppercase(), &lower[1..]);
        [lower.to_string(), lower.to_ascii_uppercase(), capital]
    }
}

/// What the files beside the image file `path` say of it; `has` knows the names in its folder, `read`
/// gives their bytes, `fields` says which of them are asked for.
pub(crate) fn facts_beside(
    path: &Path,
    has: impl Fn(&OsStr) -> bool,
    mut read: impl FnMut(&Path) -> io::Result<Vec<u8>>,
    fields: &Fields,
    odd: &mut Oddities,
) -> Facts {
    let mut facts = Facts::default();
    let Some(stem) = path.file_stem() else { return facts };
    for side in Side::ALL {
        let mut names = side.spellings().into_iter().map(|extension| {
            let mut name = OsString::from(stem);
            name.push(".");
            name.push(extension);
            name
        });
        let Some(name) = names.find(|name| has(name) && Some(name.as_os_str()) != path.file_name())
        else {
            continue;
        };
        let place = uri::readable(name.as_encoded_bytes());
        match read(&path.with_file_name(&name)) {
            Ok(bytes) => take(side, &bytes, &place, fields, &mut facts, odd),
            Err(_) => odd.note(UNREADABLE, &place),
        }
    }
    facts
}

/// What there is to say of files beside images that give nothing.
pub(crate) const UNREADABLE: &str = "files beside images that can't be read are left out";
const TOO_LARGE: &str = "files beside images with more than 1048576 bytes are left out";
const NUMBERS: &str =
    "texts beside images that hold nothing but numbers, as box labels do, are no captions";
const NOT_TEXT: &str = "texts beside images that are not UTF-8 are left out";
const NOT_AN_OBJECT: &str = "JSON files beside images that hold no JSON object are left out";

/// Whether a file is named as those are that say something of an image.
pub(crate) fn is_side(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| Side::of(extension.as_encoded_bytes()).is_some())
}

/// At most one byte more than is taken, so that a larger one shows.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    storage::read_head(path, BYTES_MAX + 1)
}

/// Asks a store for the same.
pub(crate) fn begin(path: &Path) -> Coming {
    storage::begin_head(path, BYTES_MAX + 1)
}

/// What [`read`] would have given.
///
/// # Errors
/// As the store says.
pub(crate) fn arrived(coming: Coming) -> io::Result<Vec<u8>> {
    storage::arrived_head(coming)
}

/// Takes what a file beside an image says; what is there already stays. A caption or label that
/// `fields` names is looked for in the file of this extension and in the JSON object, nowhere else.
pub(crate) fn take(
    side: Side,
    bytes: &[u8],
    place: &str,
    fields: &Fields,
    facts: &mut Facts,
    odd: &mut Oddities,
) {
    let named = |name: &String| name.eq_ignore_ascii_case(side.extension());
    if bytes.len() as u64 > BYTES_MAX {
        odd.note(TOO_LARGE, place);
    } else if side == Side::Json {
        take_json(bytes, place, fields, facts, odd);
    } else if facts.caption.is_none() && fields.caption.as_ref().is_none_or(named) {
        facts.caption = caption(bytes, place, odd);
    }
}

/// None for an empty one: img2dataset writes that where there is none.
fn caption(bytes: &[u8], place: &str, odd: &mut Oddities) -> Option<String> {
    let bytes = text::without_byte_order_mark(bytes).unwrap_or(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        odd.note(NOT_TEXT, place);
        return None;
    };
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    if text.split_whitespace().all(is_number) {
        odd.note(NUMBERS, place);
        return None;
    }
    Some(text.to_string())
}

/// `0.5`, `-1e-3`; not `nan`, which is a word.
fn is_number(word: &str) -> bool {
    word.contains(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok()
}

/// The whole object, and its caption and label where they aren't known otherwise.
fn take_json(bytes: &[u8], place: &str, fields: &Fields, facts: &mut Facts, odd: &mut Oddities) {
    let bytes = text::without_byte_order_mark(bytes).unwrap_or(bytes);
    let Ok(Value::Object(object)) = json::value(bytes) else {
        odd.note(NOT_AN_OBJECT, place);
        return;
    };
    let first = |named: &Option<String>, usual: &[&str]| match named {
        Some(name) => scalar(object.get(name)?),
        None => usual.iter().find_map(|name| scalar(object.get(*name)?)),
    };
    facts.caption = facts.caption.take().or_else(|| first(&fields.caption, JSON_CAPTIONS));
    facts.label = facts.label.take().or_else(|| first(&fields.label, JSON_LABELS));
    let compact = Value::Object(object).to_string();
    if compact.len() as u64 > BYTES_MAX {
        odd.note(TOO_LARGE, place);
    } else {
        facts.meta_json = Some(compact);
    }
}

/// A value as a fact: text that isn't blank, a number, a truth.
pub(crate) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if text.trim().is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
