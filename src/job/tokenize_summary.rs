//! Owns what a job that tokenizes tells of itself in the end, and finishing an output that is whole.

use std::path::Path;

use super::events::Appended;
use crate::error::Result;
use crate::pipeline;
use crate::tokens::{DatasetSummary, Plan, all_committed, finalize};

/// What a run did, and what the output is now.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TokenizeSummary {
    /// Images that this run wrote, a row each or one for each of their views; not those of shards that
    /// another worker committed first.
    pub written: u64,
    /// Images that this run gave up, a row in `failures` each; counted as those.
    pub failed: u64,
    /// Images of the plan.
    pub planned: u64,
    /// Partitions of the plan.
    pub partitions: u64,
    /// Those that other workers have still to make; the last of them finishes the output.
    pub missing: u64,
    /// Partitions that were to be made again and are kept, as images would have lost their tokens.
    pub kept: u64,
    /// Folders and files of the inputs that couldn't be looked at.
    pub unseen: u64,
    /// What the finished output holds, of all runs and workers; None while something is missing.
    pub dataset: Option<DatasetSummary>,
    /// How the inputs stand to the output, where images were appended to it or are to be.
    pub appended: Option<Appended>,
    /// Of `failed`, the images that had failed before. They were reported then: until the output
    /// is finished, they don't make a run unclean again.
    failed_again: u64,
}

impl TokenizeSummary {
    /// Finishes the output where it is whole.
    pub(super) fn of(
        out: &Path,
        done: pipeline::Summary,
        retried: pipeline::Summary,
        unseen: u64,
    ) -> Result<TokenizeSummary> {
        // As it is now: another job may have appended to it.
        let plan = Plan::open(out)?;
        let there = all_committed(plan.dir())?;
        let missing = (0..plan.partitions()).filter(|p| !there.contains(p)).count();
        let dataset = if missing == 0 { Some(finalize::finalize(plan.dir())?) } else { None };
        Ok(TokenizeSummary {
            written: done.written + retried.written,
            failed: done.failed + retried.failed,
            planned: plan.rows(),
            partitions: plan.partitions() as u64,
            missing: missing as u64,
            kept: retried.kept,
            unseen,
            dataset,
            appended: None,
            failed_again: retried.failed,
        })
    }

    /// Whether every image that was asked for has its tokens: of the whole output where it is
    /// finished, else of this run.
    pub fn is_clean(&self) -> bool {
        let failed =
            self.dataset.as_ref().map_or(self.failed - self.failed_again, |d| d.totals.failed);
        failed + self.kept + self.unseen == 0
    }
}
