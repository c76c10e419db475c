//! Owns what is removed from an output: temporary files of dead processes, sidecars that no shard
//! refers to. Must not know: why.

use std::path::Path;

use super::commit;
use super::files::{FOLDERS, Sidecar, partition_of};
use crate::error::Result;

/// Removes the temporary files that dead processes left anywhere in an output; how many.
pub(crate) fn remove_orphans(dir: &Path) -> Result<usize> {
    let mut removed = commit::remove_orphans(dir)?;
    for folder in FOLDERS {
        removed += commit::remove_orphans(&dir.join(folder))?;
    }
    Ok(removed)
}

/// Removes, durably, the sidecars that `unreferenced` says of by kind, partition and path.
pub(crate) fn remove_sidecars(
    dir: &Path,
    unreferenced: impl Fn(Sidecar, usize, &Path) -> bool,
) -> Result<()> {
    for kind in Sidecar::ALL {
        for path in commit::list(&dir.join(kind.folder()))? {
            if partition_of(&path).is_some_and(|partition| unreferenced(kind, partition, &path)) {
                commit::remove_durably(&path)?;
            }
        }
    }
    Ok(())
}
