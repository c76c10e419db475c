//! Owns reading a column of plain lists of whole numbers straight from its pages, fast: the numbers and
//! where each row's end, without an Arrow list around them. Must not know: what to do about anything
//! else (whoever reads the column with Arrow finds and tells that).

use arrow::datatypes::{DataType, Field};
use parquet::column::page::PageReader;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::Int32Type;
use parquet::file::metadata::ColumnChunkMetaData;

use crate::util::parquet_errors::{reading, told};

/// Reads the lists of one column chunk.
pub(super) struct IntLists {
    reader: ColumnReaderImpl<Int32Type>,
    /// Numbers that the column's type can hold are below it.
    limit: u32,
    /// Rows of a batch at most.
    rows: usize,
    read: Lists,
    definitions: Vec<i16>,
    repetitions: Vec<i16>,
}

/// Lists that follow each other, of which none is missing or empty.
#[derive(Debug, Default)]
pub(super) struct Lists {
    numbers: Vec<i32>,
    /// The largest of them.
    pub largest: u32,
    ends: Ends,
}

/// Where lists end.
#[derive(Debug)]
enum Ends {
    /// All are as long.
    Every(usize),
    At(Vec<usize>),
}

impl Default for Ends {
    fn default() -> Ends {
        Ends::Every(0)
    }
}

impl Lists {
    /// The numbers of list `at`.
    pub(super) fn get(&self, at: usize) -> &[u32] {
        let range = match &self.ends {
            Ends::Every(length) => at * length..(at + 1) * length,
            Ends::At(ends) => at.checked_sub(1).map_or(0, |before| ends[before])..ends[at],
        };
        &self.all()[range]
    }

    /// Those of all lists.
    pub(super) fn all(&self) -> &[u32] {
        bytemuck::cast_slice(&self.numbers)
    }
}

/// What numbers of plain lists of this type are below, as far as they are stored in 32 bits; None for
/// any other column.
pub(super) fn limit(field: &Field) -> Option<u32> {
    let DataType::List(item) = field.data_type() else { return None };
    match item.data_type() {
        DataType::Int8 => Some(1 << 7),
        DataType::UInt8 => Some(1 << 8),
        DataType::Int16 => Some(1 << 15),
        DataType::UInt16 => Some(1 << 16),
        // What is beyond isn't told from what is negative.
        DataType::Int32 | DataType::UInt32 => Some(1 << 31),
        _ => None,
    }
}

impl IntLists {
    /// Of the pages of a chunk whose numbers are below `limit`, in batches of so many rows; None where it
    /// isn't stored as a plain list of numbers of 32 bits is.
    pub(super) fn of(
        chunk: &ColumnChunkMetaData,
        pages: Box<dyn PageReader>,
        (limit, rows): (u32, usize),
    ) -> Option<IntLists> {
        let column = chunk.column_descr_ptr();
        if column.max_rep_level() != 1 || column.max_def_level() < 1 {
            return None;
        }
        let ColumnReader::Int32ColumnReader(reader) = get_column_reader(column, pages) else {
            return None;
        };
        let read = Lists::default();
        Some(IntLists { reader, limit, rows, read, definitions: vec![], repetitions: vec![] })
    }

    /// The lists of the next batch, which has `rows` rows; 0 behind the last. None where there are as
    /// many more or less as a batch has room for, they can't be read, or one of them is missing, empty,
    /// or holds what isn't a number of the column's type: there is no going on after that.
    pub(super) fn next(&mut self, rows: usize) -> Option<&Lists> {
        self.definitions.clear();
        self.repetitions.clear();
        self.read.numbers.clear();
        let most = self.rows;
        let [definitions, repetitions] = [&mut self.definitions, &mut self.repetitions].map(Some);
        let numbers = &mut self.read.numbers;
        let read = || self.reader.read_records(most, definitions, repetitions, numbers);
        let (records, numbers, levels) = reading(|| read().map_err(told)).ok()?;
        // A level without a number stands for a list or a number that is missing, or an empty list.
        if records != rows || numbers != levels {
            return None;
        }
        self.read.ends = ends(&self.repetitions, rows)?;
        self.read.largest = self.read.all().iter().fold(0, |largest, &n| largest.max(n));
        (self.read.largest < self.limit).then_some(&self.read)
    }
}

/// Where the lists end whose numbers have these levels: 0 where one begins.
fn ends(levels: &[i16], rows: usize) -> Option<Ends> {
    if rows == 0 {
        return levels.is_empty().then_some(Ends::Every(0));
    }
    let length = levels.len() / rows;
    let begins = levels.iter().map(|&level| usize::from(level == 0)).sum::<usize>();
    if begins != rows || levels.first() != Some(&0) {
        return None;
    }
    if length * rows == levels.len() && levels.iter().step_by(length).all(|&level| level == 0) {
        return Some(Ends::Every(length));
    }
    let next = levels.iter().enumerate().skip(1).filter(|(_, level)| **level == 0);
    Some(Ends::At(next.map(|(at, _)| at).chain([levels.len()]).collect()))
}
