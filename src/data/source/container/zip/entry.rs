//! Owns what a line of an archive's directory says of a member. Must not know: which members are
//! images.

use super::bytes::{Trouble, u16_at, u32_at, u64_at};
use super::method::is_readable;
use super::name;

/// A line without its name, its extra fields and its comment.
pub(super) const LINE_BYTES: usize = 46;

/// A member, as the directory says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where the line lies in the file.
    pub(super) at: u64,
    pub(super) name: Vec<u8>,
    /// The name as text.
    pub(super) key: String,
    flags: u16,
    pub(super) method: u16,
    pub(super) crc32: u32,
    /// Size of the content as it lies in the archive.
    pub(super) stored_bytes: u64,
    pub(super) bytes: u64,
    /// Where the member lies in the file; None where the archive can't hold such a place.
    pub(super) header_at: Option<u64>,
    /// Whether its place or its sizes need a field that is missing.
    incomplete: bool,
    pub(super) is_link: bool,
}

impl Entry {
    /// How many bytes follow those of every line.
    ///
    /// # Errors
    /// It is no line of a directory.
    pub(super) fn bytes_after(line: &[u8]) -> Result<usize, Trouble> {
        if !line.starts_with(b"PK\x01\x02") {
            return Err("its directory is damaged".into());
        }
        Ok([28, 30, 32].into_iter().map(|at| usize::from(u16_at(line, at))).sum())
    }

    /// What a whole line at `at` says; `shift` as in the directory.
    ///
    /// # Errors
    /// It is no line of a directory.
    pub(super) fn parse(line: &[u8], at: u64, shift: u64) -> Result<Entry, Trouble> {
        let name_end = LINE_BYTES + usize::from(u16_at(line, 28));
        let extra_end = name_end + usize::from(u16_at(line, 30));
        let (Some(name), Some(extra)) =
            (line.get(LINE_BYTES..name_end), line.get(name_end..extra_end))
        else {
            return Err("its directory is damaged".into());
        };
        let flags = u16_at(line, 8);
        let narrow = [u32_at(line, 24), u32_at(line, 20), u32_at(line, 42)];
        let wide = wide(extra, narrow);
        let [bytes, stored_bytes, header] = wide.unwrap_or(narrow.map(u64::from));
        // Unix keeps the mode in the upper half of the outer attributes.
        let is_link = line[5] == 3 && u32_at(line, 38) >> 28 == 0o12;
        Ok(Entry {
            at,
            name: name.to_vec(),
            key: name::key(name, flags & 0x800 != 0, field(extra, 0x7075)),
            flags,
            method: u16_at(line, 10),
            crc32: u32_at(line, 16),
            stored_bytes,
            bytes,
            header_at: header.checked_add(shift),
            incomplete: wide.is_none(),
            is_link,
        })
    }

    /// Why it can't be read, as far as the directory says.
    pub(super) fn fault(&self) -> Option<String> {
        if self.incomplete {
            return Some("its line in the archive's directory is damaged".into());
        }
        // Bit 0 is set for all that is encrypted, 6 for strong encryption, 13 for hidden headers.
        if self.flags & 0x2041 != 0 || self.method == 99 {
            return Some(
                "it is encrypted, and archives are read without passwords; unpack it and pack it again"
                    .into(),
            );
        }
        if self.flags & 0x20 != 0 {
            return Some("it holds a patch and no file".into());
        }
        let method = match self.method {
            method if is_readable(method) => return None,
            1..=5 | 7 | 10 | 18 => "an outdated method".into(),
            6 => "Implode".into(),
            9 => "Deflate64".into(),
            20 => "an early Zstandard".into(),
            96 => "a method for JPEG alone".into(),
            98 => "PPMd".into(),
            other => format!("method {other}"),
        };
        Some(format!("it is compressed by {method}; pack the archive again, stored or deflated"))
    }
}

/// The content of the first extra field of a kind.
fn field(extra: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = extra;
    while rest.len() >= 4 {
        let size = usize::from(u16_at(rest, 2));
        let content = rest.get(4..4 + size)?;
        if u16_at(rest, 0) == kind {
            return Some(content);
        }
        rest = &rest[4 + size..];
    }
    None
}

/// The numbers, of 64 bits where those of 32 are all ones; None where such a one is missing.
fn wide(extra: &[u8], narrow: [u32; 3]) -> Option<[u64; 3]> {
    let mut values = narrow.map(u64::from);
    if !narrow.contains(&u32::MAX) {
        return Some(values);
    }
    let mut content = field(extra, 1)?;
    for (value, narrow) in values.iter_mut().zip(narrow) {
        if narrow == u32::MAX {
            let (wide, rest) = content.split_at_checked(8)?;
            *value = u64_at(wide, 0);
            content = rest;
        }
    }
    Some(values)
}
