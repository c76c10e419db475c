//! Owns the maps of files with holes: GNU tar's in the header, and as lines in the content. Must not
//! know: where the pieces' bytes come from.

use super::header::{self, Block};

/// More pieces than images have; hostile maps end here.
const PIECES_MAX: usize = 1 << 16;

/// Bytes that are stored; between the pieces lie holes, which read as zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) at: u64,
    pub(super) length: u64,
}

/// Offsets and lengths in turn.
pub(super) fn pairs(numbers: &[u64]) -> Vec<Piece> {
    numbers.chunks_exact(2).map(|pair| Piece { at: pair[0], length: pair[1] }).collect()
}

/// The checked map of a file of `size` bytes, `stored` of them in the tar.
pub(super) fn checked(pieces: Vec<Piece>, size: u64, stored: u64) -> Result<Vec<Piece>, String> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for Piece { at, length } in &pieces {
        let next = at.checked_add(*length).filter(|next| *at >= end && *next <= size);
        end = next.ok_or("its map of holes is damaged")?;
        sum += length;
    }
    if sum != stored {
        return Err(format!("its map of holes tells of {sum} bytes, {stored} are stored"));
    }
    Ok(pieces)
}

/// A map that grows block by block.
#[derive(Debug, Default)]
pub(super) struct GrowingMap {
    pieces: Vec<Piece>,
    overfull: bool,
    damaged: bool,
}

impl GrowingMap {
    /// Takes the entries of GNU tar's `S` header; the size with the holes, and whether more follow.
    pub(super) fn head(&mut self, block: &Block) -> (Option<u64>, bool) {
        self.entries(&block[386..482]);
        (header::number(&block[483..495]), block[482] != 0)
    }

    /// Takes those of a block after it; whether more follow.
    pub(super) fn more(&mut self, block: &Block) -> bool {
        self.entries(&block[..504]);
        block[504] != 0
    }

    fn entries(&mut self, entries: &[u8]) {
        for entry in entries.chunks_exact(24).take_while(|entry| entry[0] != 0) {
            let (at, length) = (header::number(&entry[..12]), header::number(&entry[12..]));
            match (at, length) {
                (Some(at), Some(length)) if self.pieces.len() < PIECES_MAX => {
                    self.pieces.push(Piece { at, length });
                }
                (Some(_), Some(_)) => self.overfull = true,
                _ => self.damaged = true,
            }
        }
    }

    pub(super) fn finish(self, size: u64, stored: u64) -> Result<Vec<Piece>, String> {
        match self {
            GrowingMap { damaged: true, .. } => Err("its map of holes is damaged".into()),
            GrowingMap { overfull: true, .. } => {
                Err(format!("its map of holes has more than {PIECES_MAX} pieces"))
            }
            GrowingMap { pieces, .. } => checked(pieces, size, stored),
        }
    }
}

/// The map at the beginning of the content, format 1.0: a number of pieces, then offset and length
/// of each, one a line.
#[derive(Debug, Default)]
pub(super) struct Lines {
    numbers: Vec<u64>,
    line: Vec<u8>,
}

impl Lines {
    /// Takes a block; whether it was the last one.
    ///
    /// # Errors
    /// What can't be such a map, in one line.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<bool, String> {
        for &byte in block {
            if self.is_complete() {
                return Ok(true);
            }
            match byte {
                b'\n' => {
                    self.numbers
                        .push(header::decimal(&self.line).ok_or("its map of holes is damaged")?);
                    self.line.clear();
                }
                _ if self.line.len() < 20 => self.line.push(byte),
                _ => return Err("its map of holes is damaged".into()),
            }
            if self.numbers.first().is_some_and(|&count| count > PIECES_MAX as u64) {
                return Err(format!("its map of holes has more than {PIECES_MAX} pieces"));
            }
        }
        Ok(self.is_complete())
    }

    fn is_complete(&self) -> bool {
        self.numbers.first().is_some_and(|&count| self.numbers.len() as u64 > 2 * count)
    }

    pub(super) fn pieces(self) -> Vec<Piece> {
        pairs(&self.numbers[1..])
    }
}
