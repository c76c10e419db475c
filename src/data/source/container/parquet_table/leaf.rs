//! Owns reading a leaf of a row group row by row: its levels and its values as they are stored.
//! Must not know: what they mean.

use std::ops::Range;

use parquet::column::reader::ColumnReader;
use parquet::data_type::ByteArray;

use super::table::Table;
use crate::util::parquet_errors::{reading, told};

/// A value as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stored {
    Bool(bool),
    Int(i64),
    Float(f32),
    Double(f64),
    Bytes(ByteArray),
}

/// One row of a leaf: levels of as many entries as it has, and the values of those that are there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cells<'a> {
    pub(super) defs: &'a [i16],
    pub(super) reps: &'a [i16],
    pub(super) values: &'a [Stored],
    /// The definition level of a value.
    pub(super) max_def: i16,
}

/// A leaf's rows, one after the other.
pub(super) struct LeafRows {
    reader: ColumnReader,
    max_def: i16,
    /// Whether a row may have several values.
    nested: bool,
    /// Rows that are decoded at once; the pages that hold them stay in memory.
    batch: usize,
    defs: Vec<i16>,
    reps: Vec<i16>,
    values: Vec<Stored>,
    /// Where the current row stands in these.
    levels_at: Range<usize>,
    values_at: Range<usize>,
}

impl LeafRows {
    /// From a row group's first row on.
    ///
    /// # Errors
    /// Why there is no way to them, in a few words.
    pub(super) fn open(
        table: &Table,
        group: usize,
        leaf: usize,
        batch: usize,
    ) -> Result<LeafRows, String> {
        let reader = table.values(group, leaf)?;
        let column = table.metadata().row_group(group).column(leaf).column_descr();
        Ok(LeafRows {
            reader,
            max_def: column.max_def_level(),
            nested: column.max_rep_level() > 0,
            batch,
            defs: Vec::new(),
            reps: Vec::new(),
            values: Vec::new(),
            levels_at: 0..0,
            values_at: 0..0,
        })
    }

    pub(super) fn is_nested(&self) -> bool {
        self.nested
    }

    /// Passes over rows that aren't needed: pages of a flat leaf without decoding them. Only before
    /// [`LeafRows::advance`], or with a batch of 1.
    ///
    /// # Errors
    /// Why that can't be, in a few words; there are fewer rows.
    pub(super) fn skip(&mut self, rows: usize) -> Result<(), String> {
        // The reader's own way over repetition levels never ends where these are cut short.
        if self.nested {
            return (0..rows).try_for_each(|_| match self.advance()? {
                true => Ok(()),
                false => Err(TOO_FEW.into()),
            });
        }
        let skipped = reading(|| skip(&mut self.reader, rows))?;
        self.forget();
        if skipped == rows { Ok(()) } else { Err(TOO_FEW.into()) }
    }

    /// Goes to the next row; false behind the last.
    ///
    /// # Errors
    /// Why it can't be read, in a few words.
    pub(super) fn advance(&mut self) -> Result<bool, String> {
        if self.levels_at.end >= self.defs.len() {
            self.fill()?;
        }
        let from = self.levels_at.end;
        if from >= self.defs.len() {
            return Ok(false);
        }
        let more = self.reps[from + 1..].iter().position(|rep| *rep == 0);
        let end = more.map_or(self.defs.len(), |more| from + 1 + more);
        let present = self.defs[from..end].iter().filter(|def| **def == self.max_def).count();
        let values_from = self.values_at.end;
        if values_from + present > self.values.len() {
            return Err("its levels and its values disagree".into());
        }
        self.levels_at = from..end;
        self.values_at = values_from..values_from + present;
        Ok(true)
    }

    /// The row that was gone to last.
    pub(super) fn cells(&self) -> Cells<'_> {
        Cells {
            defs: &self.defs[self.levels_at.clone()],
            reps: &self.reps[self.levels_at.clone()],
            values: &self.values[self.values_at.clone()],
            max_def: self.max_def,
        }
    }

    fn forget(&mut self) {
        self.defs.clear();
        self.reps.clear();
        self.values.clear();
        self.levels_at = 0..0;
        self.values_at = 0..0;
    }

    /// Decodes the next rows in place of those that have been gone through.
    fn fill(&mut self) -> Result<(), String> {
        self.forget();
        let (batch, max_def) = (self.batch, self.max_def);
        let (defs, reps, values) = (&mut self.defs, &mut self.reps, &mut self.values);
        let reader = &mut self.reader;
        let (defs_read, reps_read) = (&mut *defs, &mut *reps);
        let levels = reading(move || read(reader, batch, defs_read, reps_read, values))?;
        // A leaf that is never null, or in no list, has no levels of the kind.
        if defs.is_empty() {
            defs.resize(levels, max_def);
        }
        if reps.is_empty() {
            reps.resize(levels, 0);
        }
        let whole = defs.len() == levels && reps.len() == levels;
        if whole { Ok(()) } else { Err("its levels disagree".into()) }
    }
}

/// Where there are fewer rows in a column than the footer says.
pub(super) const TOO_FEW: &str = "it has fewer rows than the footer says";

/// Decodes up to `batch` rows; returns the number of levels, 0 behind the last.
fn read(
    reader: &mut ColumnReader,
    batch: usize,
    defs: &mut Vec<i16>,
    reps: &mut Vec<i16>,
    out: &mut Vec<Stored>,
) -> Result<usize, String> {
    macro_rules! stored {
        ($reader:expr, $to:expr) => {{
            let mut values = Vec::new();
            let mut levels = 0;
            loop {
                let read = $reader.read_records(batch, Some(defs), Some(reps), &mut values);
                let (rows, _, read) = read.map_err(told)?;
                levels += read;
                // The end of a row that was read already counts as one without levels.
                if levels > 0 || rows == 0 {
                    break;
                }
            }
            out.extend(values.into_iter().map($to));
            Ok(levels)
        }};
    }
    match reader {
        ColumnReader::BoolColumnReader(reader) => stored!(reader, Stored::Bool),
        ColumnReader::Int32ColumnReader(reader) => stored!(reader, |v| Stored::Int(v.into())),
        ColumnReader::Int64ColumnReader(reader) => stored!(reader, Stored::Int),
        ColumnReader::Int96ColumnReader(_) => Err("it holds 96-bit times".into()),
        ColumnReader::FloatColumnReader(reader) => stored!(reader, Stored::Float),
        ColumnReader::DoubleColumnReader(reader) => stored!(reader, Stored::Double),
        ColumnReader::ByteArrayColumnReader(reader) => stored!(reader, Stored::Bytes),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => {
            stored!(reader, |v| Stored::Bytes(v.into()))
        }
    }
}

/// Passes over rows.
fn skip(reader: &mut ColumnReader, rows: usize) -> Result<usize, String> {
    let skipped = match reader {
        ColumnReader::BoolColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int32ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int64ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::Int96ColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FloatColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::DoubleColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::ByteArrayColumnReader(reader) => reader.skip_records(rows),
        ColumnReader::FixedLenByteArrayColumnReader(reader) => reader.skip_records(rows),
    };
    skipped.map_err(told)
}
