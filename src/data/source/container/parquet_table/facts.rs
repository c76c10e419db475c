//! Owns which columns of a table give an image's key, label, caption and meta_json, and what becomes
//! of their values. Must not know: where the images are.

use serde_json::{Map, Value};

use super::features::{Feature, Features};
use super::json::TEXT_MAX;
use super::side::SideColumn;
use super::table::Table;
use super::tree::{Column, Kind, Leaf};
use crate::data::source::container::fields::Fields;
use crate::data::source::image::Facts;
use crate::data::source::json;
use crate::data::source::names::{CAPTIONS, KEY_BYTES_MAX, KEYS, LABELS, known_among};
use crate::util::settings::{CAPTION_COLUMN, KEY_COLUMN, LABEL_COLUMN, PASS, Setting};
use crate::util::{numbers, text};

/// A webdataset's further fields.
const META: &str = "json";

/// The columns beside a table's images, and what was odd in them.
pub(super) struct FactColumns {
    key: Option<SideColumn>,
    label: Option<SideColumn>,
    /// Names of the label's numbers.
    classes: Vec<String>,
    caption: Option<SideColumn>,
    meta: Option<SideColumn>,
    passed: Vec<SideColumn>,
    /// A line for each column of a usual name that can't be what the name says.
    unfit: Vec<String>,
    odd: Odd,
}

/// Rows that are odd.
#[derive(Default)]
struct Odd {
    without_key: u64,
    without_class: u64,
    no_object: u64,
    long_meta: u64,
}

/// What stands beside one row's images.
pub(super) struct RowFacts {
    /// None where the row has none that can be one.
    pub(super) key: Option<String>,
    pub(super) facts: Facts,
}

impl FactColumns {
    /// Those that `fields` names, and else those of the usual names.
    ///
    /// # Errors
    /// What is wrong with a column that `fields` names, in a line without the file's name.
    pub(super) fn of(
        table: &Table,
        features: &Features,
        fields: &Fields,
    ) -> Result<FactColumns, String> {
        let key = chosen(table, KEY_COLUMN, &fields.key, KEYS, is_key)?;
        let label = chosen(table, LABEL_COLUMN, &fields.label, LABELS, is_label)?;
        let caption = chosen(table, CAPTION_COLUMN, &fields.caption, CAPTIONS, Column::is_text)?;
        let classes = match label.and_then(|label| features.of_column(&label.name)) {
            Some(Feature::Class(names)) => names.clone(),
            _ => Vec::new(),
        };
        let meta = table.column(META).filter(|column| {
            let is_struct = matches!(column.kind, Kind::Struct(_)) && column.not_json().is_none();
            is_struct || column.is_text()
        });
        let unfit = [
            (label.is_none()).then(|| unfit(table, LABELS, "labels", fields)),
            (caption.is_none()).then(|| unfit(table, CAPTIONS, "captions", fields)),
        ];
        let passed = fields.pass.iter().map(|name| passed(table, name));
        Ok(FactColumns {
            key: key.map(SideColumn::new),
            label: label.map(SideColumn::new),
            classes,
            caption: caption.map(SideColumn::new),
            meta: meta.filter(|meta| !fields.pass.contains(&meta.name)).map(SideColumn::new),
            passed: passed.collect::<Result<_, _>>()?,
            unfit: unfit.into_iter().flatten().flatten().collect(),
            odd: Odd::default(),
        })
    }

    fn all(&self) -> impl Iterator<Item = &SideColumn> {
        let single = [&self.key, &self.label, &self.caption, &self.meta];
        single.into_iter().flatten().chain(&self.passed)
    }

    /// Goes to a row group's first row.
    pub(super) fn enter(&mut self, table: &Table, group: usize) {
        let single = [&mut self.key, &mut self.label, &mut self.caption, &mut self.meta];
        let all = single.into_iter().flatten().chain(&mut self.passed);
        all.for_each(|column| column.enter(table, group));
    }

    /// What stands in the next row, whose number is `row`.
    pub(super) fn next(&mut self, table: &Table, row: u64) -> RowFacts {
        let key = self.key.as_mut().and_then(|column| {
            let key = key_of(column.next(table, row));
            self.odd.without_key += u64::from(key.is_none());
            key
        });
        let label = self.label.as_mut().map(|column| column.next(table, row));
        let caption = match self.caption.as_mut().map(|column| column.next(table, row)) {
            Some(Value::String(caption)) => Some(caption),
            _ => None,
        };
        let label = label.and_then(|label| self.label_of(label));
        let meta_json = self.meta_json(table, row);
        RowFacts { key, facts: Facts { label, caption, meta_json } }
    }

