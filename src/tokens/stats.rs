//! Owns the counts of a codebook's use and the sums of distances: taken row by row, merged over
//! partitions. Must not know: images, where rows come from.
//!
//! Counts are integers and distances are summed in float64 in the order of ordinals, partition by
//! partition, so that the result is the same everywhere and no retry counts twice.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use parquet::file::metadata::KeyValue;

use super::dataset::LevelSummary;
use super::identity::Identity;
use super::level_layout::LevelLayout;
use super::{schema, untrusted};
use crate::error::{Error, Result};

/// One level's codebook: how often each code was used, and at what distance. Of a codebook too large
/// for that, how often each bit of a code was 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LevelStatistics {
    layout: LevelLayout,
    /// By code; of bits 0 and 1 of bit 0, then those of bit 1, ...
    counts: Vec<i64>,
    distance_sums: Vec<f64>,
    /// False once a distance was missing: sums over some of the tokens would mislead.
    measured: bool,
}

impl LevelStatistics {
    /// Nothing counted yet.
    pub(crate) fn new(layout: &LevelLayout) -> LevelStatistics {
        let counters = layout.bits.map_or(layout.codes, |bits| 2 * bits) as usize;
        let (counts, distance_sums) = (vec![0; counters], vec![0.0; counters]);
        LevelStatistics { layout: layout.clone(), counts, distance_sums, measured: true }
    }

    /// Counts the tokens of one grid; `distances` are squared, NaN or absent where unknown.
    /// Errors where a code is not below K.
    pub(crate) fn add(&mut self, codes: &[u32], distances: &[f32]) -> Result<()> {
        let (count, values) = (self.layout.codes, self.layout.values());
        if let Some(code) = codes.iter().find(|&&code| u64::from(code) >= count) {
            return Err(Error::internal(format!(
                "the engine gave code {code} of a codebook with {count}"
            )));
        }
        let tokens = codes.len() / values;
        if !distances.is_empty() && distances.len() != tokens {
            return Err(Error::internal(format!(
                "the engine gave {} distances for {tokens} codes",
                distances.len(),
            )));
        }
        self.measured &= tokens == distances.len() && !distances.iter().any(|d| d.is_nan());
        let distances = distances.iter().copied().chain(std::iter::repeat(0.0));
        for (token, distance) in codes.chunks_exact(values).zip(distances) {
            self.take(token, f64::from(distance));
        }
        Ok(())
    }

    /// Counts a token, which is below K: a number, or a list of bits.
    fn take(&mut self, token: &[u32], distance: f64) {
        let mut counter = |at: usize| {
            self.counts[at] += 1;
            self.distance_sums[at] += distance;
        };
        match (self.layout.bits, token) {
            (None, _) => token.iter().for_each(|&code| counter(code as usize)),
            (Some(bits), &[code]) => {
                (0..bits as usize).for_each(|bit| counter(2 * bit + (code >> bit & 1) as usize));
            }
            (Some(_), list) => {
                list.iter().enumerate().for_each(|(bit, &value)| counter(2 * bit + value as usize));
            }
        }
    }

    /// Adds what another partition counted.
    fn merge(&mut self, code: usize, count: i64, distance_sum: Option<f64>) -> Result<(), String> {
        let total = self.counts[code].checked_add(count).ok_or("counts beyond 2^63")?;
        self.counts[code] = total;
        match distance_sum {
            Some(sum) => self.distance_sums[code] += sum,
            None => self.measured = false,
        }
        Ok(())
    }

    /// Counters of one token: all codes, or 0 and 1 of a bit.
    fn each_tokens(&self) -> impl Iterator<Item = &[i64]> {
        self.counts.chunks(if self.layout.bits.is_some() { 2 } else { self.counts.len().max(1) })
    }

    /// All tokens.
    pub(crate) fn tokens(&self) -> i64 {
        let first = self.each_tokens().next().unwrap_or_default();
        first.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// What is to be said of them.
    pub(super) fn summary(&self) -> LevelSummary {
        let round = |x: f64| (x * 1e6).round() / 1e6;
        let used = |counts: &[i64]| counts.iter().filter(|&&count| count > 0).count() as u64;
        let mut summary = LevelSummary {
            codes: self.layout.codes,
            tokens: self.tokens() as u64,
            ..LevelSummary::default()
        };
        match self.layout.bits {
            None => {
                let entropy = entropy_bits(&self.counts);
                summary.used = Some(used(&self.counts));
                summary.entropy_bits = Some(round(entropy));
                summary.perplexity = Some(round(entropy.exp2()));
            }
            Some(bits) => {
                let varies = |counts: &&[i64]| used(counts) == 2;
                summary.bits = Some(bits);
                summary.bits_varying = Some(self.each_tokens().filter(varies).count() as u64);
                summary.bits_entropy_sum = Some(round(self.each_tokens().map(entropy_bits).sum()));
            }
        }
        summary
    }
}

/// Entropy of a choice that was made so often each way, in bits; 0 where it never was.
fn entropy_bits(counts: &[i64]) -> f64 {
    let total = counts.iter().fold(0_i64, |sum, &count| sum.saturating_add(count)) as f64;
    let term = |count: i64| {
        let p = count as f64 / total;
        -p * p.log2()
    };
    // An empty sum, and that of one code, is -0: adding 0 makes it 0.
    let used = counts.iter().filter(|&&count| count > 0);
    used.map(|&count| term(count)).sum::<f64>() + 0.0
}

/// The statistics of a partition or of a data set, one entry a level.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Statistics {
    /// In the order of [`Identity::levels`].
    pub levels: Vec<LevelStatistics>,
}

