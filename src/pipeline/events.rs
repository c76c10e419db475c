//! Owns what a run reports while it goes on.

use crate::tokens::{FailureRow, Receipt};

/// What happens while a run goes on.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// One image has its outcome.
    Image {
        /// Its row in `failures`, if it failed.
        failure: Option<&'a FailureRow>,
    },
    /// A partition is committed, by this run or by another worker before it.
    Partition(&'a Receipt),
    /// A partition that was to be replaced is kept.
    Kept {
        /// Its number.
        partition: usize,
        /// Why, in one line.
        reason: &'a str,
    },
    /// The device ran out of memory.
    BatchHalved {
        /// Images that it gets at a time from now on.
        images: usize,
    },
}

/// Who is told, and who can stop the run.
pub trait Observer {
    /// Called from the calling thread.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Asked at least every 50 ms while outcomes are awaited: true drops the current partition and
    /// ends the run with [`Error::Interrupted`](crate::Error::Interrupted).
    fn interrupted(&self) -> bool {
        false
    }
}

impl Observer for () {}
