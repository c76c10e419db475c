//! Owns reading token grids out of any Parquet: ours, or what a downstream model wrote. Must not
//! know: the writer, models.
//!
//! Needed is a column `tokens` (or another that is named), a list of integers, nested or not. Taken
//! where they are there: `key`, `grid_height` and `grid_width`, `view`, and the same for
//! `tokens_top` or `tokens_residual_1`, `tokens_residual_2` ... Else keys are row numbers, and grids
//! are what the lists say by their nesting, what is known beforehand, or squares.
//!
//! A row that can't be used costs itself, a stretch that can't be read costs its rows, a file that
//! can't be opened costs the file: each is told in its place, and all others are read.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::columns::{Layout, Parsed, Refused};
use super::sheet::{Batches, Sheet};
use super::sources::{self, Sources};
use crate::error::{Error, Result};
use crate::text;

pub use super::columns::Asked;

/// One grid of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// `height * width` codes, row-major.
    pub codes: Vec<u32>,
    /// In tokens.
    pub height: usize,
    /// In tokens.
    pub width: usize,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GridRow {
    /// The row's key, or its number over all files.
    pub key: String,
    /// Whether the file has a key for it.
    pub keyed: bool,
    /// Number of the view, where the file says.
    pub view: Option<i64>,
    /// `tokens`, then `tokens_top` or the residual ones where there are any.
    pub levels: Vec<Grid>,
    /// Whether nothing but the number of tokens says the grid: it was taken for a square.
    pub guessed: bool,
    /// The file it is in.
    pub file: Arc<Path>,
    /// Its number in there, from 0.
    pub row: u64,
}

/// Rows that can't be used: one, or a stretch or file of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRows {
    /// The file they are in.
    pub file: Arc<Path>,
    /// Their numbers in there, from 0; empty where a file can't be opened that far.
    pub rows: Range<u64>,
    /// The key, where it is one row that has one.
    pub key: Option<String>,
    /// One line.
    pub problem: String,
    /// Whether nothing of their file can be read.
    pub whole_file: bool,
}

impl BadRows {
    /// How many rows that is known to be; 0 where a file can't even be counted.
    pub fn count(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// `part.parquet, row 3 ('cat.png'): has ...`.
    pub fn in_words(&self) -> String {
        let file = text::path(&*self.file);
        let key =
            self.key.as_ref().map_or(String::new(), |key| format!(" ('{}')", text::shorten(key)));
        match self.count() {
            0 => format!("{file}: {}", self.problem),
            1 => format!("{file}, row {}{key}: {}", self.rows.start, self.problem),
            _ => format!(
                "{file}, rows {} to {}: {}",
                self.rows.start,
                self.rows.end - 1,
                self.problem
            ),
        }
    }
}

/// What a file of tokens says of the model that made them; only files of vqtok do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MadeBy {
    /// `vqtok.family`.
    pub family: String,
    /// `vqtok.weights_sha256`, hex.
    pub weights_sha256: String,
    /// `vqtok.codebook_sha256`, hex; empty where the quantizer has no codebook.
    pub codebook_sha256: String,
    /// `vqtok.codes`.
    pub codes: Option<u64>,
}

/// One file that can be read.
#[derive(Debug, Clone)]
pub struct Table {
    /// Where it lies.
    pub path: Arc<Path>,
    /// Its rows.
    pub rows: u64,
    /// The model, where it says one.
    pub made_by: Option<MadeBy>,
}

/// The rows of a file, or of all shards of a folder in the order of their names.
pub struct TokenFile {
    asked: Asked,
    sources: Sources,
    /// By file, in order; Err where it can't be read.
    tables: Vec<Result<Table, BadRows>>,
    entries: BTreeMap<String, String>,
    at: usize,
    current: Option<Current>,
    waiting: VecDeque<Result<GridRow, BadRows>>,
    given: u64,
}

/// The file that is being read.
struct Current {
    table: Table,
    sheet: Sheet,
    layout: Layout,
    /// Rows of its row groups.
    groups: Vec<u64>,
    group: usize,
    /// The number of the row that the next batch begins with.
    row: u64,
    batches: Option<Batches>,
}

