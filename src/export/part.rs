//! Owns files while they are written: buffered, under temporary names. Must not know: formats.

use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use super::format::{Encoded, Part};
use super::journal::FileRecord;
use super::row::Row;
use crate::error::{Error, Result};
use crate::tokens::commit::{Published, Sealed, TempFile, digest_file};
use crate::tokens::commit_many::{ManyFiles, Series};
use crate::util::hex::hex;
use crate::util::text;

/// A file that grows.
pub(super) struct Growing {
    path: PathBuf,
    out: BufWriter<TempFile>,
    /// So far.
    pub bytes: u64,
}

/// What is whole, and durable, but has no name yet.
pub(super) enum Made {
    File {
        path: PathBuf,
        bytes: u64,
        sealed: Sealed,
    },
    /// A file for each row, or several.
    Many(ManyFiles),
}

impl Made {
    /// Where it lies: of many files by their series.
    pub(super) fn paths(&self) -> Vec<Vec<PathBuf>> {
        match self {
            Made::File { sealed, .. } => vec![vec![sealed.path().to_path_buf()]],
            Made::Many(files) => files.paths(),
        }
    }

    /// Gives it its name below `folder`, a part of `root`. Where the same bytes have it, a run before
    /// this one gave it to them.
    ///
    /// # Errors
    /// What the system refuses; a name that is taken.
    pub(super) fn publish(self, root: &Path, folder: &Path) -> Result<Vec<FileRecord>> {
        let below = |path: &Path| text::lossy(path.strip_prefix(root).unwrap_or(path)).into_owned();
        match self {
            Made::File { path, bytes, sealed } => {
                let sha256 = sealed.sha256;
                let exists = sealed.publish()? == Published::Exists;
                if exists && digest_file(&path)? != (sha256, bytes) {
                    return Err(taken(&path));
                }
                let sha256 = hex(sha256);
                Ok(vec![FileRecord { path: below(&path), count: None, bytes, sha256 }])
            }
            Made::Many(files) => {
                if let Some(path) = files.publish()? {
                    return Err(taken(&path));
                }
                let record = |series: &Series| FileRecord {
                    path: below(&folder.join(series.pattern())),
                    count: Some(series.count),
                    bytes: series.bytes,
                    sha256: hex(series.sha256()),
                };
                Ok(files.series.iter().map(record).collect())
            }
        }
    }
}

fn taken(path: &Path) -> Error {
    Error::invalid(format!(
        "{} exists and isn't this export's: nothing is overwritten; name another folder",
        text::path(path)
    ))
}

impl Growing {
    /// # Errors
    /// What the system refuses.
    pub(super) fn create(folder: &Path, name: &str) -> Result<Growing> {
        let path = folder.join(name);
        let out = BufWriter::with_capacity(1 << 20, TempFile::create(&path)?);
        Ok(Growing { path, out, bytes: 0 })
    }

    /// # Errors
    /// What the system refuses.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.out.write_all(bytes).map_err(Error::io(&self.path))
    }

    /// # Errors
    /// What the system refuses.
    pub(super) fn seal(self) -> Result<Made> {
        let Growing { path, out, bytes } = self;
        let file =
            out.into_inner().map_err(IntoInnerError::into_error).map_err(Error::io(&path))?;
        Ok(Made::File { sealed: file.seal()?, path, bytes })
    }
}

/// A part of one file, in which one row stands behind the other.
pub(super) struct Stream {
    file: Growing,
    /// What stands at the end, by the bytes before.
    end: fn(u64) -> Vec<u8>,
}

impl Stream {
    /// # Errors
    /// What the system refuses.
    pub(super) fn create(folder: &Path, name: &str, end: fn(u64) -> Vec<u8>) -> Result<Stream> {
        Ok(Stream { file: Growing::create(folder, name)?, end })
    }
}

impl Part for Stream {
    fn push(&mut self, _row: &Row, row: &Encoded) -> Result<()> {
        self.file.write(&row.bytes)
    }

    fn seal(mut self: Box<Self>) -> Result<Vec<Made>> {
        let end = (self.end)(self.file.bytes);
        self.file.write(&end)?;
        Ok(vec![self.file.seal()?])
    }
}

/// Bytes of many small files that wait to be written together.
const WAITING_MAX: usize = 1 << 24;

/// A part of which each row is a file of its own, or one in each of several series.
pub(super) struct Scattered<const N: usize> {
    files: ManyFiles,
    /// Each row's bytes.
    waiting: Vec<Vec<u8>>,
    bytes: usize,
    /// Gives a row's files.
    cut: fn(&[u8]) -> [&[u8]; N],
}

impl<const N: usize> Scattered<N> {
    /// # Errors
    /// What the system refuses.
    pub(super) fn create(
        folder: &Path,
        series: [Series; N],
        cut: fn(&[u8]) -> [&[u8]; N],
    ) -> Result<Scattered<N>> {
        let files = ManyFiles::create(folder, series.into())?;
        Ok(Scattered { files, waiting: Vec::new(), bytes: 0, cut })
    }

    fn write(&mut self) -> Result<()> {
        let rows: Vec<[&[u8]; N]> = self.waiting.iter().map(|row| (self.cut)(row)).collect();
        for series in 0..N {
            let files: Vec<&[u8]> = rows.iter().map(|row| row[series]).collect();
            self.files.add(series, &files)?;
        }
        self.waiting.clear();
        self.bytes = 0;
        Ok(())
    }
}

impl<const N: usize> Part for Scattered<N> {
    fn push(&mut self, _row: &Row, encoded: &Encoded) -> Result<()> {
        self.bytes += encoded.bytes.len();
        self.waiting.push(encoded.bytes.clone());
        match self.bytes > WAITING_MAX {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn seal(mut self: Box<Self>) -> Result<Vec<Made>> {
        self.write()?;
        Ok(vec![Made::Many(self.files.seal()?)])
    }
}
