//! Owns counting codes and comparing counts with `codebook.v1` files. Must not know: the writer.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};

use super::levels::LEVELS_MAX;
use crate::audit::parquet_file::ParquetFile;

/// The data set's codebook file.
pub(super) const NAME: &str = "codebook.parquet";

/// The largest code that is counted: one counter each is held in memory.
const CODES_MAX: i32 = 1 << 24;

/// Uses and summed distances of codes.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct CodeCounts {
    /// Up to the last level with a use.
    levels: Vec<LevelCounts>,
}

/// Those of one level.
#[derive(Debug, Clone, PartialEq, Default)]
struct LevelCounts {
    /// By code: count and distance sum.
    codes: Vec<(i64, f64)>,
    /// A distance is missing for some partition.
    unknown: bool,
}

impl CodeCounts {
    /// Of a codebook part, whose order and values are checked.
    pub(super) fn read(path: &Path) -> Result<CodeCounts, String> {
        let mut counts = CodeCounts::default();
        let mut last = (-1, -1);
        for (place, count, sum) in rows(path)? {
            if count <= 0 {
                return Err(format!("code {} is counted {count} times", place.1));
            }
            let level = usize::try_from(place.0).ok().filter(|&level| level < LEVELS_MAX);
            let level = level.ok_or(format!("it counts a level {}", place.0))?;
            if place <= last || place.1 < 0 || place.1 >= CODES_MAX {
                return Err(format!("code {} is out of order or range", place.1));
            }
            last = place;
            counts.levels.resize(level + 1, LevelCounts::default());
            let entries = &mut counts.levels[level];
            entries.codes.resize(place.1 as usize + 1, (0, 0.0));
            entries.codes[place.1 as usize] = (count, sum.unwrap_or(0.0));
            entries.unknown |= sum.is_none();
        }
        Ok(counts)
    }

    /// Adds a later partition's.
    pub(super) fn merge(&mut self, other: &CodeCounts) {
        let levels = self.levels.len().max(other.levels.len());
        self.levels.resize(levels, LevelCounts::default());
        for (mine, theirs) in self.levels.iter_mut().zip(&other.levels) {
            let codes = mine.codes.len().max(theirs.codes.len());
            mine.codes.resize(codes, (0, 0.0));
            for (mine, theirs) in mine.codes.iter_mut().zip(&theirs.codes) {
                mine.0 = mine.0.saturating_add(theirs.0);
                mine.1 += theirs.1;
            }
            mine.unknown |= theirs.unknown;
        }
    }

    /// Counts and distance sums of a level's codes, up to the last with a use.
    fn codes(&self, level: usize) -> &[(i64, f64)] {
        self.levels.get(level).map_or(&[], |level| &level.codes)
    }

    fn unknown(&self, level: usize) -> bool {
        self.levels.get(level).is_some_and(|level| level.unknown)
    }

