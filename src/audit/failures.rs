//! Owns finding and reading the images that were given up. Must not know: the writer, what is made of them.

use std::path::{Path, PathBuf};

use super::facts::FileFacts;
use super::keys::Keys;
use super::parquet_file::ParquetFile;
use super::read;
use super::report::FailureReport;
use super::rows::BadRows;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::numbers::counted;

/// The file with the failures of an output's shard, which the shard's own digest names; None where the
/// shard has none, and no such file.
///
/// # Errors
/// Failures that the shard counts and that aren't there: their file is missing, damaged or another one's,
/// or the shard has changed.
pub(super) fn of_shard(dir: &Path, shard: &Path) -> Result<Option<PathBuf>, BadRows> {
    // A shard that can't be read is told by whoever reads its rows.
    let Some(named) = name_of(dir, shard) else { return Ok(None) };
    let entries = ParquetFile::open_plain(shard, Some(&[])).map(|sheet| sheet.entries);
    let entries = entries.unwrap_or_default();
    let failed: u64 = entries.get("vqtok.failed").and_then(|text| text.parse().ok()).unwrap_or(0);
    let path = dir.join(&named);
    if storage::facts(&path).is_err() {
        let images = counted(failed, "image");
        let problem = format!(
            "it is missing, or the shard it is of has changed: that one counts {images} that failed; \
             `vqtok verify` tells what is wrong"
        );
        return if failed > 0 { Err(BadRows::all_of(&path, failed, problem)) } else { Ok(None) };
    }
    let can_be_read = ParquetFile::open_plain(&path, Some(&[]));
    let is = can_be_read.and_then(|_| FileFacts::of(dir, &named));
    let is = is.map_err(|error| BadRows::all_of(&path, failed, read::reason_of(&error)))?;
    match entries.get("vqtok.failures_sha256") {
        Some(recorded) if *recorded != is.sha256 => {
            let problem =
                "it isn't the file that its shard names; `vqtok verify` tells what is wrong";
            Err(BadRows::all_of(&path, failed, problem.into()))
        }
        _ => Ok(Some(path)),
    }
}

/// Where the failures of a shard lie, below the output.
fn name_of(dir: &Path, shard: &Path) -> Option<String> {
    let inner = shard.strip_prefix(dir.join("tokens")).ok()?;
    let stem = inner.with_extension("");
    let stem = stem.to_str()?;
    let facts = FileFacts::of(dir, &format!("tokens/{stem}.parquet")).ok()?;
    Some(format!("failures/{stem}-{}.parquet", &facts.sha256[..16]))
}

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
