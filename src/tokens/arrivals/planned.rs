//! Owns what is held of planned images while today's are held against them. Must not know: what
//! becomes of either.

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::tokens::changes::{content, hash};
use crate::tokens::plan::Plan;
use crate::tokens::rows::PlanRow;

/// A share of the planned images, by their keys.
pub(super) struct Planned {
    known: Vec<Known>,
    /// Hashes of the places that they were planned at, sorted.
    places: Vec<u64>,
}

#[derive(Clone, Copy)]
pub(super) struct Known {
    key: u128,
    /// Hash of the uri.
    pub(super) place: u64,
    pub(super) content: u64,
    pub(super) ordinal: u64,
}

impl Planned {
    /// # Errors
    /// A plan that can't be read any more.
    pub(super) fn share(plan: &Plan, [share, shares]: [u128; 2]) -> Result<Planned> {
        let (mut known, mut places) = (Vec::new(), Vec::new());
        for file in plan.files() {
            let beside = file.has_parts();
            for row in file.all_rows()? {
                let row = row?;
                let key = key_of(&row.key);
                if key % shares == share {
                    places.push(place_of(&row));
                    known.push(Known {
                        key,
                        place: hash(&row.uri),
                        content: content(&row, beside),
                        ordinal: row.ordinal.unsigned_abs(),
                    });
                }
            }
        }
        known.sort_unstable_by_key(|known| known.key);
        places.sort_unstable();
        Ok(Planned { known, places })
    }

    pub(super) fn find(&self, key: &str) -> Option<Known> {
        let key = key_of(key);
        self.known.binary_search_by_key(&key, |known| known.key).ok().map(|at| self.known[at])
    }

    /// Whether one of them seems to be at the very place of an image.
    pub(super) fn is_place_of(&self, row: &PlanRow) -> bool {
        self.places.binary_search(&place_of(row)).is_ok()
    }
}

fn place_of(row: &PlanRow) -> u64 {
    hash(&(&row.uri, &row.member, row.offset))
}

fn key_of(key: &str) -> u128 {
    let digest = Sha256::digest(key);
    digest.iter().take(16).fold(0, |sum, &byte| sum << 8 | u128::from(byte))
}

/// A set of numbers from 0 on.
#[derive(Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Takes a number; whether it was there before.
    pub(super) fn set(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word] & bit != 0;
        self.0[word] |= bit;
        before
    }

    pub(super) fn has(&self, number: u64) -> bool {
        self.0.get((number / 64) as usize).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}
