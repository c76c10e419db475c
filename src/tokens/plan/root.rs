//! Owns the file that stands for a plan whose rows lie in several (`plan.v4`): which these are, and how
//! many images each partition has. Must not know: rows.
//!
//! ```text
//! plan.parquet                                the root: written last, exclusively
//! plan/00000-00000-<16 hex digits>.parquet    its first file, by the start of its sha256
//! plan/00001-00000-<16 hex digits>.parquet    the first of plan-00001.parquet, which was appended
//! ```
//!
//! A file of the plan is complete and durable, under a name that its content gives, before the root
//! names it. So two jobs that plan the same input write the same files, and a kill leaves files that no
//! root names, which finishing the output removes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use serde::{Deserialize, Serialize};

use super::pieces::Piece;
use crate::error::Result;
use crate::tokens::commit::TempFile;
use crate::tokens::files::PLAN_FOLDER;
use crate::tokens::{schema, untrusted};

/// A file of a plan, as its root has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Named {
    /// Its length.
    pub bytes: u64,
    /// Hex, of its bytes.
    pub sha256: String,
    /// Partitions that it has.
    pub partitions: usize,
}

impl Named {
    /// Where it lies below an output: the `piece`-th file of the plan with so many before it.
    pub(crate) fn path(&self, number: usize, piece: usize) -> String {
        format!("{PLAN_FOLDER}/{number:05}-{piece:05}-{}.parquet", &self.sha256[..16])
    }
}

/// Rows of the root that are written at a time.
const BATCH_ROWS: usize = 1 << 16;

/// Writes the root of a plan into a temporary file for `path`.
pub(super) fn write(path: &Path, rows: &[u64], entries: Vec<KeyValue>) -> Result<TempFile> {
    schema::finish(write_rows(TempFile::create(path)?, path, rows, entries)?, path)
}

/// The same into `sink`, but for the footer.
pub(super) fn write_rows<W: Write + Send>(
    sink: W,
    path: &Path,
    rows: &[u64],
    entries: Vec<KeyValue>,
) -> Result<ArrowWriter<W>> {
    let columns = schema::plan_root();
    let properties = schema::properties(Some(entries), None);
    let full = schema::with_entries(columns.clone(), &[]);
    let mut writer =
        ArrowWriter::try_new(sink, full, Some(properties)).map_err(schema::parquet_error(path))?;
    for some in rows.chunks(BATCH_ROWS) {
        let column: ArrayRef =
            Arc::new(Int64Array::from_iter_values(some.iter().map(|&rows| rows as i64)));
        let batch = arrow::array::RecordBatch::try_new(columns.clone(), vec![column]);
        let write = || writer.write(&batch?);
        write().map_err(schema::parquet_error(path))?;
    }
    Ok(writer)
}

/// The files that a root names, with where they lie below `dir`.
///
/// # Errors
/// In a few words: a list that can't be read.
pub(super) fn pieces(
    text: &str,
    dir: &Path,
    number: usize,
) -> Result<(Vec<Named>, Vec<Piece>), String> {
    let wrong = || "the list of its files can't be read".to_string();
    let named: Vec<Named> = serde_json::from_str(text).map_err(|_| wrong())?;
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if named.is_empty() || named.iter().any(|file| !hex(&file.sha256) || file.partitions == 0) {
        return Err(wrong());
    }
    let mut first = 0_usize;
    let mut pieces = Vec::new();
    for (piece, file) in named.iter().enumerate() {
        let path: PathBuf = dir.join(file.path(number, piece));
        pieces.push(Piece { path, first });
        first = first.checked_add(file.partitions).ok_or_else(wrong)?;
    }
    Ok((named, pieces))
}

/// Behind how many images each partition begins, and the number of all, as the root at `path` says.
///
/// # Errors
/// In a few words: partitions of impossible sizes.
pub(super) fn starts(path: &Path, shard_rows: u64) -> Result<Vec<u64>, String> {
    let (mut sum, mut starts) = (0_u64, vec![0]);
    untrusted::for_each_batch(path, Some(&["rows"]), |batch| {
        let rows = untrusted::column(batch, "rows", &DataType::Int64)?.as_primitive::<Int64Type>();
        for &rows in rows.values() {
            let rows = u64::try_from(rows).ok().filter(|rows| (1..=shard_rows).contains(rows));
            let behind = rows.and_then(|rows| sum.checked_add(rows));
            sum = behind.ok_or_else(|| format!("partition {} has no size", starts.len() - 1))?;
            starts.push(sum);
        }
        Ok(())
    })?;
    match sum > 0 {
        true => Ok(starts),
        false => Err("it has no partitions".into()),
    }
}
