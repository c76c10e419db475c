//! Owns counting the codes, errors and labels of token files, row by row. Must not know: how numbers
//! are summed up, how they are shown.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{ArrayRef, RecordBatch};

use super::error_counts::{Errors, floats};
use super::flat::Flat;
use super::keys::Keys;
use super::label_counts::{FileLabels, LabelCounts};
use super::levels::{self, Level};
use super::nested::{Nested, Whole};
use super::patterns::{self, PARTS, Patterns};
use super::read::TokenFile;
use super::rows::BadRows;
use crate::audit::parquet_file::ParquetFile;
use crate::error::Result;
use crate::util::random::splitmix64;
use crate::util::text;

/// Rows that can't be used, and are listed one by one.
pub(super) const PROBLEMS_MAX: usize = 100;
/// Codes are counted below it.
pub(super) const CODES_MAX: u64 = 1 << 24;

/// What is counted in every file: the levels of the first, with K where its metadata says it.
pub(super) struct Columns {
    pub levels: Vec<(&'static Level, Option<u64>)>,
    /// Height and width of the first row's grids, for the tables of places.
    grids: Vec<(usize, usize)>,
    /// What the first file says of how it was made.
    made_by: BTreeMap<String, String>,
    /// Rows of which one is sampled.
    stride: u64,
}

impl Columns {
    /// Of a file, of whose rows there are so many in all files.
    pub(super) fn of(
        path: &Path,
        made_by: &BTreeMap<String, String>,
        rows: u64,
    ) -> Result<Columns> {
        let sheet = ParquetFile::open_plain(path, Some(&[]))?;
        let known =
            |level: &&'static Level| made_by.get(&level.codes).and_then(|text| text.parse().ok());
        let levels = levels::of(sheet.schema()).into_iter();
        let levels: Vec<_> = levels.map(|level| (level, known(&level))).collect();
        let mut first = TokenFile::open(path).ok();
        let mut rows_there = std::iter::from_fn(|| first.as_mut()?.next_row());
        let grids = rows_there.find_map(Result::ok).map_or(Vec::new(), |row| {
            row.levels.iter().map(|grid| (grid.height, grid.width)).collect()
        });
        let tokens = grids.first().map_or(1, |grid: &(usize, usize)| (grid.0 * grid.1) as u64);
        let (made_by, stride) = (settings(made_by), patterns::stride(rows, tokens));
        Ok(Columns { levels, grids, made_by, stride })
    }

    fn names(&self) -> Vec<&str> {
        let level = |(level, _): &(&'static Level, _)| {
            [level.tokens.as_str(), level.grid_height.as_str(), level.grid_width.as_str()]
        };
        let levels = self.levels.iter().flat_map(level);
        levels.chain(["label", "quantization_error"]).collect()
    }

