//! Owns the facts of a tokenized data set worth looking at: use of the codebook, quantization
//! errors, labels, failures. Works on our outputs and on any Parquet with `tokens`. Must not know:
//! the writer, how facts are drawn.
//!
//! Shards are counted in parallel and merged in order; memory holds one batch a thread, the
//! counters, and at most [`LABELS_MAX`] labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use rayon::prelude::*;
use serde::Serialize;

use super::levels::{self, Level};
use super::sheet::Sheet;
use super::{integers, read};
use crate::error::{Error, Result};

/// Labels that are counted one by one; the images of further ones are summed up.
pub const LABELS_MAX: usize = 20_000;
/// Failures that are listed one by one.
pub const FAILURES_MAX: usize = 500;
/// The largest code that is counted.
const CODE_MAX: u32 = (1 << 24) - 1;
/// Codes listed as the most and the least used.
const EXTREMES: usize = 20;

/// What `vqtok audit` shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// Files that were read.
    pub files: u64,
    /// Their rows.
    pub rows: u64,
    /// What the first file says of itself, by name without the prefix `vqtok.`.
    pub made_by: BTreeMap<String, String>,
    /// One entry a level.
    pub levels: Vec<LevelReport>,
    /// Mean squared distances of rows; None where no row has one.
    pub quantization_error: Option<ErrorReport>,
    /// Rows, and their mean quantization error, by label; rows without one are not in it.
    pub labels: BTreeMap<String, LabelReport>,
    /// Rows whose label came after [`LABELS_MAX`] others.
    pub further_labels: u64,
    /// Images given up.
    pub failed: u64,
    /// The same by stage and then error text.
    pub failed_by_error: BTreeMap<String, u64>,
    /// The first of them.
    pub failures: Vec<FailureReport>,
}

/// The use of one level's codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelReport {
    /// The column of its tokens.
    pub column: &'static str,
    /// K as the metadata says, or the largest code + 1.
    pub codes: u64,
    /// Tokens.
    pub tokens: u64,
    /// Codes used at least once.
    pub used: u64,
    /// Entropy of their use in bits.
    pub entropy_bits: f64,
    /// 2^H.
    pub perplexity: f64,
    /// Uses of the codes, most used first, at up to 512 ranks: (rank from 1, uses).
    pub rank_frequency: Vec<(u64, u64)>,
    /// Codes by uses: `by_uses[0]` were never used, `by_uses[i]` 2^(i-1) to 2^i - 1 times.
    pub by_uses: Vec<u64>,
    /// (code, uses), most used first.
    pub most_used: Vec<(u32, u64)>,
    /// (code, uses) of those used at all, least used first.
    pub least_used: Vec<(u32, u64)>,
}

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

/// One image that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    /// Its key.
    pub key: String,
    /// Where.
    pub stage: String,
    /// Why.
    pub error: String,
}

/// Reads an output folder, a folder of Parquet files or one file.
pub fn report(path: &Path) -> Result<AuditReport> {
    let files: Vec<PathBuf> = read::files(path)?.into();
    let first = read::open(&files[0])?;
    let entries = first.entries.iter();
    let made_by = entries
        .filter_map(|(key, value)| Some((key.strip_prefix("vqtok.")?.to_string(), value.clone())))
        .filter(|(key, _)| key != "identity")
        .collect::<BTreeMap<_, _>>();
    let levels = levels::of(first.schema());
    let mut counts = Counts::default();
    for wave in files.chunks(rayon::current_num_threads().max(1) * 2) {
        let counted: Result<Vec<Counts>> =
            wave.par_iter().map(|path| count(path, &levels)).collect();
        counted?.into_iter().for_each(|part| counts.merge(part));
    }
    let mut report = AuditReport {
        files: files.len() as u64,
        rows: counts.rows,
        made_by,
        levels: Vec::new(),
        quantization_error: counts.errors.report(),
        labels: counts.labels.iter().map(|(label, sums)| (label.clone(), sums.report())).collect(),
        further_labels: counts.further_labels,
        failed: 0,
        failed_by_error: BTreeMap::new(),
        failures: Vec::new(),
    };
    for (names, uses) in levels.into_iter().zip(counts.levels) {
        let codes = report.made_by.get(&names.codes).and_then(|text| text.parse().ok());
        report.levels.push(level(&names.tokens, uses, codes));
    }
    if path.join("failures").is_dir() {
        for file in read::files(&path.join("failures"))? {
            take_failures(&mut report, &file)?;
        }
    }
    Ok(report)
}

#[derive(Default)]
struct Counts {
    rows: u64,
    levels: Vec<Vec<u64>>,
    errors: Errors,
    labels: BTreeMap<String, LabelSums>,
    further_labels: u64,
}

#[derive(Default, Clone, Copy)]
struct LabelSums {
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

    fn report(&self) -> LabelReport {
        let mean = (self.measured > 0).then(|| self.error / self.measured as f64);
        LabelReport { rows: self.rows, mean_error: mean }
    }
}

#[derive(Default)]
struct Errors {
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

