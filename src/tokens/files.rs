//! Owns the names of an output's files: shards, the sidecars beside them, and what a name says.
//! Must not know: what is in them.

use std::num::NonZero;
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
}

/// How the files of partitions lie in their folders: all in one, or by their numbers in folders below,
/// so many partitions each (`tokens/00012/part-12345.parquet`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ShardFolders(Option<NonZero<usize>>);

impl ShardFolders {
    /// All in one.
    pub(crate) const FLAT: ShardFolders = ShardFolders(None);

    /// So many partitions to a folder; all in one where that is none.
    pub(crate) fn of(size: usize) -> ShardFolders {
        ShardFolders(NonZero::new(size))
    }

    /// As a plan records it.
    ///
    /// # Errors
    /// No positive number, in a few words.
    pub(crate) fn parse(text: &str) -> Result<ShardFolders, String> {
        let number = text.parse().map_err(|_| "its shards lie in folders of no size".to_string());
        number.map(|number| ShardFolders(Some(number)))
    }

    /// Partitions of a folder; None where all lie in one.
    pub(crate) fn size(self) -> Option<usize> {
        self.0.map(NonZero::get)
    }

    /// The name of the folder below that a partition's files lie in; empty where they lie in one.
    pub(crate) fn below(self, partition: usize) -> String {
        self.0.map_or_else(String::new, |size| format!("{:05}", partition / size))
    }

    /// Where a partition's shard lies.
    pub(crate) fn shard(self, dir: &Path, partition: usize) -> PathBuf {
        let folder = within(&dir.join(TOKENS_FOLDER), &self.below(partition));
        folder.join(format!("part-{partition:05}.parquet"))
    }

    /// Where a file beside it lies, by the hex sha256 of its shard.
    pub(crate) fn sidecar(
        self,
        dir: &Path,
        kind: Sidecar,
        partition: usize,
        sha256: &str,
    ) -> PathBuf {
        let folder = within(&dir.join(kind.folder()), &self.below(partition));
        folder.join(format!("part-{partition:05}-{}.parquet", &sha256[..16]))
    }
}

/// A folder below another; that one itself where the name is empty.
pub(crate) fn within(folder: &Path, below: &str) -> PathBuf {
    match below {
        "" => folder.to_path_buf(),
        below => folder.join(below),
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

/// The folder of the files that a large plan's rows lie in.
pub(crate) const PLAN_FOLDER: &str = "plan";

/// The folder of the parts of a large output's `dataset.json`.
pub(crate) const DATASET_FOLDER: &str = "dataset";

/// The folder of what workers list of an input before there is a plan.
pub(crate) const LISTED_FOLDER: &str = "listed";

/// The names of the folders below one of [`FOLDERS`].
///
/// # Errors
/// A folder that can't be listed.
pub(crate) fn folders_below(folder: &Path) -> Result<Vec<String>> {
    let name = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let digits = name.len() >= 5 && name.bytes().all(|b| b.is_ascii_digit());
        (digits && storage::facts(path).is_ok_and(|facts| facts.is_folder))
            .then(|| name.to_string())
    };
    Ok(commit::list(folder)?.iter().filter_map(name).collect())
}

/// The files of an output that have names of shards, of whatever plan, with their partitions.
///
/// # Errors
/// A folder that can't be listed.
pub(crate) fn all_shards(dir: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let mut shards = Vec::new();
    each_shard(dir, |partition, path| shards.push((partition, path)))?;
    Ok(shards)
}

/// Goes through the same, of which memory holds a folder's.
///
/// # Errors
/// A folder that can't be listed.
pub(crate) fn each_shard(dir: &Path, mut each: impl FnMut(usize, PathBuf)) -> Result<()> {
    let folder = dir.join(TOKENS_FOLDER);
    shards_in(&folder)?.into_iter().for_each(|(partition, path)| each(partition, path));
    for below in folders_below(&folder)? {
        let shards = shards_in(&folder.join(below))?;
        shards.into_iter().for_each(|(partition, path)| each(partition, path));
    }
    Ok(())
}

/// The files of one folder that have names of shards, with their partitions.
///
/// # Errors
/// A folder that can't be listed.
pub(crate) fn shards_in(folder: &Path) -> Result<Vec<(usize, PathBuf)>> {
    let paths = commit::list(folder)?.into_iter();
    Ok(paths.filter_map(|path| Some((partition_of(&path)?, path))).collect())
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
