//! Owns the facts of a tokenized data set worth looking at: use of the codebook, quantization
//! errors, labels, failures. Works on our outputs and on any Parquet with `tokens`. Must not know:
//! the writer, how facts are drawn.
//!
//! Shards are counted in parallel and merged in order; memory holds one batch a thread, the
//! counters, and at most [`LABELS_MAX`] labels.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use super::changed::changed;
use super::counts::{Columns, Counts, count};
use super::failures;
use super::level_size::{CODES_MAX, LevelSize};
use super::patterns::Patterns;
use super::read::{Table, TokenFile};
use super::rows::BadRows;
use super::sources;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::text;

pub use super::error_counts::ErrorReport;
pub use super::label_counts::{LABELS_MAX, LabelReport};

/// Failures that are listed one by one.
pub const FAILURES_MAX: usize = 500;
/// Files that are counted one after the other by one thread, at most.
const TOGETHER: usize = 16;
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
    /// Rows that can't be used; they are in no other number.
    pub unusable: u64,
    /// The first of them, and files that can't be read, in one line each.
    pub problems: Vec<String>,
    /// What is missing from an output, or lies in it and isn't its own, in one line each.
    pub notes: Vec<String>,
    /// One entry a level. None where codes are more than 2^24, which are too many to be counted: `bits`
    /// has the levels then.
    pub levels: Vec<LevelReport>,
    /// One entry a level whose bits are counted.
    pub bits: Vec<BitsReport>,
    /// Mean squared distances of rows; None where no row has one.
    pub quantization_error: Option<ErrorReport>,
    /// Rows, and their mean quantization error, by label; rows without one are not in it.
    pub labels: BTreeMap<String, LabelReport>,
    /// Rows whose label came after [`LABELS_MAX`] others.
    pub further_labels: u64,
    /// Images given up.
    pub failed: u64,
    /// The same by stage.
    pub failed_by_stage: BTreeMap<String, u64>,
    /// The same by stage and then error text.
    pub failed_by_error: BTreeMap<String, u64>,
    /// The first of them.
    pub failures: Vec<FailureReport>,
    /// Those that are lost with their files; they are among what can't be used.
    #[serde(skip)]
    pub(crate) lost_failures: Vec<BadRows>,
}

impl AuditReport {
    /// Whether every row of every file could be used.
    pub fn complete(&self) -> bool {
        self.unusable == 0 && self.problems.is_empty()
    }
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

/// The use of the bits of one level's codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BitsReport {
    /// The column of its tokens.
    pub column: &'static str,
    /// D, the bits of a token.
    pub bits: u64,
    /// Whether a token is a list of them, rather than a number.
    pub list: bool,
    /// Tokens.
    pub tokens: u64,
    /// Bits that are 0 in some tokens and 1 in others.
    pub varying: u64,
    /// The bits' entropies, summed: tokens have at most as much.
    pub entropy_sum: f64,
    /// Tokens in which each bit is 1: of numbers, that of value 1 first; of lists in their order.
    pub ones: Vec<u64>,
}

impl BitsReport {
    /// What codes are below: K, or 2 of lists.
    pub(crate) fn limit(&self) -> u64 {
        if self.list { 2 } else { 1 << self.bits }
    }
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

/// Reads an output folder, a folder of Parquet files or one file. Rows, stretches and files that
/// can't be used are counted and named; all others are in the numbers. A file of a finished output that
/// isn't the one recorded is a problem, and its rows are in the numbers as far as they can be read.
///
/// # Errors
/// A path with no Parquet file, or with none that has `tokens`.
pub fn report(path: &Path) -> Result<AuditReport> {
    let (mut report, _) = with_patterns(path)?;
    report.problems.extend(storage::complete(path, || Ok(changed(path)))?);
    Ok(report)
}

/// How the codes of an output are used, and what its files say of how they were made.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// By level.
    pub patterns: Vec<Patterns>,
    /// Files made with other settings than the first, by the names of what differs: how many, and the
    /// name of the first of them.
    pub others: BTreeMap<Vec<String>, (u64, String)>,
}

/// The same, and more of how codes are used than a page shows.
///
/// # Errors
/// As for [`report`].
pub(crate) fn with_patterns(path: &Path) -> Result<(AuditReport, Uses)> {
    storage::complete(path, || report_now(path))
}

/// Counts files, in their order.
fn count_files(files: &[&Table], columns: &Columns, counts: &mut Counts) {
    let files_in_order: Vec<(u64, &Table)> = (0..).zip(files.iter().copied()).collect();
    let threads = rayon::current_num_threads().max(1);
    let together = (files.len() / (4 * threads)).clamp(1, TOGETHER);
    for wave in files_in_order.chunks(2 * threads * together) {
        let counted = wave.par_chunks(together).map(|files| {
            files.iter().fold(Vec::new(), |mut counted: Vec<Counts>, (number, table)| {
                let next = count(&table.path, columns, *number, counted.last_mut());
                counted.push(next);
                counted
            })
        });
        let counted: Vec<Vec<Counts>> = counted.collect();
        counted.into_iter().flatten().for_each(|part| counts.merge(part));
    }
}

/// What there is to say beside numbers.
fn notes(
    tokens: &TokenFile,
    columns: &Columns,
    made_by: &BTreeMap<String, String>,
    first: &Path,
) -> Vec<String> {
    let mut notes = tokens.sources().in_words();
    let missing = columns.missing(made_by);
    if let Some(column) = missing.first() {
        let more = match missing.len() {
            1 => String::new(),
            all => format!(", and {} more", all - 1),
        };
        notes.push(format!(
            "{} says that it has a column {column}{more}, and hasn't: that level and those behind it \
             aren't counted",
            text::path(first)
        ));
    }
    notes
}

