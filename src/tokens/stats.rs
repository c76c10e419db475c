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

use super::identity::Identity;
use super::{schema, untrusted};
use crate::error::{Error, Result};

/// One level's codebook: how often each code was used, and at what distance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LevelStatistics {
    counts: Vec<i64>,
    distance_sums: Vec<f64>,
    /// False once a distance was missing: sums over some of the tokens would mislead.
    measured: bool,
}

impl LevelStatistics {
    /// Nothing counted yet of `codes` codes.
    pub(crate) fn new(codes: u64) -> LevelStatistics {
        let codes = codes as usize;
        LevelStatistics { counts: vec![0; codes], distance_sums: vec![0.0; codes], measured: true }
    }

    /// Counts the tokens of one grid; `distances` are squared, NaN or absent where unknown.
    /// Errors where a code is not below K.
    pub(crate) fn add(&mut self, codes: &[u32], distances: &[f32]) -> Result<()> {
        if let Some(code) = codes.iter().find(|&&code| code as usize >= self.counts.len()) {
            return Err(Error::internal(format!(
                "the engine gave code {code} of a codebook with {}",
                self.counts.len()
            )));
        }
        if !distances.is_empty() && distances.len() != codes.len() {
            return Err(Error::internal(format!(
                "the engine gave {} distances for {} codes",
                distances.len(),
                codes.len()
            )));
        }
        for &code in codes {
            self.counts[code as usize] += 1;
        }
        self.measured &= codes.len() == distances.len();
        for (&code, &distance) in codes.iter().zip(distances) {
            self.measured &= !distance.is_nan();
            self.distance_sums[code as usize] += f64::from(distance);
        }
        Ok(())
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

    /// All tokens.
    pub(crate) fn tokens(&self) -> i64 {
        self.counts.iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Codes that were used at all.
    pub(crate) fn used(&self) -> usize {
        self.counts.iter().filter(|&&count| count > 0).count()
    }

    /// Entropy of the use of codes, in bits; 0 where there are no tokens.
    pub(crate) fn entropy_bits(&self) -> f64 {
        let total = self.tokens() as f64;
        let term = |count: i64| {
            let p = count as f64 / total;
            -p * p.log2()
        };
        // An empty sum, and that of one code, is -0: adding 0 makes it 0.
        let used = self.counts.iter().filter(|&&count| count > 0);
        used.map(|&count| term(count)).sum::<f64>() + 0.0
    }
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
        let levels = identity.levels.iter().map(|level| LevelStatistics::new(level.codes));
        Statistics { levels: levels.collect() }
    }

    /// Tokens of all levels.
    pub(crate) fn tokens(&self) -> u64 {
        self.levels.iter().map(|level| level.tokens() as u64).sum()
    }

    /// A `codebook.v1` file: of a partition only the codes that were used, of a data set all.
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
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(level_column)),
            Arc::new(Int32Array::from(codes)),
            Arc::new(Int64Array::from(counts)),
            Arc::new(Float64Array::from(sums)),
        ];
        schema::encode(path, schema::codebook(), [columns], entries)
    }

    /// Adds a partition's `codebook` part to these.
    pub(crate) fn merge_file(&mut self, path: &Path) -> Result<()> {
        untrusted::for_each_batch(path, None, |batch| self.merge_batch(batch))
            .map_err(|reason| Error::damaged(path, reason))
    }

    fn merge_batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
        if batch.schema().fields() != schema::codebook().fields()
            || batch.columns()[..3].iter().any(|column| column.null_count() > 0)
        {
            return Err("its columns are not those of codebook.v1".into());
        }
        let levels = batch.column(0).as_primitive::<Int32Type>();
        let codes = batch.column(1).as_primitive::<Int32Type>();
        let counts = batch.column(2).as_primitive::<Int64Type>();
        let sums = batch.column(3).as_primitive::<Float64Type>();
        for i in 0..batch.num_rows() {
            let (level, code, count) = (levels.value(i), codes.value(i), counts.value(i));
            let target = usize::try_from(level).ok().and_then(|l| self.levels.get_mut(l));
            let target = target.ok_or(format!("it counts a level {level}"))?;
            let code = usize::try_from(code).ok().filter(|&c| c < target.counts.len());
            let code = code.ok_or(format!("it counts a code {}", codes.value(i)))?;
            if count < 0 {
                return Err(format!("it counts code {code} {count} times"));
            }
            target.merge(code, count, sums.is_valid(i).then(|| sums.value(i)))?;
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
        let mut level = LevelStatistics::new(8);
        assert_eq!((level.tokens(), level.used(), level.entropy_bits()), (0, 0, 0.0));
        level.add(&[0, 1, 2, 3], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        assert_eq!((level.tokens(), level.used(), level.entropy_bits()), (4, 4, 2.0));
        level.add(&[7, 7, 7, 7], &[0.5; 4]).unwrap();
        assert_eq!((level.used(), level.entropy_bits()), (5, 2.0));
        assert!(level.measured);
        assert!(level.add(&[8], &[0.0]).is_err());
        assert!(level.add(&[1], &[0.0, 1.0]).is_err());
        level.add(&[1], &[f32::NAN]).unwrap();
        assert!(!level.measured);
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
