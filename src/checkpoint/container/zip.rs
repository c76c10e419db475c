//! Owns reading of zip archives as PyTorch writes them: stored or deflated entries, zip64.
//! Must not know: pickles, tensors.
//!
//! A reader of our own, since an archive is untrusted and large: stored entries are slices of the
//! mapped file, the directory is bounded before it is held, and what inflating may cost is the
//! caller's budget.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::io::Read;

use crate::checkpoint::budget::Budget;
use crate::util::text::quoted;
use crate::weights::tensor::Bytes;

/// Most entries of an archive; a checkpoint has one a tensor.
const ENTRIES_MAX: u64 = 200_000;

/// Longest name of an entry, in bytes.
const NAME_BYTES_MAX: usize = 1024;

/// The end record with the longest comment.
const END_BYTES_MAX: usize = 22 + 0xffff;

/// An archive whose directory has been read.
#[derive(Debug)]
pub(crate) struct Archive {
    bytes: Bytes,
    entries: BTreeMap<String, Entry>,
}

/// A line of the directory.
#[derive(Debug, Clone, Copy)]
struct Entry {
    encrypted: bool,
    method: u16,
    crc32: u32,
    stored_bytes: u64,
    bytes: u64,
    header_at: u64,
}

/// Whether the first bytes are those of a zip archive.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06")
}

impl Archive {
    /// Reads the directory.
    ///
    /// # Errors
    /// Where it is missing (a file that was cut), contradicts itself, or is over a limit.
    pub(crate) fn open(bytes: Bytes) -> Result<Archive, String> {
        let (count, start, end) = directory(&bytes)?;
        if count > ENTRIES_MAX {
            return Err(format!("an archive of {count} entries; checkpoints have fewer"));
        }
        let mut fields = Fields { bytes: bytes.get(start..end).ok_or(CUT)?, at: 0 };
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let (name, entry) = fields.directory_entry()?;
            match entries.entry(name) {
                Slot::Vacant(slot) => drop(slot.insert(entry)),
                Slot::Occupied(slot) => {
                    let name = quoted(slot.key());
                    return Err(format!("two entries of the archive are called {name}"));
                }
            }
        }
        Ok(Archive { bytes, entries })
    }

    /// The names of all entries, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The content of an entry, checked against its sum: a slice of the file where it is stored, a
    /// copy of at most `budget` where it is deflated.
    ///
    /// # Errors
    /// Where there is no such entry, or its content is damaged.
    pub(crate) fn read(&self, name: &str, budget: &mut Budget) -> Result<Bytes, String> {
        let entry = self.entries.get(name);
        let entry = entry.ok_or_else(|| format!("entry {} is missing", quoted(name)))?;
        self.content(name, entry, budget)
            .map_err(|reason| format!("entry {}: {reason}", quoted(name)))
    }

    fn content(&self, name: &str, entry: &Entry, budget: &mut Budget) -> Result<Bytes, String> {
        if entry.encrypted {
            return Err("encrypted".into());
        }
        let at = usize::try_from(entry.header_at).map_err(|_| CUT)?;
        let mut header = Fields { bytes: self.bytes.get(at..).ok_or(CUT)?, at: 0 };
        header.expect(b"PK\x03\x04")?;
        header.skip(22)?;
        let (name_bytes, extra_bytes) = (header.u16()?, header.u16()?);
        if header.take(name_bytes.into())? != name.as_bytes() {
            return Err("directory and content disagree about the name".into());
        }
        header.skip(extra_bytes.into())?;
        let start = at + header.at;
        let stored = usize::try_from(entry.stored_bytes).map_err(|_| CUT)?;
        let size = usize::try_from(entry.bytes).map_err(|_| CUT)?;
        let end = start.checked_add(stored).ok_or(CUT)?;
        let stored = self.bytes.slice(start..end).ok_or(CUT)?;
        let content = match entry.method {
            0 if stored.len() == size => stored,
            0 => return Err("its sizes disagree".into()),
            8 => inflate(&stored, size, budget)?,
            other => return Err(format!("compressed by method {other}; only deflate is read")),
        };
        let mut sum = flate2::Crc::new();
        sum.update(&content);
        // PyTorch can be told to write no sums; it writes zeros then.
        if sum.sum() != entry.crc32 && entry.crc32 != 0 {
            return Err("damaged: its checksum differs; download the file again".into());
        }
        Ok(content)
    }
}

/// What a cut or lying archive gets.
const CUT: &str = "the archive is cut or damaged; download it again";