    fn patterns(&self) -> Vec<Patterns> {
        let levels = self.levels.iter().enumerate();
        let grid = |at: usize| self.grids.get(at).copied().unwrap_or((1, 1));
        levels.map(|(at, (_, codes))| Patterns::new(*codes, grid(at), at == 0)).collect()
    }
}

/// What of a file's metadata says how its rows were made: by name without the prefix `vqtok.`.
fn settings(entries: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const NAMES: [&str; 16] = [
        "family",
        "weights_sha256",
        "codebook_sha256",
        "codes",
        "dim",
        "factor",
        "resize",
        "size",
        "buckets",
        "alpha",
        "orientation",
        "pillow",
        "views",
        "label_level",
        "precision",
        "device",
    ];
    let said = NAMES.iter().filter_map(|name| entries.get_key_value(*name));
    said.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// What is counted of files.
#[derive(Default)]
pub(super) struct Counts {
    pub rows: u64,
    pub levels: Vec<Vec<u64>>,
    pub errors: Errors,
    pub labels: LabelCounts,
    pub unusable: u64,
    pub problems: Vec<String>,
    /// By level.
    pub patterns: Vec<Patterns>,
    /// Files made with other settings than the first, by what differs: how many, and the first's name.
    pub others: BTreeMap<Vec<String>, (u64, String)>,
}

impl Counts {
    pub(super) fn merge(&mut self, other: Counts) {
        self.rows += other.rows;
        self.unusable += other.unusable;
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
        self.levels.resize(self.levels.len().max(other.levels.len()), Vec::new());
        for (mine, theirs) in self.levels.iter_mut().zip(other.levels) {
            mine.resize(mine.len().max(theirs.len()), 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.errors.merge(other.errors);
        self.labels.merge(other.labels);
        self.patterns.resize_with(self.patterns.len().max(other.patterns.len()), Patterns::default);
        let patterns = self.patterns.iter_mut().zip(other.patterns);
        patterns.for_each(|(mine, theirs)| mine.merge(theirs));
        for (differs, (files, first)) in other.others {
            self.others.entry(differs).or_insert((0, first)).0 += files;
        }
    }

    pub(super) fn bad(&mut self, bad: &BadRows) {
        self.unusable += bad.count();
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(bad.in_words());
        }
    }
}

/// One level in a batch.
struct Lists<'a> {
    column: &'a ArrayRef,
    name: &'a String,
    flat: Option<Flat>,
    nested: Option<Nested>,
    /// Height and width, where there are columns of them.
    sides: [Option<Whole>; 2],
    /// Codes are below it.
    limit: u64,
    codes: Vec<u32>,
    largest: u32,
}

impl<'a> Lists<'a> {
    fn of(
        batch: &'a RecordBatch,
        level: &'static Level,
        codes: Option<u64>,
    ) -> Result<Lists<'a>, String> {
        let name = &level.tokens;
        let column = batch.column_by_name(name).ok_or(format!("it has no column {name}"))?;
        let side = |name: &String| Whole::of(batch.column_by_name(name)?).ok();
        let mut lists = Lists {
            column,
            name,
            flat: Flat::of(column),
            nested: None,
            sides: [side(&level.grid_height), side(&level.grid_width)],
            limit: codes.unwrap_or(CODES_MAX).min(CODES_MAX),
            codes: Vec::new(),
            largest: 0,
        };
        if lists.flat.is_none() {
            lists.nested()?;
        }
        Ok(lists)
    }

    fn nested(&mut self) -> Result<&Nested, String> {
        let nested = match self.nested.take() {
            Some(nested) => nested,
            None => Nested::of(self.column, std::slice::from_ref(self.name))
                .map_err(|reason| format!("column {} {reason}", self.name))?,
        };
        Ok(self.nested.insert(nested))
    }

    /// Reads a row's codes, of which there is one at least, all below the limit.
    fn read(&mut self, row: usize) -> Result<(), String> {
        if let Some(flat) = &self.flat {
            flat.get(row, &mut self.codes);
            self.largest = self.codes.iter().copied().max().unwrap_or(u32::MAX);
            if u64::from(self.largest) < self.limit {
                return Ok(());
            }
        }
        self.codes = self.nested()?.get(row)?.codes;
        self.largest = self.codes.iter().copied().max().unwrap_or(0);
        match self.codes.iter().find(|&&code| u64::from(code) >= self.limit) {
            Some(code) => Err(format!("holds {code}, which is beyond the {} codes", self.limit)),
            None => Ok(()),
        }
    }

    /// The row's grid: as its columns say, like the first level's, a square, or one line.
    fn grid(&self, row: usize, first: Option<(usize, usize)>) -> (usize, usize) {
        let count = self.codes.len();
        let side = |side: &Option<Whole>| usize::try_from(side.as_ref()?.get(row)?.ok()?).ok();
        let told = side(&self.sides[0]).zip(side(&self.sides[1])).or(first);
        let square = (count.isqrt(), count.isqrt());
        let fits = |grid: &(usize, usize)| grid.0.checked_mul(grid.1) == Some(count);
        told.filter(fits).or(Some(square).filter(fits)).unwrap_or((1, count))
    }
}

/// A file that is being counted.
struct Counting<'a> {
    columns: &'a Columns,
    counts: Counts,
    labels: FileLabels,
    /// Which of all files it is.
    number: u64,
}

