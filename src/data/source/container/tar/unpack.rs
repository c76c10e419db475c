//! Owns decompressing a file as one stream: gzip, bzip2, xz and zstd, of one part or of several one
//! after the other. Must not know: what is in the stream.

use std::io::{self, BufRead, Read};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use lzma_rust2::XzReader;

use super::header::is_tar;
use crate::storage::BytesAt;
use crate::util::error_text;

const INPUT_BYTES: usize = 1 << 16;

/// A dictionary may ask for more; xz's largest preset asks for 64 MiB. zstd has its own bound, 128.
const XZ_MEMORY_KIB_MAX: u32 = 512 << 10;

/// How a tar is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Compression::Gzip => "gzip",
            Compression::Bzip2 => "bzip2",
            Compression::Xz => "xz",
            Compression::Zstd => "zstd",
        }
    }
}

/// How a file is compressed, by its first bytes (at least 512, or all); None where it isn't. A tar
/// whose first member is called `BZh9...` isn't.
pub(crate) fn compression(head: &[u8]) -> Option<Compression> {
    begins(head).filter(|_| !is_tar(head))
}

/// How many bytes [`begins`] looks at.
const MAGIC_BYTES: usize = 10;

fn begins(head: &[u8]) -> Option<Compression> {
    // bzip2: a block follows, or the end of the stream.
    let (block, end) = ([0x31, 0x41, 0x59, 0x26, 0x53, 0x59], [0x17, 0x72, 0x45, 0x38, 0x50, 0x90]);
    match head {
        [0x1F, 0x8B, 8, ..] => Some(Compression::Gzip),
        [b'B', b'Z', b'h', b'1'..=b'9', rest @ ..]
            if rest.starts_with(&block) || rest.starts_with(&end) =>
        {
            Some(Compression::Bzip2)
        }
        [0xFD, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
        // A frame, or one to be passed over, which pzstd writes first.
        [0x28, 0xB5, 0x2F, 0xFD, ..] | [0x50..=0x5F, 0x2A, 0x4D, 0x18, ..] => {
            Some(Compression::Zstd)
        }
        _ => None,
    }
}

/// Why no more comes out of a file.
pub(super) enum Failure {
    /// The system or the store failed, which says nothing of the content.
    System(io::Error),
    /// The content is damaged: how, in words.
    Content(String),
}

/// Gives what a compressed file holds to `write`, up to its end or to what is damaged.
///
/// # Errors
/// As the system or the store says; those of `write`.
pub(crate) fn unpack(
    bytes: Arc<dyn BytesAt>,
    compression: Compression,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let (mut stream, mut buffer) = (Unpack::new(bytes, compression), vec![0; INPUT_BYTES]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) | Err(Failure::Content(_)) => return Ok(()),
            Ok(count) => write(&buffer[..count])?,
            Err(Failure::System(error)) => return Err(error),
        }
    }
}

/// What a compressed file holds.
pub(super) struct Unpack {
    compression: Compression,
    state: State,
    failed: Arc<Mutex<Option<io::Error>>>,
    /// Bytes after the compressed data that belong to none.
    pub(super) trailing: u64,
}

enum State {
    Between(Input),
    Inside(Decoder),
    Damaged(String),
    Over,
}

impl Unpack {
    pub(super) fn new(bytes: Arc<dyn BytesAt>, compression: Compression) -> Unpack {
        let failed = Arc::default();
        let input =
            Input { bytes, offset: 0, buffer: Vec::new(), at: 0, failed: Arc::clone(&failed) };
        Unpack { compression, state: State::Between(input), failed, trailing: 0 }
    }

