//! Owns telling an output's own files from strays: copies, somebody else's files, and what killed
//! workers left. Must not know: what is in a shard.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::folders::{Entry, Folders, entries, list};
use super::partition::sidecar_of;
use super::{dataset, plan, plan_files, plans};
use crate::audit::code_counts;
use crate::storage;
use crate::util::overwrite;

/// Folders of an output with the files of its partitions.
pub(super) const FOLDERS: [&str; 3] = ["tokens", "failures", "codebook"];
/// Folders of a large output beside them.
pub(super) const MORE_FOLDERS: [&str; 2] = ["plan", "dataset"];
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
pub(super) struct Known<'a> {
    /// So many shards belong to it.
    pub partitions: usize,
    /// How the files of a partition lie.
    pub lie: &'a dyn Fn(usize) -> Folders,
    /// So many plans belong to it.
    pub plans: usize,
    /// Of each partition that was looked at, the start of its shard's sha256.
    pub shards: BTreeMap<usize, u64>,
    /// Shards that lie in other places than their own, which was told.
    pub displaced: BTreeSet<String>,
    /// Files in [`MORE_FOLDERS`].
    pub files: BTreeSet<String>,
    /// Plans that are missing or damaged: which files of `plan/` are theirs can't be told.
    pub lost_plans: BTreeSet<usize>,
    /// Whether `dataset.json` is damaged, or missing: which files of `dataset/` are its own can't be told.
    pub lost_dataset: bool,
    /// Partitions that were found bad: which sidecars are theirs can't be told.
    pub bad: BTreeSet<usize>,
    /// Whether the output is finished: then no sidecar may wait for its shard.
    pub finished: bool,
}

impl Known<'_> {
    /// Whether a file is one of those that a lost file named, by its name.
    fn may_be_named(&self, folder: &str, name: &str) -> bool {
        if folder == "plan" {
            return self.lost_plans.iter().any(|&number| plans::is_of(name, number));
        }
        let stem = name.strip_suffix(".json").or(name.strip_suffix(".parquet"));
        let kinds = ["shards-", "codebook-"];
        let part = stem.and_then(|stem| kinds.iter().find_map(|kind| stem.strip_prefix(kind)));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let numbers = part.and_then(|part| part.split_once('-'));
        self.lost_dataset && numbers.is_some_and(|(part, of)| digits(part) && digits(of))
    }

    /// Whether a file of `plan/` has the name of one that a further plan would have.
    fn is_of_a_later_plan(&self, name: &str) -> bool {
        let number = name.split('-').next().and_then(|number| number.parse().ok());
        number.is_some_and(|number| number >= self.plans && plans::is_of(name, number))
    }

    /// Whether a path is that of a sidecar of a shard that was looked at.
    fn is_sidecar(&self, path: &str, folder: &str, partition: usize) -> bool {
        self.shards.get(&partition).is_some_and(|start| {
            (self.lie)(partition).sidecar(folder, partition, &format!("{start:016x}")) == path
        })
    }
}

