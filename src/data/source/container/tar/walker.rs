//! Owns going through a tar from member to member, to its end or to where it is damaged. Must not
//! know: samples, images.

use std::io;
use std::mem;

use super::header::{self, BLOCK, Block};
use super::member::{self, Extensions, Member};
use super::stream::{Broken, Damage, Stream};
use crate::data::source::container::digest::Description;
use crate::data::source::uri::readable;
use crate::util::numbers::counted;
use crate::util::text::quoted;

#[derive(Debug)]
pub(super) enum Step {
    Member(Member),
    End,
    /// What follows can't be read.
    Damage(Damage),
}

/// What is odd between members.
#[derive(Debug, Default)]
pub(super) struct Oddities {
    lone_zeros: u64,
    inner_ends: u64,
    global_names: u64,
    /// How it ends, where that is odd.
    end: Vec<String>,
}

impl Oddities {
    /// One line each.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = [
            (self.lone_zeros, "lone zero block", " between members: passed over"),
            (self.inner_ends, "end mark", " before the end: what follows is read too"),
            (self.global_names, "PAX header", " with a name or size for all members: not followed"),
        ];
        let seen = lines.into_iter().filter(|(count, ..)| *count > 0);
        let seen = seen.map(|(count, noun, what)| counted(count, noun) + what);
        seen.chain(self.end.iter().cloned()).collect()
    }
}

/// Reads headers in order; contents on demand.
pub(super) struct Walker {
    pub(super) stream: Stream,
    pub(super) oddities: Oddities,
    /// Of all headers so far: names, sizes, times.
    pub(super) headers: Description,
    /// Header and name of the member whose content comes next, how much of it, and what fills up its
    /// last block.
    current: (u64, Vec<u8>),
    content: u64,
    padding: u64,
    /// Blocks of zeros since the last header.
    zeros: u64,
    any_header: bool,
}

impl Walker {
    pub(super) fn new(stream: Stream) -> Walker {
        let (oddities, headers) = (Oddities::default(), Description::default());
        let (current, content, padding, zeros) = ((0, Vec::new()), 0, 0, 0);
        let any_header = false;
        Walker { stream, oddities, headers, current, content, padding, zeros, any_header }
    }

    /// The next member.
    ///
    /// # Errors
    /// As the system or the store says.
    pub(super) fn step(&mut self) -> io::Result<Step> {
        match self.walk() {
            Ok(Some(member)) => Ok(Step::Member(member)),
            Ok(None) => Ok(Step::End),
            Err(Broken::Damage(damage)) => Ok(Step::Damage(damage)),
            Err(Broken::System(error)) => Err(error),
        }
    }

    fn walk(&mut self) -> Result<Option<Member>, Broken> {
        self.pass_content()?;
        let mut before = Extensions::default();
        let mut next = self.stream.position();
        while let Some(block) = self.next_header()? {
            let at = self.stream.position() - BLOCK as u64;
            // Behind zeros, what follows may be another tar's.
            if at > next {
                before.check_unused()?;
            }
            if member::is_extension(&block) {
                before.add(&mut self.stream, at, &block)?;
                next = self.stream.position();
                continue;
            }
            self.oddities.global_names += u64::from(before.global_name);
            let member = before.member(&mut self.stream, at, &block)?;
            self.current = (at, member.name.clone());
            (self.content, self.padding) = (member.stored, member.padding);
            return Ok(Some(member));
        }
        before.check_unused()?;
        Ok(None)
    }

    /// The next block that is a valid header; None at the end.
    fn next_header(&mut self) -> Result<Option<Block>, Broken> {
        loop {
            let at = self.stream.position();
            let mut block = [0; BLOCK];
            let filled = self.stream.fill(&mut block)?;
            if block.iter().all(|&byte| byte == 0) {
                if filled < BLOCK {
                    return self.end(filled > 0).map(|()| None);
                }
                self.zeros += 1;
            } else if filled == BLOCK && header::is_valid(&block) {
                self.note_zeros();
                self.headers.add(&block);
                return Ok(Some(block));
            } else if self.zeros >= 2 && self.any_header {
                let count = self.stream.skip(u64::MAX - BLOCK as u64)? + filled as u64;
                let line = format!("{count} bytes behind its end mark are no part of it");
                self.oddities.end.push(line);
                return self.end(false).map(|()| None);
            } else {
                return Err(self.no_header(at, &block, filled));
            }
        }
    }

