//! Owns what Hugging Face datasets' `save_to_disk` writes: Arrow streams, `state.json` and
//! `dataset_info.json`. Must not know: how files get their names.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Int32Array, Int64Array, ListArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, FieldRef, Schema, SchemaRef, UInt8Type, UInt16Type,
    UInt32Type,
};
use arrow::ipc::writer::StreamWriter;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::export::format::{Encoded, Facts, Format, Listing, Part, Place, listing};
use crate::export::ids::{Ids, Width};
use crate::export::journal::SplitRecord;
use crate::export::part::{Growing, Made};
use crate::export::row::Row;
use crate::util::hex::hex;

/// Rows of a record batch, as `datasets` has them.
const BATCH_ROWS: usize = 1000;

pub(super) struct Hf {
    ids: Ids,
    /// Ids of each row, where they are equally many.
    length: Option<usize>,
    labels: bool,
    captions: bool,
    rows_of_part: u64,
    /// Of a token.
    values: usize,
    features: Value,
    schema: SchemaRef,
}

impl Hf {
    pub(super) fn of(facts: &Facts) -> Hf {
        let (length, labels) = (facts.length, !facts.labels.is_empty());
        let features = features(facts);
        let tokens = match (length, item(facts.ids.width())) {
            (Some(length), item) => DataType::FixedSizeList(item, length as i32),
            (None, item) => DataType::List(item),
        };
        let mut fields = vec![
            Field::new("key", DataType::Utf8, true),
            Field::new("tokens", tokens, true),
            Field::new("grid_height", DataType::Int32, true),
            Field::new("grid_width", DataType::Int32, true),
        ];
        fields.extend(labels.then(|| Field::new("label", DataType::Int64, true)));
        fields.extend(facts.captions.then(|| Field::new("caption", DataType::Utf8, true)));
        let info = json!({"info": {"features": features}}).to_string();
        let metadata = HashMap::from([("huggingface".to_string(), info)]);
        let schema = Schema::new(fields).with_metadata(metadata);
        Hf {
            ids: facts.ids.clone(),
            length,
            labels,
            captions: facts.captions,
            rows_of_part: facts.rows_of_part,
            values: facts.values,
            features,
            schema: schema.into(),
        }
    }

    fn name(&self, number: usize, rows: u64) -> String {
        format!("data-{number:05}-of-{:05}.arrow", rows.div_ceil(self.rows_of_part))
    }
}

fn item(width: Width) -> FieldRef {
    let kind = match width {
        Width::U8 => DataType::UInt8,
        Width::U16 => DataType::UInt16,
        Width::U32 => DataType::UInt32,
    };
    Arc::new(Field::new_list_field(kind, true))
}

/// The features by `datasets`' names. `Sequence` is read by all versions of it, its successor `List` by
/// the newest only.
fn features(facts: &Facts) -> Value {
    let value = |dtype: &str| json!({"dtype": dtype, "_type": "Value"});
    let dtype = match facts.ids.width() {
        Width::U8 => "uint8",
        Width::U16 => "uint16",
        Width::U32 => "uint32",
    };
    let length = facts.length.map_or(-1, |length| length as i64);
    let tokens = json!({"feature": value(dtype), "length": length, "_type": "Sequence"});
    let mut features = Map::new();
    features.insert("key".into(), value("string"));
    features.insert("tokens".into(), tokens);
    features.insert("grid_height".into(), value("int32"));
    features.insert("grid_width".into(), value("int32"));
    if !facts.labels.is_empty() {
        let label = json!({"names": facts.labels.names(), "_type": "ClassLabel"});
        features.insert("label".into(), label);
    }
    if facts.captions {
        features.insert("caption".into(), value("string"));
    }
    features.into()
}

