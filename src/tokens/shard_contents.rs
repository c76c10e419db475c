//! Owns what a committed partition says of its images: which have tokens, and of what content.
//! Must not know: how anything got there.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};

use super::plan::Plan;
use super::untrusted;
use crate::error::{Error, Result};

/// By ordinal, the sha256 of the file that each image with tokens was read from. What was planned
/// for the partition and isn't in here has failed.
///
/// # Errors
/// A shard that can't be read.
pub fn contents(plan: &Plan, partition: usize) -> Result<BTreeMap<i64, [u8; 32]>> {
    let path = plan.shard_path(partition);
    read(&path).map_err(|reason| Error::damaged(&path, reason))
}

fn read(path: &Path) -> Result<BTreeMap<i64, [u8; 32]>, String> {
    let mut found = BTreeMap::new();
    untrusted::for_each_batch(path, Some(&["ordinal", "content_sha256"]), |batch| {
        let column = |name: &str, kind: DataType| untrusted::column(batch, name, &kind);
        let ordinals = column("ordinal", DataType::Int64)?.as_primitive::<Int64Type>();
        // Those of tokens.v1 have a fixed length.
        let fixed = column("content_sha256", DataType::FixedSizeBinary(32));
        let digests = match fixed {
            Ok(fixed) => cast(fixed, &DataType::Binary).map_err(|e| e.to_string())?,
            Err(_) => column("content_sha256", DataType::Binary)?.clone(),
        };
        let digests = digests.as_binary::<i32>();
        for (i, &ordinal) in ordinals.values().iter().enumerate() {
            let digest = <[u8; 32]>::try_from(digests.value(i)).map_err(|_| {
                format!("the content_sha256 of image {ordinal} isn't 32 bytes long")
            })?;
            found.insert(ordinal, digest); // The views of an image have the same.
        }
        Ok(())
    })?;
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
        assert!(contents(&plan, 1).unwrap_err().to_string().contains("part-00001.parquet"));
        testing::write(&plan, 1);
        let found = contents(&plan, 1).unwrap();
        let written = (10_i64..20).filter(|ordinal| ordinal % 5 != 3);
        assert_eq!(found, written.map(|ordinal| (ordinal, [ordinal as u8; 32])).collect());
    }
}
