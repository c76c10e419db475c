//! Owns tars as webdataset's own `ShardWriter` writes them. Must not know: what is in them.

use std::path::Path;

use super::part::Stream;
use crate::error::Result;

const BLOCK: usize = 512;
/// A tar's length is a multiple of that.
const RECORD: u64 = 10_240;

/// A tar that grows member by member.
///
/// # Errors
/// What the system refuses.
pub(super) fn create(folder: &Path, name: &str) -> Result<Stream> {
    Stream::create(folder, name, end)
}

/// What stands behind the last member: two blocks of zeros, and more.
pub(super) fn end(bytes: u64) -> Vec<u8> {
    let length = (bytes + 2 * BLOCK as u64).next_multiple_of(RECORD);
    vec![0; (length - bytes) as usize]
}

/// Appends a regular file: a ustar header as Python's `tarfile` writes it, and whole blocks. A name is
/// at most 100 bytes long.
pub(super) fn member(out: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000444\x000000000\x000000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"00000000000\0        0");
    put(257, b"ustar\x0000bigdata");
    put(297, b"bigdata");
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend(header);
    out.extend(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Bytes of the first of several members.
pub(super) fn first_length(members: &[u8]) -> usize {
    let size = members.get(124..135).and_then(|size| std::str::from_utf8(size).ok());
    let size = size.and_then(|size| usize::from_str_radix(size, 8).ok()).unwrap_or(0);
    (BLOCK + size.next_multiple_of(BLOCK)).min(members.len())
}
