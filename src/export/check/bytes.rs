//! Owns reading a file from its beginning on, with its length known. Must not know: formats.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::storage::{self, Cursor};

/// A file that is read.
pub(super) struct Source {
    file: BufReader<Cursor>,
    /// Bytes that are left.
    pub left: u64,
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Source, String> {
        let bytes = storage::open(path).map_err(|error| error.to_string())?;
        let left = bytes.size();
        Ok(Source { file: BufReader::with_capacity(1 << 20, Cursor::new(bytes)), left })
    }

    /// The next bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>, String> {
        // What a header claims is never taken as memory before it is found to be there.
        let left = self.left.checked_sub(count).ok_or("it ends too early")?;
        let mut bytes = vec![0; count as usize];
        self.file.read_exact(&mut bytes).map_err(|error| error.to_string())?;
        self.left = left;
        Ok(bytes)
    }

    /// All the rest.
    pub(super) fn reader(&mut self) -> &mut impl BufRead {
        &mut self.file
    }

    pub(super) fn take_array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N as u64)?.try_into().map_err(|_| "it ends too early".to_string())
    }

    /// The same file, from another place on.
    pub(super) fn seek(&mut self, to: u64, size: u64) -> Result<(), String> {
        self.file.seek(SeekFrom::Start(to)).map_err(|error| error.to_string())?;
        self.left = size.checked_sub(to).ok_or("it ends too early")?;
        Ok(())
    }
}

/// Unsigned little-endian numbers of so many bytes.
pub(super) fn numbers(bytes: &[u8], width: usize) -> Vec<u32> {
    let number = |bytes: &[u8]| {
        let bytes = bytes.iter().rev();
        bytes.fold(0_u64, |all, byte| all << 8 | u64::from(*byte)) as u32
    };
    bytes.chunks_exact(width).map(number).collect()
}

/// Little-endian numbers of so many bytes, with a sign or without.
pub(super) fn wide_numbers(bytes: &[u8], width: usize, signed: bool) -> Vec<i64> {
    let number = |bytes: &[u8]| {
        let value = bytes.iter().rev().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
        let unused = 64 - 8 * width as u32;
        match signed {
            true => (value << unused) as i64 >> unused,
            false => value as i64,
        }
    };
    bytes.chunks_exact(width).map(number).collect()
}
