//! Owns what an output has recorded of its shards, wherever that is left: in `dataset.json` or its parts,
//! in what was folded, in the names of the files beside them. Must not know: who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::dataset::{self, DatasetSummary, ShardSummary};
use super::files::{Sidecar, partition_of, within};
use super::plan::Plan;
use super::{commit, folds};
use crate::error::Result;

/// How the sha256 of some partitions' shards begins, in hex, as far as that is recorded. Files beside a
/// shard tell where the output is `finished`: else they may be another's, whose worker was killed.
///
/// # Errors
/// A folder that can't be listed.
pub(crate) fn starts(
    plan: &Plan,
    partitions: &BTreeSet<usize>,
    finished: bool,
) -> Result<BTreeMap<usize, String>> {
    let summary = dataset::read(plan.dir()).ok().flatten().filter(|summary| is_of(summary, plan));
    let mut lists = Lists { plan, summary, last: None };
    let mut found = BTreeMap::new();
    for &partition in partitions {
        if let Some(sha256) = lists.sha256_of(partition) {
            found.insert(partition, sha256);
        }
    }
    if finished {
        for &partition in partitions {
            if !found.contains_key(&partition)
                && let Some(start) = start_by_names(plan, partition)?
            {
                found.insert(partition, start);
            }
        }
    }
    Ok(found)
}

/// Whether a summary is of these plans, or of the first of them.
fn is_of(summary: &DatasetSummary, plan: &Plan) -> bool {
    let mut files = plan.files().iter();
    summary.plans().iter().all(|digest| files.next().is_some_and(|file| file.digest() == digest))
}

/// The lists of an output's shards, of which memory holds one.
struct Lists<'a> {
    plan: &'a Plan,
    summary: Option<DatasetSummary>,
    /// The one that was read last, with where it lies.
    last: Option<(PathBuf, Vec<ShardSummary>)>,
}

impl Lists<'_> {
    fn sha256_of(&mut self, partition: usize) -> Option<String> {
        let number = partition as u64;
        let of = |shards: &[ShardSummary]| {
            let shard = shards.iter().find(|shard| shard.partition == number);
            shard.map(|shard| shard.tokens.sha256.clone())
        };
        let dir = self.plan.dir();
        let (mut path, mut recorded) = (folds::path_with(self.plan, partition), None);
        if let Some(summary) = &self.summary {
            if let Some(sha256) = of(&summary.shards) {
                return Some(sha256);
            }
            let has =
                |first: u64, count: u64| (first..first.saturating_add(count)).contains(&number);
            let mut parts = summary.parts.iter();
            recorded = parts.find(|part| has(part.first_partition, part.partitions));
            path = recorded.map(|part| dir.join(&part.shards.path)).or(path);
        }
        let path = path?;
        if self.last.as_ref().is_none_or(|(known, _)| *known != path) {
            let shards = match recorded {
                Some(part) => folds::read(dir, &part.shards).ok().map(|fold| fold.shards),
                None => folds::listed(self.plan, partition),
            };
            self.last = Some((path, shards.unwrap_or_default()));
        }
        self.last.as_ref().and_then(|(_, shards)| of(shards))
    }
}

/// By the files beside a shard, where all of them have the name of one content.
fn start_by_names(plan: &Plan, partition: usize) -> Result<Option<String>> {
    let below = plan.folders_of(partition).below(partition);
    let mut starts = BTreeSet::new();
    for kind in Sidecar::ALL {
        let paths = commit::list(&within(&plan.dir().join(kind.folder()), &below))?.into_iter();
        let own = paths.filter(|path| partition_of(path) == Some(partition));
        let start = |path: PathBuf| {
            let stem = path.file_stem()?.to_str()?.rsplit_once('-')?.1.to_string();
            (stem.len() == 16).then_some(stem)
        };
        starts.extend(own.filter_map(start));
    }
    Ok(starts.pop_first().filter(|_| starts.is_empty()))
}
