//! Owns the codes of one level in a batch, row by row, each checked: as they were read from the pages,
//! or from a column that may hold anything. Must not know: what is counted.

use std::borrow::Cow;

use arrow::array::{ArrayRef, RecordBatch};

use super::flat::Flat;
use super::int_lists::Lists;
use super::level_size::numbers;
use super::levels::Level;
use super::nested::{Nested, Whole};

/// One level in a batch.
pub(super) struct LevelCodes<'a> {
    codes: Codes<'a>,
    /// Height and width, where there are columns of them.
    sides: [Option<Whole>; 2],
    /// Values of a token.
    values: usize,
    /// Of the row that was read last, or of all.
    pub largest: u32,
}

enum Codes<'a> {
    /// All of them can be used.
    Read(&'a Lists),
    Column(Box<Column<'a>>),
}

/// Lists that anybody may have written.
struct Column<'a> {
    column: &'a ArrayRef,
    name: &'a String,
    flat: Option<Flat>,
    nested: Option<Nested>,
    /// Codes are below it.
    limit: u64,
    /// Of the row that was read last.
    row: Vec<u32>,
}

impl<'a> LevelCodes<'a> {
    /// Of a batch whose codes, of so many values each, were read beside it; None where one of them isn't below `limit`, or there are
    /// more or fewer in a row than its grid has.
    pub(super) fn read(
        lists: &'a Lists,
        batch: &RecordBatch,
        level: &Level,
        (limit, values): (u64, usize),
    ) -> Option<LevelCodes<'a>> {
        let (codes, largest) = (Codes::Read(lists), lists.largest);
        if u64::from(largest) >= limit {
            return None;
        }
        let read = LevelCodes { codes, sides: sides(batch, level), values, largest };
        (0..batch.num_rows()).all(|row| read.check_grid(row).is_ok()).then_some(read)
    }

    /// Of a batch in which their column is.
    pub(super) fn of(
        batch: &'a RecordBatch,
        level: &'a Level,
        (limit, values): (u64, usize),
    ) -> Result<LevelCodes<'a>, String> {
        let name = &level.tokens;
        let column = batch.column_by_name(name).ok_or(format!("it has no column {name}"))?;
        let flat = Flat::of(column);
        let mut column = Column { column, name, flat, nested: None, limit, row: Vec::new() };
        if column.flat.is_none() {
            column.nested()?;
        }
        let codes = Codes::Column(Box::new(column));
        Ok(LevelCodes { codes, sides: sides(batch, level), values, largest: 0 })
    }

    /// Reads a row's codes, of which there is one at least, all below the limit.
    pub(super) fn take(&mut self, row: usize) -> Result<(), String> {
        if let Codes::Column(column) = &mut self.codes {
            self.largest = column.take(row)?;
            self.check_grid(row)?;
        }
        Ok(())
    }

    /// That a row has as many codes as the grid that its columns say, where they say one.
    fn check_grid(&self, row: usize) -> Result<(), String> {
        let side = |side: &Option<Whole>| side.as_ref()?.get(row)?.ok();
        let (bits, values) = (self.row(row).len(), self.values);
        if bits % values != 0 {
            return Err(format!("has {bits} bits, which are no lists of {values}"));
        }
        let Some((height, width)) = side(&self.sides[0]).zip(side(&self.sides[1])) else {
            return Ok(());
        };
        let count = bits / values;
        match height > 0 && width > 0 && height.checked_mul(width) == Some(count as i64) {
            true => Ok(()),
            false => Err(format!("has {count} tokens for a grid of {height} x {width}")),
        }
    }

    /// The codes of a row, which was taken last.
    pub(super) fn row(&self, row: usize) -> &[u32] {
        match &self.codes {
            Codes::Read(lists) => lists.get(row),
            Codes::Column(column) => &column.row,
        }
    }

    /// The tokens of a row, which was taken last, as numbers.
    pub(super) fn numbers(&self, row: usize) -> Cow<'_, [u32]> {
        numbers(self.row(row), self.values)
    }

    /// Those of all rows, where all of them can be used.
    pub(super) fn all(&self) -> Option<&[u32]> {
        match &self.codes {
            Codes::Read(lists) => Some(lists.all()),
            Codes::Column(_) => None,
        }
    }

    /// The row's grid: as its columns say, like the first level's, a square, or one line.
    pub(super) fn grid(&self, row: usize, first: Option<(usize, usize)>) -> (usize, usize) {
        let count = self.row(row).len() / self.values;
        let side = |side: &Option<Whole>| usize::try_from(side.as_ref()?.get(row)?.ok()?).ok();
        let told = side(&self.sides[0]).zip(side(&self.sides[1])).or(first);
        let square = (count.isqrt(), count.isqrt());
        let fits = |grid: &(usize, usize)| grid.0.checked_mul(grid.1) == Some(count);
        told.filter(fits).or(Some(square).filter(fits)).unwrap_or((1, count))
    }
}

fn sides(batch: &RecordBatch, level: &Level) -> [Option<Whole>; 2] {
    let side = |name: &String| Whole::of(batch.column_by_name(name)?).ok();
    [side(&level.grid_height), side(&level.grid_width)]
}

impl Column<'_> {
    fn nested(&mut self) -> Result<&Nested, String> {
        let nested = match self.nested.take() {
            Some(nested) => nested,
            None => Nested::of(self.column, std::slice::from_ref(self.name))
                .map_err(|reason| format!("column {} {reason}", self.name))?,
        };
        Ok(self.nested.insert(nested))
    }

    /// Reads a row, and gives its largest code.
    fn take(&mut self, row: usize) -> Result<u32, String> {
        if let Some(flat) = &self.flat {
            flat.get(row, &mut self.row);
            let largest = self.row.iter().copied().max().unwrap_or(u32::MAX);
            if u64::from(largest) < self.limit {
                return Ok(largest);
            }
        }
        self.row = self.nested()?.get(row)?.codes;
        match self.row.iter().find(|&&code| u64::from(code) >= self.limit) {
            Some(code) => Err(format!("holds {code}, which is beyond the {} codes", self.limit)),
            None => Ok(self.row.iter().copied().max().unwrap_or(0)),
        }
    }
}
