//! Owns reading a member's content. Must not know: why it is read.

use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::sync::Arc;

use super::bytes::{CUT, Trouble, array_at, u16_at, vec_at};
use super::entry::Entry;
use super::method::{BZIP2, DEFLATE, LZMA, STORED, XZ, ZSTD};
use crate::storage::{BytesAt, Cursor};

/// A dictionary of more is refused.
const DICTIONARY_BYTES_MAX: u32 = 1 << 28;

/// Deflate can't do better than 1,032 to 1, so a larger claim is a lie.
const RATIO_MAX: u64 = 1032;

/// A member's content, at most `max` bytes, checked against its size and sum.
///
/// # Errors
/// The system's; it is larger, or damaged.
pub(super) fn read(bytes: &Arc<dyn BytesAt>, entry: &Entry, max: u64) -> Result<Vec<u8>, Trouble> {
    let size = entry.bytes;
    if size > max {
        return Err(format!("it has {size} bytes, more than the limit of {max}").into());
    }
    let lies = match entry.method {
        STORED => size != entry.stored_bytes,
        DEFLATE => size / RATIO_MAX > entry.stored_bytes.saturating_add(1),
        _ => false,
    };
    if lies {
        return Err("its sizes in the archive's directory contradict each other".into());
    }
    let reader = open(bytes, entry)?;
    // Other methods have no bound: what is really there decides.
    let known = matches!(entry.method, STORED | DEFLATE);
    let mut content = Vec::with_capacity(if known { size as usize } else { 0 });
    // One byte more than expected tells a longer stream from an exact one.
    reader.take(size + 1).read_to_end(&mut content).map_err(damaged)?;
    if content.len() as u64 != size {
        return Err("damaged: its size isn't what the archive's directory says".into());
    }
    let mut sum = flate2::Crc::new();
    sum.update(&content);
    if sum.sum() != entry.crc32 {
        return Err("damaged: its checksum (CRC-32) differs".into());
    }
    Ok(content)
}

/// The first bytes of a member's content, unchecked; at most `max`.
///
/// # Errors
/// The system's; it is damaged.
pub(super) fn head(bytes: &Arc<dyn BytesAt>, entry: &Entry, max: u64) -> Result<Vec<u8>, Trouble> {
    let mut content = Vec::new();
    open(bytes, entry)?.take(max).read_to_end(&mut content).map_err(damaged)?;
    Ok(content)
}

fn damaged(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            "damaged: it can't be inflated".into()
        }
        _ => error.into(),
    }
}

/// A reader of what a member holds.
fn open(bytes: &Arc<dyn BytesAt>, entry: &Entry) -> Result<Box<dyn Read>, Trouble> {
    if let Some(fault) = entry.fault() {
        return Err(fault.into());
    }
    let start = start(bytes.as_ref(), entry)?;
    let mut cursor = Cursor::new(Arc::clone(bytes));
    cursor.seek(SeekFrom::Start(start))?;
    let stored = cursor.take(entry.stored_bytes);
    if entry.method == STORED {
        return Ok(Box::new(stored));
    }
    let stored = BufReader::with_capacity(1 << 16, stored);
    Ok(match entry.method {
        BZIP2 => Box::new(bzip2::bufread::BzDecoder::new(stored)),
        LZMA => lzma(stored, entry.bytes)?,
        ZSTD => Box::new(zstd::stream::read::Decoder::with_buffer(stored)?),
        XZ => {
            Box::new(lzma_rust2::XzReader::new_mem_limit(stored, true, DICTIONARY_BYTES_MAX >> 10))
        }
        _ => Box::new(flate2::bufread::DeflateDecoder::new(stored)),
    })
}

/// LZMA in a zip has a header of its own: a version, the size of what follows, properties and the
/// size of the dictionary.
fn lzma(mut stored: impl Read + 'static, bytes: u64) -> Result<Box<dyn Read>, Trouble> {
    let mut header = [0; 9];
    stored.read_exact(&mut header).map_err(damaged)?;
    let dictionary = u32::from_le_bytes([header[5], header[6], header[7], header[8]]);
    if header[2..4] != [5, 0] || dictionary > DICTIONARY_BYTES_MAX {
        return Err("damaged: it can't be inflated".into());
    }
    let reader = lzma_rust2::LzmaReader::new_with_props(stored, bytes, header[4], dictionary, None);
    Ok(Box::new(reader.map_err(damaged)?))
}

/// Where the content lies: behind a header that repeats the name.
fn start(bytes: &dyn BytesAt, entry: &Entry) -> Result<u64, Trouble> {
    const HEADER_BYTES: u64 = 30;
    let at = entry.header_at.ok_or(CUT)?;
    let header = array_at::<{ HEADER_BYTES as usize }>(bytes, at)?;
    if !header.starts_with(b"PK\x03\x04") {
        return Err("damaged: it isn't where the archive's directory says".into());
    }
    let (name, extra) = (u16_at(&header, 26), u16_at(&header, 28));
    if vec_at(bytes, at + HEADER_BYTES, name)? != entry.name {
        return Err("damaged: its name isn't what the archive's directory says".into());
    }
    let start = at + HEADER_BYTES + u64::from(name) + u64::from(extra);
    match start.checked_add(entry.stored_bytes) {
        Some(end) if end <= bytes.size() => Ok(start),
        _ => Err(CUT.into()),
    }
}