impl Format for Hf {
    fn encode(&self, row: &Row) -> Encoded {
        let ids = self.ids.sequence(row);
        let mut bytes = Vec::with_capacity(ids.len() * self.ids.width().bytes());
        self.ids.width().put(&ids, &mut bytes);
        Encoded { bytes, ids: ids.len() / self.values }
    }

    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>> {
        let file = Growing::create(place.folder, &self.name(place.number, place.rows))?;
        let out = StreamWriter::try_new(Vec::new(), &self.schema).map_err(told)?;
        let columns =
            Columns { labels: self.labels, captions: self.captions, ..Columns::default() };
        let (width, length) = (self.ids.width(), self.length);
        Ok(Box::new(Stream { file, out, schema: self.schema.clone(), width, length, columns }))
    }

    fn index<'a>(&'a self, split: &'a SplitRecord) -> Vec<Listing<'a>> {
        let names = 0..split.parts.len();
        let files: Vec<Value> =
            names.map(|number| json!({"filename": self.name(number, split.rows)})).collect();
        // As random as theirs, and the same at any time.
        let mut hasher = Sha256::new();
        let files_of = split.parts.iter().flat_map(|part| &part.files);
        files_of.for_each(|file| hasher.update(&file.sha256));
        let fingerprint = hex(hasher.finalize())[..16].to_string();
        let state = json!({
            "_data_files": files,
            "_fingerprint": fingerprint,
            "_format_columns": null,
            "_format_kwargs": {},
            "_format_type": null,
            "_output_all_columns": false,
            "_split": split.name,
        });
        let info = json!({
            "citation": "",
            "description": "",
            "features": self.features,
            "homepage": "",
            "license": "",
        });
        let pretty = |value: Value| format!("{value:#}").into_bytes();
        vec![listing("state.json", pretty(state)), listing("dataset_info.json", pretty(info))]
    }

    fn root(&self, splits: &[&str]) -> Option<(&'static str, Vec<u8>)> {
        let splits = json!({"splits": splits});
        (splits["splits"] != json!([])).then(|| ("dataset_dict.json", splits.to_string().into()))
    }

    fn gives_class(&self) -> bool {
        self.labels
    }

    fn gives_sides(&self) -> bool {
        true
    }
}

fn told(error: arrow::error::ArrowError) -> Error {
    Error::internal(format!("Arrow: {error}"))
}

/// A file with the rows that wait for their batch.
struct Stream {
    file: Growing,
    out: StreamWriter<Vec<u8>>,
    schema: SchemaRef,
    width: Width,
    length: Option<usize>,
    columns: Columns,
}

#[derive(Default)]
struct Columns {
    labels: bool,
    captions: bool,
    keys: Vec<String>,
    /// As bytes of the ids' width.
    ids: Vec<u8>,
    lengths: Vec<usize>,
    sides: [Vec<i32>; 2],
    classes: Vec<Option<i64>>,
    texts: Vec<Option<String>>,
}

impl Columns {
    fn push(&mut self, row: &Row, encoded: &Encoded, count: usize) {
        self.keys.push(row.key.clone());
        self.ids.extend(&encoded.bytes);
        self.lengths.push(count);
        self.sides[0].push(row.height as i32);
        self.sides[1].push(row.width as i32);
        if self.labels {
            self.classes.push(row.class);
        }
        if self.captions {
            self.texts.push(row.caption.clone());
        }
    }

    fn tokens(&self, width: Width, length: Option<usize>) -> Result<ArrayRef> {
        let values: ArrayRef = match width {
            Width::U8 => Arc::new(PrimitiveArray::<UInt8Type>::from(self.ids.clone())),
            Width::U16 => Arc::new(numbers::<UInt16Type, 2>(&self.ids, u16::from_le_bytes)),
            Width::U32 => Arc::new(numbers::<UInt32Type, 4>(&self.ids, u32::from_le_bytes)),
        };
        let lengths = self.lengths.iter().copied();
        Ok(match length {
            Some(length) => Arc::new(
                FixedSizeListArray::try_new(item(width), length as i32, values, None)
                    .map_err(told)?,
            ),
            None => {
                let ends = OffsetBuffer::from_lengths(lengths);
                Arc::new(ListArray::try_new(item(width), ends, values, None).map_err(told)?)
            }
        })
    }
}

