//! Owns reading parts of a file by their places, wherever the file lies.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::long_paths::reach;

/// Opens without ever waiting, even if the file became a FIFO since it was found.
///
/// # Errors
/// As the system says.
pub(crate) fn open_without_waiting(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    reach(path, |path| options.open(path))
}

/// A file whose parts can be read from several threads at once.
pub(crate) trait BytesAt: Send + Sync {
    /// Its size.
    fn size(&self) -> u64;

    /// Reads some bytes at `offset`, as [`Read::read`] does: 0 of them at the end alone.
    ///
    /// # Errors
    /// As the system or the store says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Fills `buffer`, or as much of it as there is; returns how much.
    ///
    /// # Errors
    /// Those of [`BytesAt::read_at`].
    fn fill_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(offset + filled as u64, &mut buffer[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// A regular file of the system.
#[derive(Debug)]
pub(crate) struct LocalFile {
    file: File,
    size: u64,
}

impl LocalFile {
    /// Opens it.
    ///
    /// # Errors
    /// As the system says; not a regular file.
    pub(crate) fn open(path: &Path) -> io::Result<LocalFile> {
        LocalFile::of(open_without_waiting(path)?)
    }

    /// A file that is open.
    ///
    /// # Errors
    /// As the system says; not a regular file.
    pub(crate) fn of(file: File) -> io::Result<LocalFile> {
        let facts = file.metadata()?;
        if facts.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        if !facts.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(LocalFile { file, size: facts.len() })
    }
}

impl BytesAt for LocalFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(&self.file, buffer, offset)
    }
}

/// Reads a [`BytesAt`] from a position on; wrap it in a `BufReader` for small pieces.
#[derive(Clone)]
pub(crate) struct Cursor {
    bytes: Arc<dyn BytesAt>,
    position: u64,
}

impl Cursor {
    /// From its beginning.
    pub(crate) fn new(bytes: Arc<dyn BytesAt>) -> Cursor {
        Cursor::at(bytes, 0)
    }

    /// From a position on.
    pub(crate) fn at(bytes: Arc<dyn BytesAt>, position: u64) -> Cursor {
        Cursor { bytes, position }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read_at(self.position, buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(offset) => self.bytes.size().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

/// A file in memory.
#[cfg(test)]
pub(crate) struct Memory(pub(crate) Vec<u8>);

#[cfg(test)]
impl BytesAt for Memory {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_and_seeks_as_a_file_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, b"0123456789").unwrap();
        let bytes: Arc<dyn BytesAt> = Arc::new(LocalFile::open(&path).unwrap());
        let (mut cursor, mut file) = (Cursor::new(bytes.clone()), File::open(&path).unwrap());
        let seeks = [SeekFrom::Start(3), SeekFrom::Current(2), SeekFrom::End(-3), SeekFrom::End(5)];
        for seek in seeks {
            assert_eq!(cursor.seek(seek).unwrap(), file.seek(seek).unwrap());
            let (mut ours, mut theirs) = ([0; 2], [0; 2]);
            assert_eq!(cursor.read(&mut ours).unwrap(), file.read(&mut theirs).unwrap());
            assert_eq!(ours, theirs);
        }
        assert!(cursor.seek(SeekFrom::Current(-100)).is_err());
        let mut all = [0; 12];
        assert_eq!((bytes.fill_at(0, &mut all).unwrap(), &all[..10]), (10, &b"0123456789"[..]));
        assert!(LocalFile::open(dir.path()).is_err());
    }
}
