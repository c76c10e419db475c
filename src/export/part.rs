//! Owns a file while it is written: buffered, under a temporary name. Must not know: formats.

use std::io::{BufWriter, IntoInnerError, Write};
use std::path::{Path, PathBuf};

use super::format::{Encoded, Part};
use crate::error::{Error, Result};
use crate::tokens::commit::{Sealed, TempFile};

/// A file that grows.
pub(super) struct Growing {
    path: PathBuf,
    out: BufWriter<TempFile>,
    /// So far.
    pub bytes: u64,
}

/// A file that is whole, and durable, but has no name yet.
pub(super) struct Made {
    pub path: PathBuf,
    pub bytes: u64,
    pub sealed: Sealed,
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
        Ok(Made { sealed: file.seal()?, path, bytes })
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
    fn push(&mut self, row: &Encoded) -> Result<()> {
        self.file.write(&row.bytes)
    }

    fn seal(mut self: Box<Self>) -> Result<Vec<Made>> {
        let end = (self.end)(self.file.bytes);
        self.file.write(&end)?;
        Ok(vec![self.file.seal()?])
    }
}
