//! Owns what the folders of a partitioned table say of all its rows: `label=cat/part-0.parquet`, as
//! Hive, Spark, pyarrow and DuckDB write them. Must not know: the table.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::data::source::container::fields::Fields;
use crate::data::source::image::Facts;
use crate::data::source::names::{CAPTIONS, LABELS, known_among};
use crate::data::source::uri;

/// What pyarrow and Hive write in place of null.
const NULL: &str = "__HIVE_DEFAULT_PARTITION__";

/// What a file's folders say.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Hive {
    label: Said,
    caption: Said,
    /// Those that are to be passed on.
    passed: Map<String, Value>,
}

/// A fact of all rows.
#[derive(Debug, Default, PartialEq)]
struct Said {
    value: Option<String>,
    /// Whether it was asked for by its name, so that no column of a usual name counts.
    named: bool,
}

impl Said {
    fn add(&self, fact: &mut Option<String>) {
        if self.named || fact.is_none() {
            fact.clone_from(&self.value);
        }
    }
}

impl Hive {
    /// Of the file `name`, below its INPUT. Columns that the table has itself, by `has`, count
    /// before folders. Also gives what is left to be found in the table.
    pub(super) fn of(name: &str, fields: &Fields, has: impl Fn(&str) -> bool) -> (Hive, Fields) {
        let folders = name.rsplit_once('/').map_or("", |(folders, _)| folders);
        let parts = folders.split('/').filter_map(|folder| folder.split_once('='));
        let parts: Vec<(&str, &str)> = parts.filter(|(name, _)| !has(name)).collect();
        let value = |wanted: &str| parts.iter().rev().find(|(name, _)| *name == wanted);
        let mut left = fields.clone();
        let fact = |named: &mut Option<String>, usual: &[&str]| {
            if let Some((_, value)) = named.as_deref().and_then(value) {
                *named = None;
                return Said { value: read(value), named: true };
            }
            let names = parts.iter().map(|(name, _)| *name);
            let found = known_among(names, usual).filter(|_| named.is_none());
            let found = found.filter(|_| !usual.iter().any(|name| has(name)));
            Said { value: found.and_then(|at| read(parts[at].1)), named: false }
        };
        let label = fact(&mut left.label, LABELS);
        let caption = fact(&mut left.caption, CAPTIONS);
        let passed = fields.pass.iter().filter_map(|name| Some((name.clone(), value(name)?.1)));
        let passed: Map<String, Value> = passed
            .map(|(name, text)| (name, read(text).map_or(Value::Null, Value::from)))
            .collect();
        left.pass.retain(|name| !passed.contains_key(name));
        (Hive { label, caption, passed }, left)
    }

    /// Adds it to what a row says.
    pub(super) fn add(&self, facts: &mut Facts) {
        self.label.add(&mut facts.label);
        self.caption.add(&mut facts.caption);
        if self.passed.is_empty() {
            return;
        }
        let known = facts.meta_json.as_deref().map(serde_json::from_str::<Map<String, Value>>);
        let mut all = known.and_then(Result::ok).unwrap_or_default();
        all.extend(self.passed.clone());
        facts.meta_json = Some(Value::Object(all).to_string());
    }
}

/// A folder's value, as it was before it became a folder's name.
fn read(value: &str) -> Option<String> {
    if value == NULL {
        return None;
    }
    let path: Option<PathBuf> = uri::to_path(&format!("file:///{value}"));
    let text = path.and_then(|path| Some(path.to_str()?.trim_start_matches('/').to_string()));
    Some(text.unwrap_or_else(|| value.to_string())).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, fields: &Fields, columns: &[&str]) -> (Facts, Fields) {
        let (hive, left) = Hive::of(name, fields, |name| columns.contains(&name));
        let mut facts = Facts::default();
        hive.add(&mut facts);
        (facts, left)
    }

    #[test]
    fn folders_say_what_columns_do_not() {
        let usual = Fields::default();
        let label = |name, columns: &[&str]| of(name, &usual, columns).0.label;
        assert_eq!(label("split=train/label=cat/0.parquet", &[]).as_deref(), Some("cat"));
        assert_eq!(label("label=sea%20lion%2Fpup/0.parquet", &[]).as_deref(), Some("sea lion/pup"));
        assert_eq!(label("label=cat/0.parquet", &["label"]), None, "the column counts");
        assert_eq!(label("label=cat/0.parquet", &["class"]), None);
        assert_eq!(label("label=__HIVE_DEFAULT_PARTITION__/0.parquet", &[]), None);
        assert_eq!(label("train/label=x.parquet", &[]), None, "a file's name is no folder's");
    }

    #[test]
    fn what_is_named_is_found_in_folders_too() {
        let fields = Fields {
            label: Some("kind".into()),
            pass: vec!["split".into(), "width".into()],
            ..Fields::default()
        };
        let named = Fields { label: Some("kind".into()), ..Fields::default() };
        let (hive, _) = Hive::of("kind=__HIVE_DEFAULT_PARTITION__/0.parquet", &named, |_| false);
        let mut facts = Facts { label: Some("of a column".into()), ..Facts::default() };
        hive.add(&mut facts);
        assert_eq!(facts.label, None, "what is named counts, whatever else there is");
        let (facts, left) = of("label=a/kind=b/split=val/0.parquet", &fields, &["width"]);
        assert_eq!(facts.label.as_deref(), Some("b"));
        assert_eq!(facts.meta_json.as_deref(), Some(r#"{"split":"val"}"#));
        assert_eq!(left, Fields { pass: vec!["width".into()], ..Fields::default() });
        // What nothing has is the table's to refuse.
        let (_, left) = of("split=val/0.parquet", &fields, &[]);
        assert_eq!(left.label.as_deref(), Some("kind"));
    }
}
