//! Owns the seal of a file: the digest of its bytes, which stands in the Parquet metadata at its own end.
//! Must not know: what else the file holds.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use parquet::file::metadata::KeyValue;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::storage;
use crate::util::hex::hex;

/// Its name in the metadata.
pub(super) const ENTRY: &str = "vqtok.index_sha256";
/// Its digits, all of them 0 when the digest is taken.
const DIGITS: usize = 64;
/// As far from a file's end as the metadata begins: what is said of columns and row groups stands before.
const TAIL: usize = 1 << 13;
/// Bytes that are read at once.
const BLOCK: usize = 1 << 16;

/// The entry, to be filled in by [`Sealing::finish`].
pub(super) fn entry() -> KeyValue {
    KeyValue::new(ENTRY.to_string(), "0".repeat(DIGITS))
}

/// Passes bytes on to a file, and holds its end back for the digest to be set in.
pub(super) struct Sealing<'a> {
    file: &'a mut File,
    hasher: Sha256,
    held: Option<Vec<u8>>,
}

impl<'a> Sealing<'a> {
    pub(super) fn new(file: &'a mut File) -> Sealing<'a> {
        Sealing { file, hasher: Sha256::new(), held: None }
    }

    /// From here on bytes are held back.
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Writes what was held back, sealed.
    ///
    /// # Errors
    /// As the system says; an end without the entry.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let mut end = self.held.take().unwrap_or_default();
        self.hasher.update(&end);
        let at = place(&end).ok_or_else(|| io::Error::other("no entry for its digest"))?;
        end[at..at + DIGITS].copy_from_slice(hex(self.hasher.finalize()).as_bytes());
        self.file.write_all(&end)
    }
}

impl Write for Sealing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(held) = &mut self.held {
            held.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// What a file's seal says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// There is none.
    None,
    /// Every byte is as it was written.
    Whole,
    Broken,
}

/// # Errors
/// As the system or the store says.
pub(super) fn of(path: &Path) -> Result<Seal> {
    if !storage::facts(path).map_err(Error::io(path))?.is_file {
        return Ok(Seal::None);
    }
    digest(path).map_err(Error::io(path))
}

fn digest(path: &Path) -> io::Result<Seal> {
    let file = storage::open(path)?;
    let mut tail = vec![0; TAIL];
    let begin = file.size().saturating_sub(TAIL as u64);
    let read = file.fill_at(begin, &mut tail)?;
    let Some(at) = place(&tail[..read]) else { return Ok(Seal::None) };
    let (said, at) = (tail[at..at + DIGITS].to_vec(), begin + at as u64);
    let (mut hasher, mut block, mut from) = (Sha256::new(), vec![0; BLOCK], 0);
    loop {
        let read = file.fill_at(from, &mut block)?;
        if read == 0 {
            break;
        }
        let digits = at.max(from)..(at + DIGITS as u64).min(from + read as u64);
        if !digits.is_empty() {
            block[(digits.start - from) as usize..(digits.end - from) as usize].fill(b'0');
        }
        hasher.update(&block[..read]);
        from += read as u64;
    }
    let whole = hex(hasher.finalize()).as_bytes() == said;
    Ok(if whole { Seal::Whole } else { Seal::Broken })
}

/// Where the digits stand in a file's end: behind the name and the two bytes with which Thrift's compact
/// protocol begins a text of their length. Keys of images, which may read the same, stand before.
fn place(end: &[u8]) -> Option<usize> {
    let before = ENTRY.len() + 2;
    let mut places = end.windows(before + DIGITS);
    Some(places.rposition(|bytes| bytes.starts_with(ENTRY.as_bytes()))? + before)
}
