//! Owns what one grid of a row is made of: how many codes, or bits, in which sizes. Must not know: the
//! other grids, values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest codebook whose codes are counted: statistics hold one counter a code in memory. Of larger
/// ones bits are.
pub(crate) const CODES_MAX: u64 = 1 << 24;

/// Bits of a code at most.
const BITS_MAX: u64 = 256;

/// The scales (h, w) of each grid that rows can have, as `1x680`.
pub(crate) type Scales = BTreeMap<String, Vec<[usize; 2]>>;

/// One grid of a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LevelLayout {
    /// K: codes are below it; 2 where a token is a list of bits.
    pub codes: u64,
    /// D, where statistics count bits rather than codes: more than 2^24 codes, whose number is two to the
    /// power of D, or tokens that are lists of D bits. Written only there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits: Option<u64>,
    /// `[h, w]` in tokens where every image has the same; None where grids vary.
    pub grid: Option<[u32; 2]>,
    /// Whether it holds what the levels before it left over, rather than a coarser grid. Written
    /// only where it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub residual: bool,
    /// Whether it holds the codes of another book, for its own part of every latent, beside the first
    /// level's. Written only where it does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub book: bool,
    /// Where a row holds the codes of several scales one after another, these. None where it holds
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scales: Option<Scales>,
}

impl LevelLayout {
    /// A level that stands for itself, whose tokens are numbers.
    pub fn new(codes: u64, grid: Option<[u32; 2]>) -> LevelLayout {
        let many = codes > CODES_MAX && codes.is_power_of_two();
        let bits = many.then(|| u64::from(codes.trailing_zeros()));
        LevelLayout { codes, bits, grid, residual: false, book: false, scales: None }
    }

    /// A level whose tokens are lists of so many bits.
    pub fn of_bits(bits: u64, grid: Option<[u32; 2]>) -> LevelLayout {
        LevelLayout { bits: Some(bits), ..LevelLayout::new(2, grid) }
    }

    /// Values of a token in its column: 1, or D where it is a list of bits.
    pub fn values(&self) -> usize {
        self.bits.filter(|_| self.codes == 2).map_or(1, |bits| bits as usize)
    }

    /// Values of a row in its column where that is fixed.
    pub fn row_values(&self) -> Option<usize> {
        self.grid.map(|[height, width]| height as usize * width as usize * self.values())
    }

    /// Refuses codes that can neither be counted nor their bits.
    pub(super) fn check(&self) -> Result<()> {
        match self.bits {
            None if (1..=CODES_MAX).contains(&self.codes) => Ok(()),
            None => Err(Error::invalid(format!(
                "a codebook has 1 to {CODES_MAX} codes, or two to a power of up to 32; this one {}",
                self.codes
            ))),
            Some(33..=BITS_MAX) if self.codes == 2 => Ok(()),
            Some(bits @ 25..=32) if self.codes == 1 << bits => Ok(()),
            Some(bits) => Err(Error::invalid(format!(
                "{} codes of {bits} bits: codes of 25 to 32 bits are numbers, those of up to \
                 {BITS_MAX} lists of bits",
                self.codes
            ))),
        }
    }
}
