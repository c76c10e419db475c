//! Owns the names of an output's files: shards, the sidecars beside them, and what a name says.
//! Must not know: what is in them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::identity::Identity;
use super::{commit, schema};
use crate::error::Result;
use crate::storage;

/// A kind of file beside each shard, in a folder of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sidecar {
    /// The images without tokens, and why.
    Failures,
    /// How often each code was used.
    Codebook,
}

impl Sidecar {
    pub(crate) const ALL: [Sidecar; 2] = [Sidecar::Failures, Sidecar::Codebook];

    /// Its folder below an output's.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Sidecar::Failures => "failures",
            Sidecar::Codebook => "codebook",
        }
    }

    /// Its schema word in an output.
    pub(crate) fn schema(self, identity: &Identity) -> &'static str {
        match self {
            Sidecar::Failures => schema::FAILURES,
            Sidecar::Codebook if identity.counts_bits() => schema::CODEBOOK_OF_BITS,
            Sidecar::Codebook => schema::CODEBOOK,
        }
    }

    /// Where it lies, by the hex sha256 of its shard.
    pub(crate) fn path(self, dir: &Path, partition: usize, sha256: &str) -> PathBuf {
        dir.join(self.folder()).join(format!("part-{partition:05}-{}.parquet", &sha256[..16]))
    }
}

/// The data set's own file, written last.
pub(crate) const DATASET_FILE: &str = "dataset.json";

/// The use of every code over the whole data set.
pub(crate) const CODEBOOK_FILE: &str = "codebook.parquet";

/// The folder of the shards.
pub(crate) const TOKENS_FOLDER: &str = "tokens";

/// The folders of the shards and of their sidecars.
pub(crate) const FOLDERS: [&str; 3] =
    [TOKENS_FOLDER, Sidecar::Failures.folder(), Sidecar::Codebook.folder()];

/// `tokens/part-00000.parquet` under an output folder.
pub(crate) fn shard_path(dir: &Path, partition: usize) -> PathBuf {
    dir.join(TOKENS_FOLDER).join(format!("part-{partition:05}.parquet"))
}

/// Whether a partition is there. A shard that can be seen is complete.
pub fn committed(dir: &Path, partition: usize) -> bool {
    // Where a store can't say, the partition is made again, and found to be there at its commit.
    storage::exists(&shard_path(dir, partition)).unwrap_or(false)
}

/// The partitions that are there.
///
/// # Errors
/// A folder that can't be listed.
pub(crate) fn all_committed(dir: &Path) -> Result<BTreeSet<usize>> {
    let shards = commit::list(&dir.join(TOKENS_FOLDER))?.into_iter();
    let partitions = shards.filter_map(|path| {
        let partition = partition_of(&path)?;
        (path == shard_path(dir, partition)).then_some(partition)
    });
    Ok(partitions.collect())
}

/// The partition that a file name `part-<n>[-<hash>].parquet` belongs to; None for a name that is
/// only like one of ours, such as a copy's.
pub(crate) fn partition_of(path: &Path) -> Option<usize> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".parquet")?;
    let (shard, hash) = match stem.rsplit_once('-') {
        Some((shard, hash)) if shard.starts_with("part-") => (shard, Some(hash)),
        _ => (stem, None),
    };
    let partition = shard.strip_prefix("part-")?.parse().ok()?;
    let hex = |hash: &str| hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let fits = hash.is_none_or(|hash| hash.len() == 16 && hex(hash));
    (fits && shard == format!("part-{partition:05}")).then_some(partition)
}
