//! Owns opening Parquet files that nobody vouches for: sizes are checked before memory is taken,
//! lies are errors, panics of the reader as well. Must not know: what the columns mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as PhysicalType;
use parquet::column::page::PageReader;
use parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, ParquetMetaData, RowGroupMetaData,
};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::int_lists::{self, IntLists};
use crate::error::{Error, Result};
use crate::storage::{self, Chunks};
use crate::util::parquet_errors::{reading, told};
use crate::util::text;

/// Values of one list at most, on average over a column chunk.
const LIST_VALUES_MAX: u64 = 1 << 22;
/// Values of a batch, over which fewer rows are taken at a time.
const BATCH_VALUES: u64 = 1 << 22;
/// Rows of a row group that can't be read at most: more are a lie.
const GROUP_ROWS_MAX: i64 = 1 << 32;
/// Rows of a batch at most.
const BATCH_ROWS: u64 = 1024;

/// A Parquet file whose footer and page headers were found to agree with each other.
pub(crate) struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// Key-value metadata, the Arrow schema left out.
    pub entries: BTreeMap<String, String>,
    /// As the footer says and its row groups add up to.
    pub rows: u64,
    /// By row group, why it can't be read: only where [`ParquetFile::open_plain`] lets that pass.
    unreadable: BTreeMap<usize, String>,
}

impl ParquetFile {
    /// Reads and checks the footer, and the page headers of `columns` (all where None; names that
    /// the file lacks are passed over).
    pub(crate) fn open(path: &Path, columns: Option<&[&str]>) -> Result<ParquetFile> {
        ParquetFile::open_as(path, |file, length| {
            let (metadata, rows, bad) = check(file, length, columns, ArrowReaderOptions::new())?;
            match bad.into_values().next() {
                Some(reason) => Err(reason),
                None => Ok((metadata, rows, BTreeMap::new())),
            }
        })
    }

    /// The same with columns as Parquet itself stores them, whatever Arrow types their writer had:
    /// every list a List, dictionaries and extensions as what they hold, and texts as Binary, so
    /// that one that isn't UTF-8 costs its row and no more. A row group whose pages are damaged is
    /// an error when it is read.
    pub(crate) fn open_plain(path: &Path, columns: Option<&[&str]>) -> Result<ParquetFile> {
        ParquetFile::open_as(path, |file, length| {
            let options = || ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let (metadata, rows, bad) = check(file, length, columns, options())?;
            let metadata = without_texts(metadata.metadata())?;
            let plain = ArrowReaderMetadata::try_new(metadata, options());
            Ok((plain.map_err(told)?, rows, bad))
        })
    }