impl TokenFile {
    /// Opens a Parquet file, an output folder of vqtok, or a folder of Parquet files.
    ///
    /// Errors where there is no Parquet file, or none that has `tokens`.
    pub fn open(path: &Path) -> Result<TokenFile> {
        TokenFile::open_as(path, Asked::default())
    }

    /// The same with other columns, or with what is known of the grids.
    ///
    /// # Errors
    /// As for `open`.
    pub fn open_as(path: &Path, asked: Asked) -> Result<TokenFile> {
        let sources = sources::of(path)?;
        let (mut tables, mut entries, mut first) = (Vec::new(), BTreeMap::new(), None);
        for path in &sources.files {
            match open(path, &asked) {
                Ok((sheet, _)) => {
                    if entries.is_empty() {
                        entries = sheet.entries.clone();
                    }
                    tables.push(Ok(table(path, &sheet)));
                }
                Err(error) => {
                    tables.push(Err(lost(path, &error)));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) if tables.len() == 1 => return Err(error),
            Some(error) if tables.iter().all(Result::is_err) => {
                let count = tables.len();
                let path = text::path(path);
                return Err(Error::invalid(format!(
                    "{path}: none of {count} files can be read; the first: {error}"
                )));
            }
            _ => {}
        }
        for missing in &sources.missing {
            tables.push(Err(BadRows {
                file: missing.path.as_path().into(),
                rows: 0..missing.rows,
                key: None,
                problem: "missing from a finished output; `vqtok repair` makes it anew".into(),
                whole_file: true,
            }));
        }
        // A shard that is missing is told where it should be.
        tables.sort_by(|a, b| file_of(a).cmp(file_of(b)));
        let waiting = VecDeque::new();
        Ok(TokenFile { asked, sources, tables, entries, at: 0, current: None, waiting, given: 0 })
    }

    /// Rows of all files, as far as they can be counted.
    pub fn row_count(&self) -> u64 {
        let rows = self.tables.iter().map(|table| match table {
            Ok(table) => table.rows,
            Err(bad) => bad.count(),
        });
        rows.fold(0, u64::saturating_add)
    }

    /// Key-value metadata of the first file that can be read, such as `vqtok.weights_sha256`.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }

    /// The files that can be read.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().flatten()
    }

    /// The files that can't.
    pub fn lost(&self) -> impl Iterator<Item = &BadRows> {
        self.tables.iter().filter_map(|table| table.as_ref().err())
    }

    /// What else the path holds, or lacks.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The next row, or the next rows that can't be used. After the last file there are no more.
    pub fn next_row(&mut self) -> Option<Result<GridRow, BadRows>> {
        loop {
            if let Some(row) = self.waiting.pop_front() {
                return Some(row);
            }
            if self.current.is_none() {
                let table = self.tables.get(self.at)?.clone();
                self.at += 1;
                match table.and_then(|table| Current::open(table, &self.asked)) {
                    Ok(current) => self.current = Some(current),
                    Err(bad) => {
                        self.given += bad.count();
                        return Some(Err(bad));
                    }
                }
            }
            let current = self.current.as_mut()?;
            match current.advance(&self.asked, self.given) {
                Some(rows) => {
                    let count =
                        |row: &Result<_, BadRows>| row.as_ref().map_or_else(BadRows::count, |_| 1);
                    self.given += rows.iter().map(count).sum::<u64>();
                    self.waiting.extend(rows);
                }
                None => self.current = None,
            }
        }
    }
}

impl Iterator for TokenFile {
    type Item = Result<GridRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.next_row()?;
        Some(row.map_err(|bad| Error::invalid(bad.in_words())))
    }
}

impl Current {
    fn open(table: Table, asked: &Asked) -> Result<Current, BadRows> {
        // It was read before, and may have changed since.
        let (sheet, layout) =
            open(&table.path, asked).map_err(|error| lost(&table.path, &error))?;
        let groups = sheet.group_rows();
        Ok(Current { table, sheet, layout, groups, group: 0, row: 0, batches: None })
    }

