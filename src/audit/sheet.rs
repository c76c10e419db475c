//! Owns opening Parquet files that nobody vouches for: sizes are checked before memory is taken,
//! lies are errors, panics of the reader as well. Must not know: what the columns mean.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::column::page::PageReader;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use crate::error::{Error, Result};
use crate::{footer, guard};

/// Values of one list at most, on average over a column chunk.
const LIST_VALUES_MAX: u64 = 1 << 22;
/// Values of a batch, over which fewer rows are taken at a time.
const BATCH_VALUES: u64 = 1 << 22;
/// Rows of a batch at most.
const BATCH_ROWS: u64 = 1024;

/// A Parquet file whose footer and page headers were found to agree with each other.
pub struct Sheet {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// Key-value metadata, the Arrow schema left out.
    pub entries: BTreeMap<String, String>,
    /// As the footer says and its row groups add up to.
    pub rows: u64,
}

impl Sheet {
    /// Reads and checks the footer, and the page headers of `columns` (all where None; names that
    /// the file lacks are passed over).
    pub fn open(path: &Path, columns: Option<&[&str]>) -> Result<Sheet> {
        let file = File::open(path).map_err(Error::io(path))?;
        let length = file.metadata().map_err(Error::io(path))?.len();
        let checked = guard::catch(|| check(&file, length, columns));
        let (metadata, rows) = checked.and_then(|inner| inner).map_err(|reason| {
            Error::corrupt(path, format!("not a readable Parquet file: {reason}"))
        })?;
        let footer = metadata.metadata().file_metadata();
        let entries = footer.key_value_metadata().into_iter().flatten();
        let entries = entries
            .filter(|entry| entry.key != "ARROW:schema")
            .map(|entry| (entry.key.clone(), entry.value.clone().unwrap_or_default()))
            .collect();
        Ok(Sheet { path: path.to_path_buf(), metadata, entries, rows })
    }

    /// Its columns.
    pub fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    /// Rows of each row group.
    pub fn group_rows(&self) -> Vec<u64> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(|group| group.num_rows() as u64).collect()
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rows of some columns (those that the file has, in its order), a batch at a time.
    pub fn batches(&self, columns: &[&str]) -> Result<Batches> {
        self.batches_of(columns, None)
    }

    /// The same, of one row group where one is given.
    pub fn batches_of(&self, columns: &[&str], group: Option<usize>) -> Result<Batches> {
        // Opened anew: clones of a `File` share its position.
        let file = File::open(&self.path).map_err(Error::io(&self.path))?;
        let builder =
            ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let roots = (0..self.schema().fields().len())
            .filter(|&i| columns.contains(&self.schema().field(i).name().as_str()));
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let mut builder = builder.with_projection(mask).with_batch_size(self.batch_rows());
        if let Some(group) = group {
            builder = builder.with_row_groups(vec![group]);
        }
        let path = self.path.clone();
        let reader = guard::catch(|| builder.build().map_err(|e| e.to_string()))
            .and_then(|inner| inner)
            .map_err(|reason| Error::corrupt(&path, reason))?;
        Ok(Batches { path, reader: Some(reader), row: 0 })
    }

    /// So few rows that a batch of average lists stays small.
    fn batch_rows(&self) -> usize {
        let groups = self.metadata.metadata().row_groups().iter();
        let average = |column: &ColumnChunkMetaData, rows: u64| {
            (column.num_values().unsigned_abs()) / rows.max(1) + 1
        };
        let largest = groups
            .flat_map(|g| g.columns().iter().map(move |c| average(c, g.num_rows() as u64)))
            .max();
        (BATCH_VALUES / largest.unwrap_or(1).max(1)).clamp(1, BATCH_ROWS) as usize
    }
}

/// The batches of a [`Sheet`]; after an error there are no more.
pub struct Batches {
    path: PathBuf,
    reader: Option<ParquetRecordBatchReader>,
    /// Rows given so far, over all row groups.
    pub row: u64,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let next = guard::catch(|| reader.next().transpose().map_err(|e| e.to_string()));
        match next.and_then(|inner| inner) {
            Ok(Some(batch)) => {
                self.row += batch.num_rows() as u64;
                Some(Ok(batch))
            }
            Ok(None) => {
                self.reader = None;
                None
            }
            Err(reason) => {
                self.reader = None;
                let row = self.row;
                Some(Err(Error::corrupt(
                    &self.path,
                    format!("unreadable from row {row}: {reason}"),
                )))
            }
        }
    }
}

/// Footer and page headers against each other and the file's length.
fn check(
    file: &File,
    length: u64,
    columns: Option<&[&str]>,
) -> Result<(ArrowReaderMetadata, u64), String> {
    footer::check(file)?;
    let metadata =
        ArrowReaderMetadata::load(file, ArrowReaderOptions::new()).map_err(|e| e.to_string())?;
    let mut rows = 0_u64;
    let pages = Arc::new(file.try_clone().map_err(|e| e.to_string())?);
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let count = u64::try_from(group.num_rows())
            .map_err(|_| format!("row group {index} has {} rows", group.num_rows()))?;
        rows = rows.checked_add(count).ok_or("its row groups have more than 2^64 rows")?;
        for column in group.columns() {
            let root = column.column_path().parts().first().map_or("", String::as_str);
            if columns.is_none_or(|names| names.contains(&root)) {
                check_chunk(&pages, length, group, column)
                    .map_err(|reason| format!("row group {index}, column {root}: {reason}"))?;
            }
        }
    }
    let claimed = metadata.metadata().file_metadata().num_rows();
    if i64::try_from(rows).ok() != Some(claimed) {
        return Err(format!("its footer counts {claimed} rows, its row groups {rows}"));
    }
    Ok((metadata, rows))
}

fn check_chunk(
    file: &Arc<File>,
    length: u64,
    group: &RowGroupMetaData,
    column: &ColumnChunkMetaData,
) -> Result<(), String> {
    let rows = group.num_rows() as u64;
    let values = u64::try_from(column.num_values()).map_err(|_| "a negative count")?;
    let flat = column.column_descr().max_rep_level() == 0;
    if (flat && values != rows) || values < rows || values / LIST_VALUES_MAX > rows {
        return Err(format!("{values} values in {rows} rows"));
    }
    let (start, bytes) = column.byte_range();
    if start.checked_add(bytes).is_none_or(|end| end > length) {
        return Err(format!("{bytes} bytes from {start} on, in a file of {length}"));
    }
    let mut reader = SerializedPageReader::new(file.clone(), column, rows as usize, None)
        .map_err(|e| e.to_string())?;
    let mut seen = 0_u64;
    while let Some(page) = reader.peek_next_page().map_err(|e| e.to_string())? {
        if !page.is_dict {
            seen = seen.saturating_add(page.num_levels.unwrap_or(0) as u64);
        }
        if seen > values {
            break;
        }
        reader.skip_next_page().map_err(|e| e.to_string())?;
    }
    if seen == values {
        return Ok(());
    }
    Err(format!("its footer counts {values} values, its pages {seen} or more"))
}
