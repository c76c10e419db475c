//! Owns giving a partition's shard its name, the files beside it before. Must not know: how it was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::commit::{self, Published, Sealed};
use super::files::{ShardFolders, Sidecar};
use super::rebuild::names;
use super::rows::FailureRow;
use super::{cleanup, folds};
use crate::error::Result;
use crate::storage;
use crate::util::hex::hex;

/// Whether a partition's name must be free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitMode {
    /// The first to link wins.
    New,
    /// Take the place of a committed shard; under the exclusive lock of the plan only.
    Replace,
    /// Where a partition's shard was lost or damaged of which is known how its sha256 begins, in hex: only
    /// such a one, in whatever's place. The others are new.
    Restore(Arc<BTreeMap<usize, String>>),
}

impl CommitMode {
    /// How the sha256 of a partition's shard must begin.
    fn due(&self, partition: usize) -> Option<&str> {
        match self {
            CommitMode::Restore(due) => due.get(&partition).map(String::as_str),
            _ => None,
        }
    }
}

/// How the commit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// This writer's shard is the partition.
    Committed,
    /// Another worker's identical shard was there first.
    Already,
    /// Another worker's different shard was there first and stays: a finding.
    Lost {
        /// Hex sha256 of the shard that was given up.
        ours: String,
        /// Hex sha256 of the shard that stays.
        theirs: String,
    },
    /// Not the shard that was to come back: nothing was changed.
    Differs {
        /// The key of the first of its images that fail now, and why; None where none does.
        failed: Option<[String; 2]>,
    },
}

/// What closing a partition gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which.
    pub partition: usize,
    /// Rows in the shard: images times views.
    pub rows: u64,
    /// Images in the shard.
    pub written: u64,
    /// Images in `failures`.
    pub failures: u64,
    /// Hex, of the shard.
    pub sha256: String,
    /// How it went.
    pub commit: Commit,
}

/// A partition whose shard is durable and has no name yet.
pub(super) struct Made<'a> {
    pub(super) dir: &'a Path,
    pub(super) folders: ShardFolders,
    pub(super) partition: usize,
    /// Where what was folded of it with others lies.
    pub(super) fold: Option<&'a Path>,
    /// Of the shard, in hex.
    pub(super) sha256: &'a str,
    pub(super) failed: &'a [FailureRow],
    /// The bytes of the files beside it.
    pub(super) sidecars: [&'a [u8]; 2],
}

impl Made<'_> {
    /// Commits it.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn commit(&self, sealed: Sealed, mode: &CommitMode) -> Result<Commit> {
        let due = mode.due(self.partition);
        if let Some(due) = due.filter(|due| !self.sha256.starts_with(*due)) {
            let failed = fails_now(self.failed, &self.sidecar(Sidecar::Failures, due));
            return Ok(Commit::Differs { failed });
        }
        let shard = self.folders.shard(self.dir, self.partition);
        let paths = Sidecar::ALL.map(|kind| self.sidecar(kind, self.sha256));
        for (path, bytes) in paths.iter().zip(self.sidecars) {
            commit::write_sidecar(path, bytes)?;
        }
        if let Some(fold) = self.fold.filter(|_| may_change(mode, due, &shard)) {
            folds::forget(fold)?;
        }
        match mode {
            CommitMode::Restore(_) if due.is_some() => {
                let commit = restore(sealed, &shard)?;
                self.remove_others()?;
                Ok(commit)
            }
            CommitMode::New | CommitMode::Restore(_) => match sealed.publish()? {
                Published::Created => Ok(Commit::Committed),
                Published::Exists => compare(&shard, self.sha256, &paths),
            },
            CommitMode::Replace => {
                sealed.replace()?;
                self.remove_others()?;
                Ok(Commit::Committed)
            }
        }
    }

    /// Where a file lies beside the shard whose sha256 begins so.
    fn sidecar(&self, kind: Sidecar, start: &str) -> PathBuf {
        self.folders.sidecar(self.dir, kind, self.partition, start)
    }

    /// Removes what lies beside its place and is of another content.
    fn remove_others(&self) -> Result<()> {
        let below = self.folders.below(self.partition);
        cleanup::remove_sidecars(self.dir, &below, |kind, of, path| {
            of == self.partition && path != self.sidecar(kind, self.sha256)
        })
    }
}

/// Whether a partition may become another one than was folded with others. One that another worker has
/// committed stays as it is, as does one that comes back.
fn may_change(mode: &CommitMode, due: Option<&str>, shard: &Path) -> bool {
    let is_new = || due.is_none() && !storage::exists(shard).unwrap_or(true);
    *mode == CommitMode::Replace || is_new()
}

/// The loser's part: the winner stays; our sidecars go unless they are the winner's as well.
fn compare(shard: &Path, ours: &str, sidecars: &[PathBuf; 2]) -> Result<Commit> {
    let theirs = hex(commit::digest_file(shard)?.0);
    if theirs == ours {
        return Ok(Commit::Already);
    }
    for path in sidecars {
        commit::remove_durably(path)?;
    }
    Ok(Commit::Lost { ours: ours.to_string(), theirs })
}

/// The key of the first image that fails and isn't among the `known` failures, and why.
fn fails_now(failures: &[FailureRow], known: &Path) -> Option<[String; 2]> {
    let known = names(known).unwrap_or_default();
    let is_new = |row: &&FailureRow| known.iter().all(|(ordinal, ..)| *ordinal != row.ordinal);
    failures.iter().find(is_new).map(|row| [row.key.clone(), row.error.clone()])
}

/// Whether a file has a content; a link to nothing, a pipe and the like have none.
fn is(path: &Path, sha256: [u8; 32]) -> bool {
    commit::digest_file(path).is_ok_and(|(found, _)| found == sha256)
}

/// Puts a shard in its place that is the one that was there: in that of what is damaged, where something is.
fn restore(sealed: Sealed, shard: &Path) -> Result<Commit> {
    let (published, sealed) = sealed.publish_keeping()?;
    match published {
        Published::Created => Ok(Commit::Committed),
        Published::Exists if is(shard, sealed.sha256) => Ok(Commit::Already),
        Published::Exists => sealed.replace().map(|()| Commit::Committed),
    }
}
