//! Owns what is folded of some partitions of a large output, those of a folder: `dataset/shards-...json`
//! lists them with their digests, `dataset/codebook-...parquet` has their codebook counts. Must not know:
//! the sums over all of them.
//!
//! A fold has one content, whoever makes it: several workers may fold the partitions of their shares,
//! and who finishes the output takes what is there. It is trusted as far as its own digest goes, so that
//! shards aren't hashed again; whoever changes a partition removes the fold first ([`forget`]). Names
//! say how many partitions were folded: once images were appended, the last fold is another one.

use std::path::{Path, PathBuf};

use parquet::file::metadata::KeyValue;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::dataset::{
    FileSummary, PartSummary, ShardSummary, Totals, file_summary, signed, with_digest,
};
use super::files::{DATASET_FOLDER, Sidecar};
use super::plan::Plan;
use super::stats::Statistics;
use super::{cleanup, commit, schema, untrusted};
use crate::error::{Error, Result};
use crate::storage::{self, Chunks};
use crate::util::regular_file::ANY_SIZE;
use crate::util::{panics, text};

/// What a fold says of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fold {
    /// `shards.v1`.
    schema: String,
    /// The digests of the plans that they are of, in order.
    plans: Vec<String>,
    first_partition: u64,
    partitions: u64,
    totals: Totals,
    codebook: FileSummary,
    /// Every one, in order.
    pub(super) shards: Vec<ShardSummary>,
}

/// Partitions that are folded together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    number: usize,
    pub(super) partitions: std::ops::Range<usize>,
}

impl Group {
    /// That of a partition, where so many are folded together.
    fn of(plan: &Plan, partition: usize, together: usize) -> Group {
        let number = partition / together;
        let first = number * together;
        Group { number, partitions: first..plan.partitions().min(first + together) }
    }

    fn name(&self, kind: &str, extension: &str) -> String {
        let Group { number, partitions } = self;
        format!("{DATASET_FOLDER}/{kind}-{number:05}-{}.{extension}", partitions.len())
    }

    fn list(&self) -> String {
        self.name("shards", "json")
    }

    fn codebook(&self) -> String {
        self.name("codebook", "parquet")
    }
}

/// The groups of an output whose shards lie in folders, in order.
pub(super) fn groups(plan: &Plan, together: usize) -> impl Iterator<Item = Group> + use<'_> {
    (0..plan.partitions()).step_by(together).map(move |first| Group::of(plan, first, together))
}

/// Where the fold that a partition is in lies; None where none is made.
pub(super) fn path_with(plan: &Plan, partition: usize) -> Option<PathBuf> {
    let together = plan.together()?;
    Some(plan.dir().join(Group::of(plan, partition, together).list()))
}

/// Removes the fold at `path`, durably, where it is there.
///
/// # Errors
/// What the system refuses.
pub(super) fn forget(path: &Path) -> Result<()> {
    match storage::exists(path).map_err(Error::io(path))? {
        true => commit::remove_durably(path).map(|_| ()),
        false => Ok(()),
    }
}

/// Removes what lies among the folds of an output and is none of these.
///
/// # Errors
/// What the system refuses.
pub(super) fn remove_others(dir: &Path, parts: &[PartSummary]) -> Result<()> {
    let files = parts.iter().flat_map(|part| [&part.shards, &part.codebook]);
    let known: std::collections::BTreeSet<PathBuf> =
        files.map(|file| dir.join(&file.path)).collect();
    cleanup::remove_others(&dir.join(DATASET_FOLDER), |path| known.contains(path))
}

/// The fold of a group, all of whose partitions are there: the one that is there, or a new one.
///
/// # Errors
/// A shard or a file beside it that is damaged or of another plan; what the system refuses.
pub(super) fn fold(plan: &Plan, group: &Group) -> Result<PartSummary> {
    if let Some(known) = known(plan, group) {
        return Ok(known);
    }
    let dir = plan.dir();
    commit::create_folder(&dir.join(DATASET_FOLDER))?;
    // In parallel, since every byte is hashed; `collect` keeps the order.
    let shards = group.partitions.clone().into_par_iter();
    let shards = shards.map(|partition| summarize(plan, partition)).collect::<Result<Vec<_>>>()?;
    remove_unreferenced(plan, group.partitions.start, &shards)?;
    let mut statistics = Statistics::new(plan.identity());
    let mut totals = Totals::default();
    for shard in &shards {
        statistics.merge_file(&dir.join(&shard.codebook.path))?;
        totals.take(shard);
    }
    totals.tokens = statistics.tokens();
    let path = dir.join(group.codebook());
    let entries = vec![
        KeyValue::new("vqtok.schema".into(), schema::CODEBOOK.to_string()),
        KeyValue::new("vqtok.identity_sha256".into(), plan.identity().digest()),
        KeyValue::new("vqtok.first_partition".into(), group.partitions.start.to_string()),
        KeyValue::new("vqtok.partitions".into(), group.partitions.len().to_string()),
    ];
    commit::write_sidecar(&path, &statistics.encode(&path, false, entries)?)?;
    let fold = Fold {
        schema: schema::SHARDS.to_string(),
        plans: plans_of(plan, group),
        first_partition: group.partitions.start as u64,
        partitions: group.partitions.len() as u64,
        totals,
        codebook: file_summary(dir, &path)?,
        shards,
    };
    let path = dir.join(group.list());
    commit::write_sidecar(&path, with_digest(&fold).as_bytes())?;
    Ok(fold.part(file_summary(dir, &path)?))
}

impl Fold {
    fn part(self, shards: FileSummary) -> PartSummary {
        let Fold { first_partition, partitions, totals, codebook, .. } = self;
        PartSummary { first_partition, partitions, totals, shards, codebook }
    }
}

