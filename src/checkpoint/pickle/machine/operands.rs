//! Owns what follows an opcode: bytes, lengths, lines, numbers in text.

use super::{Machine, Node, Span, Step};
use crate::checkpoint::pickle::value::NAME_BYTES_MAX;

impl Machine<'_> {
    pub(super) fn byte(&mut self) -> Step<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = *rest.first_chunk::<N>().ok_or("the file ends too early")?;
        self.at += N;
        Ok(array)
    }

    /// The next `length` bytes.
    pub(super) fn span(&mut self, length: u64) -> Step<Span> {
        let rest = (self.bytes.len() - self.at) as u64;
        if length > rest {
            return Err(format!("a string of {length} bytes where {rest} are left"));
        }
        let start = self.at as u32;
        // Inside the input, whose length is limited far below 32 bits.
        self.at += length as usize;
        Ok(Span { start, end: self.at as u32 })
    }

    /// The rest of the line, without its end.
    pub(super) fn line(&mut self) -> Step<Span> {
        let rest = &self.bytes[self.at..];
        let rest = &rest[..rest.len().min(NAME_BYTES_MAX)];
        let length = rest.iter().position(|&b| b == b'\n').ok_or("a line without an end")?;
        let span = self.span(length as u64)?;
        self.at += 1;
        Ok(span)
    }

    pub(super) fn slice(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    pub(super) fn ascii(&self, span: Span) -> Step<&str> {
        std::str::from_utf8(self.slice(span)).map_err(|_| "a number that is none".into())
    }

    /// The index of a textual GET or PUT.
    pub(super) fn index(&mut self) -> Step<u32> {
        let line = self.line()?;
        self.ascii(line)?.parse().map_err(|_| "a memo index that is none".into())
    }

    /// An integer of a textual opcode; `00` and `01` are False and True.
    pub(super) fn decimal(&mut self) -> Step<Node> {
        let line = self.line()?;
        let text = self.ascii(line)?.trim_end_matches('L');
        Ok(match text {
            "00" => Node::Bool(false),
            "01" => Node::Bool(true),
            _ => Node::Int(text.parse().map_err(|_| "an integer that is none, or too long")?),
        })
    }

    /// A textual string, which needs no memory of its own as long as it has no escapes.
    pub(super) fn unescaped(&self, span: Span) -> Step<Node> {
        match self.slice(span).contains(&b'\\') {
            true => Err("a string with escapes; save with protocol 2 or later".into()),
            false => Ok(Node::Text(span)),
        }
    }

    /// An integer of `length` little-endian bytes.
    pub(super) fn long(&mut self, length: u64) -> Step<Node> {
        let span = self.span(length)?;
        let bytes = self.slice(span);
        if bytes.len() > 8 {
            return Ok(Node::Long(span));
        }
        let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut wide = [if negative { 0xff } else { 0 }; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        Ok(Node::Int(i64::from_le_bytes(wide)))
    }
}
