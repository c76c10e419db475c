//! Owns what a job that tokenizes tells of itself in the end, and finishing an output that is whole.

use std::collections::BTreeMap;
use std::path::Path;

use super::events::Appended;
use crate::error::Result;
use crate::pipeline;
use crate::tokens::{DatasetSummary, Plan, finalize};

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
    /// Partitions that were lost of a finished output and were made otherwise than it had recorded
    /// them: an image has changed since, or what computes.
    pub differing: Vec<u64>,
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
        let missing = plan.committed()?.missing().count();
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
            differing: Vec::new(),
            appended: None,
            failed_again: retried.failed,
        })
    }

    /// Compares what was made again with what a finished output had recorded.
    pub(super) fn compared(mut self, out: &Path, before: &Recorded) -> TokenizeSummary {
        if before.shards.is_empty() {
            return self;
        }
        let now = Recorded::of(out, self.dataset.as_ref());
        let differs = |(partition, digest): &(&u64, &String)| {
            now.shards.get(partition).is_some_and(|now| now != *digest)
        };
        self.differing =
            before.shards.iter().filter(differs).map(|(partition, _)| *partition).collect();
        self
    }

    /// What it and a pass before it did.
    pub(super) fn after(mut self, before: TokenizeSummary) -> TokenizeSummary {
        self.written += before.written;
        self.failed += before.failed;
        self.kept += before.kept;
        self.differing.extend(before.differing);
        self.differing.sort_unstable();
        self.differing.dedup();
        self
    }

    /// Whether every image that was asked for has its tokens, of the whole output where it is
    /// finished, else of this run; and whether they are those that it had.
    pub fn is_clean(&self) -> bool {
        let failed =
            self.dataset.as_ref().map_or(self.failed - self.failed_again, |d| d.totals.failed);
        failed + self.kept + self.unseen == 0 && self.differing.is_empty()
    }
}

/// What a finished output has.
#[derive(Default)]
pub(super) struct Recorded {
    /// The digests of its plans.
    plans: Vec<String>,
    /// Those of its shards, by their partitions.
    shards: BTreeMap<u64, String>,
}

impl Recorded {
    /// What `dataset.json` says before shards are made again.
    pub(super) fn before(dir: &Path) -> Recorded {
        Recorded::of(dir, finalize::read(dir).ok().flatten().as_ref())
    }

    /// Whether it is of these plans' output.
    pub(super) fn is_of(&self, plan: &Plan) -> bool {
        let mut files = plan.files().iter();
        let known = |digest| files.next().is_some_and(|file| file.digest() == digest);
        self.plans.iter().all(known)
    }

    fn of(dir: &Path, summary: Option<&DatasetSummary>) -> Recorded {
        let plans = summary.into_iter().flat_map(DatasetSummary::plans).collect();
        let shards = summary.into_iter().flat_map(|summary| summary.all_shards(dir));
        // What can't be read any more was recorded for nobody.
        let shards = shards.filter_map(Result::ok);
        let shards = shards.map(|shard| (shard.partition, shard.tokens.sha256)).collect();
        Recorded { plans, shards }
    }
}