fn plans_of(plan: &Plan, group: &Group) -> Vec<String> {
    let mut plans: Vec<String> = Vec::new();
    for partition in group.partitions.clone() {
        if plans.last().is_none_or(|last| last != plan.digest_of(partition)) {
            plans.push(plan.digest_of(partition).to_string());
        }
    }
    plans
}

/// A fold that is there and whole.
fn known(plan: &Plan, group: &Group) -> Option<PartSummary> {
    let dir = plan.dir();
    let path = dir.join(group.list());
    let list = storage::exists(&path).ok()?.then(|| file_summary(dir, &path).ok())??;
    let fold = read(dir, &list).ok()?;
    let there = file_summary(dir, &dir.join(group.codebook())).ok()?;
    let fits = fold.plans == plans_of(plan, group)
        && fold.first_partition == group.partitions.start as u64
        && fold.shards.len() == group.partitions.len()
        && fold.codebook == there;
    fits.then(|| fold.part(list))
}

/// What the fold that a partition is in says of its partitions, as far as its own digest goes; None where
/// there is none of these plans.
pub(super) fn listed(plan: &Plan, partition: usize) -> Option<Vec<ShardSummary>> {
    let group = Group::of(plan, partition, plan.together()?);
    let dir = plan.dir();
    let list = file_summary(dir, &dir.join(group.list())).ok()?;
    let fold = read(dir, &list).ok()?;
    (fold.plans == plans_of(plan, &group)).then_some(fold.shards)
}

/// Reads the fold that `file` names.
///
/// # Errors
/// One that isn't there, or is another.
pub(super) fn read(dir: &Path, file: &FileSummary) -> Result<Fold> {
    let path = dir.join(&file.path);
    let broken = |reason: String| Error::damaged(&path, reason);
    let text = storage::read_to_string(&path, ANY_SIZE).map_err(Error::of_output(&path))?;
    let body = signed(&text).map_err(broken)?;
    let fold: Fold = serde_json::from_str(&body).map_err(|error| broken(error.to_string()))?;
    match crate::util::hex::sha256_hex(text.as_bytes()) == file.sha256 {
        true => Ok(fold),
        false => Err(broken("its sha256 is not the one in dataset.json".into())),
    }
}

/// Removes the sidecars of some partitions, from `first` on, that their shards don't refer to.
pub(super) fn remove_unreferenced(
    plan: &Plan,
    first: usize,
    shards: &[ShardSummary],
) -> Result<()> {
    let dir = plan.dir();
    let all = first..first + shards.len();
    let mut below: Vec<String> = all.map(|p| plan.folders_of(p).below(p)).collect();
    below.dedup();
    for below in below {
        cleanup::remove_sidecars(dir, &below, |kind, partition, path| {
            let shard = partition.checked_sub(first).and_then(|at| shards.get(at));
            shard.is_some_and(|shard| path != dir.join(&shard.sidecar(kind).path))
        })?;
    }
    Ok(())
}

/// Hashes a partition's three files and checks that they belong together and to the plan.
pub(super) fn summarize(plan: &Plan, partition: usize) -> Result<ShardSummary> {
    let _at = panics::at("hash shards", Some(&format!("shard {partition}")));
    let dir = plan.dir();
    let path = plan.shard_path(partition);
    let broken = |reason: String| Error::damaged(&path, reason);
    let tokens = file_summary(dir, &path)?;
    let sidecars = Sidecar::ALL.map(|kind| plan.sidecar_path(kind, partition, &tokens.sha256));
    for sidecar in &sidecars {
        if !storage::exists(sidecar).map_err(Error::io(sidecar))? {
            return Err(broken(format!("its sidecar {} is missing", text::path(sidecar))));
        }
    }
    let [failures, codebook] = sidecars;
    let file = Chunks(storage::open(&path).map_err(Error::io(&path))?);
    let metadata = untrusted::metadata(&file, "").map_err(broken)?;
    let entry = |key: &str| untrusted::entry(&metadata, key).unwrap_or_default();
    let number =
        |key: &str| entry(key).parse::<u64>().map_err(|_| broken(format!("it has no {key}")));
    let summary = ShardSummary {
        partition: partition as u64,
        first_ordinal: number("vqtok.first_ordinal")?,
        planned: number("vqtok.planned")?,
        written: number("vqtok.written")?,
        failed: number("vqtok.failed")?,
        rows: number("vqtok.rows")?,
        tokens,
        failures: file_summary(dir, &failures)?,
        codebook: file_summary(dir, &codebook)?,
    };
    let named = number("vqtok.partition")?;
    let rows = metadata.metadata().file_metadata().num_rows();
    let ordinals = plan.ordinals(partition)?;
    let checks = [
        (entry("vqtok.plan_sha256") == plan.digest_of(partition), "it belongs to another plan"),
        (named == summary.partition, "it is another partition"),
        (summary.first_ordinal as i64 == ordinals.start, "it starts at another image"),
        (summary.planned as i64 == ordinals.end - ordinals.start, "it planned other images"),
        (summary.planned == summary.written + summary.failed, "planned = written + failed fails"),
        (rows == summary.rows as i64, "its footer counts other rows"),
        (entry("vqtok.failures_sha256") == summary.failures.sha256, "its failures are damaged"),
        (
            entry("vqtok.codebook_part_sha256") == summary.codebook.sha256,
            "its codebook part is damaged",
        ),
    ];
    match checks.iter().find(|(holds, _)| !holds) {
        Some((_, reason)) => Err(broken(reason.to_string())),
        None => Ok(summary),
    }
}
