//! Owns reading a plan as `schemas/plan.v1.json` describes it, and its digest. Must not know: the
//! writer.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use sha2::{Digest, Sha256};

use super::facts::FileFacts;
use super::hex::hex;
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, Result};

/// The plan's name in an output.
pub(super) const NAME: &str = "plan.parquet";

const COLUMNS: [&str; 4] = ["ordinal", "key", "uri", "bytes"];

/// A plan whose digest was found right.
pub(super) struct PlanFacts {
    sheet: ParquetFile,
    /// `vqtok.identity`, as it stands there.
    pub identity_text: String,
    /// The same, parsed.
    pub identity: serde_json::Value,
    /// Hex.
    pub digest: String,
    /// Of the file.
    pub file: FileFacts,
    shard_rows: u64,
}

/// A planned image.
pub(super) struct Planned {
    pub ordinal: i64,
    pub key: String,
    pub uri: String,
    bytes: i64,
}

impl PlanFacts {
    pub(super) fn partitions(&self) -> usize {
        self.sheet.group_rows().len()
    }

    pub(super) fn rows(&self) -> u64 {
        self.sheet.rows
    }

    /// K of each level.
    pub(super) fn codes(&self) -> Vec<u64> {
        let levels = self.identity["levels"].as_array().into_iter().flatten();
        levels.filter_map(|level| level["codes"].as_u64()).collect()
    }

    /// h and w of each level, None where grids vary.
    pub(super) fn grids(&self) -> Vec<Option<[i64; 2]>> {
        let levels = self.identity["levels"].as_array().into_iter().flatten();
        let side = |v: &serde_json::Value, i: usize| v["grid"][i].as_i64();
        levels.map(|level| Some([side(level, 0)?, side(level, 1)?])).collect()
    }

    /// The images of a partition.
    pub(super) fn partition(&self, index: usize) -> Result<Vec<Planned>> {
        let mut rows = Vec::new();
        self.each(Some(index), |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }

    /// The first ordinal of a partition.
    pub(super) fn first_ordinal(&self, index: usize) -> u64 {
        index as u64 * self.shard_rows
    }

    fn each(
        &self,
        group: Option<usize>,
        mut take: impl FnMut(Planned) -> Result<(), String>,
    ) -> Result<()> {
        let broken = |reason: String| Error::corrupt(self.sheet.path(), reason);
        for batch in self.sheet.batches_of(&COLUMNS, group)? {
            let batch = batch?;
            let types = [DataType::Int64, DataType::Utf8, DataType::Utf8, DataType::Int64];
            let fits = batch.num_columns() == 4
                && batch.columns().iter().zip(&types).all(|(c, t)| c.data_type() == t)
                && batch.columns().iter().all(|c| c.null_count() == 0);
            if !fits {
                return Err(broken("its columns are not those of plan.v1".into()));
            }
            let ordinals = batch.column(0).as_primitive::<Int64Type>();
            let (keys, uris) = (batch.column(1).as_string::<i32>(), batch.column(2).as_string());
            let uris: &arrow::array::StringArray = uris;
            let bytes = batch.column(3).as_primitive::<Int64Type>();
            for i in 0..batch.num_rows() {
                let row = Planned {
                    ordinal: ordinals.value(i),
                    key: keys.value(i).to_string(),
                    uri: uris.value(i).to_string(),
                    bytes: bytes.value(i),
                };
                take(row).map_err(broken)?;
            }
        }
        Ok(())
    }
}

/// Reads the plan and proves its digest, its order and its partitions.
pub(super) fn read(dir: &Path) -> Result<PlanFacts> {
    let path = dir.join(NAME);
    let broken = |reason: &str| Error::corrupt(&path, reason);
    let file = FileFacts::of(dir, NAME)?;
    let sheet = ParquetFile::open(&path, None)?;
    let entry = |key: &str| sheet.entries.get(key).cloned().unwrap_or_default();
    if entry("vqtok.schema") != "plan.v1" {
        return Err(broken("its metadata doesn't say plan.v1"));
    }
    let identity_text = entry("vqtok.identity");
    let identity: serde_json::Value =
        serde_json::from_str(&identity_text).map_err(|_| broken("its identity is no JSON"))?;
    let shard_rows = identity["shard_rows"].as_u64().filter(|&rows| rows > 0);
    let shard_rows = shard_rows.ok_or_else(|| broken("its identity has no shard_rows"))?;
    let groups = sheet.group_rows();
    let (last, full) = groups.split_last().ok_or_else(|| broken("it is empty"))?;
    if full.iter().any(|&rows| rows != shard_rows) || *last == 0 || *last > shard_rows {
        return Err(broken("its partitions are not of shard_rows images"));
    }
    let digest = entry("vqtok.plan_sha256");
    let facts = PlanFacts { identity_text, identity, digest, file, shard_rows, sheet };
    let mut hasher = Sha256::new();
    hasher.update(b"plan.v1\n");
    hasher.update(&facts.identity_text);
    hasher.update(b"\n");
    let mut due = 0;
    facts.each(None, |row| {
        if row.ordinal != due {
            return Err(format!("image {} stands where {due} is due", row.ordinal));
        }
        due += 1;
        hasher.update(row.ordinal.to_le_bytes());
        hasher.update((row.key.len() as u64).to_le_bytes());
        hasher.update(&row.key);
        hasher.update((row.uri.len() as u64).to_le_bytes());
        hasher.update(&row.uri);
        hasher.update(row.bytes.to_le_bytes());
        Ok(())
    })?;
    if hex(&hasher.finalize()) != facts.digest {
        return Err(broken("its rows and identity don't give its digest"));
    }
    Ok(facts)
}
