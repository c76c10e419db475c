//! Owns what the `huggingface` metadata of a Parquet file says of its columns. Must not know: which
//! column is taken for what.

use std::collections::BTreeMap;

use parquet::arrow::parquet_to_arrow_schema;
use serde_json::Value;

use super::table::Table;
use crate::util::parquet_errors::{reading, told};

/// What `datasets` takes a column for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Feature {
    /// An image, or a list of them.
    Image,
    /// A class, by its number in these names.
    Class(Vec<String>),
    /// Sound, video and others, which are stored as images are.
    OtherMedia,
}

/// The columns of which the metadata says more than their types do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Features(BTreeMap<String, Feature>);

impl Features {
    /// Those of a file; none where its metadata has none, or is no such JSON.
    pub(super) fn of(table: &Table) -> Features {
        const KEY: &str = "huggingface";
        let entry = table.entry(KEY).map(str::to_owned);
        let text = entry.or_else(|| arrow_entry(table, KEY)).unwrap_or_default();
        let metadata: Value = serde_json::from_str(&text).unwrap_or_default();
        let features = metadata.pointer("/info/features").and_then(Value::as_object);
        let known = features.into_iter().flatten();
        Features(known.filter_map(|(name, told)| Some((name.clone(), feature(told)?))).collect())
    }

    pub(super) fn of_column(&self, name: &str) -> Option<&Feature> {
        self.0.get(name)
    }
}

/// An entry of the Arrow schema that stands in the metadata.
fn arrow_entry(table: &Table, key: &str) -> Option<String> {
    table.entry("ARROW:schema")?;
    let metadata = table.metadata().file_metadata();
    let schema = reading(|| {
        parquet_to_arrow_schema(metadata.schema_descr(), metadata.key_value_metadata())
            .map_err(told)
    });
    schema.ok()?.metadata().get(key).cloned()
}

fn feature(told: &Value) -> Option<Feature> {
    // Before `List` there was a plain list of one.
    if let Value::Array(only) = told {
        return feature(only.first()?).filter(|inner| !matches!(inner, Feature::Class(_)));
    }
    match told.get("_type")?.as_str()? {
        "Image" => Some(Feature::Image),
        "ClassLabel" => {
            let names = told.get("names")?.as_array()?;
            Some(Feature::Class(
                names.iter().map(|n| Some(n.as_str()?.into())).collect::<Option<_>>()?,
            ))
        }
        "List" | "LargeList" | "Sequence" => {
            feature(told.get("feature")?).filter(|inner| !matches!(inner, Feature::Class(_)))
        }
        "Audio" | "Video" | "Pdf" | "Nifti" => Some(Feature::OtherMedia),
        _ => None,
    }
}