    fn report(&self) -> Option<ErrorReport> {
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
    fn merge(&mut self, other: Counts) {
        self.rows += other.rows;
        self.further_labels += other.further_labels;
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

    fn batch(&mut self, batch: &RecordBatch, levels: &[&Level]) -> Result<(), String> {
        self.rows += batch.num_rows() as u64;
        self.levels.resize(levels.len(), Vec::new());
        for (Level { tokens: name, .. }, uses) in levels.iter().zip(&mut self.levels) {
            let Some(column) = batch.column_by_name(name) else { continue };
            let lists = integers::lists(column).map_err(|why| format!("column {name} {why}"))?;
            let largest = lists.values.iter().copied().max().unwrap_or(0);
            if largest > CODE_MAX {
                return Err(format!("column {name} holds the code {largest}"));
            }
            uses.resize(uses.len().max(largest as usize + 1), 0);
            lists.values.iter().for_each(|&code| uses[code as usize] += 1);
        }
        let errors = batch.column_by_name("quantization_error").map(floats).unwrap_or_default();
        errors.iter().flatten().for_each(|&error| self.errors.add(error));
        if let Some(column) = batch.column_by_name("label") {
            let labels =
                read::optional_texts(column).map_err(|why| format!("column label {why}"))?;
            for (i, label) in labels.iter().enumerate() {
                let Some(label) = label else { continue };
                let error = errors.get(i).copied().flatten();
                let measured = u64::from(error.is_some());
                let sums = LabelSums { rows: 1, measured, error: error.unwrap_or(0.0) };
                self.label(label, &sums);
            }
        }
        Ok(())
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

fn count(path: &Path, levels: &[&Level]) -> Result<Counts> {
    let tokens = levels.iter().map(|level| level.tokens.as_str());
    let columns: Vec<&str> = tokens.chain(["label", "quantization_error"]).collect();
    let sheet = Sheet::open(path, Some(&columns))?;
    let mut counts = Counts::default();
    for batch in sheet.batches(&columns)? {
        counts.batch(&batch?, levels).map_err(|reason| Error::corrupt(path, reason))?;
    }
    Ok(counts)
}

fn level(column: &'static str, mut uses: Vec<u64>, codes: Option<u64>) -> LevelReport {
    let codes = codes.filter(|&k| k <= u64::from(CODE_MAX) + 1).unwrap_or(0).max(uses.len() as u64);
    uses.resize(codes as usize, 0);
    let tokens: u64 = uses.iter().sum();
    let share = |uses: u64| uses as f64 / tokens as f64;
    let entropy_bits: f64 =
        uses.iter().filter(|&&u| u > 0).map(|&u| -share(u) * share(u).log2()).sum::<f64>() + 0.0;
    let mut by_uses = Vec::new();
    for &uses in &uses {
        let bucket = (u64::BITS - uses.leading_zeros()) as usize;
        by_uses.resize(by_uses.len().max(bucket + 1), 0);
        by_uses[bucket] += 1;
    }
    let mut ranked: Vec<(u32, u64)> = (0..).zip(uses).collect();
    ranked.sort_by_key(|&(code, uses)| (std::cmp::Reverse(uses), code));
    let used = ranked.iter().filter(|(_, uses)| *uses > 0).count();
    // Ranks at equal steps of their logarithm, without repeats.
    let mut ranks: Vec<usize> =
        (0..512).map(|i| (used.max(1) as f64).powf(f64::from(i) / 511.0) as usize).collect();
    ranks.dedup();
    let point = |rank: usize| ranked.get(rank - 1).map(|&(_, uses)| (rank as u64, uses));
    LevelReport {
        column,
        codes,
        tokens,
        used: used as u64,
        entropy_bits,
        perplexity: entropy_bits.exp2(),
        rank_frequency: ranks.into_iter().filter_map(point).filter(|p| p.1 > 0).collect(),
        by_uses,
        most_used: ranked[..used.min(EXTREMES)].to_vec(),
        least_used: ranked[..used].iter().rev().take(EXTREMES).copied().collect(),
    }
}

fn take_failures(report: &mut AuditReport, path: &Path) -> Result<()> {
    let columns = ["key", "stage", "error"];
    let sheet = Sheet::open(path, Some(&columns))?;
    for batch in sheet.batches(&columns)? {
        let batch = batch?;
        let column = |name: &str| -> Result<Vec<String>, String> {
            read::texts(batch.column_by_name(name).ok_or(format!("has no column {name}"))?)
        };
        let broken = |reason: String| Error::corrupt(path, reason);
        let (keys, stages) = (column("key").map_err(broken)?, column("stage").map_err(broken)?);
        let errors = column("error").map_err(broken)?;
        for ((key, stage), error) in keys.into_iter().zip(stages).zip(errors) {
            report.failed += 1;
            let kind = format!("{stage}: {error}");
            // Messages that name sizes are many: the rest is in the count alone.
            if report.failed_by_error.len() < FAILURES_MAX
                || report.failed_by_error.contains_key(&kind)
            {
                *report.failed_by_error.entry(kind).or_default() += 1;
            }
            if report.failures.len() < FAILURES_MAX {
                report.failures.push(FailureReport { key, stage, error });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
