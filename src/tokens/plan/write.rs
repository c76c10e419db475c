//! Owns writing `plan.parquet`, and the digest of a plan.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::tokens::commit::{Sealed, TempFile};
use crate::tokens::identity::Identity;
use crate::tokens::rows::PlanRow;
use crate::tokens::schema;
use crate::util::hex::hex;

/// The longest key or uri, in bytes: longer than any path that a system takes.
const TEXT_BYTES_MAX: usize = 1 << 16;

/// The digest of a plan, fed row by row.
struct PlanHasher(Sha256);

impl PlanHasher {
    fn new(identity: &Identity) -> PlanHasher {
        let mut hasher = Sha256::new();
        hasher.update(format!("{}\n{}\n", schema::PLAN, identity.canonical()));
        PlanHasher(hasher)
    }

    fn row(&mut self, row: &PlanRow) {
        self.0.update(row.ordinal.to_le_bytes());
        for text in [&row.key, &row.uri] {
            self.0.update((text.len() as u64).to_le_bytes());
            self.0.update(text);
        }
        self.0.update(row.bytes.to_le_bytes());
    }

    fn finish(self) -> String {
        hex(self.0.finalize())
    }
}

/// Streams the rows into a sealed temporary file, and gives the digest.
pub(in crate::tokens) fn write(
    path: &Path,
    identity: &Identity,
    rows: impl Iterator<Item = Result<PlanRow>>,
) -> Result<(Sealed, String)> {
    let entries = vec![
        KeyValue::new("vqtok.schema".into(), schema::PLAN.to_string()),
        KeyValue::new("vqtok.identity".into(), identity.canonical()),
    ];
    let temp = TempFile::create(path)?;
    let columns = schema::with_entries(schema::plan(), &entries);
    let properties = schema::properties(Some(entries), None);
    let mut writer = ArrowWriter::try_new(temp, columns, Some(properties))
        .map_err(schema::parquet_error(path))?;
    let mut hasher = PlanHasher::new(identity);
    let mut group: Vec<PlanRow> = Vec::new();
    for (next, row) in rows.enumerate() {
        let row = row?;
        if row.ordinal != next as i64 {
            return Err(Error::invalid(format!(
                "planned image {} where {next} was due",
                row.ordinal
            )));
        }
        if row.key.is_empty() || row.key.len().max(row.uri.len()) > TEXT_BYTES_MAX || row.bytes < 0
        {
            return Err(Error::invalid(format!("image {next} has an impossible name or size")));
        }
        hasher.row(&row);
        group.push(row);
        if group.len() as u64 == identity.shard_rows {
            write_group(&mut writer, &group).map_err(schema::parquet_error(path))?;
            group.clear();
        }
    }
    if !group.is_empty() {
        write_group(&mut writer, &group).map_err(schema::parquet_error(path))?;
    }
    let digest = hasher.finish();
    writer.append_key_value_metadata(KeyValue::new("vqtok.plan_sha256".into(), digest.clone()));
    let temp = schema::finish(writer, path)?;
    Ok((temp.seal()?, digest))
}

fn write_group(
    writer: &mut ArrowWriter<TempFile>,
    rows: &[PlanRow],
) -> parquet::errors::Result<()> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.ordinal))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.key))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.uri))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.bytes))),
    ];
    writer.write(&RecordBatch::try_new(schema::plan(), columns)?)?;
    writer.flush()
}
