//! Owns counting codes, or bits where codes are too many, and comparing counts with `codebook.v1` and
//! `codebook.v2` files. Must not know: the writer.

use std::path::Path;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, FieldRef, Float64Type, Int32Type, Int64Type};

use super::level_size::CODES_MAX;
use super::levels::LEVELS_MAX;
use crate::audit::parquet_file::ParquetFile;

/// The data set's codebook file.
pub(super) const NAME: &str = "codebook.parquet";

/// The schema words of codes and of bits.
const OF_CODES: &str = "codebook.v1";
const OF_BITS: &str = "codebook.v2";

/// Uses and summed distances of codes, or of the values of bits: 0 and 1 of bit 0, then of bit 1, ...
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct CodeCounts {
    /// Whether bits are counted, of all levels.
    of_bits: bool,
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
        let (of_bits, rows) = rows(path)?;
        let mut counts = CodeCounts { of_bits, ..CodeCounts::default() };
        let words = |counter| in_words(of_bits, counter);
        let mut last = (-1, -1);
        for (place, count, sum) in rows {
            if count <= 0 {
                return Err(format!("{} is counted {count} times", words(place.1)));
            }
            let level = usize::try_from(place.0).ok().filter(|&level| level < LEVELS_MAX);
            let level = level.ok_or(format!("it counts a level {}", place.0))?;
            if place <= last || place.1 < 0 || place.1 >= CODES_MAX as i32 {
                return Err(format!("{} is out of order or range", words(place.1)));
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
        self.of_bits |= other.of_bits;
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

    /// Whether bits are counted.
    pub(super) fn of_bits(&self) -> bool {
        self.of_bits
    }

    /// Counters of a level that count every token once: all, or those of one bit.
    fn each_tokens(&self, level: usize) -> std::slice::Chunks<'_, (i64, f64)> {
        let codes = self.codes(level);
        codes.chunks(if self.of_bits { 2 } else { codes.len().max(1) })
    }

    /// Tokens of a level.
    pub(super) fn tokens_of(&self, level: usize) -> u64 {
        let first = self.each_tokens(level).next().unwrap_or_default();
        first.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.0 as u64))
    }

    /// All uses of all levels: every token once, or once a bit.
    pub(super) fn all(&self) -> u64 {
        let uses = self.levels.iter().flat_map(|level| &level.codes);
        uses.fold(0, |sum, entry| sum.saturating_add(entry.0 as u64))
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
        used(self.codes(level))
    }

    /// Bits of a level that are 0 in some tokens and 1 in others.
    pub(super) fn bits_varying(&self, level: usize) -> u64 {
        self.each_tokens(level).filter(|bit| used(bit) == 2).count() as u64
    }

    /// The sum of a level's distances; None where one is unknown.
    pub(super) fn distance(&self, level: usize) -> Option<f64> {
        let tokens = || self.each_tokens(level).next().unwrap_or_default();
        (!self.unknown(level)).then(|| tokens().iter().map(|entry| entry.1).sum())
    }

    /// Entropy in bits of a level's codes; of bits the sum of theirs.
    pub(super) fn entropy_bits(&self, level: usize) -> f64 {
        self.each_tokens(level).map(entropy_bits).sum::<f64>() + 0.0
    }

    /// A dense `codebook.parquet` against these counts: every code, or both values of every bit, of every
    /// level (`counters` gives how many these are of each, where known), equal counts, equal bits of the sums.
    pub(super) fn compare(&self, path: &Path, counters: Option<&[u64]>) -> Result<(), String> {
        let (of_bits, rows) = rows(path)?;
        if of_bits != self.of_bits {
            return Err("it counts codes where the shards count bits, or bits for codes".into());
        }
        let mut due = (0, 0);
        for (place, count, sum) in rows {
            let full = match counters {
                Some(counters) => counters.get(due.0 as usize) == Some(&(due.1 as u64)),
                None => due.1 > 0,
            };
            if full && place == (due.0 + 1, 0) {
                due = place;
            }
            if place != due || due.0 as usize >= LEVELS_MAX {
                return Err(format!(
                    "{} of level {} stands out of place",
                    in_words(of_bits, place.1),
                    place.0
                ));
            }
            due.1 += 1;
            let (level, code) = (place.0 as usize, place.1 as usize);
            let (uses, distance) = self.codes(level).get(code).copied().unwrap_or((0, 0.0));
            let distance = (!self.unknown(level)).then_some(distance);
            if count != uses || sum.map(f64::to_bits) != distance.map(f64::to_bits) {
                let words = |sum: Option<f64>| sum.map_or("none".to_string(), |d| d.to_string());
                return Err(format!(
                    "{} of level {level} has {count} uses at distance {}, the shards {uses} at {}",
                    in_words(of_bits, place.1),
                    words(sum),
                    words(distance)
                ));
            }
        }
        let complete = match counters {
            Some(counters) => {
                due.0 as usize + 1 == counters.len() && counters.last() == Some(&(due.1 as u64))
            }
            None => {
                self.levels.len() <= due.0 as usize + 1
                    && self.codes(due.0 as usize).len() <= due.1 as usize
            }
        };
        if complete { Ok(()) } else { Err("codes are missing from it".into()) }
    }
}

