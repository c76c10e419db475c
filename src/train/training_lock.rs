//! Owns the lock of a model folder that is trained: one training at a time. The system lets go of
//! it with the process, so that a file that a dead one left, of whatever host, is no obstacle.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Error, Result};
use crate::util::portable_fs::{self, Locked, LockedFile};
use crate::util::text;

/// How often a folder may be gone again before that is no other training's doing: a link to nowhere, say.
const ATTEMPTS_MAX: usize = 100;

/// Takes the lock at `path` of the training in `folder`; None, told once, where the file system has
/// none.
///
/// # Errors
/// Where another process holds it.
pub(super) fn take(path: &Path, folder: &Path) -> Result<Option<LockedFile>> {
    let mut attempts = 1..=ATTEMPTS_MAX;
    loop {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        let file = match OpenOptions::new().create(true).truncate(false).write(true).open(path) {
            Ok(file) => file,
            // A training that ended before its first checkpoint took its folder with it just now.
            Err(error) if error.kind() == ErrorKind::NotFound && attempts.next().is_some() => {
                continue;
            }
            Err(error) => return Err(Error::io(path)(error)),
        };
        match portable_fs::try_lock(&file, true).map_err(Error::io(path))? {
            Locked::Held if is_at(&file, path) => return Ok(Some(LockedFile(file))),
            // It was removed between the two: a lock on it keeps nobody out.
            Locked::Held => {}
            Locked::Busy => {
                return Err(Error::busy(format!(
                    "{}: another process is training here; wait for it or give another path",
                    text::path(folder)
                )));
            }
            Locked::Unknown => {
                portable_fs::notice(
                    folder,
                    "this file system has no locks; nothing keeps another training from writing \
                     there at the same time: make sure that none does",
                );
                return Ok(None);
            }
        }
    }
}

/// Whether the open file is the one that has the name.
fn is_at(file: &File, path: &Path) -> bool {
    let place = |facts: std::fs::Metadata| (facts.dev(), facts.ino());
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(open), Ok(named)) => place(open) == place(named),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_keeps_out_whoever_comes_later_and_a_file_that_was_left_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/lock");
        std::fs::create_dir(folder.path().join("state")).unwrap();
        std::fs::write(&path, "process 1 on another host\n").unwrap();
        let held = take(&path, folder.path()).unwrap();
        assert!(held.is_some());
        let refused = take(&path, folder.path()).err().unwrap();
        assert_eq!(refused.exit_code(), 75);
        assert!(refused.to_string().contains("another process is training here"), "{refused}");
        // Removed, it is nobody's: the next one makes another, folder and all.
        std::fs::remove_dir_all(folder.path().join("state")).unwrap();
        assert!(take(&path, folder.path()).unwrap().is_some());
        drop(held);
        // A link to nowhere ends in an error, not in a loop.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("none/file"), &link).unwrap();
        assert!(take(&link, folder.path()).is_err());
    }
}
