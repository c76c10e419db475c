//! Owns reading token grids out of any Parquet: ours, or what a downstream model wrote. Must not
//! know: the writer, models.
//!
//! Needed is a column `tokens`, a list of integers. Taken where they are there: `key`,
//! `grid_height` and `grid_width`, `view`, and the same for `tokens_top` or `tokens_residual_1`,
//! `tokens_residual_2` ... Else keys are row numbers and grids are squares.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType;

use super::integers::{self, Lists};
use super::levels;
use super::sheet::{Batches, Sheet};
use crate::error::{Error, Result};
use crate::text;

static COLUMNS: LazyLock<Vec<&str>> =
    LazyLock::new(|| ["key", "view"].into_iter().chain(levels::columns()).collect());

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
    /// The row's key, or its number.
    pub key: String,
    /// Number of the view, where the file says.
    pub view: Option<i64>,
    /// `tokens`, then `tokens_top` or the residual ones where there are any.
    pub levels: Vec<Grid>,
}

/// The rows of a file, or of all shards of a folder in the order of their names.
pub struct TokenFile {
    files: VecDeque<PathBuf>,
    entries: BTreeMap<String, String>,
    current: Option<(PathBuf, Batches)>,
    rows: std::vec::IntoIter<GridRow>,
    given: u64,
}

impl TokenFile {
    /// Opens a Parquet file, an output folder of vqtok, or a folder of Parquet files.
    ///
    /// Errors where there is no Parquet file, or the first one has no `tokens`.
    pub fn open(path: &Path) -> Result<TokenFile> {
        let files = files(path)?;
        let sheet = open(&files[0])?;
        let entries = sheet.entries.clone();
        Ok(TokenFile { files, entries, current: None, rows: Vec::new().into_iter(), given: 0 })
    }

    /// Rows of all files that aren't begun yet, from their footers.
    ///
    /// # Errors
    /// A file that is no such Parquet.
    pub fn row_count(&self) -> Result<u64> {
        self.files.iter().map(|path| open(path).map(|sheet| sheet.rows)).sum()
    }

    /// Key-value metadata of the first file, such as `vqtok.weights_sha256`.
    pub fn entries(&self) -> &BTreeMap<String, String> {
        &self.entries
    }

    /// The next batch's rows; false where there are no more.
    fn advance(&mut self) -> Result<bool> {
        loop {
            if self.current.is_none() {
                let Some(path) = self.files.pop_front() else { return Ok(false) };
                let batches = open(&path)?.batches(&COLUMNS)?;
                self.current = Some((path, batches));
            }
            let Some((path, batches)) = &mut self.current else { return Ok(false) };
            let before = batches.row;
            let Some(batch) = batches.next().transpose()? else {
                self.current = None;
                continue;
            };
            let rows = rows(&batch, self.given).map_err(|reason| {
                Error::corrupt(
                    &*path,
                    format!("in the {} rows from {before} on: {reason}", batch.num_rows()),
                )
            })?;
            self.given += rows.len() as u64;
            self.rows = rows.into_iter();
            return Ok(true);
        }
    }
}

impl Iterator for TokenFile {
    type Item = Result<GridRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.rows.next() {
                return Some(Ok(row));
            }
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => {
                    self.files.clear();
                    self.current = None;
                    return Some(Err(error));
                }
            }
        }
    }
}

