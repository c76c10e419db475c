//! Owns what stands beside an image in its sample: label, caption, anything else as JSON. Must not
//! know: where it lies in the tar.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::notes::Notes;
use crate::data::source::container::fields::Fields;
use crate::data::source::image::Facts;
use crate::data::source::json;
use crate::data::source::names::{
    CAPTION_MEMBERS, FACT_BYTES_MAX, JSON_CAPTIONS, JSON_LABELS, LABEL_MEMBERS,
};
use crate::util::text::without_byte_order_mark;

/// The fields that hold JSON.
const JSON: [&str; 2] = ["json", "jsn"];

/// Which fields are read for what; of several the first one that has something.
#[derive(Debug)]
pub(super) struct Wanted {
    label: Names,
    caption: Names,
    pass: Vec<String>,
}

/// A fact's names as members' fields, in lower case, and as keys of the JSON object.
#[derive(Debug)]
struct Names {
    fields: Vec<String>,
    keys: Vec<String>,
}

impl Names {
    fn of(given: Option<&String>, fields: &[&str], keys: &[&str]) -> Names {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        match given {
            Some(name) => Names { fields: vec![name.to_lowercase()], keys: vec![name.clone()] },
            None => Names { fields: owned(fields), keys: owned(keys) },
        }
    }
}

impl Wanted {
    pub(super) fn new(fields: &Fields) -> Wanted {
        Wanted {
            label: Names::of(fields.label.as_ref(), LABEL_MEMBERS, JSON_LABELS),
            caption: Names::of(fields.caption.as_ref(), CAPTION_MEMBERS, JSON_CAPTIONS),
            pass: fields.pass.clone(),
        }
    }

    /// Whether members of this field are read.
    pub(super) fn reads(&self, field: &str) -> bool {
        let named = self.label.fields.iter().chain(&self.caption.fields);
        JSON.contains(&field)
            || named.into_iter().any(|name| name == field)
            || self.pass.iter().any(|name| name.to_lowercase() == field)
    }

    /// The facts in the members that were read, by their fields.
    pub(super) fn facts(&self, members: &BTreeMap<String, Vec<u8>>, notes: &mut Notes) -> Facts {
        let texts = texts(members, notes);
        let object = object(&texts, notes);
        let label = self.label.find(&texts, &object).map(|label| label.trim().to_owned());
        let caption = self.caption.find(&texts, &object);
        Facts {
            label: label.filter(|label| !label.is_empty()),
            caption,
            meta_json: self.meta_json(&texts, object, notes),
        }
    }

    /// The JSON object, and the fields to pass on.
    fn meta_json(
        &self,
        texts: &BTreeMap<&str, &str>,
        object: Option<Map<String, Value>>,
        notes: &mut Notes,
    ) -> Option<String> {
        let passed = self.pass.iter().filter_map(|name| {
            let text = texts.get(name.to_lowercase().as_str())?;
            Some((name.clone(), Value::from(*text)))
        });
        let passed: Vec<(String, Value)> = passed.collect();
        if object.is_none() && passed.is_empty() {
            return None;
        }
        let mut all = object.unwrap_or_default();
        all.extend(passed);
        let json = Value::Object(all).to_string();
        let fits = json.len() <= FACT_BYTES_MAX;
        notes.long_texts += u64::from(!fits);
        Some(json).filter(|_| fits)
    }
}

impl Names {
    fn find(
        &self,
        texts: &BTreeMap<&str, &str>,
        object: &Option<Map<String, Value>>,
    ) -> Option<String> {
        let text = self.fields.iter().find_map(|field| texts.get(field.as_str()));
        let key = || {
            let object = object.as_ref()?;
            self.keys.iter().find_map(|key| match object.get(key)? {
                Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            })
        };
        text.map(|text| (*text).to_owned()).or_else(key)
    }
}

/// The members that are text and not empty.
fn texts<'a>(
    members: &'a BTreeMap<String, Vec<u8>>,
    notes: &mut Notes,
) -> BTreeMap<&'a str, &'a str> {
    let mut texts = BTreeMap::new();
    for (field, bytes) in members {
        let bytes = without_byte_order_mark(bytes).ok();
        match bytes.and_then(|bytes| std::str::from_utf8(bytes).ok()) {
            Some("") => {}
            Some(text) => {
                texts.insert(field.as_str(), text);
            }
            None => notes.no_text += 1,
        }
    }
    texts
}

fn object(texts: &BTreeMap<&str, &str>, notes: &mut Notes) -> Option<Map<String, Value>> {
    JSON.iter().filter_map(|field| texts.get(field)).find_map(|text| {
        let object = match json::value(text.as_bytes()) {
            Ok(Value::Object(object)) => Some(object),
            _ => None,
        };
        notes.no_object += u64::from(object.is_none());
        object
    })
}