fn used(entries: &[(i64, f64)]) -> u64 {
    entries.iter().filter(|entry| entry.0 > 0).count() as u64
}

fn entropy_bits(entries: &[(i64, f64)]) -> f64 {
    let total = entries.iter().fold(0_i64, |sum, entry| sum.saturating_add(entry.0)) as f64;
    let used = entries.iter().filter(|entry| entry.0 > 0);
    used.map(|entry| entry.0 as f64 / total).map(|p| -p * p.log2()).sum::<f64>() + 0.0
}

/// What a counter counts.
fn in_words(of_bits: bool, counter: i32) -> String {
    match of_bits {
        true => format!("value {} of bit {}", counter.rem_euclid(2), counter.div_euclid(2)),
        false => format!("code {counter}"),
    }
}

/// Level and counter, count, summed distance.
type Row = ((i32, i32), i64, Option<f64>);

/// The rows of a `codebook.v1` or `codebook.v2` file, and whether they are of bits.
fn rows(path: &Path) -> Result<(bool, Vec<Row>), String> {
    const INT: DataType = DataType::Int32;
    let sheet = ParquetFile::open(path, None).map_err(|e| e.to_string())?;
    let word = sheet.entries.get("vqtok.schema").map_or("", String::as_str);
    let columns = match word {
        OF_CODES => vec![("level", INT), ("code", INT)],
        OF_BITS => vec![("level", INT), ("bit", INT), ("value", INT)],
        _ => return Err(format!("it is no {OF_CODES} or {OF_BITS}")),
    };
    let of_bits = word == OF_BITS;
    let further = [("count", DataType::Int64), ("distance_sum", DataType::Float64)];
    let columns: Vec<_> = columns.into_iter().chain(further).collect();
    let fields = sheet.schema().fields();
    let is = |(field, (name, kind)): (&FieldRef, &(&str, DataType))| {
        field.name() == name && field.data_type() == kind
    };
    if fields.len() != columns.len() || !fields.iter().zip(&columns).all(is) {
        return Err(format!("it is no {word}"));
    }
    let mut rows = Vec::new();
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    for batch in sheet.batches(&names).map_err(|e| e.to_string())? {
        let batch = batch.map_err(|e| e.to_string())?;
        let (sums, others) = batch.columns().split_last().ok_or("it has no columns")?;
        if others.iter().any(|column| column.null_count() > 0) {
            return Err("it has missing values".into());
        }
        let int = |column: usize| others[column].as_primitive::<Int32Type>();
        let counts = others[others.len() - 1].as_primitive::<Int64Type>();
        let sums = sums.as_primitive::<Float64Type>();
        for i in 0..batch.num_rows() {
            let counter = match of_bits {
                false => int(1).value(i),
                true if (0..2).contains(&int(2).value(i)) => {
                    int(1).value(i).saturating_mul(2).saturating_add(int(2).value(i))
                }
                true => return Err(format!("{} is no value of a bit", int(2).value(i))),
            };
            let sum = sums.is_valid(i).then(|| sums.value(i));
            rows.push(((int(0).value(i), counter), counts.value(i), sum));
        }
    }
    Ok((of_bits, rows))
}
