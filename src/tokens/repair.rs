//! Owns what undoes: orphans of dead processes, the finished look of an output whose partitions are
//! about to change, bad partitions, a broken plan. Must not know: how badness was found, how
//! partitions are made, how a uri is read.
//!
//! A repair clears here and is then an ordinary run: what is missing is made, then aggregated.
//! `--retry-failed` clears nothing: under the exclusive lock it calls [`reopen`], makes the
//! partitions of [`with_failures`] again with `CommitMode::Replace`, drops the lock and finalizes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::files::{CODEBOOK_FILE, DATASET_FILE, each_shard};
use super::folder_lock::FolderLock;
use super::identity::Identity;
use super::plan::Plan;
use super::{cleanup, commit, in_the_way, rebuild, sidecars, untrusted};
use crate::error::Result;
use crate::util::hex::hex;

/// What an audit found to be bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Plans, by how many are before them: 0 is `plan.parquet`, 1 `plan-00001.parquet`, ...
    pub plans: BTreeSet<usize>,
    /// `codebook.parquet` or `dataset.json`.
    pub aggregates: bool,
    /// Shards, by partition.
    pub partitions: BTreeSet<usize>,
    /// Partitions whose shards are whole, and that lack files beside them.
    pub sidecars: BTreeSet<usize>,
}

/// Takes the finished look from an output, durably, before any of its partitions changes: without
/// `dataset.json` it is work in progress, whatever happens next.
///
/// # Errors
/// What the system refuses.
pub fn reopen(dir: &Path, _lock: &FolderLock) -> Result<()> {
    commit::remove_durably(&dir.join(DATASET_FILE))?;
    commit::remove_durably(&dir.join(CODEBOOK_FILE)).map(|_| ())
}

/// The committed partitions that hold failures.
///
/// # Errors
/// A shard that can't be read, or doesn't say how many failures it holds.
pub fn with_failures(plan: &Plan) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for partition in plan.committed()?.iter() {
        let path = plan.shard_path(partition);
        if untrusted::entry_of(&path, "vqtok.failed")?.parse::<u64>() != Ok(0) {
            found.push(partition);
        }
    }
    Ok(found)
}

/// Refuses what lies in the way of a repair, before it changes anything.
///
/// # Errors
/// That, by its name.
pub(crate) fn refuse_in_the_way(dir: &Path, damage: &Damage) -> Result<()> {
    let places = damage.partitions.union(&damage.sidecars).copied().collect();
    in_the_way::refuse(dir, &damage.plans, &places)
}

/// Brings back what takes nothing away: files beside whole shards, as far as they lie in the output, and
/// broken plans, with `size_of` giving the present size of a uri's file. The lock that nothing else
/// changes under.
///
/// # Errors
/// Those of [`clear`].
pub(crate) fn rebuild(
    dir: &Path,
    damage: &Damage,
    size_of: &dyn Fn(&str) -> Option<u64>,
) -> Result<FolderLock> {
    let lock = FolderLock::exclusive(dir)?;
    refuse_in_the_way(dir, damage)?;
    restore_beside(dir, damage)?;
    // In order: a plan stands upon those before it.
    for &number in &damage.plans {
        rebuild::plan(dir, number, &damage.partitions, size_of)?;
    }
    Ok(lock)
}

/// Removes what is bad, so that the next run makes just that again, once what can be brought back was: a
/// broken plan is rebuilt from the shards, with `size_of` giving the present size of a uri's file. Kill it
/// anywhere and run it again.
///
/// # Errors
/// [`Busy`](crate::Error::Busy) where another job is at work; a plan that can't be rebuilt; something in the way of
/// what is to be made again.
pub fn clear(dir: &Path, damage: &Damage, size_of: &dyn Fn(&str) -> Option<u64>) -> Result<()> {
    let lock = rebuild(dir, damage, size_of)?;
    cleanup::remove_orphans(dir)?;
    if damage.aggregates || !damage.partitions.is_empty() {
        reopen(dir, &lock)?;
    }
    if damage.partitions.is_empty() {
        return Ok(());
    }
    let plan = Plan::open(dir)?;
    for &partition in &damage.partitions {
        // The commit record first: without it the sidecars are unreferenced.
        commit::remove_durably(&plan.shard_path(partition))?;
        let below = plan.folders_of(partition).below(partition);
        cleanup::remove_sidecars(dir, &below, |_, of, _| of == partition)?;
    }
    Ok(())
}

/// Brings back the files beside whole shards, as far as they lie in the output.
fn restore_beside(dir: &Path, damage: &Damage) -> Result<()> {
    for (&partition, shard) in &shards_of(dir, damage)? {
        sidecars::restore(dir, partition, shard)?;
    }
    Ok(())
}

/// The sha256 of some partitions' shards, in hex.
///
/// # Errors
/// What can't be read.
pub(crate) fn digests(
    plan: &Plan,
    partitions: &BTreeSet<usize>,
) -> Result<BTreeMap<usize, String>> {
    let digest = |&partition: &usize| {
        let (sha256, _) = commit::digest_file(&plan.shard_path(partition))?;
        Ok((partition, hex(sha256)))
    };
    partitions.iter().map(digest).collect()
}

/// Of the partitions that lack files beside their shards, those whose images it takes to make them again.
///
/// # Errors
/// What can't be read.
pub(crate) fn to_make_beside(dir: &Path, damage: &Damage) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for (partition, shard) in shards_of(dir, damage)? {
        if !sidecars::come_back(dir, partition, &shard)? {
            found.insert(partition);
        }
    }
    Ok(found)
}

/// Where the shards lie that lack files beside them.
fn shards_of(
    dir: &Path,
    Damage { plans, sidecars, .. }: &Damage,
) -> Result<BTreeMap<usize, PathBuf>> {
    let mut found = BTreeMap::new();
    if sidecars.is_empty() {
        return Ok(found);
    }
    let plan = Plan::open(dir).ok().filter(|_| plans.is_empty());
    each_shard(dir, |partition, path| {
        let at_its_place = plan.as_ref().is_none_or(|plan| plan.shard_path(partition) == path);
        if sidecars.contains(&partition) && at_its_place {
            found.entry(partition).or_insert(path);
        }
    })?;
    Ok(found)
}

/// What made an output: its plan's word, or where that is damaged, that of the first good shard.
///
/// # Errors
/// Neither is left.
pub(crate) fn identity(dir: &Path, damage: &Damage) -> Result<Identity> {
    match damage.plans.is_empty() {
        true => Ok(Plan::open(dir)?.identity().clone()),
        false => rebuild::identity(dir, &damage.partitions),
    }
}
