//! Owns MosaicML Streaming's shards, MDS, with `index.json`. Must not know: how files get their names.

use serde_json::{Map, Value, json};

use super::headed::Headed;
use crate::error::Result;
use crate::export::format::{Encoded, Facts, Format, Listing, Part, Place, listing};
use crate::export::ids::Width;
use crate::export::journal::{PartRecord, SplitRecord};
use crate::export::json;
use crate::export::row::Row;

/// What the real writer says where nothing else is asked for; the reader wants the name only.
const SIZE_LIMIT: u64 = 1 << 26;

/// There is no null in MDS: samples have `label` and `label_id` where any row has a label (empty and
/// -1 for none), and `caption` where any has one (empty for none).
pub(super) struct Mds {
    width: Width,
    labels: bool,
    captions: bool,
}

impl Mds {
    pub(super) fn of(facts: &Facts) -> Mds {
        let (width, labels) = (facts.ids.width(), !facts.labels.is_empty());
        Mds { width, labels, captions: facts.captions }
    }

    /// Names, encodings and sizes of the columns, sorted by name.
    fn columns(&self) -> Vec<(&'static str, &'static str, Option<u64>)> {
        let tokens = match self.width {
            Width::U8 => "ndarray:uint8",
            Width::U16 => "ndarray:uint16",
            Width::U32 => "ndarray:uint32",
        };
        let mut columns = Vec::new();
        columns.extend(self.captions.then_some(("caption", "str", None)));
        columns.push(("key", "str", None));
        if self.labels {
            columns.extend([("label", "str", None), ("label_id", "int", Some(8))]);
        }
        columns.push(("tokens", tokens, None));
        columns
    }

    /// What stands in a shard, and again in the index.
    fn config(&self) -> Map<String, Value> {
        let columns = self.columns();
        let list = |of: fn(&(&str, &str, Option<u64>)) -> Value| -> Value {
            columns.iter().map(of).collect::<Vec<_>>().into()
        };
        let config = json!({
            "column_encodings": list(|column| column.1.into()),
            "column_names": list(|column| column.0.into()),
            "column_sizes": list(|column| column.2.into()),
            "compression": null,
            "format": "mds",
            "hashes": [],
            "size_limit": SIZE_LIMIT,
            "version": 2,
        });
        config.as_object().cloned().unwrap_or_default()
    }
}

fn name(number: usize) -> String {
    format!("shard.{number:05}.mds")
}

impl Format for Mds {
    fn encode(&self, row: &Row) -> Encoded {
        // Dimensions are as narrow as they can be.
        let sides = [row.height as u32, row.width as u32];
        let (code, side) = match sides.iter().max() {
            Some(0..=0xff) => (0, Width::U8),
            Some(0x100..=0xffff) => (1, Width::U16),
            _ => (2, Width::U32),
        };
        let mut tokens = vec![2 << 2 | code];
        side.put(&sides, &mut tokens);
        self.width.put(&row.codes, &mut tokens);
        let class = row.class.unwrap_or(-1).to_le_bytes();
        let (mut lengths, mut values) = (Vec::new(), Vec::new());
        for (name, _, size) in self.columns() {
            let value = match name {
                "caption" => row.caption.as_deref().unwrap_or_default().as_bytes(),
                "key" => row.key.as_bytes(),
                "label" => row.label.as_deref().unwrap_or_default().as_bytes(),
                "label_id" => &class,
                _ => &tokens,
            };
            if size.is_none() {
                lengths.extend((value.len() as u32).to_le_bytes());
            }
            values.extend(value);
        }
        Encoded { bytes: [lengths, values].concat(), ids: row.codes.len() }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        Ok(Box::new(Headed::new(place.folder, name(place.number), json::dumps(&self.config()))))
    }

    fn index<'a>(&'a self, split: &'a SplitRecord) -> Vec<Listing<'a>> {
        let shard = |(number, part): (usize, &PartRecord)| {
            let mut shard = self.config();
            let file =
                json!({"basename": name(number), "bytes": part.files[0].bytes, "hashes": {}});
            shard.insert("raw_data".into(), file);
            shard.insert("samples".into(), part.rows.into());
            shard.insert("zip_data".into(), Value::Null);
            shard.sort_keys();
            Value::from(shard)
        };
        let shards: Vec<Value> = split.parts.iter().enumerate().map(shard).collect();
        vec![listing("index.json", json::dumps(&json!({"shards": shards, "version": 2})))]
    }

    fn gives_class(&self) -> bool {
        self.labels
    }

    fn gives_sides(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::testing;

    #[test]
    fn shards_are_those_of_streamings_own_writer() {
        let Some(rows) = testing::golden() else { return };
        let format = Mds::of(&testing::facts(&rows, |_| ()));
        let golden = "mds/dtype_only/shard.00000.mds";
        testing::assert_made(&format, 0, &rows, &[golden]);
        let record = testing::record(&rows, 96, golden);
        let index = testing::index(&format, &[record]);
        assert_eq!(index, testing::file("mds/dtype_only/index.json"));
    }
}
