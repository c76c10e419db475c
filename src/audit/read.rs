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

use super::columns::{ColumnLayout, Parsed, Refused};
use super::sources::{self, Sources};
use crate::audit::parquet_file::{Batches, ParquetFile};
use crate::error::{Error, Result};
use crate::util::{error_text, text};

pub(crate) use super::columns::Asked;
use super::rows::BadRows;
pub(crate) use super::rows::{Beside, Grid, GridRow, MadeBy, Shard, Table};

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
    sheet: ParquetFile,
    layout: ColumnLayout,
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
    /// # Errors
    /// Where there is no Parquet file, or none that has `tokens`.
    pub fn open(path: &Path) -> Result<TokenFile> {
        TokenFile::open_as(path, Asked::default())
    }

    /// The same with other columns, or with what is known of the grids.
    ///
    /// # Errors
    /// As for `open`.
    pub fn open_as(path: &Path, asked: Asked) -> Result<TokenFile> {
        let mut sources = sources::of(path)?;
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
        let mut tables = without_copies(tables, &mut sources);
        for missing in &sources.missing {
            let problem = "missing from a finished output; `vqtok repair` rebuilds it".into();
            tables.push(Err(BadRows::all_of(&missing.path, missing.rows, problem)));
        }
        for foreign in &sources.foreign {
            let problem = foreign.problem.clone();
            tables.push(Err(BadRows::all_of(&foreign.path, foreign.rows, problem)));
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

    /// The rows of the next batch; None after the last. What can't be read of a row group is one
    /// stretch of bad rows, and the next group is tried.
    fn advance(&mut self, asked: &Asked, given: u64) -> Option<Vec<Result<GridRow, BadRows>>> {
        let rows = *self.groups.get(self.group)?;
        if self.batches.is_none() {
            match self.sheet.batches_of(&self.layout.roots(), Some(self.group)) {
                Ok(batches) => self.batches = Some(batches),
                Err(error) => return Some(self.give_up(rows, reason_of(&error))),
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
            Ok(Parsed { key, view, levels, guessed, beside }) => Ok(GridRow {
                keyed: key.is_some(),
                key: key.unwrap_or_else(|| number.to_string()),
                view,
                levels,
                guessed,
                file: self.table.path.clone(),
                row,
                beside,
            }),
            Err((key, problem)) => Err(self.bad(row..row + 1, key, problem)),
        }
    }

    fn bad(&self, rows: Range<u64>, key: Option<String>, problem: String) -> BadRows {
        let whole_file = false;
        BadRows { file: self.table.path.clone(), rows, key, problem, whole_file }
    }
}

fn open(path: &Path, asked: &Asked) -> Result<(ParquetFile, ColumnLayout)> {
    let sheet = ParquetFile::open_plain(path, Some(&asked.roots()))?;
    let layout = ColumnLayout::of(&sheet, asked).map_err(|reason| Error::corrupt(path, reason))?;
    Ok((sheet, layout))
}

/// A file none of whose rows can be read.
fn lost(path: &Path, error: &Error) -> BadRows {
    // Its footer may still count its rows.
    let rows = ParquetFile::open_plain(path, Some(&[])).map_or(0, |sheet| sheet.rows);
    BadRows::all_of(path, rows, reason_of(error))
}

/// Why a file can't be read, without its path.
pub(super) fn reason_of(error: &Error) -> String {
    match error {
        Error::Corrupt { reason, .. } => reason.to_string(),
        Error::Io { source, .. } => error_text::reason(source),
        other => other.to_string(),
    }
}

fn file_of(table: &Result<Table, BadRows>) -> &Path {
    match table {
        Ok(table) => &table.path,
        Err(bad) => &bad.file,
    }
}

fn table(path: &Path, sheet: &ParquetFile) -> Table {
    let entry = |name: &str| sheet.entries.get(name).cloned().unwrap_or_default();
    let weights_sha256 = entry("vqtok.weights_sha256");
    let made_by = (!weights_sha256.is_empty()).then(|| MadeBy {
        family: entry("vqtok.family"),
        weights_sha256,
        codebook_sha256: entry("vqtok.codebook_sha256"),
        codes: entry("vqtok.codes").parse().ok(),
        bits: entry("vqtok.bits").parse().ok(),
        scales: serde_json::from_str(&entry("vqtok.scales")).unwrap_or_default(),
    });
    let number = |name: &str| entry(name).parse().ok();
    let shard = || {
        let (partition, partitions) = (number("vqtok.partition")?, number("vqtok.partitions")?);
        Some(Shard { plan: entry("vqtok.plan_sha256"), partitions, partition })
    };
    Table { path: path.into(), rows: sheet.rows, made_by, shard: shard() }
}

/// Tables of which no two are one partition. Of an output, a copy stands in another shard's place;
/// elsewhere it is passed over, and what is missing of an output's shards is said.
fn without_copies(
    tables: Vec<Result<Table, BadRows>>,
    sources: &mut Sources,
) -> Vec<Result<Table, BadRows>> {
    let mut seen: BTreeMap<Shard, Arc<Path>> = BTreeMap::new();
    let mut kept = Vec::new();
    for table in tables {
        let first = match &table {
            Ok(Table { path, shard: Some(shard), .. }) => match seen.get(shard) {
                Some(first) => Some(text::path(&**first)),
                None => {
                    seen.insert(shard.clone(), path.clone());
                    None
                }
            },
            _ => None,
        };
        match (table, first) {
            (Ok(table), Some(first)) if sources.output.is_some() => {
                let problem = format!("a copy of {first}; `vqtok verify` tells what is wrong");
                let rows = 0..table.rows;
                kept.push(Err(BadRows {
                    file: table.path,
                    rows,
                    key: None,
                    problem,
                    whole_file: true,
                }));
            }
            (Ok(table), Some(first)) => {
                let path = text::path(&*table.path);
                sources.notes.push(format!("{path}: passed over, a copy of {first}"));
            }
            (table, _) => kept.push(table),
        }
    }
    let mut outputs: BTreeMap<(&String, u64), u64> = BTreeMap::new();
    seen.keys().for_each(|s| *outputs.entry((&s.plan, s.partitions)).or_default() += 1);
    for ((_, partitions), there) in outputs {
        if sources.output.is_none() && sources.files.len() > 1 && there < partitions {
            sources
                .notes
                .push(format!("{there} of the {partitions} shards of an output are there"));
        }
    }
    kept
}

#[cfg(test)]
mod tests;
