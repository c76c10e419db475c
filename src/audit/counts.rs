//! Owns counting the codes, errors and labels of token files, row by row. Must not know: how numbers
//! are summed up, how they are shown.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use arrow::array::RecordBatch;

use super::error_counts::{Errors, floats};
use super::int_lists::IntLists;
use super::keys::Keys;
use super::label_counts::{FileLabels, LabelCounts};
use super::level_codes::LevelCodes;
use super::level_size::{CODES_MAX, LevelSize, each_bit, numbers};
use super::levels::{self, Level};
use super::patterns::{self, GROUPS, PARTS, Patterns, group};
use super::read::TokenFile;
use super::rows::BadRows;
use crate::audit::parquet_file::ParquetFile;
use crate::error::Result;
use crate::util::random::splitmix64;
use crate::util::text;

/// Rows that can't be used, and are listed one by one.
pub(super) const PROBLEMS_MAX: usize = 100;

/// What is counted in every file: the levels of the first, with K where its metadata says it.
pub(super) struct Columns {
    pub levels: Vec<(&'static Level, Option<LevelSize>)>,
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
        let entry = |name: &str| made_by.get(name).map(String::as_str);
        let known = |level: &&'static Level| LevelSize::of(level, entry);
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

    /// Columns of levels that a file says it has, and hasn't.
    pub(super) fn missing(&self, made_by: &BTreeMap<String, String>) -> Vec<&'static str> {
        let there = |level: &&Level| self.levels.iter().any(|(own, _)| own.tokens == level.tokens);
        let said = levels::all().iter().filter(|level| made_by.contains_key(&level.codes));
        said.filter(|level| !there(level)).map(|level| level.tokens.as_str()).collect()
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
        // Lists of bits are digests there, which are as many as there are numbers.
        let codes = |size: LevelSize| Some(size.codes).filter(|_| size.values() == 1);
        let of = |(at, (_, size)): (usize, &(_, Option<LevelSize>))| {
            Patterns::new(size.and_then(codes), grid(at), at == 0)
        };
        levels.map(of).collect()
    }
}

