//! Owns which column of a table is what. Must not know: the table's format.

use serde_json::{Map, Value};

use super::names::IMAGE;
use super::row::{NOT_UTF8, Row, facts};
use crate::data::source::container::fields::Fields;
use crate::data::source::container::odd::Oddities;
use crate::data::source::names::{CAPTIONS, KEYS, LABELS, known_among};
use crate::util::settings::IMAGE_COLUMN;
use crate::util::text;

/// Which columns of a table are taken for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Columns {
    image: usize,
    key: Option<usize>,
    label: Option<usize>,
    caption: Option<usize>,
    pass: Vec<(String, usize)>,
}

impl Columns {
    /// Finds them by their names; of two that are called the same the first is taken.
    ///
    /// # Errors
    /// One that is asked for is missing; none names images: one line, the table not named in it.
    pub(crate) fn of(
        names: &[String],
        fields: &Fields,
        odd: &mut Oddities,
    ) -> Result<Columns, String> {
        let there = || text::shorten(&names.join(", "));
        let exactly = |asked: &String| {
            let found = names.iter().position(|name| name == asked);
            found.ok_or_else(|| {
                format!("it has no column {}, only {}", text::quoted(asked), there())
            })
        };
        let find = |asked: &Option<String>, known: &[&str]| match asked {
            Some(asked) => exactly(asked).map(Some),
            None => Ok(known_among(names.iter().map(String::as_str), known)),
        };
        let image = find(&fields.image, IMAGE)?.ok_or_else(|| {
            format!(
                "none of its columns is known to name images; {IMAGE_COLUMN} says which one does. It \
                 has {}, and looked for are {}",
                there(),
                IMAGE.join(", ")
            )
        })?;
        for (at, name) in names.iter().enumerate() {
            if names[..at].contains(name) {
                odd.note("columns of the same name; the first one is taken", name);
            }
        }
        let passed = |name: &String| Ok((name.clone(), exactly(name)?));
        Ok(Columns {
            image,
            key: find(&fields.key, KEYS)?,
            label: find(&fields.label, LABELS)?,
            caption: find(&fields.caption, CAPTIONS)?,
            pass: fields.pass.iter().map(passed).collect::<Result<_, String>>()?,
        })
    }

    /// Those of a table without names: an image, and what stands beside it where that is one column.
    pub(super) fn unnamed(image: usize, label: Option<usize>, caption: Option<usize>) -> Columns {
        Columns { image, key: None, label, caption, pass: Vec::new() }
    }

    /// What a row says; `cell` gives the bytes in a column, None for null, and `place` names the
    /// row. An empty cell is one without a value; `NA` is a text.
    pub(crate) fn row<'a>(
        &self,
        cell: impl Fn(usize) -> Option<&'a [u8]>,
        place: &str,
        odd: &mut Oddities,
    ) -> Row {
        let mut word = |at: usize| {
            let bytes = cell(at).filter(|bytes| !bytes.trim_ascii().is_empty())?;
            let text = std::str::from_utf8(bytes);
            if text.is_err() {
                odd.note(NOT_UTF8, place);
            }
            text.ok().map(str::to_string)
        };
        let (key, label) = (self.key.and_then(&mut word), self.label.and_then(&mut word));
        let caption = self.caption.and_then(&mut word);
        let passed = |(name, at): &(String, usize)| {
            (name.clone(), word(*at).map_or(Value::Null, Value::String))
        };
        let meta: Map<String, Value> = self.pass.iter().map(passed).collect();
        let image = cell(self.image).unwrap_or_default().to_vec();
        Row { image: Ok(image), key, facts: facts(label, caption, meta, place, odd) }
    }
}
