//! Owns finding an archive's directory from its end, and going over its lines. Must not know: which
//! members are images.

use std::io::{BufReader, Read as _, Seek as _, SeekFrom};
use std::sync::Arc;

use super::bytes::{CUT, Trouble, array_at, u16_at, u32_at, u64_at};
use super::entry::{Entry, LINE_BYTES};
use crate::data::source::container::digest::Description;
use crate::storage::{BytesAt, Cursor};

/// The end record without its comment.
const END_BYTES: usize = 22;
const END: &[u8] = b"PK\x05\x06";
const COMMENT_BYTES_MAX: usize = 0xffff;
const WIDE_LOCATOR_BYTES: u64 = 20;
const WIDE_END_BYTES: u64 = 56;

const GONE: &str = "the directory at its end is missing: the archive has been cut or is damaged; \
                    copy or pack it again";
const LOST: &str =
    "its directory isn't where its end says: the archive is damaged; copy or pack it again";
const SPLIT: &str = "it is one part of a split archive; join the parts first, as `zip -s 0 split.zip \
                     -O whole.zip` does";

/// Where the directory lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) start: u64,
    pub(super) end: u64,
    /// What lies before the archive in the file, which its own positions don't count.
    pub(super) shift: u64,
    /// How many lines it says to have.
    count: u64,
    /// Whether that is a number of 16 bits, which old programs let run over.
    wraps: bool,
}

