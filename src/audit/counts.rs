//! Owns counting the codes, errors and labels of token files, row by row. Must not know: how numbers
//! are summed up, how they are shown.

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use serde::Serialize;

use super::columns::Keys;
use super::levels::{self, Level};
use super::nested::Nested;
use super::rows::BadRows;
use crate::audit::parquet_file::ParquetFile;
use crate::error::Result;

/// Labels that are counted one by one; the images of further ones are summed up.
pub const LABELS_MAX: usize = 20_000;
/// Rows that can't be used, and are listed one by one.
pub(super) const PROBLEMS_MAX: usize = 100;
/// Codes are counted below it.
pub(super) const CODES_MAX: u64 = 1 << 24;

/// The distribution of quantization errors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ErrorReport {
    /// Rows that have one.
    pub rows: u64,
    /// Smallest.
    pub min: f64,
    /// Mean over the rows.
    pub mean: f64,
    /// Largest.
    pub max: f64,
    /// (lower edge, rows) of buckets that are an eighth of an octave wide; empty ones left out.
    pub histogram: Vec<(f64, u64)>,
}

/// The rows of one label.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct LabelReport {
    /// Rows.
    pub rows: u64,
    /// Mean of their quantization errors, None where none has one.
    pub mean_error: Option<f64>,
}

/// What is counted in every file: the levels of the first, with K where its metadata says it.
pub(super) struct Columns {
    pub levels: Vec<(&'static Level, Option<u64>)>,
}

impl Columns {
    pub(super) fn of(path: &Path, made_by: &BTreeMap<String, String>) -> Result<Columns> {
        let sheet = ParquetFile::open_plain(path, Some(&[]))?;
        let known =
            |level: &&'static Level| made_by.get(&level.codes).and_then(|text| text.parse().ok());
        let levels = levels::of(sheet.schema()).into_iter();
        Ok(Columns { levels: levels.map(|level| (level, known(&level))).collect() })
    }

    fn names(&self) -> Vec<&str> {
        let tokens = self.levels.iter().map(|(level, _)| level.tokens.as_str());
        tokens.chain(["label", "quantization_error"]).collect()
    }
}

#[derive(Default)]
pub(super) struct Counts {
    pub rows: u64,
    pub levels: Vec<Vec<u64>>,
    pub errors: Errors,
    pub labels: BTreeMap<String, LabelSums>,
    pub further_labels: u64,
    pub unusable: u64,
    pub problems: Vec<String>,
}

#[derive(Default, Clone, Copy)]
pub(super) struct LabelSums {
    rows: u64,
    measured: u64,
    error: f64,
}

impl LabelSums {
    fn merge(&mut self, other: &LabelSums) {
        self.rows += other.rows;
        self.measured += other.measured;
        self.error += other.error;
    }

    pub(super) fn report(&self) -> LabelReport {
        let mean = (self.measured > 0).then(|| self.error / self.measured as f64);
        LabelReport { rows: self.rows, mean_error: mean }
    }
}

#[derive(Default)]
pub(super) struct Errors {
    rows: u64,
    sum: f64,
    range: Option<(f64, f64)>,
    buckets: BTreeMap<u32, u64>,
}

impl Errors {
    fn add(&mut self, error: f64) {
        self.rows += 1;
        self.sum += error;
        self.widen((error, error));
        // Exponent and three bits of the mantissa, in the order of the numbers.
        *self.buckets.entry((error as f32).to_bits() >> 20).or_default() += 1;
    }

    fn widen(&mut self, (low, high): (f64, f64)) {
        let (min, max) = self.range.unwrap_or((low, high));
        self.range = Some((min.min(low), max.max(high)));
    }

    fn merge(&mut self, other: Errors) {
        self.rows += other.rows;
        self.sum += other.sum;
        other.range.into_iter().for_each(|range| self.widen(range));
        for (bucket, rows) in other.buckets {
            *self.buckets.entry(bucket).or_default() += rows;
        }
    }

    pub(super) fn report(&self) -> Option<ErrorReport> {
        let (min, max) = self.range?;
        let edge = |bucket: u32| f64::from(f32::from_bits(bucket << 20));
        let histogram = self.buckets.iter().map(|(&bucket, &rows)| (edge(bucket), rows)).collect();
        Some(ErrorReport {
            rows: self.rows,
            min,
            mean: self.sum / self.rows as f64,
            max,
            histogram,
        })
    }
}

impl Counts {
    pub(super) fn merge(&mut self, other: Counts) {
        self.rows += other.rows;
        self.further_labels += other.further_labels;
        self.unusable += other.unusable;
        let room = PROBLEMS_MAX.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
        self.levels.resize(self.levels.len().max(other.levels.len()), Vec::new());
        for (mine, theirs) in self.levels.iter_mut().zip(other.levels) {
            mine.resize(mine.len().max(theirs.len()), 0);
            mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine += theirs);
        }
        self.errors.merge(other.errors);
        for (label, sums) in other.labels {
            self.label(&label, &sums);
        }
    }

