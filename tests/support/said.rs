//! Owns reading what an output's shards say of images. Must not know: where they lie.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, FixedSizeListArray};
use arrow::datatypes::UInt16Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// What an output says of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    pub tokens: Vec<u16>,
    pub label: Option<String>,
    pub caption: Option<String>,
    pub member: Option<String>,
    pub meta: Option<String>,
}

/// Every row of some shards, by its key.
pub fn rows_of(shards: &[(String, Vec<u8>)]) -> BTreeMap<String, Said> {
    let mut rows = BTreeMap::new();
    for (_, bytes) in shards {
        let file = bytes::Bytes::from(bytes.clone());
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
            let tokens: FixedSizeListArray =
                batch.column_by_name("tokens").unwrap().as_fixed_size_list().clone();
            let columns = ["key", "label", "caption", "member", "meta_json"].map(text);
            for i in 0..batch.num_rows() {
                let cell =
                    |c: usize| columns[c].is_valid(i).then(|| columns[c].value(i).to_string());
                let said = Said {
                    tokens: tokens.value(i).as_primitive::<UInt16Type>().values().to_vec(),
                    label: cell(1),
                    caption: cell(2),
                    member: cell(3),
                    meta: cell(4),
                };
                assert!(rows.insert(cell(0).unwrap(), said).is_none(), "a key twice");
            }
        }
    }
    rows
}
