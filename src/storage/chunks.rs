//! Owns giving the reader of Parquet files the parts that it asks for.

use std::io::{self, BufReader};
use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

use super::bytes_at::{BytesAt, Cursor};
use crate::util::parquet_guard;

/// A file for the reader of Parquet files.
#[derive(Clone)]
pub(crate) struct Chunks(pub(crate) Arc<dyn BytesAt>);

impl Chunks {
    /// Refuses a footer that would be dangerous to read.
    ///
    /// # Errors
    /// Those of [`parquet_guard::check`].
    pub(crate) fn check(&self) -> std::result::Result<(), String> {
        parquet_guard::check(&mut Cursor::new(Arc::clone(&self.0)), self.0.size()).map(|_| ())
    }
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.size()
    }
}

impl ChunkReader for Chunks {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        Ok(BufReader::new(Cursor::at(Arc::clone(&self.0), start)))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        // Checked before memory is taken: the numbers are the file's.
        let end = start.checked_add(length as u64);
        if end.is_none_or(|end| end > self.0.size()) {
            return Err(ParquetError::EOF("it ends too early".into()));
        }
        let mut bytes = vec![0; length];
        if self.0.fill_at(start, &mut bytes)? < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(bytes.into())
    }
}