    fn label(&mut self, label: &str, sums: &LabelSums) {
        if let Some(known) = self.labels.get_mut(label) {
            known.merge(sums);
        } else if self.labels.len() < LABELS_MAX {
            self.labels.insert(label.to_string(), *sums);
        } else {
            self.further_labels += sums.rows;
        }
    }

    pub(super) fn bad(&mut self, bad: &BadRows) {
        self.unusable += bad.count();
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(bad.in_words());
        }
    }

    /// Counts a batch; gives the rows of it that can't be used. Errors for what its columns are.
    fn batch(
        &mut self,
        batch: &RecordBatch,
        columns: &Columns,
    ) -> Result<Vec<(u64, String)>, String> {
        self.levels.resize(columns.levels.len(), Vec::new());
        let mut levels = Vec::new();
        for (level, codes) in &columns.levels {
            let name = &level.tokens;
            let column = batch.column_by_name(name).ok_or(format!("it has no column {name}"))?;
            let told = |reason| format!("column {name} {reason}");
            let lists = Nested::of(column, std::slice::from_ref(name)).map_err(told)?;
            levels.push((lists, codes.unwrap_or(CODES_MAX).min(CODES_MAX)));
        }
        let errors = batch.column_by_name("quantization_error").map(floats).unwrap_or_default();
        let labels = batch.column_by_name("label").map(Keys::of).transpose();
        let labels = labels.map_err(|reason| format!("column label {reason}"))?;
        let mut bad = Vec::new();
        for row in 0..batch.num_rows() {
            let codes = levels.iter().map(|(lists, codes)| usable(lists, *codes, row));
            let codes = match codes.collect::<Result<Vec<_>, _>>() {
                Ok(codes) => codes,
                Err(problem) => {
                    bad.push((row as u64, problem));
                    continue;
                }
            };
            self.rows += 1;
            for (uses, codes) in self.levels.iter_mut().zip(codes) {
                let largest = codes.iter().copied().max().unwrap_or(0) as usize;
                if uses.len() <= largest {
                    uses.resize((largest + 1).next_power_of_two(), 0);
                }
                codes.iter().for_each(|&code| uses[code as usize] += 1);
            }
            let error = errors.get(row).copied().flatten();
            error.into_iter().for_each(|error| self.errors.add(error));
            if let Some(label) = labels.as_ref().and_then(|labels| labels.get(row)) {
                let measured = u64::from(error.is_some());
                self.label(&label, &LabelSums { rows: 1, measured, error: error.unwrap_or(0.0) });
            }
        }
        Ok(bad)
    }
}

/// The codes of a row, all below `codes`.
fn usable(lists: &Nested, codes: u64, row: usize) -> Result<Vec<u32>, String> {
    let found = lists.get(row)?.codes;
    match found.iter().find(|&&code| u64::from(code) >= codes) {
        Some(code) => Err(format!("holds {code}, which is beyond the {codes} codes")),
        None => Ok(found),
    }
}

/// Finite, non-negative values of a float column; none of another type.
fn floats(column: &arrow::array::ArrayRef) -> Vec<Option<f64>> {
    let values: Vec<Option<f64>> = match column.data_type() {
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().iter().map(|v| v.map(f64::from)).collect()
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().collect(),
        _ => Vec::new(),
    };
    values.into_iter().map(|v| v.filter(|v| v.is_finite() && *v >= 0.0)).collect()
}

/// Counts one file; what can't be used of it is in the counts.
pub(super) fn count(path: &Path, columns: &Columns) -> Counts {
    let _at = crate::util::panics::at("report", path.file_name().and_then(|name| name.to_str()));
    let mut counts = Counts::default();
    let bad =
        |rows, problem| BadRows { file: path.into(), rows, key: None, problem, whole_file: false };
    let names = columns.names();
    let sheet = match ParquetFile::open_plain(path, Some(&names)) {
        Ok(sheet) => sheet,
        Err(error) => {
            counts.bad(&bad(0..0, error.to_string()));
            return counts;
        }
    };
    let mut row = 0;
    for (group, rows) in sheet.group_rows().into_iter().enumerate() {
        let end = row + rows;
        let reading = sheet.batches_of(&names, Some(group)).map_err(|error| error.to_string());
        let read = reading.and_then(|mut batches| {
            while let Some(batch) = batches.next_batch() {
                let batch = batch?;
                for (i, problem) in counts.batch(&batch, columns)? {
                    counts.bad(&bad(row + i..row + i + 1, problem));
                }
                row += batch.num_rows() as u64;
            }
            Ok(())
        });
        if let Err(problem) = read {
            counts.bad(&bad(row..end, problem));
        }
        row = end;
    }
    counts
}