    fn label_of(&mut self, label: Value) -> Option<String> {
        let number = match label {
            Value::String(label) => return Some(label).filter(|label| !label.is_empty()),
            Value::Bool(label) => return Some(label.to_string()),
            Value::Number(number) => number,
            _ => return None,
        };
        if self.classes.is_empty() {
            return Some(number.to_string());
        }
        // `datasets` writes -1 where a class isn't known.
        if number.as_i64() == Some(-1) {
            return None;
        }
        let place = number.as_u64().and_then(|place| usize::try_from(place).ok());
        let name = place.and_then(|place| self.classes.get(place)).cloned();
        self.odd.without_class += u64::from(name.is_none());
        name
    }

    fn meta_json(&mut self, table: &Table, row: u64) -> Option<String> {
        let mut object = match self.meta.as_mut().map(|column| column.next(table, row)) {
            Some(Value::Object(object)) => object,
            Some(Value::String(text)) => match json::value(text.as_bytes()) {
                Ok(Value::Object(object)) => object,
                _ => {
                    self.odd.no_object += 1;
                    Map::new()
                }
            },
            _ => Map::new(),
        };
        for column in &mut self.passed {
            let value = column.next(table, row);
            object.insert(column.name().into(), value);
        }
        if object.is_empty() {
            return None;
        }
        let text = Value::Object(object).to_string();
        let short = text.len() <= TEXT_MAX;
        self.odd.long_meta += u64::from(!short);
        short.then_some(text)
    }

    /// What a user should know.
    pub(super) fn odd(&self) -> Vec<String> {
        let odd = &self.odd;
        let counts = [
            (odd.without_key, "without a key that can be one, called by their numbers"),
            (odd.without_class, "with a label beyond the names of the classes, taken for none"),
            (odd.no_object, "without a JSON object in column \"json\""),
            (odd.long_meta, "with a meta_json of more than 1 MiB, which was left out"),
        ];
        let counted = counts.into_iter().filter(|(count, _)| *count > 0);
        let counted =
            counted.map(|(count, what)| format!("{} {what}", numbers::counted(count, "row")));
        let unfit = self.unfit.iter().cloned();
        counted.chain(unfit).chain(self.all().flat_map(SideColumn::odd)).collect()
    }
}

/// What to know of a column that is called as `what` are and holds numbers, lists or the like;
/// structs and bytes may be images, and are nobody's label.
fn unfit(table: &Table, usual: &[&str], what: &str, fields: &Fields) -> Option<String> {
    let names = table.columns().iter().map(|column| column.name.as_str());
    let column = &table.columns()[known_among(names, usual)?];
    if column.not_json().is_some()
        || matches!(column.kind, Kind::Struct(_))
        || fields.pass.contains(&column.name)
    {
        return None;
    }
    let (name, words) = (text::quoted(&column.name), text::shorten(&column.words()));
    Some(format!("its column {name} holds {words}, which make no {what}; {PASS} takes it along"))
}

/// The column that a setting names, or else the first of the usual names that fits.
fn chosen<'a>(
    table: &'a Table,
    setting: Setting,
    given: &Option<String>,
    usual: &[&str],
    fits: fn(&Column) -> bool,
) -> Result<Option<&'a Column>, String> {
    let Some(name) = given else {
        let columns = table.columns().iter().filter(|column| fits(column));
        let found = known_among(columns.clone().map(|column| column.name.as_str()), usual);
        return Ok(found.and_then(|at| columns.clone().nth(at)));
    };
    let column = named(table, name, setting)?;
    if fits(column) {
        return Ok(Some(column));
    }
    let (name, words) = (text::quoted(name), text::shorten(&column.words()));
    Err(format!("its column {name} holds {words}, which make no {setting}"))
}

fn named<'a>(table: &'a Table, name: &str, setting: Setting) -> Result<&'a Column, String> {
    let missing = || format!("it has no column {}, which {setting} names", text::quoted(name));
    table.column(name).ok_or_else(missing)
}

fn passed(table: &Table, name: &str) -> Result<SideColumn, String> {
    let column = named(table, name, PASS)?;
    match column.not_json() {
        None => Ok(SideColumn::new(column)),
        Some(what) => Err(format!(
            "its column {} holds {what}, which have no place in meta_json; leave it out of {PASS}",
            text::quoted(name)
        )),
    }
}

fn is_key(column: &Column) -> bool {
    column.is_text() || column.is_whole_number()
}

fn is_label(column: &Column) -> bool {
    is_key(column) || matches!(column.leaf(), Some(Leaf::Bool | Leaf::Float | Leaf::Half))
}

fn key_of(value: Value) -> Option<String> {
    let key = match value {
        Value::String(key) => key,
        Value::Number(key) => key.to_string(),
        _ => return None,
    };
    (!key.is_empty() && key.len() < KEY_BYTES_MAX).then_some(key)
}