    fn note_zeros(&mut self) {
        match mem::take(&mut self.zeros) {
            0 => {}
            1 => self.oddities.lone_zeros += 1,
            _ => self.oddities.inner_ends += 1,
        }
        self.any_header = true;
    }

    fn no_header(&self, at: u64, block: &Block, filled: usize) -> Broken {
        let known = header::has_magic(block);
        if !self.any_header && !known {
            return Broken::no_tar("it doesn't begin with a header");
        }
        match filled {
            BLOCK if known => Broken::at(at, "a header's checksum does not match it"),
            BLOCK => Broken::at(at, "no header stands where one must be"),
            _ => Broken::at(at, format!("it ends after {filled} of a header's 512 bytes")),
        }
    }

    /// Looks at how it ends, within a block perhaps.
    fn end(&mut self, within_block: bool) -> Result<(), Broken> {
        if self.stream.position() == 0 {
            return Err(Broken::no_tar("it is empty"));
        }
        let mark = match self.zeros {
            _ if !self.any_header => Some("has no members, zeros alone"),
            0 => Some("ends without an end mark; it may have been cut"),
            1 => Some("ends with half an end mark; it may have been cut"),
            _ if within_block => Some("has a length that no tar has; bytes of it may be missing"),
            _ => None,
        };
        self.oddities.end.extend(mark.map(str::to_owned));
        let trailing = self.stream.trailing();
        if trailing > 0 {
            let line = format!("{trailing} bytes behind its compressed data are no part of it");
            self.oddities.end.push(line);
        }
        Ok(())
    }

    /// Passes over what is left of the current member.
    fn pass_content(&mut self) -> Result<(), Broken> {
        let skipped = self.stream.skip(self.content).map_err(|broken| self.inside(broken))?;
        self.content -= skipped;
        if self.content > 0 {
            return Err(self.cut());
        }
        let padding = mem::take(&mut self.padding);
        if self.stream.skip(padding)? < padding {
            let name = quoted(&readable(&self.current.1));
            let why =
                format!("it ends within the last block of {name}, which is whole: it was cut");
            return Err(Broken::at(self.stream.position(), why));
        }
        Ok(())
    }

    /// The content of the member that [`Walker::step`] gave last, `size` bytes of it: the caller
    /// knows that so many can be held.
    ///
    /// # Errors
    /// The system's; damage.
    pub(super) fn content(&mut self, member: &Member) -> Result<Vec<u8>, Broken> {
        let pieces = match &member.pieces {
            Some(Err(why)) => return Err(Broken::at(member.header_at, why.as_str())),
            Some(Ok(pieces)) => pieces,
            None => {
                let out = self.stream.take(self.content).map_err(|broken| self.inside(broken))?;
                self.content -= out.len() as u64;
                return if self.content == 0 { Ok(out) } else { Err(self.cut()) };
            }
        };
        let mut out = vec![0; member.size as usize];
        for piece in pieces {
            let (begin, end) = (piece.at as usize, (piece.at + piece.length) as usize);
            let filled = self.stream.fill(&mut out[begin..end]);
            let filled = filled.map_err(|broken| self.inside(broken))?;
            self.content -= filled as u64;
            if filled < end - begin {
                return Err(self.cut());
            }
        }
        Ok(out)
    }

    fn cut(&self) -> Broken {
        let (name, missing) = (quoted(&readable(&self.current.1)), self.content);
        let why = format!("it ends within {name}, {missing} bytes before the member's end");
        self.inside(Broken::at(self.stream.position(), why))
    }

    fn inside(&self, broken: Broken) -> Broken {
        match broken {
            Broken::Damage(damage) => {
                Broken::Damage(Damage { within: Some(self.current.0), ..damage })
            }
            system => system,
        }
    }
}
