//! Owns what a row of a list says, whatever the list's format. Must not know: where its image lies.

use serde_json::{Map, Value};

use super::names::IMAGE;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::Facts;
use crate::data::source::names::{CAPTIONS, KEYS, LABELS};
use crate::data::source::sidecar::{BYTES_MAX, scalar};
use crate::util::text;

pub(super) const NOT_UTF8: &str =
    "labels, captions or other fields that are not UTF-8 are left out";
const TOO_LARGE: &str = "labels, captions or other fields of more than 1048576 bytes are left out";
const NO_TEXT: &str = "labels or captions that are neither text nor a number are left out";

/// What a row says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// The image's path or address as it is written, or why there is none.
    pub(crate) image: Result<Vec<u8>, String>,
    /// Its name, where the row gives one.
    pub(crate) key: Option<String>,
    pub(crate) facts: Facts,
}

impl Row {
    /// What an object of JSON says; `place` names the row.
    pub(super) fn of_object(
        object: &Map<String, Value>,
        fields: &Fields,
        place: &str,
        odd: &mut Oddities,
    ) -> Row {
        let long_key =
            find(object, fields.key.as_deref(), KEYS).filter(|(_, key)| has_lost_digits(key));
        let image = match find(object, fields.image.as_deref(), IMAGE) {
            _ if long_key.is_some() => {
                Err("its key is a number that is too large to be read without \
                                            losing digits; write it in quotes"
                    .into())
            }
            Some((_, Value::String(path))) => Ok(path.clone().into_bytes()),
            Some((name, other)) => Err(format!(
                "its field {} holds {} where a path belongs",
                text::quoted(name),
                kind(other)
            )),
            None => Err(match &fields.image {
                Some(name) => format!("it has no field {}", text::quoted(name)),
                None => {
                    format!("it has none of the fields that name an image: {}", IMAGE.join(", "))
                }
            }),
        };
        let mut fact = |asked: &Option<String>, known| {
            let (_, value) = find(object, asked.as_deref(), known)?;
            if value.is_array() || value.is_object() {
                odd.note(NO_TEXT, place);
            }
            scalar(value)
        };
        let key = fact(&fields.key, KEYS);
        let (label, caption) = (fact(&fields.label, LABELS), fact(&fields.caption, CAPTIONS));
        let passed =
            |name: &String| (name.clone(), object.get(name).cloned().unwrap_or(Value::Null));
        let meta = fields.pass.iter().map(passed).collect();
        Row { image, key, facts: facts(label, caption, meta, place, odd) }
    }
}

/// Whether a number is one of more than 64 bits, of which nobody knows the last digits any more.
fn has_lost_digits(value: &Value) -> bool {
    let number = value.as_f64().filter(|_| value.is_f64());
    number.is_some_and(|number| number.abs() >= i64::MAX as f64)
}

/// The facts of a row, each of them bounded.
pub(super) fn facts(
    label: Option<String>,
    caption: Option<String>,
    meta: Map<String, Value>,
    place: &str,
    odd: &mut Oddities,
) -> Facts {
    let meta = (!meta.is_empty()).then(|| Value::Object(meta).to_string());
    let mut bounded = |text: Option<String>| {
        let fits = text.as_ref().is_none_or(|text| text.len() as u64 <= BYTES_MAX);
        if !fits {
            odd.note(TOO_LARGE, place);
        }
        text.filter(|_| fits)
    };
    Facts { label: bounded(label), caption: bounded(caption), meta_json: bounded(meta) }
}

/// The field that was asked for, or the first of the known ones (any case) that isn't null.
fn find<'a>(
    object: &'a Map<String, Value>,
    asked: Option<&str>,
    known: &[&str],
) -> Option<(&'a String, &'a Value)> {
    let present = |found: &(&String, &Value)| !found.1.is_null();
    if let Some(name) = asked {
        return object.get_key_value(name).filter(present);
    }
    let named = |known: &&str| {
        object.iter().filter(present).find(|(name, _)| name.eq_ignore_ascii_case(known))
    };
    known.iter().find_map(named)
}

/// A kind of JSON values in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