/// Goes through an output. What can't be listed is passed over: it was told before.
pub(super) fn find(dir: &Path, known: &Known<'_>) -> Strays {
    let mut strays = Strays::default();
    for Entry { name, is_dir, .. } in list(dir, "") {
        // Who looks whether a store gives names once leaves this where it is killed.
        let probe = name.starts_with(".vqtok-probe-") && storage::is_remote(dir);
        let folder = FOLDERS.contains(&&*name) || MORE_FOLDERS.contains(&&*name);
        let ours = TOP.contains(&name.as_str())
            || probe
            || (1..known.plans).any(|number| plan::name(number) == name)
            || (is_dir && folder)
            // What is listed before there is a plan, which who finishes the output removes.
            || (is_dir && name == "listed" && !known.finished)
            || overwrite::is_ours(&dir.join(&name));
        if !ours {
            strays.take(name, is_dir);
        }
    }
    for folder in FOLDERS {
        for Entry { path, name, is_dir } in entries(dir, folder) {
            match sidecar_of(&name).filter(|_| folder != "tokens" && !is_dir) {
                _ if folder == "tokens" && is_shard(&path, &name, is_dir, known) => {}
                _ if known.displaced.contains(&path) => {}
                Some(partition) if known.is_sidecar(&path, folder, partition) => {}
                Some(partition) if known.bad.contains(&partition) => {}
                Some(partition)
                    if partition >= known.partitions && !known.lost_plans.is_empty() => {}
                // Its worker is at work, was beaten, or died before the shard was there.
                Some(_) if !known.finished => strays.leftovers.push(path),
                _ => strays.take(path, is_dir),
            }
        }
    }
    for folder in MORE_FOLDERS {
        for Entry { path, name, is_dir } in list(dir, folder) {
            // One whose plan isn't there yet, and may come.
            let waits = folder == "plan" && !is_dir && known.is_of_a_later_plan(&name);
            match (is_dir || known.finished) && !waits {
                _ if known.files.contains(&path) => {}
                _ if !is_dir && known.may_be_named(folder, &name) => {}
                // Who finishes the output takes it, or removes it.
                false => strays.leftovers.push(path),
                true => strays.take(path, is_dir),
            }
        }
    }
    strays
}

/// What lies in a finished output and isn't its own, as its files say what is: none of them is proven.
/// None where it isn't finished.
pub(crate) fn of_finished(dir: &Path) -> Option<Vec<String>> {
    let dataset = dataset::read(dir).ok().flatten()?;
    let plans = dataset.plans();
    if plans::count(dir) > plans {
        return None;
    }
    let mut end = 0;
    let mut lie = Vec::new();
    for plan in 0..plans {
        end += dataset.partitions_of(plan);
        lie.push((end, dataset.folders_of(plan)));
    }
    let folders_of = |index: usize| {
        let plan = lie.iter().find(|(end, _)| index < *end);
        plan.map_or_else(Folders::default, |(_, folders)| *folders)
    };
    let partitions = dataset.partitions();
    let starts = (0..partitions).filter_map(|index| Some((index, dataset.shard_start(index)?)));
    let starts: BTreeMap<usize, u64> = starts.collect();
    let named = (0..plans).flat_map(|number| plan_files::names(dir, number));
    let known = Known {
        partitions,
        lie: &folders_of,
        plans,
        displaced: BTreeSet::new(),
        files: named.chain(dataset.named()).collect(),
        lost_plans: BTreeSet::new(),
        lost_dataset: false,
        // Those of a part that can't be read.
        bad: (0..partitions).filter(|index| !starts.contains_key(index)).collect(),
        shards: starts,
        finished: true,
    };
    Some(find(dir, &known).foreign)
}

/// Files in `tokens` that are none of the shards of so many partitions, which `lie` so, nor leftovers.
pub(super) fn among_shards(
    dir: &Path,
    partitions: usize,
    lie: &dyn Fn(usize) -> Folders,
) -> Vec<String> {
    let mut strays = Strays::default();
    for Entry { path, name, is_dir } in entries(dir, "tokens") {
        if is_dir || !is_shard_of(&path, &name, partitions, lie) {
            strays.take(path, is_dir);
        }
    }
    strays.foreign
}

fn is_shard(path: &str, name: &str, is_dir: bool, known: &Known<'_>) -> bool {
    !is_dir && is_shard_of(path, name, known.partitions, known.lie)
}

/// Whether a path is the shard of one of so many partitions.
fn is_shard_of(path: &str, name: &str, partitions: usize, lie: &dyn Fn(usize) -> Folders) -> bool {
    let index = name.strip_prefix("part-").and_then(|n| n.strip_suffix(".parquet"));
    let index = index.and_then(|n| n.parse().ok()).filter(|&index| index < partitions);
    index.is_some_and(|index| lie(index).shard(index) == path)
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