impl Counting<'_> {
    /// Counts a batch that begins with row `from`; gives the rows of it that can't be used. Errors for
    /// what its columns are.
    fn batch(&mut self, batch: &RecordBatch, from: u64) -> Result<Vec<(u64, String)>, String> {
        let levels =
            self.columns.levels.iter().map(|(level, codes)| Lists::of(batch, level, *codes));
        let mut levels = levels.collect::<Result<Vec<_>, _>>()?;
        let errors = batch.column_by_name("quantization_error").map(floats).unwrap_or_default();
        // Lists and structs are labels of another tool's making: as elsewhere, none of ours.
        let labels = batch.column_by_name("label").filter(|label| !label.data_type().is_nested());
        let labels = labels.map(Keys::of).transpose();
        let labels = labels.map_err(|reason| format!("column 'label': {reason}"))?;
        let mut bad = Vec::new();
        for row in 0..batch.num_rows() {
            if let Err(problem) = levels.iter_mut().try_for_each(|lists| lists.read(row)) {
                bad.push((row as u64, problem));
                continue;
            }
            let error = errors.get(row).copied().flatten();
            let label = labels.as_ref().and_then(|labels| self.label(labels, row, error));
            error.into_iter().for_each(|error| self.counts.errors.add(error));
            self.row(&levels, row, label, from + row as u64);
        }
        Ok(bad)
    }

    /// Counts the label of a row, and gives its place.
    fn label(&mut self, labels: &Keys, row: usize, error: Option<f64>) -> Option<usize> {
        let text = || labels.get(row).unwrap_or_default();
        let (place, new) = self.labels.add(labels.bytes(row)?, text, error)?;
        if let Some(new) = new {
            self.counts.patterns.iter_mut().for_each(|patterns| patterns.take_label(new));
        }
        Some(place)
    }

    /// Counts the codes of a row, which is the file's row `at`.
    fn row(&mut self, levels: &[Lists], row: usize, label: Option<usize>, at: u64) {
        self.counts.rows += 1;
        for (uses, lists) in self.counts.levels.iter_mut().zip(levels) {
            if uses.len() <= lists.largest as usize {
                uses.resize((lists.largest as usize + 1).next_power_of_two(), 0);
            }
            lists.codes.iter().for_each(|&code| uses[code as usize] += 1);
        }
        if !at.is_multiple_of(self.columns.stride) {
            return;
        }
        let (part, mut first) = (part(self.number, at), None);
        for (index, lists) in levels.iter().enumerate() {
            let beside = self.columns.levels[index].0.has_first_grid();
            let grid = lists.grid(row, first.filter(|_| beside));
            first.get_or_insert(grid);
            self.counts.patterns[index].add(&lists.codes, grid, label, part);
        }
    }
}

/// Which part a row falls into, by chance but always the same.
fn part(file: u64, row: u64) -> usize {
    (splitmix64(file, row) % PARTS as u64) as usize
}

/// Counts one file, the `number`th of all; what can't be used of it is in the counts.
pub(super) fn count(path: &Path, columns: &Columns, number: u64) -> Counts {
    let name = path.file_name().map(|name| text::path(Path::new(name))).unwrap_or_default();
    let _at = crate::util::panics::at("report", path.file_name().and_then(|name| name.to_str()));
    let mut counting = Counting {
        columns,
        counts: Counts {
            levels: vec![Vec::new(); columns.levels.len()],
            patterns: columns.patterns(),
            ..Counts::default()
        },
        labels: FileLabels::default(),
        number,
    };
    let bad =
        |rows, problem| BadRows { file: path.into(), rows, key: None, problem, whole_file: false };
    let names = columns.names();
    let sheet = match ParquetFile::open_plain(path, Some(&names)) {
        Ok(sheet) => sheet,
        Err(error) => {
            counting.counts.bad(&bad(0..0, error.to_string()));
            return counting.counts;
        }
    };
    counting.compare(&sheet, &name);
    let mut row = 0;
    for (group, rows) in sheet.group_rows().into_iter().enumerate() {
        let end = row + rows;
        let reading = sheet.batches_of(&names, Some(group)).map_err(|error| error.to_string());
        let read = reading.and_then(|mut batches| {
            while let Some(batch) = batches.next_batch() {
                let batch = batch?;
                for (i, problem) in counting.batch(&batch, row)? {
                    counting.counts.bad(&bad(row + i..row + i + 1, problem));
                }
                row += batch.num_rows() as u64;
            }
            Ok(())
        });
        if let Err(problem) = read {
            counting.counts.bad(&bad(row..end, problem));
        }
        row = end;
    }
    counting.finish(name)
}

impl Counting<'_> {
    /// Notes what the file says was set otherwise than for the first.
    fn compare(&mut self, sheet: &ParquetFile, name: &str) {
        let entries = sheet.entries.iter();
        let own = entries.filter_map(|(key, value)| {
            Some((key.strip_prefix("vqtok.")?.to_string(), value.clone()))
        });
        let (own, first) = (settings(&own.collect()), &self.columns.made_by);
        let names = own.keys().chain(first.keys().filter(|name| !own.contains_key(*name)));
        let mut differs: Vec<String> =
            names.filter(|name| own.get(*name) != first.get(*name)).cloned().collect();
        differs.sort_unstable();
        if !differs.is_empty() {
            self.counts.others.insert(differs, (1, name.to_string()));
        }
    }

    fn finish(mut self, name: String) -> Counts {
        let (rows, labels) = (self.counts.rows, self.labels.first(patterns::LABELS_MAX));
        for (patterns, uses) in self.counts.patterns.iter_mut().zip(&self.counts.levels) {
            patterns.close(name.clone(), rows, labels.clone(), uses);
        }
        self.counts.labels = self.labels.finish();
        self.counts
    }
}
