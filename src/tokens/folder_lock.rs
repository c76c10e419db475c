//! Owns the lock of an output folder. Must not know: what is done under it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::storage;
use crate::util::portable_fs::{self, Locked, LockedFile};
use crate::util::settings::RETRY_FAILED;
use crate::util::text;

/// The file that [`FolderLock`] locks where it can't lock the folder. Empty, and never removed: a
/// lock on a removed file would keep nobody out.
pub(super) const LOCK_FILE: &str = ".lock";

/// The lock of an output folder: shared by the workers of a job, exclusive for what replaces or
/// removes committed partitions. Held until dropped. It is taken on the folder itself; where a file
/// system can't do that (NFS), on a hidden file in it; where it has no locks at all, not taken, and
/// the user is told what that leaves unprotected.
pub struct FolderLock {
    _file: Option<LockedFile>,
}

impl FolderLock {
    /// For those who only add partitions, which the commit protocol allows without any lock.
    pub fn shared(dir: &Path) -> Result<FolderLock> {
        if storage::is_remote(dir) {
            return Ok(FolderLock { _file: None });
        }
        match FolderLock::take(dir, false) {
            Ok((Locked::Busy, _)) => Err(Error::busy(format!(
                "{}: a repair or retry is at work on this output; try again when it is done",
                text::path(dir)
            ))),
            Ok((Locked::Held, file)) => Ok(FolderLock { _file: Some(LockedFile(file)) }),
            Ok((Locked::Unknown, _)) => {
                portable_fs::notice(
                    dir,
                    &format!(
                        "this file system has no locks; don't start `vqtok repair` or \
                         {RETRY_FAILED} there while another job is at work on it"
                    ),
                );
                Ok(FolderLock { _file: None })
            }
            // What can only be read needs no lock.
            Err(_) => File::open(dir)
                .map(|file| FolderLock { _file: Some(LockedFile(file)) })
                .map_err(Error::io(dir)),
        }
    }

    /// For those who replace or remove partitions.
    pub fn exclusive(dir: &Path) -> Result<FolderLock> {
        if storage::is_remote(dir) {
            portable_fs::notice(
                dir,
                "stores have no locks; nothing keeps another job from working on this output at the \
                 same time: make sure that none does",
            );
            return Ok(FolderLock { _file: None });
        }
        match FolderLock::take(dir, true).map_err(Error::io(dir))? {
            (Locked::Held, file) => Ok(FolderLock { _file: Some(LockedFile(file)) }),
            (Locked::Busy, _) => Err(Error::busy(format!(
                "{}: another job is at work on this output; try again when it is done",
                text::path(dir)
            ))),
            (Locked::Unknown, _) => {
                portable_fs::notice(
                    dir,
                    "this file system has no locks; nothing keeps another job from working on \
                     it at the same time: make sure that none does",
                );
                Ok(FolderLock { _file: None })
            }
        }
    }

    fn take(dir: &Path, exclusive: bool) -> io::Result<(Locked, File)> {
        let folder = File::open(dir)?;
        match portable_fs::try_lock(&folder, exclusive) {
            Ok(taken @ (Locked::Held | Locked::Busy)) => return Ok((taken, folder)),
            Ok(Locked::Unknown) | Err(_) => {}
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(dir.join(LOCK_FILE))?;
        Ok((portable_fs::try_lock(&file, exclusive)?, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_lock_is_shared_or_exclusive() {
        let folder = tempfile::tempdir().unwrap();
        let plan = folder.path();
        let one = FolderLock::shared(plan).unwrap();
        let two = FolderLock::shared(plan).unwrap();
        assert_eq!(FolderLock::exclusive(plan).err().unwrap().exit_code(), 75);
        drop((one, two));
        let all = FolderLock::exclusive(plan).unwrap();
        assert_eq!(FolderLock::shared(plan).err().unwrap().exit_code(), 75);
        // As a process has it that was just forked.
        let inherited = all._file.as_ref().unwrap().0.try_clone().unwrap();
        drop(all);
        FolderLock::shared(plan).unwrap();
        drop(inherited);
    }
}
