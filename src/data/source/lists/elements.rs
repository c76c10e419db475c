//! Owns reading the values of a JSON array one after another, however long it is. Must not know:
//! what a value means.

use std::io;

use super::input::{Input, ROW_BYTES_MAX, peek, trimmed};

/// The values of an array, as text.
pub(super) struct Elements {
    input: Input,
    number: u64,
    text: Vec<u8>,
    begun: bool,
    over: bool,
}

/// What a value ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Comma,
    Bracket,
    OfFile,
}

impl Elements {
    /// From the beginning of `input`, of which it is known that the first sign is a bracket.
    pub(super) fn new(input: Input) -> Elements {
        Elements { input, number: 0, text: Vec::new(), begun: false, over: false }
    }

    /// Goes to the next value: its number, counted from 1, or with it why it can't be had.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<(), String>)>> {
        if self.over {
            return Ok(None);
        }
        if !self.begun {
            self.begun = true;
            self.skip_to_bracket()?;
        }
        let (end, too_long) = self.value()?;
        self.over = end != End::Comma;
        if end == End::Bracket && self.text().is_empty() && !too_long {
            return Ok(None);
        }
        self.number += 1;
        let result = match end {
            End::OfFile => Err("the array isn't closed: the list has been cut here".into()),
            _ if too_long => Err(format!("the value has more than {ROW_BYTES_MAX} bytes")),
            _ => Ok(()),
        };
        Ok(Some((self.number, result)))
    }

    /// The text of the value.
    pub(super) fn text(&self) -> &[u8] {
        trimmed(&self.text)
    }

    /// Whether something follows the array.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn has_more_behind(&mut self) -> io::Result<bool> {
        loop {
            let chunk = peek(&mut self.input)?;
            if chunk.is_empty() {
                return Ok(false);
            }
            if !chunk.trim_ascii().is_empty() {
                return Ok(true);
            }
            let count = chunk.len();
            self.input.consume(count);
        }
    }

    fn skip_to_bracket(&mut self) -> io::Result<()> {
        loop {
            let chunk = peek(&mut self.input)?;
            let found = chunk.iter().position(|&byte| byte == b'[');
            let count = found.map_or(chunk.len(), |at| at + 1);
            let ended = chunk.is_empty();
            self.input.consume(count);
            if found.is_some() || ended {
                return Ok(());
            }
        }
    }

    /// Reads up to what ends the value; whether it was too long to keep.
    fn value(&mut self) -> io::Result<(End, bool)> {
        self.text.clear();
        let (mut scan, mut too_long) = (Scan::default(), false);
        loop {
            let chunk = peek(&mut self.input)?;
            if chunk.is_empty() {
                return Ok((End::OfFile, too_long));
            }
            let end = chunk.iter().enumerate().find_map(|(at, &byte)| Some((at, scan.end(byte)?)));
            let part = &chunk[..end.map_or(chunk.len(), |(at, _)| at)];
            too_long = too_long || self.text.len() + part.len() > ROW_BYTES_MAX;
            if !too_long {
                self.text.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if let Some((_, end)) = end {
                return Ok((end, too_long));
            }
        }
    }
}

/// Where in a value a byte stands.
#[derive(Debug, Default)]
struct Scan {
    depth: u64,
    in_text: bool,
    escaped: bool,
}

impl Scan {
    /// What the byte ends, if it ends the value.
    fn end(&mut self, byte: u8) -> Option<End> {
        if self.in_text {
            self.in_text = self.escaped || byte != b'"';
            self.escaped = !self.escaped && byte == b'\\';
            return None;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth += 1,
            b',' if self.depth == 0 => return Some(End::Comma),
            b']' if self.depth == 0 => return Some(End::Bracket),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        None
    }
}
