//! Owns what is removed from an output: temporary files of dead processes, sidecars that no shard
//! refers to. Must not know: why.

use std::path::Path;

use super::commit;
use super::files::{
    DATASET_FOLDER, FOLDERS, LISTED_FOLDER, PLAN_FOLDER, Sidecar, folders_below, partition_of,
    within,
};
use crate::error::Result;
use crate::storage;

/// Removes the temporary files that dead processes left anywhere in an output; how many.
pub(crate) fn remove_orphans(dir: &Path) -> Result<usize> {
    if storage::is_remote(dir) {
        return commit::remove_orphans(dir); // All of a store's are in one place.
    }
    let mut removed = remove_orphans_of_plans(dir)?;
    removed += commit::remove_orphans(&dir.join(DATASET_FOLDER))?;
    for folder in FOLDERS.map(|folder| dir.join(folder)) {
        removed += commit::remove_orphans(&folder)?;
        for below in folders_below(&folder)? {
            removed += commit::remove_orphans(&folder.join(below))?;
        }
    }
    Ok(removed)
}

/// The same of those that who makes a plan leaves.
pub(crate) fn remove_orphans_of_plans(dir: &Path) -> Result<usize> {
    Ok(commit::remove_orphans(dir)? + commit::remove_orphans(&dir.join(PLAN_FOLDER))?)
}

/// Removes what workers listed for a plan that is there, and nobody took.
pub(crate) fn remove_listed(dir: &Path) -> Result<()> {
    let listed = dir.join(LISTED_FOLDER);
    for folder in commit::list(&listed)? {
        commit::remove_orphans(&folder)?;
        remove_others(&folder, |_| false)?;
        let _ = std::fs::remove_dir(folder);
    }
    let _ = std::fs::remove_dir(listed);
    Ok(())
}

/// Removes, durably, the sidecars in the folders of this name (see [`ShardFolders::below`]) that
/// `unreferenced` says of by kind, partition and path.
///
/// [`ShardFolders::below`]: super::files::ShardFolders::below
pub(crate) fn remove_sidecars(
    dir: &Path,
    below: &str,
    unreferenced: impl Fn(Sidecar, usize, &Path) -> bool,
) -> Result<()> {
    for kind in Sidecar::ALL {
        for path in commit::list(&within(&dir.join(kind.folder()), below))? {
            if partition_of(&path).is_some_and(|partition| unreferenced(kind, partition, &path)) {
                commit::remove_durably(&path)?;
            }
        }
    }
    Ok(())
}

/// Removes, durably, the files of a folder but those that are `known`.
pub(crate) fn remove_others(folder: &Path, known: impl Fn(&Path) -> bool) -> Result<()> {
    for path in commit::list(folder)? {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && !known(&path) && storage::facts(&path).is_ok_and(|facts| facts.is_file) {
            commit::remove_durably(&path)?;
        }
    }
    Ok(())
}