    fn open_as(
        path: &Path,
        check: impl FnOnce(&Chunks, u64) -> Result<Checked, String>,
    ) -> Result<ParquetFile> {
        let facts = storage::facts(path).map_err(Error::io(path))?;
        if facts.is_folder {
            return Err(Error::io(path)(std::io::ErrorKind::IsADirectory.into()));
        }
        if !facts.is_file {
            // Opening a pipe would wait for whoever writes into it.
            return Err(Error::corrupt(path, "it is no regular file"));
        }
        let file = Chunks(storage::open(path).map_err(Error::io(path))?);
        let checked = reading(|| check(&file, facts.bytes));
        let (metadata, rows, unreadable) = checked.map_err(|reason| {
            Error::corrupt(path, format!("not a readable Parquet file: {reason}"))
        })?;
        let footer = metadata.metadata().file_metadata();
        let entries = footer.key_value_metadata().into_iter().flatten();
        let entries = entries
            .filter(|entry| entry.key != "ARROW:schema")
            .map(|entry| (entry.key.clone(), entry.value.clone().unwrap_or_default()))
            .collect();
        Ok(ParquetFile { path: path.to_path_buf(), metadata, entries, rows, unreadable })
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> &Schema {
        self.metadata.schema()
    }

    /// Rows of each row group.
    pub(crate) fn group_rows(&self) -> Vec<u64> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(|group| group.num_rows() as u64).collect()
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The rows of some columns (those that the file has, in its order), a batch at a time.
    pub(crate) fn batches(&self, columns: &[&str]) -> Result<Batches> {
        self.batches_of(columns, None)
    }

    /// The same, of one row group where one is given.
    pub(crate) fn batches_of(&self, columns: &[&str], group: Option<usize>) -> Result<Batches> {
        let mut unreadable = self.unreadable.iter();
        if let Some((_, reason)) = unreadable.find(|(bad, _)| group.is_none_or(|g| g == **bad)) {
            return Err(Error::corrupt(&self.path, reason));
        }
        let file = Chunks(storage::open(&self.path).map_err(Error::io(&self.path))?);
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
        let reader = reading(|| builder.build().map_err(told))
            .map_err(|reason| Error::corrupt(&path, reason))?;
        Ok(Batches { path, reader: Some(reader), row: 0 })
    }

    /// The lists of a column in a row group whose batches are read beside them; None where it isn't one
    /// of plain lists of small numbers, or can't be read.
    pub(super) fn int_lists(&self, column: &str, group: usize) -> Option<IntLists> {
        let limit = int_lists::limit(self.schema().field_with_name(column).ok()?)?;
        let group = self.metadata.metadata().row_groups().get(group)?;
        let root = |chunk: &&ColumnChunkMetaData| {
            chunk.column_path().parts().first().is_some_and(|root| root == column)
        };
        let mut chunks = group.columns().iter().filter(root);
        let (Some(chunk), None) = (chunks.next(), chunks.next()) else { return None };
        let file = Arc::new(Chunks(storage::open(&self.path).ok()?));
        let rows = usize::try_from(group.num_rows()).ok()?;
        let pages = || SerializedPageReader::new(file, chunk, rows, None).map_err(told);
        // As many as the batches beside them: those never have room for more rows than a file has.
        let room = self.batch_rows().min(usize::try_from(self.rows).unwrap_or(usize::MAX));
        IntLists::of(chunk, Box::new(reading(pages).ok()?), (limit, room))
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

/// The batches of a [`ParquetFile`]; after an error there are no more.
pub(crate) struct Batches {
    path: PathBuf,
    reader: Option<ParquetRecordBatchReader>,
    /// Rows given so far, over all row groups.
    pub row: u64,
}

impl Batches {
    /// The next batch; errors are the reader's reason alone.
    pub(crate) fn next_batch(&mut self) -> Option<Result<RecordBatch, String>> {
        let reader = self.reader.as_mut()?;
        match reading(|| reader.next().transpose().map_err(told)) {
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
                Some(Err(reason))
            }
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.row;
        Some(self.next_batch()?.map_err(|reason| {
            Error::corrupt(&self.path, format!("unreadable from row {row}: {reason}"))
        }))
    }
}

/// A file's metadata and rows, and by row group why it can't be read.
type Checked = (ArrowReaderMetadata, u64, BTreeMap<usize, String>);

/// The same metadata, in which top-level texts are mere bytes.
fn without_texts(metadata: &ParquetMetaData) -> Result<Arc<ParquetMetaData>, String> {
    let footer = metadata.file_metadata();
    let root = footer.schema_descr().root_schema();
    let mut fields = Vec::new();
    for field in root.get_fields() {
        let info = field.get_basic_info();
        let text = field.is_primitive()
            && field.get_physical_type() == PhysicalType::BYTE_ARRAY
            && info.has_repetition();
        fields.push(match text {
            true => {
                let bytes = Type::primitive_type_builder(field.name(), PhysicalType::BYTE_ARRAY)
                    .with_repetition(info.repetition());
                Arc::new(bytes.build().map_err(told)?)
            }
            false => field.clone(),
        });
    }
    let root = Type::group_type_builder(root.name()).with_fields(fields).build().map_err(told)?;
    let footer = FileMetaData::new(
        footer.version(),
        footer.num_rows(),
        footer.created_by().map(str::to_string),
        footer.key_value_metadata().cloned(),
        Arc::new(SchemaDescriptor::new(Arc::new(root))),
        None,
    );
    Ok(Arc::new(ParquetMetaData::new(footer, metadata.row_groups().to_vec())))
}

/// Footer and page headers against each other and the file's length.
fn check(
    file: &Chunks,
    length: u64,
    columns: Option<&[&str]>,
    options: ArrowReaderOptions,
) -> Result<Checked, String> {
    file.check()?;
    let metadata = ArrowReaderMetadata::load(file, options).map_err(told)?;
    let mut unreadable = BTreeMap::new();
    let mut rows = 0_u64;
    let pages = Arc::new(file.clone());
    for (index, group) in metadata.metadata().row_groups().iter().enumerate() {
        let count = u64::try_from(group.num_rows())
            .map_err(|_| format!("row group {index} has {} rows", group.num_rows()))?;
        rows = rows.checked_add(count).ok_or("its row groups have more than 2^64 rows")?;
        for column in group.columns() {
            let root = column.column_path().parts().first().map_or("", String::as_str);
            if columns.is_none_or(|names| names.contains(&root)) {
                let checked = reading(|| check_chunk(&pages, length, group, column));
                if let Err(reason) = checked {
                    let root = text::printable(root);
                    let reason = format!("row group {index}, column {root}: {reason}");
                    unreadable.entry(index).or_insert(reason);
                }
            }
        }
    }
    let claimed = metadata.metadata().file_metadata().num_rows();
    if i64::try_from(rows).ok() != Some(claimed) {
        return Err(format!("its footer counts {claimed} rows, its row groups {rows}"));
    }
    // A group that can't be read is told by its rows: no more than anybody could have written.
    let lie = unreadable
        .iter()
        .find(|(index, _)| metadata.metadata().row_group(**index).num_rows() > GROUP_ROWS_MAX);
    match lie {
        Some((_, reason)) => Err(reason.clone()),
        None => Ok((metadata, rows, unreadable)),
    }
}

fn check_chunk(
    file: &Arc<Chunks>,
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
    let mut reader =
        SerializedPageReader::new(file.clone(), column, rows as usize, None).map_err(told)?;
    let mut seen = 0_u64;
    while let Some(page) = reader.peek_next_page().map_err(told)? {
        if !page.is_dict {
            seen = seen.saturating_add(page.num_levels.unwrap_or(0) as u64);
        }
        if seen > values {
            break;
        }
        reader.skip_next_page().map_err(told)?;
    }
    if seen == values {
        return Ok(());
    }
    Err(format!("its footer counts {values} values, its pages {seen} or more"))
}