impl Statistics {
    /// Nothing counted yet.
    pub(crate) fn new(identity: &Identity) -> Statistics {
        Statistics { levels: identity.levels.iter().map(LevelStatistics::new).collect() }
    }

    /// Whether they are of bits; all levels are alike.
    fn of_bits(&self) -> bool {
        self.levels.iter().any(|level| level.layout.bits.is_some())
    }

    /// Tokens of all levels.
    pub(crate) fn tokens(&self) -> u64 {
        self.levels.iter().map(|level| level.tokens() as u64).sum()
    }

    /// A `codebook.v1` file, or a `codebook.v2` of bits: of a partition only the codes that were used, of
    /// a data set all.
    pub(crate) fn encode(
        &self,
        path: &Path,
        dense: bool,
        entries: Vec<KeyValue>,
    ) -> Result<Vec<u8>> {
        let mut level_column = Vec::new();
        let mut codes = Vec::new();
        let mut counts = Vec::new();
        let mut sums = Vec::new();
        for (index, level) in self.levels.iter().enumerate() {
            for (code, &count) in level.counts.iter().enumerate() {
                if count > 0 || dense {
                    level_column.push(index as i32);
                    codes.push(code as i32);
                    counts.push(count);
                    sums.push(level.measured.then_some(level.distance_sums[code]));
                }
            }
        }
        let int = |values: Vec<i32>| -> ArrayRef { Arc::new(Int32Array::from(values)) };
        let mut columns = vec![int(level_column)];
        let schema = match self.of_bits() {
            true => {
                let (bits, values) = codes.iter().map(|counter| (counter / 2, counter % 2)).unzip();
                columns.extend([int(bits), int(values)]);
                schema::codebook_of_bits()
            }
            false => {
                columns.push(int(codes));
                schema::codebook()
            }
        };
        columns.push(Arc::new(Int64Array::from(counts)));
        columns.push(Arc::new(Float64Array::from(sums)));
        schema::encode(path, schema, [columns], entries)
    }

    /// Adds a partition's `codebook` part to these.
    pub(crate) fn merge_file(&mut self, path: &Path) -> Result<()> {
        untrusted::for_each_batch(path, None, |batch| self.merge_batch(batch))
            .map_err(|reason| Error::damaged(path, reason))
    }

