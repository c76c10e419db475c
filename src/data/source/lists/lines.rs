//! Owns reading lines of bounded length.

use std::io;

use super::input::{Input, ROW_BYTES_MAX, peek};

/// The lines of a text.
pub(super) struct Lines {
    input: Input,
    number: u64,
    text: Vec<u8>,
}

impl Lines {
    /// From the beginning of `input`, behind its byte order mark.
    pub(super) fn new(input: Input) -> Lines {
        Lines { input, number: 0, text: Vec::new() }
    }

    /// Goes to the next line: its number, counted from 1, or with it why it can't be had.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<(), String>)>> {
        self.text.clear();
        let (mut any, mut too_long) = (false, false);
        loop {
            let chunk = peek(&mut self.input)?;
            if chunk.is_empty() {
                break;
            }
            any = true;
            let end = chunk.iter().position(|&byte| byte == b'\n');
            let part = &chunk[..end.unwrap_or(chunk.len())];
            too_long = too_long || self.text.len() + part.len() > ROW_BYTES_MAX;
            if !too_long {
                self.text.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.input.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.number += 1;
        if self.number == 1 && self.text.starts_with(b"\xef\xbb\xbf") {
            self.text.drain(..3);
        }
        let long = || Err(format!("the line has more than {ROW_BYTES_MAX} bytes"));
        Ok(Some((self.number, if too_long { long() } else { Ok(()) })))
    }

    /// The text of the line, without its end.
    pub(super) fn text(&self) -> &[u8] {
        self.text.strip_suffix(b"\r").unwrap_or(&self.text)
    }
}
