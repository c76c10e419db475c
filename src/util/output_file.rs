//! Owns a file that is written under its own name, through the [fail points](super::fail_point)
//! that tests stop a program at. Must not know: what is written.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::util::{fail_point, portable_fs};

/// An open file and its path.
pub(crate) struct OutputFile {
    path: PathBuf,
    file: File,
}

impl OutputFile {
    /// A new file in place of what has that name.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn create(path: &Path) -> io::Result<OutputFile> {
        fail_point::pass("create", path)?;
        Ok(OutputFile { path: path.to_path_buf(), file: File::create(path)? })
    }

    /// Opens or creates a file to be written on, and says how much of it stays: what lies after
    /// `keep` bytes is cut, and of a file that is shorter than that, what `whole` doesn't count.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn append(
        path: &Path,
        keep: u64,
        whole: impl FnOnce(&Path) -> io::Result<u64>,
    ) -> io::Result<(OutputFile, u64)> {
        fail_point::pass("create", path)?;
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let bytes = match file.metadata()?.len() {
            bytes if bytes < keep => whole(path)?.min(bytes),
            _ => keep,
        };
        file.set_len(bytes)?;
        file.seek(SeekFrom::Start(bytes))?;
        Ok((OutputFile { path: path.to_path_buf(), file }, bytes))
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn sync(&self) -> io::Result<()> {
        fail_point::pass("sync", &self.path)?;
        portable_fs::sync_file(&self.file)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fail_point::before_write(&self.path, bytes, &mut self.file)?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_to_what_is_kept_or_to_what_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let open = |keep, whole| OutputFile::append(&path, keep, |_| Ok(whole)).unwrap();
        let (mut file, bytes) = open(0, 9);
        assert_eq!(bytes, 0);
        file.write_all(b"one\ntwo\nth").unwrap();
        assert_eq!(open(10, 8).1, 10);
        let (mut file, bytes) = open(11, 8);
        assert_eq!(bytes, 8);
        file.write_all(b"three\n").unwrap();
        file.sync().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\nthree\n");
        assert_eq!(open(4, 0).1, 4);
        assert_eq!(std::fs::read(&path).unwrap(), b"one\n");
    }
}