fn report_now(path: &Path) -> Result<(AuditReport, Uses)> {
    let tokens = TokenFile::open(path)?;
    let entries = tokens.entries().iter();
    let made_by: BTreeMap<_, _> = entries
        .filter_map(|(key, value)| Some((key.strip_prefix("vqtok.")?.to_string(), value.clone())))
        .filter(|(key, _)| key != "identity")
        .collect();
    let files: Vec<&Table> = tokens.tables().collect();
    let Some(first) = files.first() else {
        let why = tokens.lost().next().map(BadRows::in_words).unwrap_or_default();
        return Err(Error::invalid(format!("no shard can be used; the first: {why}")));
    };
    let columns = Columns::of(&first.path, &made_by, tokens.row_count())?;
    let mut counts = Counts::default();
    tokens.lost().for_each(|bad| counts.bad(bad));
    count_files(&files, &columns, &mut counts);
    let (labels, patterns) = (&counts.labels, counts.patterns);
    let uses = Uses { patterns, others: counts.others };
    let mut report = AuditReport {
        files: files.len() as u64,
        rows: counts.rows,
        notes: notes(&tokens, &columns, &made_by, &first.path),
        made_by,
        unusable: counts.unusable,
        problems: counts.problems,
        levels: Vec::new(),
        bits: Vec::new(),
        quantization_error: counts.errors.report(),
        labels: labels.labels.iter().map(|(label, sums)| (label.clone(), sums.report())).collect(),
        further_labels: labels.further,
        failed: 0,
        failed_by_stage: BTreeMap::new(),
        failed_by_error: BTreeMap::new(),
        failures: Vec::new(),
        lost_failures: Vec::new(),
    };
    for ((names, size), uses) in columns.levels.into_iter().zip(counts.levels) {
        report.take_level(&names.tokens, size, uses);
    }
    let (failures, lost) = match tokens.sources().output {
        Some(_) => tokens.sources().failures(),
        None => {
            let found = sources::of(&path.join("failures"));
            (found.map_or(Vec::new(), |found| found.files), Vec::new())
        }
    };
    failures.iter().for_each(|file| report.failures_of(file));
    report.take_lost(lost);
    Ok((report, uses))
}

impl AuditReport {
    /// Adds a level, of which codes or bits were used so often.
    fn take_level(&mut self, column: &'static str, size: Option<LevelSize>, mut uses: Vec<u64>) {
        if let Some((size, bits)) = size.and_then(|size| Some((size, size.bits?))) {
            uses.resize(2 * bits, 0);
            self.bits.push(bits_of(column, &uses, size));
            return;
        }
        let codes = size.map(|size| size.codes);
        if codes.is_none() {
            uses.truncate(uses.iter().rposition(|&uses| uses > 0).map_or(0, |last| last + 1));
        }
        self.levels.push(level(column, uses, codes));
    }

    /// Counts failures that are lost among what can't be used.
    fn take_lost(&mut self, lost: Vec<BadRows>) {
        // A file that can't be counted is something lost all the same.
        self.unusable += lost.iter().map(|bad| bad.count().max(1)).sum::<u64>();
        self.problems.extend(lost.iter().map(BadRows::in_words));
        self.lost_failures = lost;
    }

    /// Adds a file of failures; one that can't be read is a problem.
    fn failures_of(&mut self, file: &Path) {
        if let Err(error) = take_failures(self, file) {
            self.problems.push(error.to_string());
            self.unusable += 1;
        }
    }
}

fn bits_of(column: &'static str, uses: &[u64], size: LevelSize) -> BitsReport {
    let of_bits = || uses.chunks_exact(2);
    let tokens = of_bits().next().map_or(0, |two| two[0] + two[1]);
    let term = |uses: u64| match uses {
        0 => 0.0,
        uses => -(uses as f64 / tokens as f64) * (uses as f64 / tokens as f64).log2(),
    };
    BitsReport {
        column,
        bits: uses.len() as u64 / 2,
        list: size.values() > 1,
        tokens,
        varying: of_bits().filter(|two| two[0] > 0 && two[1] > 0).count() as u64,
        entropy_sum: uses.iter().map(|&uses| term(uses)).sum::<f64>() + 0.0,
        ones: of_bits().map(|two| two[1]).collect(),
    }
}

fn level(column: &'static str, mut uses: Vec<u64>, codes: Option<u64>) -> LevelReport {
    let codes = codes.filter(|&k| k <= CODES_MAX).unwrap_or(0).max(uses.len() as u64);
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
    failures::each(path, |failure| {
        report.failed += 1;
        let stages = &mut report.failed_by_stage;
        if stages.len() < FAILURES_MAX || stages.contains_key(&failure.stage) {
            *stages.entry(failure.stage.clone()).or_default() += 1;
        }
        let kind = format!("{}: {}", failure.stage, failure.error);
        // Messages that name sizes are many: the rest is in the count alone.
        if report.failed_by_error.len() < FAILURES_MAX || report.failed_by_error.contains_key(&kind)
        {
            *report.failed_by_error.entry(kind).or_default() += 1;
        }
        if report.failures.len() < FAILURES_MAX {
            report.failures.push(failure);
        }
        true
    })
}

#[cfg(test)]
mod tests;
