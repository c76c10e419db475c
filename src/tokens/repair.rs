//! Owns what undoes: orphans of dead processes, the finished look of an output whose partitions are
//! about to change, bad partitions. Must not know: how badness was found, how partitions are made.

use std::path::Path;

use super::commit::{self, FolderLock};
use super::finalize;
use crate::error::Result;

/// Removes the temporary files that dead processes left anywhere in an output.
pub fn remove_orphans(dir: &Path) -> Result<usize> {
    let mut removed = 0;
    for folder in ["", "tokens", "failures", "codebook"] {
        removed += commit::remove_orphans(&dir.join(folder))?;
    }
    Ok(removed)
}

/// Takes the finished look from an output, durably, before any of its partitions changes: without
/// `dataset.json` it is work in progress, whatever happens next.
pub fn reopen(dir: &Path, _lock: &FolderLock) -> Result<()> {
    commit::remove_durably(&dir.join(finalize::FILE))?;
    commit::remove_durably(&dir.join(finalize::CODEBOOK_FILE)).map(|_| ())
}
