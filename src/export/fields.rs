//! Owns which fields a row of JSON lines has, and what they are called.

use std::str::FromStr;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    ClassId,
    Tokens,
    Key,
    Label,
    Caption,
    GridHeight,
    GridWidth,
}

/// By what they are asked for.
const FIELDS: [(&str, Field); 7] = [
    ("class_id", Field::ClassId),
    ("tokens", Field::Tokens),
    ("key", Field::Key),
    ("label", Field::Label),
    ("caption", Field::Caption),
    ("grid_height", Field::GridHeight),
    ("grid_width", Field::GridWidth),
];

/// Fields in order, with their names.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    fields: Vec<(Field, String)>,
    /// As they were written.
    text: String,
}

impl Fields {
    pub(super) fn iter(&self) -> impl Iterator<Item = (Field, &str)> {
        self.fields.iter().map(|(field, name)| (*field, name.as_str()))
    }

    /// What a field is called, where it is among them.
    pub(super) fn name_of(&self, field: Field) -> Option<&str> {
        self.iter().find(|(other, _)| *other == field).map(|(_, name)| name)
    }

    /// As they were written.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl Default for Fields {
    /// What 1d-tokenizer reads.
    fn default() -> Fields {
        let fields =
            vec![(Field::ClassId, "class_id".to_string()), (Field::Tokens, "tokens".to_string())];
        Fields { fields, text: "class_id,tokens".into() }
    }
}

impl FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Fields, String> {
        let mut fields: Vec<(Field, String)> = Vec::new();
        for part in text.split(',') {
            let (what, name) = part.split_once(':').unwrap_or((part, part));
            let Some((_, field)) = FIELDS.iter().find(|(known, _)| *known == what) else {
                let known: Vec<_> = FIELDS.iter().map(|(known, _)| *known).collect();
                return Err(format!("'{what}' is none of {}", known.join(", ")));
            };
            if name.is_empty() {
                return Err(format!("'{part}' has no name behind its colon"));
            }
            if fields.iter().any(|(other, called)| other == field || called == name) {
                return Err(format!("'{part}' is there already"));
            }
            fields.push((*field, name.to_string()));
        }
        match fields.iter().any(|(field, _)| *field == Field::Tokens) {
            true => Ok(Fields { fields, text: text.to_string() }),
            false => Err("tokens must be among them".into()),
        }
    }
}
