//! Owns what a member's headers say together: its own, and those that extend it. Must not know: what
//! lies between members.

use super::header::{self, BLOCK, Block};
use super::pax::Pax;
use super::sparse::{self, GrowingMap, Lines, Piece};
use super::stream::{Broken, Stream};
use crate::data::source::names::KEY_BYTES_MAX;

/// The longest PAX header that is read.
pub(super) const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// A member of a tar.
#[derive(Debug)]
pub(super) struct Member {
    /// Where its own header begins; extension headers may lie before.
    pub(super) header_at: u64,
    /// Cut behind the longest that is taken.
    pub(super) name: Vec<u8>,
    pub(super) kind: Kind,
    /// Bytes of its content, holes included.
    pub(super) size: u64,
    /// Bytes of it that are in the tar.
    pub(super) stored: u64,
    /// Bytes that fill up its last block.
    pub(super) padding: u64,
    /// Where it has holes: what is stored, or why that can't be told.
    pub(super) pieces: Option<Result<Vec<Piece>, String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    /// To another member, or to anywhere.
    Link,
    /// A device, what an archiver notes for itself.
    Other,
}

/// Whether a header extends the one after it.
pub(super) fn is_extension(block: &Block) -> bool {
    matches!(header::typeflag(block), b'L' | b'K' | b'x' | b'X' | b'g')
}

/// What headers before a member say of it.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// Where the first of those begins that tell of one member.
    of_one_at: Option<u64>,
    /// Whether a header for all members says what only one can have; it isn't followed.
    pub(super) global_name: bool,
    pax: Pax,
    long_name: Option<Vec<u8>>,
}

impl Extensions {
    /// Reads what follows the extension header `block`, which begins at `at`.
    ///
    /// # Errors
    /// The system's; damage.
    pub(super) fn add(
        &mut self,
        stream: &mut Stream,
        at: u64,
        block: &Block,
    ) -> Result<(), Broken> {
        if header::typeflag(block) != b'g' {
            self.of_one_at.get_or_insert(at);
        }
        let size = size_of(at, block)?;
        match header::typeflag(block) {
            b'K' => pass(stream, size)?,
            b'L' => {
                let kept = size.min(KEY_BYTES_MAX as u64);
                let name = stream.take(kept)?;
                pass(stream, size - name.len() as u64)?;
                self.long_name = Some(header::text(&name).to_vec()).filter(|name| !name.is_empty());
            }
            _ if size > EXTENSION_BYTES_MAX => {
                return Err(Broken::at(at, format!("a PAX header of {size} bytes")));
            }
            flag => {
                let records = stream.take(size)?;
                pass(stream, size - records.len() as u64)?;
                let mut global = Pax::default();
                let pax = if flag == b'g' { &mut global } else { &mut self.pax };
                let read = pax.add(&records);
                read.ok_or_else(|| Broken::at(at, "a PAX header that can't be read"))?;
                self.global_name |= global.is_of_one();
            }
        }
        // Its last block is filled up.
        pass(stream, padding(size))
    }

    /// Sees to it that no member is missing that they tell of.
    ///
    /// # Errors
    /// Damage.
    pub(super) fn check_unused(&self) -> Result<(), Broken> {
        match self.of_one_at {
            Some(at) => Err(Broken::at(at, "a header tells of a member that is missing")),
            None => Ok(()),
        }
    }

    /// The member with the header `block`, which began at `at`.
    ///
    /// # Errors
    /// The system's; damage.
    pub(super) fn member(
        self,
        stream: &mut Stream,
        at: u64,
        block: &Block,
    ) -> Result<Member, Broken> {
        let own_size = size_of(at, block)?;
        let stored = self.pax.size.unwrap_or(own_size);
        let name = self.pax.sparse.name.clone().or_else(|| self.pax.path.clone());
        let name = name.or(self.long_name).unwrap_or_else(|| header::name(block));
        let (kind, stored) = match header::typeflag(block) {
            // Old writers had no other mark of folders.
            0 if name.ends_with(b"/") => (Kind::Folder, 0),
            b'5' => (Kind::Folder, 0),
            0 | b'0' | b'7' | b'S' => (Kind::File, stored),
            b'1' | b'2' => (Kind::Link, 0),
            b'3'..=b'6' => (Kind::Other, 0),
            _ => (Kind::Other, stored),
        };
        let (size, padding) = (stored, padding(stored));
        let mut member = Member { header_at: at, name, kind, size, stored, padding, pieces: None };
        let sparse = self.pax.sparse;
        if header::typeflag(block) == b'S' {
            read_gnu_map(stream, block, &mut member)?;
        } else if kind == Kind::File && sparse.map_in_content {
            read_map_lines(stream, sparse.size, &mut member)?;
        } else if let (Kind::File, Some(map)) = (kind, sparse.map) {
            member.size = sparse.size.unwrap_or(stored);
            member.pieces = Some(sparse::checked(map, member.size, stored));
        }
        Ok(member)
    }
}

/// The map of the old GNU format, in the header and in blocks behind it.
fn read_gnu_map(stream: &mut Stream, block: &Block, member: &mut Member) -> Result<(), Broken> {
    let mut map = GrowingMap::default();
    let (size, mut goes_on) = map.head(block);
    while goes_on {
        let mut more = [0; BLOCK];
        if stream.fill(&mut more)? < BLOCK {
            return Err(cut(stream));
        }
        goes_on = map.more(&more);
    }
    member.size = size.ok_or_else(|| no_size(member.header_at))?;
    member.pieces = Some(map.finish(member.size, member.stored));
    Ok(())
}

/// The map of format 1.0, which counts as stored content.
fn read_map_lines(
    stream: &mut Stream,
    size: Option<u64>,
    member: &mut Member,
) -> Result<(), Broken> {
    let mut lines = Lines::default();
    let complete = loop {
        let mut block = [0; BLOCK];
        let filled = stream.fill(&mut block[..member.stored.min(BLOCK as u64) as usize])?;
        member.stored -= filled as u64;
        match lines.add(&block[..filled]) {
            Ok(false) if filled == BLOCK => {}
            Ok(false) => break Err("its map of holes is cut".into()),
            Ok(true) => break Ok(()),
            Err(why) => break Err(why),
        }
    };
    member.size = size.ok_or_else(|| no_size(member.header_at))?;
    let stored = member.stored;
    member.pieces =
        Some(complete.and_then(|()| sparse::checked(lines.pieces(), member.size, stored)));
    Ok(())
}

fn size_of(at: u64, block: &Block) -> Result<u64, Broken> {
    header::size(block).ok_or_else(|| no_size(at))
}

fn no_size(at: u64) -> Broken {
    Broken::at(at, "a header whose size is no size of a file")
}

fn cut(stream: &Stream) -> Broken {
    Broken::at(stream.position(), "it ends within a header")
}

/// How many bytes fill up the last block of so many.
fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// Passes over `count` bytes of a header.
fn pass(stream: &mut Stream, count: u64) -> Result<(), Broken> {
    if stream.skip(count)? == count { Ok(()) } else { Err(cut(stream)) }
}
