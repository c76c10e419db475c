//! Owns opening Parquet files that anybody may have changed: the footer is checked before the
//! reader sees it, panics of the reader are errors, columns are taken by name and type.
//! Must not know: what any column means.

use std::path::Path;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use crate::error::{Error, FOLDER_IN_THE_WAY, Result};
use crate::storage::{self, Chunks};
use crate::util::error_text;
use crate::util::parquet_errors::{reading, told};

/// A file's footer. `what` stands before the reader's reason.
///
/// # Errors
/// Why the file can't be read, in a few words.
pub(super) fn metadata(file: &Chunks, what: &str) -> Result<ArrowReaderMetadata, String> {
    file.check()?;
    let load = || ArrowReaderMetadata::load(file, ArrowReaderOptions::new());
    reading(|| load().map_err(told)).map_err(|reason| format!("{what}{reason}"))
}

/// A value of a footer's key-value metadata.
pub(super) fn entry<'a>(metadata: &'a ArrowReaderMetadata, key: &str) -> Option<&'a str> {
    let entries = metadata.metadata().file_metadata().key_value_metadata();
    entries.into_iter().flatten().find(|entry| entry.key == key)?.value.as_deref()
}

fn open(path: &Path) -> Result<Chunks, String> {
    storage::open(path).map(Chunks).map_err(|error| error_text::reason(&error))
}

/// Gives the batches of a file, one after the other, to `each`; of all columns, or of those named.
///
/// # Errors
/// Why the file can't be read, in a few words; those of `each`.
pub(super) fn for_each_batch(
    path: &Path,
    columns: Option<&[&str]>,
    mut each: impl FnMut(&RecordBatch) -> Result<(), String>,
) -> Result<(), String> {
    let file = open(path)?;
    let metadata = metadata(&file, "")?;
    reading(|| {
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        if let Some(names) = columns {
            let mask = ProjectionMask::columns(builder.parquet_schema(), names.iter().copied());
            builder = builder.with_projection(mask);
        }
        builder.build().map_err(told)?.try_for_each(|batch| each(&batch.map_err(told)?))
    })
}

/// A column without nulls, by its name and type.
///
/// # Errors
/// There is none.
pub(super) fn column<'a>(
    batch: &'a RecordBatch,
    name: &str,
    kind: &DataType,
) -> Result<&'a ArrayRef, String> {
    let column = batch.column_by_name(name);
    let column = column.filter(|c| c.data_type() == kind && c.null_count() == 0);
    column.ok_or_else(|| format!("it has no column {name}"))
}

/// A value of a file's key-value metadata.
pub(super) fn entry_of(path: &Path, key: &str) -> Result<String> {
    let read = || -> Result<String, String> {
        let file = open(path)?;
        let metadata = metadata(&file, "")?;
        let value = entry(&metadata, key).map(str::to_owned);
        value.ok_or_else(|| format!("its metadata has no {key}"))
    };
    read().map_err(|reason| match storage::facts(path).is_ok_and(|facts| facts.is_folder) {
        true => Error::corrupt(path, FOLDER_IN_THE_WAY),
        false => Error::damaged(path, reason),
    })
}
