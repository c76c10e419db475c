//! Owns reading a tar's bytes in order: by position where it is plain, so that what is passed over
//! costs nothing, else as they are decompressed. Must not know: headers.

use std::io;
use std::sync::Arc;

use super::header::{self, BLOCK};
use super::unpack::{self, Compression, Failure, Unpack};
use crate::storage::BytesAt;

/// Small for plain tars: a header and small members are in it, pixels hardly.
const PLAIN_BYTES: usize = 8 << 10;
/// Decoders are always asked for this much, so that how far a damaged file can be read depends on
/// the file alone.
const UNPACKED_BYTES: usize = 64 << 10;

const TAKE_STEP: u64 = 1 << 20;

/// What is wrong with a tar's content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where, in the plain tar; None where it is no tar.
    pub(super) at: Option<u64>,
    /// One line.
    pub(super) why: String,
    /// The header of the member whose content it is in.
    pub(super) within: Option<u64>,
}

/// Why a tar can't be read on.
pub(super) enum Broken {
    System(io::Error),
    Damage(Damage),
}

impl Broken {
    pub(super) fn at(at: u64, why: impl Into<String>) -> Broken {
        Broken::Damage(Damage { at: Some(at), why: why.into(), within: None })
    }

    pub(super) fn no_tar(why: &str) -> Broken {
        Broken::Damage(Damage { at: None, why: format!("not a tar: {why}"), within: None })
    }
}

enum Source {
    Plain(Arc<dyn BytesAt>),
    Packed(Box<Unpack>),
}

/// A tar's bytes from a position on.
pub(super) struct Stream {
    source: Source,
    buffer: Vec<u8>,
    /// What of the buffer is still to come.
    begin: usize,
    end: usize,
    position: u64,
}

impl Stream {
    /// A plain tar from `position` on.
    pub(super) fn plain(bytes: Arc<dyn BytesAt>, position: u64) -> Stream {
        Stream::new(Source::Plain(bytes), PLAIN_BYTES, position)
    }

    /// A compressed one, from its beginning.
    pub(super) fn packed(bytes: Arc<dyn BytesAt>, compression: Compression) -> Stream {
        let source = Source::Packed(Box::new(Unpack::new(bytes, compression)));
        Stream::new(source, UNPACKED_BYTES, 0)
    }

    /// A file from its beginning, plain or compressed as its first bytes say.
    ///
    /// # Errors
    /// As the system or the store says.
    pub(super) fn open(bytes: Arc<dyn BytesAt>) -> io::Result<Stream> {
        let mut head = [0; BLOCK];
        let filled = bytes.fill_at(0, &mut head)?;
        Ok(match unpack::compression(&head[..filled]) {
            Some(compression) => Stream::packed(bytes, compression),
            None => Stream::plain(bytes, 0),
        })
    }

    fn new(source: Source, buffer: usize, position: u64) -> Stream {
        Stream { source, buffer: vec![0; buffer], begin: 0, end: 0, position }
    }

    /// Where the next byte lies, in the plain tar.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn is_packed(&self) -> bool {
        matches!(self.source, Source::Packed(_))
    }

    /// Bytes after the compressed data that belong to none; known at the end.
    pub(super) fn trailing(&self) -> u64 {
        match &self.source {
            Source::Packed(unpack) => unpack.trailing,
            Source::Plain(_) => 0,
        }
    }

    /// Fills `out`, or as much of it as there is; returns how much.
    ///
    /// # Errors
    /// The system's, or damage of compressed data.
    pub(super) fn fill(&mut self, out: &mut [u8]) -> Result<usize, Broken> {
        let mut filled = 0;
        while filled < out.len() {
            let rest = &mut out[filled..];
            if self.begin == self.end
                && rest.len() >= self.buffer.len()
                && let Source::Plain(bytes) = &self.source
            {
                let count = bytes.fill_at(self.position, rest).map_err(Broken::System)?;
                self.position += count as u64;
                return Ok(filled + count);
            }
            if self.begin == self.end && !self.refill()? {
                break;
            }
            let count = rest.len().min(self.end - self.begin);
            rest[..count].copy_from_slice(&self.buffer[self.begin..self.begin + count]);
            self.advance(count);
            filled += count;
        }
        Ok(filled)
    }

    /// The next `count` bytes, or as many as there are. Memory follows what comes, not `count`.
    ///
    /// # Errors
    /// Those of [`Stream::fill`].
    pub(super) fn take(&mut self, count: u64) -> Result<Vec<u8>, Broken> {
        let mut out = Vec::new();
        loop {
            let step = TAKE_STEP.min(count - out.len() as u64) as usize;
            let begin = out.len();
            out.resize(begin + step, 0);
            let filled = self.fill(&mut out[begin..])?;
            out.truncate(begin + filled);
            if filled < step || out.len() as u64 == count {
                return Ok(out);
            }
        }
    }

    /// Passes over `count` bytes, or as many as there are; returns how many.
    ///
    /// # Errors
    /// Those of [`Stream::fill`].
    pub(super) fn skip(&mut self, count: u64) -> Result<u64, Broken> {
        let mut skipped = 0;
        while skipped < count {
            let left = count - skipped;
            if self.begin < self.end {
                let buffered = (self.end - self.begin) as u64;
                self.advance(buffered.min(left) as usize);
                skipped += buffered.min(left);
            } else if let Source::Plain(bytes) = &self.source {
                let step = left.min(bytes.size().saturating_sub(self.position));
                self.position += step;
                return Ok(skipped + step);
            } else if !self.refill()? {
                break;
            }
        }
        Ok(skipped)
    }

    fn advance(&mut self, count: usize) {
        self.begin += count;
        self.position += count as u64;
    }

    /// Whether more came into the empty buffer.
    fn refill(&mut self) -> Result<bool, Broken> {
        let read = match &mut self.source {
            Source::Plain(bytes) => {
                bytes.fill_at(self.position, &mut self.buffer).map_err(Failure::System)
            }
            Source::Packed(unpack) => unpack.read(&mut self.buffer),
        };
        let count = read.map_err(|failure| match failure {
            Failure::System(error) => Broken::System(error),
            Failure::Content(why) => Broken::at(self.position, why),
        })?;
        (self.begin, self.end) = (0, count);
        Ok(count > 0)
    }
}

/// Whether a file is a tar, or one compressed.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn holds_tar(bytes: Arc<dyn BytesAt>) -> io::Result<bool> {
    let mut head = [0; BLOCK];
    match Stream::open(bytes)?.fill(&mut head) {
        Ok(filled) => Ok(header::is_tar(&head[..filled])),
        Err(Broken::System(error)) => Err(error),
        Err(Broken::Damage(_)) => Ok(false),
    }
}