/// Inflates exactly `size` bytes.
fn inflate(stored: &[u8], size: usize, budget: &mut Budget) -> Result<Bytes, String> {
    // Deflate can't do better than 1032 to 1, so a larger claim is a lie.
    if size / 1032 > stored.len() + 1 {
        return Err(CUT.into());
    }
    budget.take(size)?;
    let mut content = Vec::with_capacity(size);
    // One byte more than expected tells a longer stream from an exact one.
    let limit = size as u64 + 1;
    flate2::read::DeflateDecoder::new(stored)
        .take(limit)
        .read_to_end(&mut content)
        .map_err(|_| "its deflated data is damaged; download the file again")?;
    if content.len() != size {
        return Err("its sizes disagree".into());
    }
    Ok(content.into())
}

/// Number of entries, start and end of the directory.
fn directory(bytes: &[u8]) -> Result<(u64, usize, usize), String> {
    let tail_at = bytes.len().saturating_sub(END_BYTES_MAX);
    let tail = &bytes[tail_at..];
    // The last record whose comment fills the file exactly.
    let end = (0..tail.len().saturating_sub(21)).rev().find(|&at| {
        tail[at..].starts_with(b"PK\x05\x06")
            && usize::from(u16::from_le_bytes([tail[at + 20], tail[at + 21]]))
                == tail.len() - at - 22
    });
    let end = tail_at + end.ok_or(CUT)?;
    let mut fields = Fields { bytes: &bytes[end..], at: 4 };
    fields.skip(6)?;
    let mut count = u64::from(fields.u16()?);
    let mut size = u64::from(fields.u32()?);
    let mut start = u64::from(fields.u32()?);

    let locator = end.checked_sub(20).map(|at| &bytes[at..end]);
    if let Some(locator) = locator.filter(|l| l.starts_with(b"PK\x06\x07")) {
        let mut locator = Fields { bytes: locator, at: 8 };
        let at = usize::try_from(locator.u64()?).map_err(|_| CUT)?;
        let mut fields = Fields { bytes: bytes.get(at..end).ok_or(CUT)?, at: 0 };
        fields.expect(b"PK\x06\x06")?;
        fields.skip(28)?;
        (count, size, start) = (fields.u64()?, fields.u64()?, fields.u64()?);
    }
    let start = usize::try_from(start).map_err(|_| CUT)?;
    let size = usize::try_from(size).map_err(|_| CUT)?;
    let directory_end = start.checked_add(size).filter(|&e| e <= end).ok_or(CUT)?;
    Ok((count, start, directory_end))
}

/// Little-endian fields, one after another.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).ok_or(CUT)?;
        let taken = self.bytes.get(self.at..end).ok_or(CUT)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        taken.first_chunk().copied().ok_or_else(|| CUT.into())
    }

    fn skip(&mut self, count: usize) -> Result<(), String> {
        self.take(count).map(drop)
    }

    fn expect(&mut self, magic: &[u8]) -> Result<(), String> {
        (self.take(magic.len())? == magic).then_some(()).ok_or_else(|| CUT.into())
    }

    fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    /// A line of the central directory.
    fn directory_entry(&mut self) -> Result<(String, Entry), String> {
        self.expect(b"PK\x01\x02")?;
        self.skip(4)?;
        let (flags, method) = (self.u16()?, self.u16()?);
        self.skip(4)?;
        let crc32 = self.u32()?;
        let (stored_bytes, bytes) = (self.u32()?, self.u32()?);
        let (name, extra, comment) = (self.u16()?.into(), self.u16()?.into(), self.u16()?.into());
        self.skip(8)?;
        let header_at = self.u32()?;
        if name > NAME_BYTES_MAX {
            return Err("an entry of the archive has a name too long for any checkpoint".into());
        }
        let name = std::str::from_utf8(self.take(name)?)
            .map_err(|_| "an entry of the archive has a name that is no UTF-8")?
            .to_string();
        let extra = self.take(extra)?;
        self.skip(comment)?;
        let [bytes, stored_bytes, header_at] = wide(extra, [bytes, stored_bytes, header_at])?;
        let encrypted = flags & 1 != 0;
        Ok((name, Entry { encrypted, method, crc32, stored_bytes, bytes, header_at }))
    }
}

