//! Owns finding files in a new output's place that another job, or somebody else, wrote under the
//! names of ours. Must not know: what is in them.

use std::path::{Path, PathBuf};

use super::files::{CODEBOOK_FILE, DATASET_FILE, all_shards, partition_of};
use super::identity::Identity;
use super::plan::{Base, Plan};
use super::{plan, schema, unplanned, untrusted};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::settings::{APPEND, OUT};
use crate::util::text;

/// As far from a file's end as its metadata is looked for.
const TAIL_BYTES: u64 = 1 << 22;

/// Refuses a folder without a plan that holds files of an output all the same, unless they name the
/// plan that is about to be written: those were found again with their plan lost.
///
/// # Errors
/// The first such file.
pub(super) fn check(dir: &Path, plan_digest: &str) -> Result<()> {
    // What was appended to it tells for all.
    if let Some(base) = plan::base_of_second(dir).filter(|base| base.after == plan_digest) {
        return check_below(dir, plan_digest, base.partition);
    }
    // Sidecars don't name their plan; nobody looks at them but through their shards.
    let mut files: Vec<_> = all_shards(dir)?.into_iter().map(|(_, path)| path).collect();
    files.extend([dir.join(DATASET_FILE), dir.join(CODEBOOK_FILE)]);
    must_name(files, plan_digest, None)
}

/// Whether the shards of a folder without a plan, which was lost, have no ids of classes: then the
/// others are made without as well.
///
/// # Errors
/// A folder that can't be listed.
pub(super) fn without_ids(dir: &Path) -> Result<bool> {
    let mut shards = all_shards(dir)?.into_iter();
    let word = shards.find_map(|(_, path)| untrusted::entry_of(&path, "vqtok.schema").ok());
    Ok(word.as_deref() == Some(schema::TOKENS_WITHOUT_IDS))
}

/// Refuses shards of partitions below `end`, unless they name the plan that is about to be written.
fn check_below(dir: &Path, plan_digest: &str, end: usize) -> Result<()> {
    let below = all_shards(dir)?.into_iter().filter(|(partition, _)| *partition < end);
    must_name(below.map(|(_, path)| path).collect(), plan_digest, None)
}

/// Refuses shards of partitions from `first` on, unless they name the plan that is about to be
/// appended upon `base`.
///
/// # Errors
/// The first such shard.
pub(super) fn check_from(plan: &Plan, plan_digest: &str, base: &Base) -> Result<()> {
    let dir = plan.dir();
    let first = base.partition;
    let behind = all_shards(dir)?.into_iter().filter(|(partition, _)| *partition >= first);
    let lost = Lost { path: dir.join(base.name()), identity: plan.identity() };
    must_name(behind.map(|(_, path)| path).collect(), plan_digest, Some(&lost))
}

/// A plan that was appended and isn't there.
struct Lost<'a> {
    path: PathBuf,
    identity: &'a Identity,
}

impl Lost<'_> {
    /// Whether a file is a shard that was made of it.
    fn has(&self, path: &Path) -> bool {
        partition_of(path).is_some_and(|of| unplanned::is_ours(self.identity, of, path))
    }
}

/// `appended`: the plan that the shards may be of; None where there is none at all.
fn must_name(files: Vec<PathBuf>, plan_digest: &str, appended: Option<&Lost<'_>>) -> Result<()> {
    let is_there = |path: &PathBuf| match storage::is_remote(path) {
        true => storage::exists(path).map_err(Error::io(path)),
        // A link that leads nowhere is somebody's too.
        false => Ok(path.symlink_metadata().is_ok()),
    };
    let mut foreign = None;
    for path in &files {
        if is_there(path)? && !names(path, plan_digest) {
            foreign = Some(path);
            break;
        }
    }
    if let (Some(path), Some(lost)) = (foreign, appended)
        && lost.has(path)
    {
        return Err(Error::corrupt(
            &lost.path,
            format!(
                "it is missing: {} is of another plan than these INPUTs give; `vqtok repair` rebuilds \
                 that plan, or {APPEND} with the INPUTs that it was made of, before others are added; \
                 where the shard is another output's, move it away",
                text::path(path)
            ),
        ));
    }
    match foreign {
        None => Ok(()),
        Some(path) if appended.is_none() && names_a_plan(path) => Err(Error::mismatch(format!(
            "{} is of another plan, and nothing is overwritten: where the plan of this output was lost, \
             give exactly the INPUTs that it was made of, with what came since out of their way, and \
             add that by {APPEND} afterwards; else use another {OUT}",
            text::path(path)
        ))),
        Some(path) => Err(Error::mismatch(format!(
            "{} exists and isn't of this job: nothing is overwritten; use another {OUT}",
            text::path(path)
        ))),
    }
}

/// Whether a shard is of some plan.
fn names_a_plan(path: &Path) -> bool {
    partition_of(path).is_some() && names(path, "vqtok.plan_sha256")
}

fn names(path: &Path, digest: &str) -> bool {
    let read = || -> std::io::Result<Vec<u8>> {
        let file = storage::open(path)?;
        let start = file.size().saturating_sub(TAIL_BYTES);
        let mut tail = vec![0; (file.size() - start) as usize];
        let filled = file.fill_at(start, &mut tail)?;
        tail.truncate(filled);
        Ok(tail)
    };
    read().is_ok_and(|tail| tail.windows(digest.len()).any(|w| w == digest.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::finalize::finalize;
    use crate::tokens::testing::{plan, tree, write};
    use std::fs;

    #[test]
    fn what_others_wrote_under_our_names_is_kept() {
        for name in ["codebook.parquet", "dataset.json", "tokens/part-00001.parquet"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("tokens")).unwrap();
            fs::write(dir.path().join(name), b"theirs").unwrap();
            fs::write(dir.path().join("tokens/part-1.parquet"), b"theirs, of no name of ours")
                .unwrap();
            let error = check(dir.path(), &"ab".repeat(32)).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("nothing is overwritten"), "{error}");
        }
    }

    #[test]
    fn an_output_whose_plan_is_lost_is_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let made = plan(dir.path(), 25, 10);
        (0..3).for_each(|partition| drop(write(&made, partition)));
        finalize(dir.path()).unwrap();
        let whole = tree(dir.path());
        fs::remove_file(dir.path().join("plan.parquet")).unwrap();
        check(dir.path(), made.digest()).unwrap();
        assert!(check(dir.path(), &"ab".repeat(32)).is_err());
        plan(dir.path(), 25, 10);
        assert_eq!(tree(dir.path()), whole);
    }
}