    fn merge_batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let (due, word) = match self.of_bits() {
            true => (schema::codebook_of_bits(), schema::CODEBOOK_OF_BITS),
            false => (schema::codebook(), schema::CODEBOOK),
        };
        let (sums, others) = batch.columns().split_last().ok_or("it has no columns")?;
        if batch.schema().fields() != due.fields()
            || others.iter().any(|column| column.null_count() > 0)
        {
            return Err(format!("its columns are not those of {word}"));
        }
        let int = |column: usize| batch.column(column).as_primitive::<Int32Type>();
        let (levels, firsts) = (int(0), int(1));
        let values = self.of_bits().then(|| int(2));
        let counts = others[others.len() - 1].as_primitive::<Int64Type>();
        let sums = sums.as_primitive::<Float64Type>();
        for i in 0..batch.num_rows() {
            let (level, count) = (levels.value(i), counts.value(i));
            let target = usize::try_from(level).ok().and_then(|l| self.levels.get_mut(l));
            let target = target.ok_or(format!("it counts a level {level}"))?;
            let counter = match values {
                None => Some(firsts.value(i)),
                Some(values) if !(0..2).contains(&values.value(i)) => None,
                Some(values) => firsts.value(i).checked_mul(2).map(|two| two + values.value(i)),
            };
            let place = || match values {
                None => format!("code {}", firsts.value(i)),
                Some(values) => format!("value {} of bit {}", values.value(i), firsts.value(i)),
            };
            let counter = counter.and_then(|counter| usize::try_from(counter).ok());
            let counter = counter.filter(|&counter| counter < target.counts.len());
            let counter = counter.ok_or_else(|| format!("it counts a {}", place()))?;
            if count < 0 {
                return Err(format!("it counts {} {count} times", place()));
            }
            target.merge(counter, count, sums.is_valid(i).then(|| sums.value(i)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::identity::tests::identity;

    #[test]
    fn entropy_and_use() {
        let mut level = LevelStatistics::new(&LevelLayout::new(8, None));
        let said = |level: &LevelStatistics| {
            let LevelSummary { tokens, used, entropy_bits, .. } = level.summary();
            (tokens, used.unwrap(), entropy_bits.unwrap())
        };
        assert_eq!(said(&level), (0, 0, 0.0));
        level.add(&[0, 1, 2, 3], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!(said(&level), (4, 4, 2.0));
        level.add(&[7, 7, 7, 7], &[0.5; 4]).unwrap();
        assert_eq!(said(&level), (8, 5, 2.0));
        assert!(level.measured);
        assert!(level.add(&[8], &[0.0]).is_err());
        assert!(level.add(&[1], &[0.0, 1.0]).is_err());
        level.add(&[1], &[f32::NAN]).unwrap();
        assert!(!level.measured);
    }

    /// Bits 0 and 2 of a number and of a list are one, the others 0 in one token and 1 in the other.
    #[test]
    fn bits_are_counted_where_codes_are_too_many() {
        let numbers = (LevelLayout::new(1 << 26, None), vec![5, (1 << 26) - 1]);
        let mut list = vec![0; 80];
        list[40..].fill(1);
        (list[0], list[2]) = (1, 1);
        let lists = (LevelLayout::of_bits(40, None), list);
        for ((layout, codes), bits) in [numbers, lists].into_iter().zip([26, 40]) {
            let mut level = LevelStatistics::new(&layout);
            level.add(&codes, &[0.5, 0.25]).unwrap();
            assert_eq!(level.counts[..6], [0, 2, 1, 1, 0, 2]);
            assert_eq!(level.distance_sums[..6], [0.0, 0.75, 0.5, 0.25, 0.0, 0.75]);
            let due = LevelSummary {
                codes: layout.codes,
                tokens: 2,
                bits: Some(bits),
                bits_varying: Some(bits - 2),
                bits_entropy_sum: Some((bits - 2) as f64),
                ..LevelSummary::default()
            };
            assert_eq!(level.summary(), due);
            assert!(level.add(&vec![u32::MAX; layout.values()], &[0.0]).is_err());
        }
    }

    #[test]
    fn bits_merge_to_the_whole_and_are_no_codes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part.parquet");
        let mut of_bits = identity(1 << 26, Some([1, 2]), 10);
        let mut one = Statistics::new(&of_bits);
        one.levels[0].add(&[7, 1 << 25], &[f32::NAN; 2]).unwrap();
        for dense in [false, true] {
            std::fs::write(&path, one.encode(&path, dense, Vec::new()).unwrap()).unwrap();
            let mut read = Statistics::new(&of_bits);
            read.merge_file(&path).unwrap();
            assert_eq!(read.levels[0].counts, one.levels[0].counts);
            assert!(!read.levels[0].measured);
        }
        // Of more bits than a code has, and of codes.
        of_bits.levels[0] = LevelLayout::new(1 << 25, None);
        let said = Statistics::new(&of_bits).merge_file(&path).unwrap_err().to_string();
        assert!(said.contains("it counts a value 0 of bit 25"), "{said}");
        let of_codes = identity(8, None, 10);
        let said = Statistics::new(&of_codes).merge_file(&path).unwrap_err().to_string();
        assert!(said.contains("its columns are not those of codebook.v1"), "{said}");
    }

    #[test]
    fn parts_merge_to_the_whole() {
        let dir = tempfile::tempdir().unwrap();
        let identity = identity(8, Some([2, 2]), 10);
        let mut whole = Statistics::new(&identity);
        let mut folded = Statistics::new(&identity);
        for part in 0..3u32 {
            let mut one = Statistics::new(&identity);
            let codes = [part, part + 1, 7, 7];
            let distances = [0.25, 0.5, 1.0, part as f32];
            one.levels[0].add(&codes, &distances).unwrap();
            whole.levels[0].add(&codes, &distances).unwrap();
            let path = dir.path().join(format!("{part}.parquet"));
            std::fs::write(&path, one.encode(&path, false, Vec::new()).unwrap()).unwrap();
            folded.merge_file(&path).unwrap();
        }
        assert_eq!(folded, whole);
        let path = dir.path().join("dense.parquet");
        std::fs::write(&path, whole.encode(&path, true, Vec::new()).unwrap()).unwrap();
        let mut read = Statistics::new(&identity);
        read.merge_file(&path).unwrap();
        assert_eq!(read, whole);
        // A codebook with fewer codes than the file counts is not this file's.
        let mut small = Statistics::new(&self::identity(4, Some([2, 2]), 10));
        assert!(small.merge_file(&path).is_err());
    }
}
