//! Owns telling an output's own files from strays: copies, somebody else's files, and what killed
//! workers left. Must not know: what is in a shard.

use std::collections::BTreeSet;
use std::path::Path;

use super::partition::{shard_name, sidecar_of};
use super::{dataset, plan};
use crate::audit::code_counts;
use crate::storage;
use crate::util::overwrite;

/// Folders of an output.
pub(super) const FOLDERS: [&str; 3] = ["tokens", "failures", "codebook"];
/// Files of an output beside them, but for plans of what was appended.
pub(super) const TOP: [&str; 4] = [plan::NAME, code_counts::NAME, dataset::NAME, ".lock"];

/// What lies in an output and isn't its own; paths relative to it, folders with a `/` after them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Strays {
    /// What belongs to nothing: whoever reads the folder reads it too.
    pub foreign: Vec<String>,
    /// What killed workers left, and the next run of theirs removes.
    pub leftovers: Vec<String>,
}

/// What a look at the partitions says of the files that are theirs.
pub(super) struct Known {
    /// So many shards belong to it.
    pub partitions: usize,
    /// So many plans belong to it.
    pub plans: usize,
    /// Sidecars that were found right.
    pub files: BTreeSet<String>,
    /// Partitions that were found bad: which sidecars are theirs can't be told.
    pub bad: BTreeSet<usize>,
    /// Whether the output is finished: then no sidecar may wait for its shard.
    pub finished: bool,
}

/// Goes through an output. What can't be listed is passed over: it was told before.
pub(super) fn find(dir: &Path, known: &Known) -> Strays {
    let mut strays = Strays::default();
    for (name, is_dir) in list(dir) {
        // Who looks whether a store gives names once leaves this where it is killed.
        let probe = name.starts_with(".vqtok-probe-") && storage::is_remote(dir);
        let ours = TOP.contains(&name.as_str())
            || probe
            || (1..known.plans).any(|number| plan::name(number) == name)
            || (is_dir && FOLDERS.contains(&name.as_str()))
            || overwrite::is_ours(&dir.join(&name));
        if !ours {
            strays.take(name, is_dir);
        }
    }
    for folder in FOLDERS {
        for (name, is_dir) in list(&dir.join(folder)) {
            let path = format!("{folder}/{name}");
            match sidecar_of(&name).filter(|_| folder != "tokens" && !is_dir) {
                _ if folder == "tokens" && is_shard(&path, is_dir, known.partitions) => {}
                _ if known.files.contains(&path) => {}
                Some(partition) if known.bad.contains(&partition) => {}
                // Its worker is at work, was beaten, or died before the shard was there.
                Some(_) if !known.finished => strays.leftovers.push(path),
                _ => strays.take(path, is_dir),
            }
        }
    }
    strays
}

/// Files in `tokens` that are none of the shards of so many partitions, nor leftovers.
pub(super) fn among_shards(dir: &Path, partitions: usize) -> Vec<String> {
    let mut strays = Strays::default();
    for (name, is_dir) in list(&dir.join("tokens")) {
        let path = format!("tokens/{name}");
        if !is_shard(&path, is_dir, partitions) {
            strays.take(path, is_dir);
        }
    }
    strays.foreign
}

/// Whether a path is the shard of one of so many partitions.
fn is_shard(path: &str, is_dir: bool, partitions: usize) -> bool {
    let index = path.strip_prefix("tokens/part-").and_then(|n| n.strip_suffix(".parquet"));
    let index = index.and_then(|n| n.parse().ok()).filter(|&index| index < partitions);
    !is_dir && index.is_some_and(|index| shard_name(index) == path)
}

impl Strays {
    fn take(&mut self, path: String, is_dir: bool) {
        let name = path.rsplit('/').next().unwrap_or_default();
        match is_dir {
            true => self.foreign.push(path + "/"),
            false if is_temporary(name) => self.leftovers.push(path),
            false => self.foreign.push(path),
        }
    }
}

/// Whether a name is that of a temporary file of the writer: `.<name>.<process>-<n>.tmp`.
fn is_temporary(name: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let parts = || {
        let (name, id) = name.strip_prefix('.')?.strip_suffix(".tmp")?.rsplit_once('.')?;
        let (process, n) = id.split_once('-')?;
        Some(!name.is_empty() && number(process) && number(n))
    };
    parts().unwrap_or(false)
}

/// Names in a folder, in their order, and which of them are folders; links are not followed.
fn list(dir: &Path) -> Vec<(String, bool)> {
    let entries = storage::list(dir).unwrap_or_default().into_iter();
    let named = entries.map(|entry| {
        let is_dir = match entry.facts {
            Some(facts) => facts.is_folder,
            None => dir.join(&entry.name).symlink_metadata().is_ok_and(|facts| facts.is_dir()),
        };
        (entry.name.to_string_lossy().into_owned(), is_dir)
    });
    named.collect()
}
