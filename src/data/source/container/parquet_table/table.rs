//! Owns a Parquet file's footer, checked, and the way to its column chunks. Must not know: what any
//! column means.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use parquet::column::reader::{ColumnReader, get_column_reader};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::serialized_reader::SerializedPageReader;

use super::pages::Guarded;
use super::tree::{Column, columns_of};
use crate::data::source::container::digest::Description;
use crate::storage::{BytesAt, Chunks, Cursor};
use crate::util::parquet_errors::{reading, told};
use crate::util::{error_text, parquet_guard};

/// A table of more rows than this has at least a byte to a row: an image is more than that, and
/// what repeats one or none so often is made to be refused.
const ROWS_FREE: u64 = 1 << 24;

/// What stands behind the footer: its length and the format's name.
const TAIL_BYTES: u64 = 8;

/// The digest of a Parquet file's footer, which has the place and size of every column chunk, and
/// statistics of some; None where there is none.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn digest(bytes: &dyn BytesAt) -> io::Result<Option<String>> {
    let Some(end) = bytes.size().checked_sub(TAIL_BYTES) else { return Ok(None) };
    let mut length = [0; 4];
    let filled = bytes.fill_at(end, &mut length)?;
    match end.checked_sub(u64::from(u32::from_le_bytes(length))) {
        Some(start) if filled == length.len() => Description::of(bytes, start, end),
        _ => Ok(None),
    }
}

/// An open Parquet file.
pub(super) struct Table {
    watched: Arc<Watched>,
    chunks: Arc<Chunks>,
    metadata: ParquetMetaData,
    columns: Vec<Column>,
    /// Whether columns of it may be encrypted.
    pub(super) encrypted: bool,
    /// The number of each row group's first row, and behind them that of all rows.
    starts: Vec<u64>,
}

impl Table {
    /// Reads the footer.
    ///
    /// # Errors
    /// See [`Unopened`].
    pub(super) fn open(bytes: Arc<dyn BytesAt>) -> Result<Table, Unopened> {
        let watched = Arc::new(Watched { bytes, failure: Mutex::new(None) });
        Table::of(&watched).map_err(|reason| match watched.failure() {
            Some(failure) => Unopened::Failed(failure),
            None => Unopened::Damaged(reason),
        })
    }

    fn of(watched: &Arc<Watched>) -> Result<Table, String> {
        let size = watched.size();
        let bytes: Arc<dyn BytesAt> = watched.clone();
        let encrypted = parquet_guard::check(&mut Cursor::new(Arc::clone(&bytes)), size)?;
        let chunks = Arc::new(Chunks(bytes));
        let metadata = reading(|| {
            ParquetMetaDataReader::new().parse_and_finish(chunks.as_ref()).map_err(told)
        })?;
        let columns = reading(|| Ok(columns_of(metadata.file_metadata().schema())))?;
        let starts = starts_of(&metadata, size)?;
        let watched = Arc::clone(watched);
        Ok(Table { watched, chunks, metadata, columns, encrypted, starts })
    }

    /// What the system or the store said when it failed to read, once: what was told of the content
    /// since then says nothing.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.watched.failure()
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The column of this name, as the schema has it.
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A value of the key-value metadata.
    pub(super) fn entry(&self, key: &str) -> Option<&str> {
        let entries = self.metadata.file_metadata().key_value_metadata();
        entries.into_iter().flatten().find(|entry| entry.key == key)?.value.as_deref()
    }

    pub(super) fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    pub(super) fn groups(&self) -> usize {
        self.starts.len() - 1
    }

    /// The numbers of a row group's first row and of the one behind its last.
    pub(super) fn rows_of(&self, group: usize) -> (u64, u64) {
        (self.starts[group], self.starts[group + 1])
    }

    /// The row group that holds a row.
    pub(super) fn group_of(&self, row: u64) -> Option<usize> {
        let behind = self.starts.partition_point(|start| *start <= row);
        (behind < self.starts.len()).then(|| behind.saturating_sub(1))
    }

    /// The values of a leaf in a row group, from its first row on.
    ///
    /// # Errors
    /// Why there is no way to them, in a few words.
    pub(super) fn values(&self, group: usize, leaf: usize) -> Result<ColumnReader, String> {
        reading(|| {
            let metadata = self.metadata.row_group(group);
            let chunk = metadata.column(leaf);
            if chunk.file_path().is_some() {
                return Err("its values are in another file".into());
            }
            let rows = usize::try_from(metadata.num_rows()).map_err(|e| e.to_string())?;
            let chunks = Arc::clone(&self.chunks);
            let pages = SerializedPageReader::new(chunks, chunk, rows, None).map_err(told)?;
            let column = chunk.column_descr_ptr();
            let pages = Guarded::new(pages, &column);
            Ok(get_column_reader(column, Box::new(pages)))
        })
    }
}

/// The first rows of the row groups, and the number of all.
fn starts_of(metadata: &ParquetMetaData, size: u64) -> Result<Vec<u64>, String> {
    let mut starts = vec![0_u64];
    let mut total = 0_u64;
    for group in metadata.row_groups() {
        let rows = u64::try_from(group.num_rows()).ok();
        total = rows
            .and_then(|rows| total.checked_add(rows))
            .ok_or("its footer counts rows that can't be")?;
        starts.push(total);
    }
    if total > ROWS_FREE.max(size) {
        return Err(format!("its footer claims {total} rows in {size} bytes"));
    }
    Ok(starts)
}

/// Why a file isn't open.
#[derive(Debug)]
pub(super) enum Unopened {
    /// The system or the store failed to read it.
    Failed(io::Error),
    /// What is wrong with it, in a few words.
    Damaged(String),
}

impl Unopened {
    /// Why, in a few words.
    pub(super) fn reason(&self) -> String {
        match self {
            Unopened::Failed(failure) => error_text::reason(failure),
            Unopened::Damaged(reason) => reason.clone(),
        }
    }
}

/// A file that remembers when it couldn't be read: to the Parquet reader that is damage.
struct Watched {
    bytes: Arc<dyn BytesAt>,
    failure: Mutex<Option<io::Error>>,
}

impl Watched {
    fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl BytesAt for Watched {
    fn size(&self) -> u64 {
        self.bytes.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read_at(offset, buffer);
        read.inspect_err(|error| {
            if error.kind() != io::ErrorKind::Interrupted {
                let copy = match error.raw_os_error() {
                    Some(number) => io::Error::from_raw_os_error(number),
                    None => io::Error::new(error.kind(), error.to_string()),
                };
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(copy);
            }
        })
    }
}