/// The 64-bit values that the zip64 field holds for those that are all ones.
fn wide(extra: &[u8], narrow: [u32; 3]) -> Result<[u64; 3], String> {
    let mut values = narrow.map(u64::from);
    if !narrow.contains(&u32::MAX) {
        return Ok(values);
    }
    let mut fields = Fields { bytes: extra, at: 0 };
    while fields.at < extra.len() {
        let (id, size) = (fields.u16()?, fields.u16()?);
        let field = fields.take(size.into())?;
        if id == 1 {
            let mut field = Fields { bytes: field, at: 0 };
            for (value, narrow) in values.iter_mut().zip(narrow) {
                if narrow == u32::MAX {
                    *value = field.u64()?;
                }
            }
            break;
        }
    }
    Ok(values)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;

    use super::*;

    /// One entry for [`zip`]: name, content, whether to deflate it.
    pub(crate) type Part<'a> = (&'a str, &'a [u8], bool);

    fn crc(bytes: &[u8]) -> u32 {
        let mut sum = flate2::Crc::new();
        sum.update(bytes);
        sum.sum()
    }

    /// A zip archive, for tests.
    pub(crate) fn zip(parts: &[Part]) -> Vec<u8> {
        let (mut out, mut directory) = (Vec::new(), Vec::new());
        for &(name, content, deflated) in parts {
            let mut stored = content.to_vec();
            if deflated {
                let level = flate2::Compression::best();
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(content).unwrap();
                stored = encoder.finish().unwrap();
            }
            let header_at = out.len() as u32;
            let mut fields = vec![20, 0, 0, 0, if deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
            fields.extend(crc(content).to_le_bytes());
            fields.extend((stored.len() as u32).to_le_bytes());
            fields.extend((content.len() as u32).to_le_bytes());
            fields.extend((name.len() as u16).to_le_bytes());
            fields.extend([0, 0]);
            out.extend(b"PK\x03\x04");
            out.extend(&fields);
            out.extend(name.as_bytes());
            out.extend(stored);
            directory.extend(b"PK\x01\x02\x14\0");
            directory.extend(fields);
            directory.extend([0; 10]);
            directory.extend(header_at.to_le_bytes());
            directory.extend(name.as_bytes());
        }
        let start = out.len() as u32;
        out.extend(&directory);
        out.extend(b"PK\x05\x06\0\0\0\0");
        out.extend((parts.len() as u16).to_le_bytes());
        out.extend((parts.len() as u16).to_le_bytes());
        out.extend((directory.len() as u32).to_le_bytes());
        out.extend(start.to_le_bytes());
        out.extend([0, 0]);
        out
    }

    #[test]
    fn stored_and_deflated_entries_read_back() {
        let long = b"abc".repeat(1000);
        let bytes = zip(&[("a/data.pkl", b"N.", false), ("a/data/0", &long, true)]);
        let archive = Archive::open(bytes.into()).unwrap();
        assert_eq!(archive.names().collect::<Vec<_>>(), ["a/data.pkl", "a/data/0"]);
        let mut budget = Budget(3000);
        assert_eq!(*archive.read("a/data.pkl", &mut budget).unwrap(), *b"N.");
        assert_eq!(budget.0, 3000, "a stored entry is no copy");
        assert_eq!(*archive.read("a/data/0", &mut budget).unwrap(), *long);
        assert!(archive.read("a/data/0", &mut budget).is_err(), "the budget is spent");
        assert!(archive.read("../x", &mut budget).is_err());
    }

    #[test]
    fn damage_is_an_error() {
        let good = zip(&[("a", &[7; 100], false), ("b", &[8; 100], true)]);
        let read = |bytes: Vec<u8>| -> Result<(), String> {
            let archive = Archive::open(bytes.into())?;
            let names: Vec<String> = archive.names().map(String::from).collect();
            assert!(names.len() <= 2);
            ["a", "b"].iter().try_for_each(|n| archive.read(n, &mut Budget(1000)).map(drop))
        };
        read(good.clone()).unwrap();
        // Nothing cut, and no content or sum changed, goes unnoticed.
        for length in 0..good.len() {
            assert!(read(good[..length].to_vec()).is_err(), "cut at {length}");
        }
        for at in 31..131 {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(read(bad).is_err(), "byte {at}");
        }
        let twice = zip(&[("a", b"1", false), ("a", b"2", false)]);
        assert!(Archive::open(twice.into()).unwrap_err().contains("two entries"));
        // A count that the directory does not hold.
        let mut lying = good.clone();
        let at = good.len() - 12;
        lying[at] = 255;
        assert!(read(lying).is_err());
    }

    #[test]
    fn a_bomb_costs_no_more_than_the_budget() {
        let zeros = vec![0; 10 << 20];
        let bytes = zip(&[("bomb", &zeros, true)]);
        let archive = Archive::open(bytes.into()).unwrap();
        let error = archive.read("bomb", &mut Budget(1 << 20)).unwrap_err();
        assert!(error.contains("many times larger"), "{error}");
    }
}
