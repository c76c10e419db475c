//! Owns what a committed partition says of its images: which have tokens, and of what content.
//! Must not know: how anything got there.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::shard::shard_path;
use crate::error::{Error, Result};
use crate::util::error_text;
use crate::util::parquet_errors::{reading, told};
use crate::util::parquet_guard;

/// By ordinal, the sha256 of the file that each image with tokens was read from. What was planned
/// for the partition and isn't in here has failed.
///
/// # Errors
/// A shard that can't be read.
pub fn contents(dir: &Path, partition: usize) -> Result<BTreeMap<i64, [u8; 32]>> {
    let path = shard_path(dir, partition);
    reading(|| read(&path)).map_err(|reason| Error::damaged(&path, reason))
}

fn read(path: &Path) -> Result<BTreeMap<i64, [u8; 32]>, String> {
    let file = File::open(path).map_err(|e| error_text::reason(&e))?;
    parquet_guard::check(&file)?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(told)?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), ["ordinal", "content_sha256"]);
    let mut found = BTreeMap::new();
    for batch in builder.with_projection(mask).build().map_err(told)? {
        let batch = batch.map_err(told)?;
        let column = |name: &str, kind: DataType| {
            let column = batch.column_by_name(name);
            let column = column.filter(|c| *c.data_type() == kind && c.null_count() == 0);
            column.ok_or_else(|| format!("it has no column {name}"))
        };
        let ordinals = column("ordinal", DataType::Int64)?.as_primitive::<Int64Type>();
        let digests =
            column("content_sha256", DataType::FixedSizeBinary(32))?.as_fixed_size_binary();
        for (i, &ordinal) in ordinals.values().iter().enumerate() {
            let digest = <[u8; 32]>::try_from(digests.value(i)).map_err(|e| e.to_string())?;
            found.insert(ordinal, digest); // The views of an image have the same.
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::testing;

    #[test]
    fn images_with_tokens_are_told_by_content() {
        let dir = tempfile::tempdir().unwrap();
        let plan = testing::plan(dir.path(), 25, 10);
        assert!(contents(dir.path(), 1).unwrap_err().to_string().contains("part-00001.parquet"));
        testing::write(&plan, 1);
        let found = contents(dir.path(), 1).unwrap();
        let written = (10_i64..20).filter(|ordinal| ordinal % 5 != 3);
        assert_eq!(found, written.map(|ordinal| (ordinal, [ordinal as u8; 32])).collect());
    }
}
