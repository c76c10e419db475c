//! Owns reading the images that were given up. Must not know: the writer, what is made of them.

use std::path::Path;

use super::keys::Keys;
use super::parquet_file::ParquetFile;
use super::report::FailureReport;
use crate::error::{Error, Result};

/// Gives each failure of a file to `take`, until that says no.
///
/// # Errors
/// A file that can't be read, or that lacks one of the columns.
pub(crate) fn each(path: &Path, mut take: impl FnMut(FailureReport) -> bool) -> Result<()> {
    let columns = ["key", "stage", "error"];
    let sheet = ParquetFile::open_plain(path, Some(&columns))?;
    for batch in sheet.batches(&columns)? {
        let batch = batch?;
        let column = |name: &str| -> Result<Vec<String>, String> {
            let column = batch.column_by_name(name).ok_or(format!("has no column {name}"))?;
            let (texts, rows) = (Keys::of(column)?, 0..batch.num_rows());
            let texts: Option<Vec<_>> = rows.map(|i| texts.get(i)).collect();
            texts.ok_or_else(|| format!("column {name} has missing values (null)"))
        };
        let broken = |reason: String| Error::corrupt(path, reason);
        let (keys, stages) = (column("key").map_err(broken)?, column("stage").map_err(broken)?);
        let errors = column("error").map_err(broken)?;
        for ((key, stage), error) in keys.into_iter().zip(stages).zip(errors) {
            if !take(FailureReport { key, stage, error }) {
                return Ok(());
            }
        }
    }
    Ok(())
}