    /// The rows of the next batch; None behind the last. What can't be read of a row group is one
    /// stretch of bad rows, and the next group is tried.
    fn advance(&mut self, asked: &Asked, given: u64) -> Option<Vec<Result<GridRow, BadRows>>> {
        let rows = *self.groups.get(self.group)?;
        if self.batches.is_none() {
            match self.sheet.batches_of(&self.layout.roots(), Some(self.group)) {
                Ok(batches) => self.batches = Some(batches),
                Err(error) => return Some(self.give_up(rows, reason_of(error))),
            }
        }
        let batches = self.batches.as_mut()?;
        let done = batches.row;
        match batches.next_batch() {
            Some(Ok(batch)) => {
                let count = batch.num_rows() as u64;
                let from = self.row;
                self.row += count;
                Some(match self.layout.rows(&batch, asked) {
                    Ok(parsed) => {
                        let rows = (0..).zip(parsed);
                        rows.map(|(i, row)| self.row_of(from + i, given + i, row)).collect()
                    }
                    Err(problem) => vec![Err(self.bad(from..from + count, None, problem))],
                })
            }
            Some(Err(reason)) => Some(self.give_up(rows.saturating_sub(done), reason)),
            None if done < rows => Some(
                self.give_up(rows - done, "are not there, though its footer counts them".into()),
            ),
            None => {
                (self.batches, self.group) = (None, self.group + 1);
                Some(Vec::new())
            }
        }
    }

    /// Leaves the row group, of which so many rows are left.
    fn give_up(&mut self, left: u64, problem: String) -> Vec<Result<GridRow, BadRows>> {
        let from = self.row;
        (self.batches, self.group, self.row) = (None, self.group + 1, from + left);
        match left {
            0 => Vec::new(),
            _ => vec![Err(self.bad(from..from + left, None, problem))],
        }
    }

    fn row_of(
        &self,
        row: u64,
        number: u64,
        parsed: Result<Parsed, Refused>,
    ) -> Result<GridRow, BadRows> {
        match parsed {
            Ok(Parsed { key, view, levels, guessed }) => Ok(GridRow {
                keyed: key.is_some(),
                key: key.unwrap_or_else(|| number.to_string()),
                view,
                levels,
                guessed,
                file: self.table.path.clone(),
                row,
            }),
            Err((key, problem)) => Err(self.bad(row..row + 1, key, problem)),
        }
    }

    fn bad(&self, rows: Range<u64>, key: Option<String>, problem: String) -> BadRows {
        let whole_file = false;
        BadRows { file: self.table.path.clone(), rows, key, problem, whole_file }
    }
}

fn open(path: &Path, asked: &Asked) -> Result<(Sheet, Layout)> {
    let sheet = Sheet::open_plain(path, Some(&asked.roots()))?;
    let layout =
        Layout::of(sheet.schema(), asked).map_err(|reason| Error::corrupt(path, reason))?;
    Ok((sheet, layout))
}

/// A file none of whose rows can be read.
fn lost(path: &Path, error: &Error) -> BadRows {
    // Its footer may still count its rows.
    let rows = Sheet::open_plain(path, Some(&[])).map_or(0, |sheet| sheet.rows);
    let problem = match error {
        Error::Corrupt { reason, .. } => reason.clone(),
        Error::Io { source, .. } => text::reason(source),
        other => other.to_string(),
    };
    BadRows { file: path.into(), rows: 0..rows, key: None, problem, whole_file: true }
}

fn reason_of(error: Error) -> String {
    match error {
        Error::Corrupt { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn file_of(table: &Result<Table, BadRows>) -> &Path {
    match table {
        Ok(table) => &table.path,
        Err(bad) => &bad.file,
    }
}

fn table(path: &Path, sheet: &Sheet) -> Table {
    let entry = |name: &str| sheet.entries.get(name).cloned().unwrap_or_default();
    let weights_sha256 = entry("vqtok.weights_sha256");
    let made_by = (!weights_sha256.is_empty()).then(|| MadeBy {
        family: entry("vqtok.family"),
        weights_sha256,
        codebook_sha256: entry("vqtok.codebook_sha256"),
        codes: entry("vqtok.codes").parse().ok(),
    });
    Table { path: path.into(), rows: sheet.rows, made_by }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