    /// Reads as [`Read::read`] does.
    ///
    /// # Errors
    /// As [`Failure`] says; damage stays.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<usize, Failure> {
        loop {
            match mem::replace(&mut self.state, State::Over) {
                State::Over => return Ok(0),
                State::Damaged(why) => {
                    self.state = State::Damaged(why.clone());
                    return Err(Failure::Content(why));
                }
                State::Between(input) => {
                    self.state = self.next_part(input).map_err(|error| self.explain(error))?;
                }
                State::Inside(mut decoder) => match decoder.read(out) {
                    Ok(0) => self.state = State::Between(decoder.into_input()),
                    Ok(count) => {
                        self.state = State::Inside(decoder);
                        return Ok(count);
                    }
                    Err(error) => return Err(self.explain(error)),
                },
            }
        }
    }

    /// Opens what follows in the file: another part, after zeros that fill a block perhaps.
    fn next_part(&mut self, mut input: Input) -> io::Result<State> {
        loop {
            let head = input.head()?;
            if head.is_empty() {
                return Ok(State::Over);
            }
            if begins(head) == Some(self.compression) {
                return Decoder::new(self.compression, input).map(State::Inside);
            }
            let zeros = head.iter().take_while(|&&byte| byte == 0).count();
            if zeros == 0 {
                self.trailing = input.left();
                return Ok(State::Over);
            }
            input.consume(zeros);
        }
    }

    fn explain(&mut self, error: io::Error) -> Failure {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(error) = failed {
            return Failure::System(error);
        }
        let name = self.compression.name();
        let why = match error.kind() {
            io::ErrorKind::UnexpectedEof => format!("its {name} data ends too early"),
            _ => format!("its {name} data is damaged ({})", error_text::reason(&error)),
        };
        self.state = State::Damaged(why.clone());
        Failure::Content(why)
    }
}

enum Decoder {
    Gzip(Box<GzDecoder<Input>>),
    Bzip2(Box<BzDecoder<Input>>),
    Xz(Box<XzReader<Input>>),
    Zstd(Box<zstd::Decoder<'static, Input>>),
}

impl Decoder {
    /// Of one part; what follows stays in the input.
    fn new(compression: Compression, input: Input) -> io::Result<Decoder> {
        Ok(match compression {
            Compression::Gzip => Decoder::Gzip(Box::new(GzDecoder::new(input))),
            Compression::Bzip2 => Decoder::Bzip2(Box::new(BzDecoder::new(input))),
            Compression::Xz => {
                Decoder::Xz(Box::new(XzReader::new_mem_limit(input, false, XZ_MEMORY_KIB_MAX)))
            }
            Compression::Zstd => {
                Decoder::Zstd(Box::new(zstd::Decoder::with_buffer(input)?.single_frame()))
            }
        })
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Decoder::Gzip(decoder) => decoder.read(out),
            Decoder::Bzip2(decoder) => decoder.read(out),
            Decoder::Xz(decoder) => decoder.read(out),
            Decoder::Zstd(decoder) => decoder.read(out),
        }
    }

    /// The input after a part that was read to its end.
    fn into_input(self) -> Input {
        match self {
            Decoder::Gzip(decoder) => decoder.into_inner(),
            Decoder::Bzip2(decoder) => decoder.into_inner(),
            Decoder::Xz(decoder) => decoder.into_inner(),
            Decoder::Zstd(decoder) => decoder.into_inner(),
        }
    }
}

/// The compressed file. It keeps the system's errors, which decoders may put into other words.
struct Input {
    bytes: Arc<dyn BytesAt>,
    offset: u64,
    buffer: Vec<u8>,
    at: usize,
    failed: Arc<Mutex<Option<io::Error>>>,
}

impl Input {
    /// The next bytes, as many as tell what follows.
    fn head(&mut self) -> io::Result<&[u8]> {
        while self.buffer.len() - self.at < MAGIC_BYTES && self.more()? > 0 {}
        Ok(&self.buffer[self.at..])
    }

    fn left(&self) -> u64 {
        self.bytes.size().saturating_sub(self.offset) + (self.buffer.len() - self.at) as u64
    }

    /// Reads on behind what is left in the buffer.
    fn more(&mut self) -> io::Result<usize> {
        self.buffer.drain(..mem::take(&mut self.at));
        let kept = self.buffer.len();
        self.buffer.resize(kept + INPUT_BYTES, 0);
        let read = self.bytes.fill_at(self.offset, &mut self.buffer[kept..]);
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(kept + count);
        self.offset += count as u64;
        read.map_err(|error| {
            let copy = io::Error::from(error.kind());
            *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            copy
        })
    }
}

impl BufRead for Input {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.more()?;
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Input {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}
