//! Owns from how many partitions on an output is laid out in folders and parts. Must not know: what
//! lies in them.
//!
//! `VQTOK_SCALE=<together>:<a folder>` sets other numbers, so that a test's small output is a large
//! one. What was written says itself how it lies: readers look there, not here.

use std::sync::OnceLock;

use crate::error::{Error, Result};
use crate::util::text;

const VARIABLE: &str = "VQTOK_SCALE";

/// How many partitions are kept together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Partitions of a file of the plan at most; and of an output whose shards all lie in one folder.
    pub together: usize,
    /// Partitions whose shards lie in one folder, in an output of more than that.
    pub a_folder: usize,
}

impl Scale {
    /// What outputs are begun with.
    pub(crate) fn current() -> Scale {
        static SCALE: OnceLock<Scale> = OnceLock::new();
        *SCALE.get_or_init(|| {
            let set = std::env::var(VARIABLE).ok();
            set.and_then(|text| Scale::parse(&text)).unwrap_or(Scale::USUAL)
        })
    }

    /// No folder has more than 10,000 files, and a file of a plan no more partitions: the footer of one
    /// is held in memory while it is written.
    pub(crate) const USUAL: Scale = Scale { together: 10_000, a_folder: 1_000 };

    /// Refuses what the environment says where that is no scale: an output would be begun with another.
    ///
    /// # Errors
    /// That, with what is accepted.
    pub(crate) fn check_environment() -> Result<()> {
        match std::env::var_os(VARIABLE) {
            Some(set) if set.to_str().and_then(Scale::parse).is_none() => {
                Err(Error::invalid(format!(
                    "{VARIABLE}={}: two whole numbers from 1 on, the partitions that one folder and one \
                     file of a plan hold at most and those of a folder beyond that, such as 10000:1000, \
                     which is what counts where it isn't set",
                    text::printable(&set.to_string_lossy())
                )))
            }
            _ => Ok(()),
        }
    }

    fn parse(text: &str) -> Option<Scale> {
        let (together, a_folder) = text.split_once(':')?;
        let number = |text: &str| text.parse().ok().filter(|&number| number > 0);
        Some(Scale { together: number(together)?, a_folder: number(a_folder)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_numbers_are_two_positive_ones() {
        assert_eq!(Scale::parse("3:2"), Some(Scale { together: 3, a_folder: 2 }));
        for text in ["", "3", "3:", "0:2", "3:0", "-1:2", "3:2:1"] {
            assert_eq!(Scale::parse(text), None, "{text}");
        }
    }
}
