//! Owns putting a file in its place so that a reader, or a power cut, sees the old one or the new
//! one, each whole.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::util::output_file::OutputFile;
use crate::util::{fail_point, portable_fs};

/// A file that appears under its name only when it is whole; removed if it never does.
pub(crate) struct AtomicFile<'a> {
    temporary: PathBuf,
    target: &'a Path,
}

impl<'a> AtomicFile<'a> {
    /// A file for `target`, called `temporary` until it is whole, in the same folder.
    pub(crate) fn new(target: &'a Path, temporary: &str) -> AtomicFile<'a> {
        AtomicFile { temporary: target.with_file_name(temporary), target }
    }

    /// Lets `fill` write the content and makes that durable.
    ///
    /// # Errors
    /// Those of `fill`; what the system refuses.
    pub(crate) fn write(
        &self,
        fill: impl FnOnce(&mut BufWriter<OutputFile>) -> Result<()>,
    ) -> Result<()> {
        let file = OutputFile::create(&self.temporary).map_err(Error::io(self.target))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        fill(&mut out)?;
        out.flush().map_err(Error::io(self.target))?;
        out.get_ref().sync().map_err(Error::io(self.target))
    }

    /// Gives the file its name, in place of whatever has it. [`sync_folder_of`] makes that durable.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn commit(self) -> Result<()> {
        fail_point::pass("rename", self.target)
            .and_then(|()| fs::rename(&self.temporary, self.target))
            .map_err(Error::io(self.target))
    }
}

impl Drop for AtomicFile<'_> {
    fn drop(&mut self) {
        // After a commit there is nothing of this name; after an error the error is what counts.
        let _ = fs::remove_file(&self.temporary);
    }
}

/// Puts `bytes` at `path`, durably.
///
/// # Errors
/// What the system refuses; what was there is still there.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// The same for what `fill` writes. The file is called `NAME.partial` until it is whole.
///
/// # Errors
/// As [`write`]; those of `fill`.
pub(crate) fn replace(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<OutputFile>) -> Result<()>,
) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let file = AtomicFile::new(path, &format!("{name}.partial"));
    file.write(fill)?;
    file.commit()?;
    sync_folder_of(path)
}

/// Makes the name of a file durable.
///
/// # Errors
/// What the system refuses.
pub(crate) fn sync_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fail_point::pass("sync-folder", folder)
        .and_then(|()| portable_fs::sync_folder(folder))
        .map_err(Error::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_atomic_write_replaces_and_leaves_nothing_beside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write(&path, b"old").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(&folder.path().join("missing/file"), b"x").is_err());
        assert!(replace(&path, |_| Err(Error::invalid("given up"))).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