/// What of a file's metadata says how its rows were made: by name without the prefix `vqtok.`.
fn settings(entries: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    const NAMES: [&str; 17] = [
        "family",
        "weights_sha256",
        "codebook_sha256",
        "codes",
        "bits",
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
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub rows: u64,
    /// By level, uses by code, or those of 0 and 1 by bit.
    pub levels: Vec<Vec<u64>>,
    /// By level whose bits are counted, uses by the columns of patterns.
    pub groups: Vec<Vec<u64>>,
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

/// A file that is being counted.
struct Counting<'a> {
    columns: &'a Columns,
    counts: Counts,
    labels: FileLabels,
    /// Which of all files it is.
    number: u64,
}

impl Counting<'_> {
    fn new<'a>(columns: &'a Columns, number: u64, before: Option<&mut Counts>) -> Counting<'a> {
        let levels = vec![Vec::new(); columns.levels.len()];
        let groups = levels.clone();
        let patterns = match before {
            Some(before) => before.patterns.iter_mut().map(Patterns::next).collect(),
            None => columns.patterns(),
        };
        let counts = Counts { levels, groups, patterns, ..Counts::default() };
        Counting { columns, counts, labels: FileLabels::default(), number }
    }

    /// Counts a row group that begins with the file's row `row`, which is moved on, by columns of Arrow;
    /// `counted` rows are passed over. Gives the rows that can't be used to `bad`; errors for what can't
    /// be read from `row` on.
    fn by_columns(
        &mut self,
        sheet: &ParquetFile,
        (group, counted): (usize, u64),
        row: &mut u64,
        bad: &dyn Fn(Range<u64>, String) -> BadRows,
    ) -> Result<(), String> {
        let (begin, names) = (*row - counted, self.columns.names());
        let batches = sheet.batches_of(&names, Some(group)).map_err(|error| error.to_string());
        let mut batches = batches?;
        while let Some(batch) = batches.next_batch() {
            let batch = batch?;
            if begin + batches.row <= *row {
                continue;
            }
            let levels = self.columns.levels.iter();
            let level = |(level, codes): &(&'static Level, Option<LevelSize>)| {
                LevelCodes::of(&batch, level, limit(*codes))
            };
            let levels = levels.map(level).collect::<Result<Vec<_>, _>>()?;
            for (at, problem) in self.batch(&batch, levels, *row)? {
                self.counts.bad(&bad(*row + at..*row + at + 1, problem));
            }
            *row += batch.num_rows() as u64;
        }
        Ok(())
    }

    /// Counts a row group that begins with the file's row `row`, which is moved on, with codes straight
    /// from their pages, up to the first batch in which anything is unusual, wrong, or can't be read:
    /// what that is and what it costs is found by columns. None where there is such a batch.
    fn by_pages(&mut self, sheet: &ParquetFile, group: usize, row: &mut u64) -> Option<()> {
        let (levels, names) = (&self.columns.levels, self.columns.names());
        let lists = levels.iter().map(|(level, _)| sheet.int_lists(&level.tokens, group));
        let mut lists: Vec<IntLists> = lists.collect::<Option<_>>()?;
        let are_codes = |name: &&&str| levels.iter().any(|(level, _)| level.tokens == **name);
        let beside: Vec<&str> = names.iter().filter(|name| !are_codes(name)).copied().collect();
        let mut batches = sheet.batches_of(&beside, Some(group)).ok()?;
        while let Some(batch) = batches.next_batch() {
            let batch = batch.ok()?;
            let levels = lists.iter_mut().zip(levels).map(|(lists, (level, codes))| {
                LevelCodes::read(lists.next(batch.num_rows())?, &batch, level, limit(*codes))
            });
            let levels = levels.collect::<Option<_>>()?;
            self.batch(&batch, levels, *row).ok()?;
            *row += batch.num_rows() as u64;
        }
        lists.iter_mut().try_for_each(|lists| lists.next(0).map(|_| ()))
    }

    /// Counts a batch that begins with row `from`; gives the rows of it that can't be used. Errors for
    /// what its columns are, before anything is counted.
    fn batch(
        &mut self,
        batch: &RecordBatch,
        mut levels: Vec<LevelCodes<'_>>,
        from: u64,
    ) -> Result<Vec<(u64, String)>, String> {
        let errors = batch.column_by_name("quantization_error").map(floats).unwrap_or_default();
        // Lists and structs are labels of another tool's making: as elsewhere, none of ours.
        let labels = batch.column_by_name("label").filter(|label| !label.data_type().is_nested());
        let labels = labels.map(Keys::of).transpose();
        let labels = labels.map_err(|reason| format!("column 'label': {reason}"))?;
        for (at, level) in levels.iter().enumerate() {
            level.all().into_iter().for_each(|codes| self.count(at, codes, level.largest));
        }
        let mut bad = Vec::new();
        for row in 0..batch.num_rows() {
            if let Err(problem) = levels.iter_mut().try_for_each(|level| level.take(row)) {
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
    fn row(&mut self, levels: &[LevelCodes], row: usize, label: Option<usize>, at: u64) {
        self.counts.rows += 1;
        for (at, level) in levels.iter().enumerate() {
            // Where all rows can be used, their codes are counted already.
            if level.all().is_none() {
                self.count(at, level.row(row), level.largest);
            }
        }
        if !at.is_multiple_of(self.columns.stride) {
            return;
        }
        let (part, mut first) = (part(self.number, at), None);
        for (index, level) in levels.iter().enumerate() {
            let beside = self.columns.levels[index].0.has_first_grid();
            let grid = level.grid(row, first.filter(|_| beside));
            first.get_or_insert(grid);
            self.counts.patterns[index].add(&level.numbers(row), grid, label, part);
        }
    }

    /// Counts codes of a level, or their bits; `largest` is the largest code.
    fn count(&mut self, level: usize, codes: &[u32], largest: u32) {
        let uses = &mut self.counts.levels[level];
        let size = self.columns.levels[level].1;
        let Some((bits, values)) = size.and_then(|size| Some((size.bits?, size.values()))) else {
            return count_codes(uses, codes, largest);
        };
        uses.resize(2 * bits, 0);
        for token in codes.chunks_exact(values) {
            // All are below K, which of a list is 2.
            let _ = each_bit(token, bits, |place| uses[place] += 1);
        }
        let groups = &mut self.counts.groups[level];
        groups.resize(GROUPS, 0);
        numbers(codes, values).iter().for_each(|&code| groups[group(code)] += 1);
    }
}

/// What codes of a level are below, and how many values a token has.
fn limit(size: Option<LevelSize>) -> (u64, usize) {
    match size {
        Some(size) if size.bits.is_some() => (size.codes, size.values()),
        size => (size.map_or(CODES_MAX, |size| size.codes.min(CODES_MAX)), 1),
    }
}

/// Counts codes, of which `largest` is the largest.
fn count_codes(uses: &mut Vec<u64>, codes: &[u32], largest: u32) {
    if uses.len() <= largest as usize {
        uses.resize((largest as usize + 1).next_power_of_two(), 0);
    }
    if (largest as usize) < TABLE && codes.len() > 4 * TABLE {
        return count_in_tables(uses, codes);
    }
    codes.iter().for_each(|&code| uses[code as usize] += 1);
}

/// Codes that have tables of their own where many are counted.
const TABLE: usize = 2048;

/// Counts codes below [`TABLE`] in turn in four tables: neighbours are often equal, and to add to a
/// number that was just added to takes several times as long.
fn count_in_tables(uses: &mut [u64], codes: &[u32]) {
    let mut tables = [[0_u32; TABLE]; 4];
    let (fours, rest) = codes.as_chunks::<4>();
    for four in fours {
        tables.iter_mut().zip(four).for_each(|(table, &code)| table[code as usize % TABLE] += 1);
    }
    rest.iter().for_each(|&code| uses[code as usize] += 1);
    for table in &tables {
        uses.iter_mut().zip(table).for_each(|(uses, &more)| *uses += u64::from(more));
    }
}

/// Which part a row falls into, by chance but always the same.
fn part(file: u64, row: u64) -> usize {
    (splitmix64(file, row) % PARTS as u64) as usize
}

/// Counts one file, the `number`th of all; what can't be used of it is in the counts. `before` are those
/// of the file before it, where they are merged before these: its tables are gone on with.
pub(super) fn count(
    path: &Path,
    columns: &Columns,
    number: u64,
    before: Option<&mut Counts>,
) -> Counts {
    let name = path.file_name().map(|name| text::path(Path::new(name))).unwrap_or_default();
    let _at = crate::util::panics::at("report", path.file_name().and_then(|name| name.to_str()));
    let mut counting = Counting::new(columns, number, before);
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
        let begin = row;
        if counting.by_pages(&sheet, group, &mut row).is_none() {
            let rest = (group, row - begin);
            if let Err(problem) = counting.by_columns(&sheet, rest, &mut row, &bad) {
                counting.counts.bad(&bad(row..end, problem));
            }
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
        let Counts { patterns, levels, groups, .. } = &mut self.counts;
        for (patterns, (uses, groups)) in patterns.iter_mut().zip(levels.iter().zip(&*groups)) {
            // Each column is its first code's.
            let uses = if groups.is_empty() { uses } else { groups };
            patterns.close(name.clone(), rows, labels.clone(), uses);
        }
        // They are in the patterns now.
        groups.clear();
        self.counts.labels = self.labels.finish();
        self.counts
    }
}

#[cfg(test)]
mod tests;