    /// Tokens of a level.
    pub(super) fn tokens_of(&self, level: usize) -> u64 {
        self.codes(level).iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.0 as u64))
    }

    /// Tokens of all levels.
    pub(super) fn tokens(&self) -> u64 {
        (0..self.levels.len()).fold(0, |sum, level| sum.saturating_add(self.tokens_of(level)))
    }

    /// Uses of a code.
    pub(super) fn count(&self, level: usize, code: usize) -> i64 {
        self.codes(level).get(code).map_or(0, |entry| entry.0)
    }

    /// Whether `counts` are exactly this level's.
    pub(super) fn equals(&self, level: usize, counts: &[i64]) -> bool {
        self.codes(level).len() <= counts.len()
            && counts.iter().enumerate().all(|(code, &count)| self.count(level, code) == count)
    }

    /// Whether these are the same counts and distances.
    pub(super) fn is(&self, other: &CodeCounts) -> bool {
        let levels = self.levels.len().max(other.levels.len());
        (0..levels).all(|level| {
            let unknown = self.unknown(level);
            let (mine, theirs) = (self.codes(level), other.codes(level));
            let place =
                |codes: &[(i64, f64)], at: usize| codes.get(at).copied().unwrap_or_default();
            unknown == other.unknown(level)
                && (0..mine.len().max(theirs.len())).all(|at| {
                    let (a, b) = (place(mine, at), place(theirs, at));
                    a.0 == b.0 && (unknown || a.1.to_bits() == b.1.to_bits())
                })
        })
    }

    /// Codes of a level that are used.
    pub(super) fn used(&self, level: usize) -> u64 {
        self.codes(level).iter().filter(|entry| entry.0 > 0).count() as u64
    }

    /// The sum of a level's distances; None where one is unknown.
    pub(super) fn distance(&self, level: usize) -> Option<f64> {
        let sum = || self.codes(level).iter().map(|entry| entry.1).sum();
        (!self.unknown(level)).then(sum)
    }

    /// Entropy in bits of a level's codes.
    pub(super) fn entropy_bits(&self, level: usize) -> f64 {
        let total = self.tokens_of(level) as f64;
        let used = self.codes(level).iter().filter(|entry| entry.0 > 0);
        used.map(|entry| entry.0 as f64 / total).map(|p| -p * p.log2()).sum::<f64>() + 0.0
    }

    /// A dense `codebook.parquet` against these counts: every code of every level (`codes` gives K of
    /// each, where known), equal counts, equal bits of the sums.
    pub(super) fn compare(&self, path: &Path, codes: Option<&[u64]>) -> Result<(), String> {
        let mut due = (0, 0);
        for (place, count, sum) in rows(path)? {
            let full = match codes {
                Some(codes) => codes.get(due.0 as usize) == Some(&(due.1 as u64)),
                None => due.1 > 0,
            };
            if full && place == (due.0 + 1, 0) {
                due = place;
            }
            if place != due || due.0 as usize >= LEVELS_MAX {
                return Err(format!("code {} of level {} stands out of place", place.1, place.0));
            }
            due.1 += 1;
            let (level, code) = (place.0 as usize, place.1 as usize);
            let (uses, distance) = self.codes(level).get(code).copied().unwrap_or((0, 0.0));
            let distance = (!self.unknown(level)).then_some(distance);
            if count != uses || sum.map(f64::to_bits) != distance.map(f64::to_bits) {
                let words = |sum: Option<f64>| sum.map_or("none".to_string(), |d| d.to_string());
                return Err(format!(
                    "code {code} of level {level} has {count} uses at distance {}, the shards \
                     {uses} at {}",
                    words(sum),
                    words(distance)
                ));
            }
        }
        let complete = match codes {
            Some(codes) => {
                due.0 as usize + 1 == codes.len() && codes.last() == Some(&(due.1 as u64))
            }
            None => {
                self.levels.len() <= due.0 as usize + 1
                    && self.codes(due.0 as usize).len() <= due.1 as usize
            }
        };
        if complete { Ok(()) } else { Err("codes are missing from it".into()) }
    }
}

type Row = ((i32, i32), i64, Option<f64>);

/// The rows of a `codebook.v1` file.
fn rows(path: &Path) -> Result<Vec<Row>, String> {
    let names = ["level", "code", "count", "distance_sum"];
    let sheet = ParquetFile::open(path, None).map_err(|e| e.to_string())?;
    let types = [DataType::Int32, DataType::Int32, DataType::Int64, DataType::Float64];
    let fields = sheet.schema().fields();
    let fits = fields.len() == 4
        && fields.iter().zip(names).all(|(field, name)| field.name() == name)
        && fields.iter().zip(&types).all(|(field, kind)| field.data_type() == kind);
    if !fits || sheet.entries.get("vqtok.schema").map(String::as_str) != Some("codebook.v1") {
        return Err("it is no codebook.v1".into());
    }
    let mut rows = Vec::new();
    for batch in sheet.batches(&names).map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        if batch.columns()[..3].iter().any(|column| column.null_count() > 0) {
            return Err("it has missing values".into());
        }
        let levels = batch.column(0).as_primitive::<Int32Type>();
        let codes = batch.column(1).as_primitive::<Int32Type>();
        let counts = batch.column(2).as_primitive::<Int64Type>();
        let sums = batch.column(3).as_primitive::<Float64Type>();
        rows.extend((0..batch.num_rows()).map(|i| {
            let sum = sums.is_valid(i).then(|| sums.value(i));
            ((levels.value(i), codes.value(i)), counts.value(i), sum)
        }));
    }
    Ok(rows)
}
