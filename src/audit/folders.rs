//! Owns where the files of partitions lie in an output: in one folder of each kind, or in folders below,
//! by their numbers. Must not know: the writer, what is in them.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use crate::storage;

/// How the files of a plan's partitions lie.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Folders(Option<usize>);

impl Folders {
    /// So many partitions to a folder; all in one where None.
    pub(super) fn of(partitions: Option<u64>) -> Folders {
        let size = partitions.and_then(|size| usize::try_from(size).ok());
        Folders(size.filter(|&size| size > 0))
    }

    /// Partitions to a folder.
    pub(super) fn size(self) -> Option<usize> {
        self.0
    }

    /// `part-00000`, behind the folder below that it lies in.
    fn stem(self, index: usize) -> String {
        match self.0 {
            Some(size) => format!("{:05}/part-{index:05}", index / size),
            None => format!("part-{index:05}"),
        }
    }

    /// `tokens/part-00000.parquet`, relative to the output.
    pub(super) fn shard(self, index: usize) -> String {
        format!("tokens/{}.parquet", self.stem(index))
    }

    /// Where a file beside it lies, by the sha256 of the shard.
    pub(super) fn sidecar(self, kind: &str, index: usize, sha256: &str) -> String {
        format!("{kind}/{}-{}.parquet", self.stem(index), &sha256[..16])
    }
}

/// A file or folder within one of an output's folders.
pub(super) struct Entry {
    /// Relative to the output.
    pub path: String,
    pub name: String,
    pub is_dir: bool,
}

/// What lies in one of an output's folders and in the folders below it that have numbers for names.
pub(super) fn entries(dir: &Path, folder: &str) -> Vec<Entry> {
    let mut found = Vec::new();
    for entry in list(dir, folder) {
        match entry.is_dir && is_number(&entry.name) {
            true => found.extend(list(dir, &entry.path)),
            false => found.push(entry),
        }
    }
    found
}

/// Whether a folder below one of an output's may be called so.
pub(super) fn is_number(name: &str) -> bool {
    name.len() >= 5 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names in a folder, in their order, and which of them are folders; links are not followed.
pub(super) fn list(dir: &Path, folder: &str) -> Vec<Entry> {
    let place = dir.join(folder);
    let entries = storage::list(&place).unwrap_or_default().into_iter();
    let named = entries.map(|entry| {
        let is_dir = match entry.facts {
            Some(facts) => facts.is_folder,
            None => place.join(&entry.name).symlink_metadata().is_ok_and(|facts| facts.is_dir()),
        };
        let name = entry.name.to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        Entry { path, name, is_dir }
    });
    named.collect()
}

/// The partitions whose shards are in an output, where they `lie` as these do.
pub(super) fn shards(dir: &Path, lie: impl Fn(usize) -> Folders) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for entry in entries(dir, "tokens") {
        found.extend(shard_of(&entry).filter(|&index| lie(index).shard(index) == entry.path));
    }
    found
}

/// The highest partition among the shards of an output, however they lie.
pub(super) fn highest(dir: &Path) -> Option<usize> {
    let shards = entries(dir, "tokens").iter().filter_map(shard_of).max();
    // A name is no proof: a folder of 2^40 partitions is not looked for.
    shards.filter(|&highest| highest < 1 << 24)
}

/// Which of an output's partitions lie how, behind the last of each, as their shards are found to lie:
/// where the plan is lost that says so.
pub(super) fn as_they_lie(dir: &Path) -> Vec<(usize, Folders)> {
    let entries = entries(dir, "tokens");
    let named = entries.iter().filter_map(|entry| Some((shard_of(entry)?, entry)));
    let (mut flat, mut size, mut last) = (None, None, 0);
    for (index, entry) in named {
        let folder = entry.path.rsplit('/').nth(1).and_then(|name| name.parse::<usize>().ok());
        match folder {
            None => flat = flat.max(Some(index)),
            // The first partition of a folder has as many before it as folders of them.
            Some(folder) => {
                let most = index.checked_div(folder).unwrap_or(usize::MAX);
                size = Some(size.unwrap_or(usize::MAX).min(most));
                last = last.max(index);
            }
        }
    }
    let flat = flat.map(|index| (index + 1, Folders(None)));
    let size = size.map(|size| (usize::MAX, Folders(Some(size.clamp(1, last.max(1) * 2)))));
    flat.into_iter().chain(size).collect()
}

/// Where a shard of some partitions lies, relative to the output, that shows that they all lie in one way
/// which isn't that of these: whoever plans the same anew, for an output of another size, means others.
pub(super) fn contradiction(dir: &Path, numbers: Range<usize>, folders: Folders) -> Option<String> {
    let entries = entries(dir, "tokens");
    let (mut flat, mut deep, mut least, mut most) = (None, None, 1, usize::MAX);
    for entry in &entries {
        let Some(index) = shard_of(entry).filter(|index| numbers.contains(index)) else { continue };
        let folder = entry.path.rsplit('/').nth(1).and_then(|name| name.parse::<usize>().ok());
        let Some(folder) = folder else {
            flat.get_or_insert(&entry.path);
            continue;
        };
        least = least.max(index / folder.saturating_add(1) + 1);
        most = most.min(index.checked_div(folder).unwrap_or(usize::MAX));
        deep.get_or_insert(&entry.path);
    }
    let fits = folders.0.is_some_and(|size| (least..=most).contains(&size));
    match (flat, deep) {
        (Some(flat), None) if folders.0.is_some() => Some(flat.clone()),
        (None, Some(deep)) if least <= most && !fits => Some(deep.clone()),
        _ => None,
    }
}

/// The partition that a file has the name of.
fn shard_of(entry: &Entry) -> Option<usize> {
    partition_of(&entry.name)
}

/// The partition that a path has the name of a shard of.
pub(super) fn partition_of(path: &str) -> Option<usize> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let index = name.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()?;
    (format!("part-{index:05}.parquet") == name).then_some(index)
}

/// The files with names of shards, however they lie, in the order of their partitions.
pub(super) fn named(dir: &Path) -> Vec<(usize, String)> {
    let entries = entries(dir, "tokens").into_iter();
    let named = entries.filter(|entry| !entry.is_dir);
    let mut named: Vec<_> =
        named.filter_map(|entry| Some((shard_of(&entry)?, entry.path))).collect();
    named.sort();
    named
}