fn numbers<T: ArrowPrimitiveType, const N: usize>(
    bytes: &[u8],
    number: fn([u8; N]) -> T::Native,
) -> PrimitiveArray<T> {
    PrimitiveArray::from_iter_values(bytes.as_chunks::<N>().0.iter().map(|bytes| number(*bytes)))
}

impl Stream {
    /// Writes the rows that wait.
    fn flush(&mut self) -> Result<()> {
        let empty = Columns {
            labels: self.columns.labels,
            captions: self.columns.captions,
            ..Columns::default()
        };
        let columns = std::mem::replace(&mut self.columns, empty);
        let tokens = columns.tokens(self.width, self.length)?;
        let [heights, widths] = columns.sides;
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(columns.keys)),
            tokens,
            Arc::new(Int32Array::from(heights)),
            Arc::new(Int32Array::from(widths)),
        ];
        if columns.labels {
            arrays.push(Arc::new(Int64Array::from(columns.classes)));
        }
        if columns.captions {
            arrays.push(Arc::new(StringArray::from(columns.texts)));
        }
        let batch = RecordBatch::try_new(self.schema.clone(), arrays).map_err(told)?;
        self.out.write(&batch).map_err(told)?;
        self.file.write(&std::mem::take(self.out.get_mut()))
    }
}

impl Part for Stream {
    fn push(&mut self, row: &Row, encoded: &Encoded) -> Result<()> {
        let count = encoded.bytes.len() / self.width.bytes();
        if let Some(length) = self.length.filter(|length| *length != count) {
            return Err(Error::invalid(format!(
                "a row has {count} ids where its file says {length} for all"
            )));
        }
        self.columns.push(row, encoded, count);
        match self.columns.keys.len() >= BATCH_ROWS {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn seal(mut self: Box<Self>) -> Result<Vec<Made>> {
        if !self.columns.keys.is_empty() {
            self.flush()?;
        }
        self.out.finish().map_err(told)?;
        let rest = std::mem::take(self.out.get_mut());
        self.file.write(&rest)?;
        Ok(vec![self.file.seal()?])
    }
}

#[cfg(test)]
mod tests {
    use arrow::ipc::reader::StreamReader;

    use super::*;
    use crate::export::testing;

    fn batches(bytes: &[u8]) -> Vec<RecordBatch> {
        StreamReader::try_new(bytes, None).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn streams_hold_what_those_of_datasets_hold() {
        let Some(rows) = testing::golden() else { return };
        let format = Hf::of(&testing::facts(&rows, |_| ()));
        let golden = |i| testing::file(&format!("hf_datasets/arrow/data-0000{i}-of-00002.arrow"));
        for (rows, i) in [(&rows[..3], 0), (&rows[3..], 1)] {
            let made = batches(&testing::made(&format, i, rows)[0]);
            let golden = batches(&golden(i));
            assert_eq!(made[0].schema().fields(), golden[0].schema().fields());
            assert_eq!(made[0].columns(), golden[0].columns());
        }
        let info = testing::file("hf_datasets/arrow/dataset_info.json");
        let info: Value = serde_json::from_slice(&info).unwrap();
        let mut features = format.features.clone();
        features["tokens"]["_type"] = "List".into();
        assert_eq!(features, info["features"]);
    }

    #[test]
    fn rows_of_several_lengths_are_lists() {
        let Some(mut rows) = testing::golden() else { return };
        let mut facts = testing::facts(&rows, |settings| settings.bos = Some(65_536));
        facts.length = None;
        rows[1].codes.truncate(4);
        let made = batches(&testing::made(&Hf::of(&facts), 0, &rows)[0]);
        let tokens = made[0].column(1).as_any().downcast_ref::<ListArray>().unwrap();
        let second = tokens.value(1);
        let second = second.as_any().downcast_ref::<PrimitiveArray<UInt32Type>>().unwrap();
        assert_eq!(second.values(), &[65_536, 0, 1, 255, 256]);
    }
}
