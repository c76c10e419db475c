//! Owns JSON lines: one object a row, by default the `class_id` and `tokens` that 1d-tokenizer's RAR
//! reads. Must not know: how files get their names.

use serde_json::{Map, Value};

use crate::error::Result;
use crate::export::fields::{Field, Fields};
use crate::export::format::{Encoded, Facts, Format, Part, Place};
use crate::export::ids::Ids;
use crate::export::json;
use crate::export::part::Stream;
use crate::export::row::Row;

pub(super) struct Jsonl {
    ids: Ids,
    fields: Fields,
}

impl Jsonl {
    pub(super) fn of(facts: &Facts) -> Jsonl {
        Jsonl { ids: facts.ids.clone(), fields: facts.fields.clone() }
    }
}

impl Format for Jsonl {
    fn encode(&self, row: &Row) -> Encoded {
        let ids = self.ids.sequence(row);
        let (mut object, count) = (Map::new(), ids.len());
        let mut ids = Some(ids);
        for (field, name) in self.fields.iter() {
            let value = match field {
                Field::Key => row.key.clone().into(),
                Field::ClassId => row.class.into(),
                Field::Label => row.label.clone().into(),
                Field::Caption => row.caption.clone().into(),
                Field::GridHeight => row.height.into(),
                Field::GridWidth => row.width.into(),
                Field::Tokens => ids.take().into(),
            };
            object.insert(name.to_string(), value);
        }
        let mut bytes = json::dumps(&Value::from(object));
        bytes.push(b'\n');
        Encoded { bytes, ids: count }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        Ok(Box::new(Stream::create(place.folder, "tokens.jsonl", |_| Vec::new())?))
    }

    fn gives_class(&self) -> bool {
        self.fields.name_of(Field::ClassId).is_some() || self.ids.class_first.is_some()
    }

    fn gives_sides(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn lines_are_those_of_1d_tokenizer() {
        let Some(rows) = testing::golden() else { return };
        let format = Jsonl::of(&testing::facts(&rows, |_| ()));
        testing::assert_made(&format, 0, &rows, &["onedtok/pretokenized.jsonl"]);
    }

    #[test]
    fn fields_are_chosen_named_and_in_order() {
        let Some(rows) = testing::golden() else { return };
        let fields: Fields = "caption:text,tokens:vq_code,key".parse().unwrap();
        let format = Jsonl::of(&testing::facts(&rows, |s| s.fields = Some(fields)));
        let line = String::from_utf8(format.encode(&rows[3]).bytes).unwrap();
        assert!(line.starts_with("{\"text\": \"two\\nlines\", \"vq_code\": [12295, "), "{line}");
        assert!(line.ends_with(", 16150], \"key\": \"dog/\\u00e9t\\u00e9.png\"}\n"), "{line}");
    }
}
