//! Owns finding files in a new output's place that another job, or somebody else, wrote under the
//! names of ours. Must not know: what is in them.

use std::path::{Path, PathBuf};

use super::files::{CODEBOOK_FILE, DATASET_FILE, all_shards, partition_of};
use super::{plan, schema, untrusted};
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
    must_name(files, plan_digest, true)
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
    must_name(below.map(|(_, path)| path).collect(), plan_digest, true)
}

/// Refuses shards of partitions from `first` on, unless they name the plan that is about to be
/// appended.
///
/// # Errors
/// The first such shard.
pub(super) fn check_from(dir: &Path, plan_digest: &str, first: usize) -> Result<()> {
    let behind = all_shards(dir)?.into_iter().filter(|(partition, _)| *partition >= first);
    must_name(behind.map(|(_, path)| path).collect(), plan_digest, false)
}

/// `first`: there is no plan at all, which may have been lost.
fn must_name(files: Vec<PathBuf>, plan_digest: &str, first: bool) -> Result<()> {
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
    match foreign {
        None => Ok(()),
        Some(path) if first && names_a_plan(path) => Err(Error::mismatch(format!(
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
