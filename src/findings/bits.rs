//! Owns how the bits of codes are used that are too many to be counted: how evenly, where, beside what,
//! by which labels and shards. Must not know: how bits are counted, how findings are shown.

use serde::Serialize;

use super::codebook::{Places, places};
use super::drift::{Drift, Whole};
use crate::audit::patterns::Patterns;
use crate::audit::report::{BitsReport, Uses};

/// The use of the bits of one level's codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BitUse {
    /// Uses, entropy.
    #[serde(flatten)]
    pub level: BitsReport,
    /// Use of codes by place in the grid. They share counters, here and in what follows: numbers are at
    /// most what they would be.
    pub places: Places,
    /// Bits that a token's left or upper neighbour tells of it; None of grids of one token.
    pub neighbour_bits: Option<f64>,
    /// Labels whose codes differ most from the others'.
    pub labels: Vec<Drift>,
    /// Shards, or stretches of them, against all others.
    pub shards: Vec<Drift>,
    /// The other output against this one, where there is one.
    pub against: Option<Drift>,
}

/// Every level's use, and the other output's beside it.
pub(super) fn of(levels: &[BitsReport], uses: &Uses, other: Option<&Uses>) -> Vec<BitUse> {
    let level = |(at, (level, patterns)): (usize, (&BitsReport, &Patterns))| {
        let whole = Whole::of(patterns);
        let against = other.and_then(|other| whole.other(&Whole::of(other.patterns.get(at)?)));
        BitUse {
            places: places(patterns),
            neighbour_bits: patterns.neighbour_bits(),
            labels: whole.labels(),
            shards: whole.between(&patterns.stretches),
            against,
            level: level.clone(),
        }
    };
    levels.iter().zip(&uses.patterns).enumerate().map(level).collect()
}