/// The Parquet files of a path: itself, its `tokens/*.parquet`, or its `*.parquet`.
pub(super) fn files(path: &Path) -> Result<VecDeque<PathBuf>> {
    if !path.is_dir() {
        return Ok(VecDeque::from([path.to_path_buf()]));
    }
    let shards = path.join("tokens");
    let folder = if shards.is_dir() { shards.as_path() } else { path };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder))? {
        let path = entry.map_err(Error::io(folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".parquet") && !name.starts_with('.') {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(Error::invalid(format!("{}: no Parquet file in it", text::path(&folder))));
    }
    Ok(files.into())
}

pub(super) fn open(path: &Path) -> Result<Sheet> {
    let sheet = Sheet::open(path, Some(&COLUMNS))?;
    if sheet.schema().column_with_name("tokens").is_none() {
        let names: Vec<_> = sheet.schema().fields().iter().take(20).map(|f| f.name()).collect();
        let names = names.iter().map(|n| text::printable(n).into_owned()).collect::<Vec<_>>();
        let names = names.join(", ");
        return Err(Error::corrupt(path, format!("has no column 'tokens' (it has: {names})")));
    }
    Ok(sheet)
}

fn rows(batch: &RecordBatch, first: u64) -> Result<Vec<GridRow>, String> {
    let told = |name: &'static str| move |reason: String| format!("column '{name}' {reason}");
    let integer = |name: &'static str| -> Result<Option<Vec<i64>>, String> {
        batch.column_by_name(name).map(integers::column).transpose().map_err(told(name))
    };
    let keys = batch.column_by_name("key").map(texts).transpose().map_err(told("key"))?;
    let views = integer("view")?;
    let mut levels: Vec<(Lists, Option<Vec<i64>>, Option<Vec<i64>>)> = Vec::new();
    for level in levels::of(&batch.schema()) {
        let Some(column) = batch.column_by_name(&level.tokens) else { continue };
        let lists = integers::lists(column).map_err(told(&level.tokens))?;
        // A residual level has the first one's grid where the file doesn't repeat it.
        let first = levels.first().filter(|_| level.residual);
        let height = integer(&level.grid_height)?.or_else(|| first?.1.clone());
        let width = integer(&level.grid_width)?.or_else(|| first?.2.clone());
        levels.push((lists, height, width));
    }
    let row = |i: usize| -> Result<GridRow, String> {
        let key = match &keys {
            Some(keys) => keys[i].clone(),
            None => (first + i as u64).to_string(),
        };
        let grids = levels.iter().map(|(lists, heights, widths)| {
            grid(lists, heights.as_ref().map(|h| h[i]), widths.as_ref().map(|w| w[i]), i)
                .map_err(|reason| format!("row '{}' {reason}", text::printable(&key)))
        });
        let levels = grids.collect::<Result<Vec<_>, _>>()?;
        Ok(GridRow { view: views.as_ref().map(|v| v[i]), levels, key })
    };
    (0..batch.num_rows()).map(row).collect()
}

/// Row `i` of a token column as a grid of the given shape, or of a square's.
fn grid(lists: &Lists, height: Option<i64>, width: Option<i64>, i: usize) -> Result<Grid, String> {
    let codes = lists.get(i);
    let count = codes.len();
    let (height, width) = match (height, width) {
        (Some(height), Some(width)) => {
            let area = height.checked_mul(width);
            if height <= 0 || width <= 0 || area != i64::try_from(count).ok() {
                return Err(format!("has {count} tokens for a grid of {height} x {width}"));
            }
            (height as usize, width as usize)
        }
        _ => {
            let side = count.isqrt();
            if side == 0 || side * side != count {
                return Err(format!(
                    "has {count} tokens, which is no square; add columns grid_height and grid_width"
                ));
            }
            (side, side)
        }
    };
    Ok(Grid { codes: codes.to_vec(), height, width })
}

/// Keys in any of Arrow's text types, or as integers.
pub(super) fn texts(column: &ArrayRef) -> Result<Vec<String>, String> {
    let texts: Option<Vec<String>> = optional_texts(column)?.into_iter().collect();
    texts.ok_or_else(|| "has missing values (null)".into())
}

/// The same where values may be missing.
pub(super) fn optional_texts(column: &ArrayRef) -> Result<Vec<Option<String>>, String> {
    match column.data_type() {
        DataType::Utf8 => {
            Ok(column.as_string::<i32>().iter().map(|t| t.map(str::to_string)).collect())
        }
        DataType::LargeUtf8 => {
            Ok(column.as_string::<i64>().iter().map(|t| t.map(str::to_string)).collect())
        }
        DataType::Utf8View => {
            Ok(column.as_string_view().iter().map(|t| t.map(str::to_string)).collect())
        }
        DataType::Dictionary(..) => {
            let plain = arrow::compute::cast(column, &DataType::Utf8).map_err(|e| e.to_string())?;
            optional_texts(&plain)
        }
        _ => Ok(integers::column(column)?.iter().map(|n| Some(n.to_string())).collect()),
    }
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