/// Whether a file is a zip archive: by its end, or, where that has been cut off, by its beginning.
/// One whose beginning has other bytes before it and whose end is cut off is one by its name alone.
pub(crate) fn is_zip(bytes: &dyn BytesAt) -> bool {
    let begins = array_at::<4>(bytes, 0)
        .is_ok_and(|head| [b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08"].contains(&&head));
    // Exactly at its end: that of a member of another archive lies before other bytes.
    begins || find_among(bytes, true).is_ok()
}

/// The digest of an archive's directory; None where it has none.
///
/// # Errors
/// The system's.
pub(crate) fn digest(bytes: &dyn BytesAt) -> std::io::Result<Option<String>> {
    match Directory::find(bytes) {
        Ok(directory) => directory.digest(bytes),
        Err(Trouble::Content(_)) => Ok(None),
        Err(Trouble::System(error)) => Err(error),
    }
}

impl Directory {
    /// Finds it.
    ///
    /// # Errors
    /// The system's; it is missing, or contradicts itself.
    pub(super) fn find(bytes: &dyn BytesAt) -> Result<Directory, Trouble> {
        // A comment that fills the file is the rule; archives with bytes after them occur.
        match find_among(bytes, true) {
            Err(Trouble::Content(_)) => find_among(bytes, false),
            found => found,
        }
    }

    /// The digest of its lines, which have a checksum of each member.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn digest(&self, bytes: &dyn BytesAt) -> std::io::Result<Option<String>> {
        Description::of(bytes, self.start, self.end)
    }

    /// Whether so many lines are not what it says to have.
    pub(super) fn contradicts(&self, lines: u64) -> Option<u64> {
        let same = lines == self.count || self.wraps && lines & 0xffff == self.count;
        (!same).then_some(self.count)
    }
}

/// The last end record that leads to a directory.
fn find_among(bytes: &dyn BytesAt, exactly: bool) -> Result<Directory, Trouble> {
    let size = bytes.size();
    let length = size.min((END_BYTES + COMMENT_BYTES_MAX) as u64);
    let mut tail = vec![0; length as usize];
    let filled = bytes.fill_at(size - length, &mut tail)?;
    tail.truncate(filled);
    let mut reason = Trouble::from(GONE);
    for at in (0..(tail.len() + 1).saturating_sub(END_BYTES)).rev() {
        if !tail[at..].starts_with(END) {
            continue;
        }
        let comment = usize::from(u16_at(&tail, at + 20));
        if exactly && at + END_BYTES + comment != tail.len() {
            continue;
        }
        match from_end(bytes, &tail[at..at + END_BYTES], size - length + at as u64) {
            Err(Trouble::Content(why)) => reason = why.into(),
            found => return found,
        }
    }
    Err(reason)
}

/// The directory that an end record at `at` speaks of.
fn from_end(bytes: &dyn BytesAt, record: &[u8], at: u64) -> Result<Directory, Trouble> {
    let (disk, first) = (u16_at(record, 4), u16_at(record, 6));
    let count = u64::from(u16_at(record, 10));
    let (size, offset) = (u64::from(u32_at(record, 12)), u64::from(u32_at(record, 16)));
    if let Some((end, record)) = wide_end(bytes, at)? {
        if u32_at(&record, 16) != 0 || u32_at(&record, 20) != 0 {
            return Err(SPLIT.into());
        }
        let (count, size) = (u64_at(&record, 32), u64_at(&record, 40));
        return place(bytes, end, size, u64_at(&record, 48), count, false);
    }
    if disk != 0 || first != 0 {
        return Err(SPLIT.into());
    }
    place(bytes, at, size, offset, count, true)
}

/// The end record of large archives and its place, where there is one before that at `end`.
fn wide_end(
    bytes: &dyn BytesAt,
    end: u64,
) -> Result<Option<(u64, [u8; WIDE_END_BYTES as usize])>, Trouble> {
    let Some(at) = end.checked_sub(WIDE_LOCATOR_BYTES) else { return Ok(None) };
    let locator: [u8; WIDE_LOCATOR_BYTES as usize] = array_at(bytes, at)?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    // Directly before, whatever lies before the archive; or, where it has fields of its own, there
    // where the locator says.
    let places = [at.checked_sub(WIDE_END_BYTES), Some(u64_at(&locator, 8))];
    for place in places.into_iter().flatten().filter(|place| *place < at) {
        match array_at::<{ WIDE_END_BYTES as usize }>(bytes, place) {
            Ok(record) if record.starts_with(b"PK\x06\x06") => return Ok(Some((place, record))),
            Err(Trouble::System(error)) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(None)
}

/// Looks for `size` bytes of directory before `end`.
fn place(
    bytes: &dyn BytesAt,
    end: u64,
    size: u64,
    offset: u64,
    count: u64,
    wraps: bool,
) -> Result<Directory, Trouble> {
    if size == 0 && count == 0 {
        return Ok(Directory { start: end, end, shift: 0, count, wraps });
    }
    // Directly before its end record, whatever lies before the archive; or, where signatures or
    // other records lie between, there where it says.
    for start in [end.checked_sub(size), Some(offset)].into_iter().flatten() {
        let fits = start.checked_add(size).is_some_and(|stop| stop <= end);
        let Some(shift) = start.checked_sub(offset).filter(|_| fits && size > 0) else { continue };
        match array_at::<4>(bytes, start) {
            Ok(head) if head == *b"PK\x01\x02" => {
                return Ok(Directory { start, end: start + size, shift, count, wraps });
            }
            Err(Trouble::System(error)) => return Err(error.into()),
            _ => {}
        }
    }
    Err(LOST.into())
}

/// The lines of a directory, in its order.
pub(super) struct Entries {
    reader: BufReader<Cursor>,
    directory: Directory,
    at: u64,
    /// The bytes of the line that was read last.
    line: Vec<u8>,
}

impl Entries {
    /// From the first one on.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn new(bytes: Arc<dyn BytesAt>, directory: Directory) -> std::io::Result<Entries> {
        let mut reader = BufReader::with_capacity(1 << 18, Cursor::new(bytes));
        reader.seek(SeekFrom::Start(directory.start))?;
        Ok(Entries { reader, directory, at: directory.start, line: Vec::new() })
    }

    /// The next one.
    ///
    /// # Errors
    /// The system's; what lies there is no line of a directory.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, Trouble> {
        if self.at >= self.directory.end {
            return Ok(None);
        }
        self.fill(0, LINE_BYTES)?;
        let rest = Entry::bytes_after(&self.line)?;
        self.fill(LINE_BYTES, rest)?;
        let entry = Entry::parse(&self.line, self.at, self.directory.shift)?;
        self.at += self.line.len() as u64;
        Ok(Some(entry))
    }

    /// Reads `count` more bytes of the line behind its first `from`.
    fn fill(&mut self, from: usize, count: usize) -> Result<(), Trouble> {
        if (from + count) as u64 > self.directory.end - self.at {
            return Err(CUT.into());
        }
        self.line.resize(from + count, 0);
        self.reader.read_exact(&mut self.line[from..]).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Trouble::from(CUT),
            _ => error.into(),
        })
    }
}

/// The line at a place that a plan names; None where no line of the directory begins there.
///
/// # Errors
/// The system's.
pub(super) fn entry_at(
    bytes: &dyn BytesAt,
    directory: &Directory,
    at: u64,
) -> std::io::Result<Option<Entry>> {
    let line = || -> Result<Option<Entry>, Trouble> {
        if at < directory.start || at >= directory.end {
            return Ok(None);
        }
        let mut line = array_at::<LINE_BYTES>(bytes, at)?.to_vec();
        let rest = Entry::bytes_after(&line)?;
        if (LINE_BYTES + rest) as u64 > directory.end - at {
            return Ok(None);
        }
        line.resize(LINE_BYTES + rest, 0);
        bytes.fill_at(at, &mut line)?;
        Ok(Some(Entry::parse(&line, at, directory.shift)?))
    };
    match line() {
        Err(Trouble::System(error)) => Err(error),
        Err(Trouble::Content(_)) => Ok(None),
        Ok(entry) => Ok(entry),
    }
}
