//! Owns the distribution of quantization errors. Must not know: files.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use serde::Serialize;

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

#[derive(Debug, Default)]
pub(super) struct Errors {
    rows: u64,
    sum: f64,
    range: Option<(f64, f64)>,
    /// By the upper bits of the error, as many as there are; none before the first.
    buckets: Vec<u64>,
}

/// Bits of a float that say its bucket: exponent and three bits of the mantissa, in the order of the
/// numbers.
const BITS: u32 = 12;

impl Errors {
    pub(super) fn add(&mut self, error: f64) {
        self.rows += 1;
        self.sum += error;
        self.widen((error, error));
        self.buckets.resize(1 << BITS, 0);
        self.buckets[((error as f32).to_bits() >> (32 - BITS)) as usize] += 1;
    }

    fn widen(&mut self, (low, high): (f64, f64)) {
        let (min, max) = self.range.unwrap_or((low, high));
        self.range = Some((min.min(low), max.max(high)));
    }

    pub(super) fn merge(&mut self, other: Errors) {
        self.rows += other.rows;
        self.sum += other.sum;
        other.range.into_iter().for_each(|range| self.widen(range));
        self.buckets.resize(self.buckets.len().max(other.buckets.len()), 0);
        self.buckets.iter_mut().zip(other.buckets).for_each(|(rows, more)| *rows += more);
    }

    pub(super) fn report(&self) -> Option<ErrorReport> {
        let (min, max) = self.range?;
        let edge = |bucket: u32| f64::from(f32::from_bits(bucket << (32 - BITS)));
        let buckets = (0..).zip(&self.buckets).filter(|(_, rows)| **rows > 0);
        let histogram = buckets.map(|(bucket, &rows)| (edge(bucket), rows)).collect();
        Some(ErrorReport {
            rows: self.rows,
            min,
            mean: self.sum / self.rows as f64,
            max,
            histogram,
        })
    }
}

/// Finite, non-negative values of a float column; none of another type.
pub(super) fn floats(column: &arrow::array::ArrayRef) -> Vec<Option<f64>> {
    let values: Vec<Option<f64>> = match column.data_type() {
        DataType::Float32 => {
            column.as_primitive::<Float32Type>().iter().map(|v| v.map(f64::from)).collect()
        }
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().collect(),
        _ => Vec::new(),
    };
    values.into_iter().map(|v| v.filter(|v| v.is_finite() && *v >= 0.0)).collect()
}
