//! Owns where the files of a plan's partitions lie, and which partitions are there. Must not know: what
//! is in them.

use std::path::{Path, PathBuf};

use super::plans::Plan;
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::displaced;
use crate::tokens::files::{ShardFolders, Sidecar, TOKENS_FOLDER, shards_in, within};

impl Plan {
    /// How the files of a partition lie.
    pub(in crate::tokens) fn folders_of(&self, partition: usize) -> ShardFolders {
        self.of(partition).folders()
    }

    /// Partitions that are folded, and whose shards are listed, together; None in an output whose files
    /// lie in one folder of each kind.
    pub(crate) fn together(&self) -> Option<usize> {
        self.files.iter().rev().find_map(|file| file.folders().size())
    }

    /// Where a partition's shard lies.
    pub(crate) fn shard_path(&self, partition: usize) -> PathBuf {
        self.folders_of(partition).shard(&self.dir, partition)
    }

    /// Where a file beside it lies, by the hex sha256 of its shard.
    pub(in crate::tokens) fn sidecar_path(
        &self,
        kind: Sidecar,
        partition: usize,
        sha256: &str,
    ) -> PathBuf {
        self.folders_of(partition).sidecar(&self.dir, kind, partition, sha256)
    }

    /// Whether a partition is there. A shard that can be seen is complete.
    pub fn has(&self, partition: usize) -> bool {
        // Where a store can't say, the partition is made again, and found to be there at its commit.
        storage::exists(&self.shard_path(partition)).unwrap_or(false)
    }

    /// The partitions that are there. Folders are listed that the plan gives the names of.
    ///
    /// # Errors
    /// A folder that can't be listed.
    pub(crate) fn committed(&self) -> Result<Committed> {
        let mut there = Committed::none(self.partitions());
        for file in &self.files {
            let numbers = file.numbers();
            let folder = self.dir.join(TOKENS_FOLDER);
            let Some(size) = file.folders().size() else {
                there.take(self, &folder)?;
                continue;
            };
            for first in (numbers.start / size * size..numbers.end).step_by(size) {
                there.take(self, &within(&folder, &file.folders().below(first)))?;
            }
        }
        Ok(there)
    }

    /// Errors: [`Error::Busy`] where partitions are missing, naming how many.
    pub(in crate::tokens) fn must_be_whole(&self) -> Result<()> {
        let there = self.committed()?;
        let Some(first) = there.missing().next() else { return Ok(()) };
        displaced::refuse(self, |partition| there.has(partition))?;
        Err(Error::busy(format!(
            "{}: {} of {} partitions are not there yet, the first is {}; finish `vqtok tokenize` first",
            crate::util::text::path(&self.dir),
            there.missing().count(),
            self.partitions(),
            crate::util::text::path(self.folders_of(first).shard(Path::new(""), first))
        )))
    }
}

/// Which partitions of an output are there: a bit each.
pub(crate) struct Committed {
    bits: Vec<u64>,
    partitions: usize,
}

impl Committed {
    fn none(partitions: usize) -> Committed {
        Committed { bits: vec![0; partitions.div_ceil(64)], partitions }
    }

    /// Takes the shards of a folder that lie where they belong.
    fn take(&mut self, plan: &Plan, folder: &Path) -> Result<()> {
        for (partition, path) in shards_in(folder)? {
            if partition < self.partitions && plan.shard_path(partition) == path {
                self.bits[partition / 64] |= 1 << (partition % 64);
            }
        }
        Ok(())
    }

    /// Whether a partition is there.
    pub(crate) fn has(&self, partition: usize) -> bool {
        self.bits.get(partition / 64).is_some_and(|bits| bits >> (partition % 64) & 1 == 1)
    }

    /// Those that are there, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.partitions).filter(|&partition| self.has(partition))
    }

    /// Those that aren't, ascending.
    pub(crate) fn missing(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.partitions).filter(|&partition| !self.has(partition))
    }
}
