//! Owns reading the records of a table as text, of bounded length (RFC 4180). Must not know: which
//! column is what.

use std::io;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::input::{Input, ROW_BYTES_MAX, peek};

/// Most cells of a record.
const CELLS_MAX: usize = 1 << 14;

/// The records of a table.
pub(super) struct Records {
    input: Input,
    core: Reader,
    lines: LineCount,
    /// The cells of the record, one after another, with room behind them.
    text: Vec<u8>,
    text_bytes: usize,
    /// Where each of them ends, with room behind them.
    ends: Vec<usize>,
    cells: usize,
    over: bool,
}

impl Records {
    /// From the beginning of `input`, behind its byte order mark.
    pub(super) fn new(input: Input, delimiter: u8, quoting: bool) -> Records {
        Records {
            input,
            core: ReaderBuilder::new().delimiter(delimiter).quoting(quoting).build(),
            lines: LineCount::default(),
            text: vec![0; 1 << 12],
            text_bytes: 0,
            ends: vec![0; 1 << 6],
            cells: 0,
            over: false,
        }
    }

    /// Goes to the next record: the line it begins in, counted from 1, or with it why it can't be
    /// had; then there are no more.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn next(&mut self) -> io::Result<Option<(u64, Result<(), String>)>> {
        (self.text_bytes, self.cells) = (0, 0);
        self.skip_line_ends()?;
        let line = self.lines.ended + 1;
        while !self.over {
            match self.step()? {
                Step::More => {}
                Step::Record => return Ok(Some((line, Ok(())))),
                Step::End => self.over = true,
                Step::Lost(why) => {
                    self.over = true;
                    return Ok(Some((
                        line,
                        Err(format!("{why}; this row and what follows is lost")),
                    )));
                }
            }
        }
        Ok(None)
    }

    /// The cells of the record.
    pub(super) fn cells(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.cells).map(|at| {
            let start = if at == 0 { 0 } else { self.ends[at - 1] };
            &self.text[start..self.ends[at]]
        })
    }

    /// Blank lines have no record; passing over them here tells in which line one begins.
    fn skip_line_ends(&mut self) -> io::Result<()> {
        loop {
            let chunk = peek(&mut self.input)?;
            let count = chunk.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            self.lines.add(&chunk[..count]);
            let more = count == chunk.len() && count > 0;
            self.input.consume(count);
            if !more {
                return Ok(());
            }
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        let chunk = peek(&mut self.input)?;
        let at_end = chunk.is_empty();
        // The end of a line that ends the last record, unless a quote is open.
        let given = if at_end { b"\n" } else { chunk };
        let (result, read, written, ended) = self.core.read_record(
            given,
            &mut self.text[self.text_bytes..],
            &mut self.ends[self.cells..],
        );
        if !at_end {
            self.lines.add(&chunk[..read]);
            self.input.consume(read);
        }
        self.text_bytes += written;
        self.cells += ended;
        Ok(match result {
            ReadRecordResult::InputEmpty if !at_end => Step::More,
            ReadRecordResult::InputEmpty if self.text_bytes + self.cells > 0 => {
                Step::Lost("a quote is opened that nothing closes".into())
            }
            ReadRecordResult::InputEmpty | ReadRecordResult::End => Step::End,
            ReadRecordResult::Record => Step::Record,
            ReadRecordResult::OutputFull if self.text.len() >= ROW_BYTES_MAX => Step::Lost(
                format!("a row has more than {ROW_BYTES_MAX} bytes; perhaps a quote isn't closed"),
            ),
            ReadRecordResult::OutputFull => {
                self.text.resize(2 * self.text.len(), 0);
                Step::More
            }
            ReadRecordResult::OutputEndsFull if self.ends.len() >= CELLS_MAX => {
                Step::Lost(format!("a row has more than {CELLS_MAX} columns"))
            }
            ReadRecordResult::OutputEndsFull => {
                self.ends.resize(2 * self.ends.len(), 0);
                Step::More
            }
        })
    }
}

enum Step {
    More,
    Record,
    End,
    Lost(String),
}

/// Counts ends of lines: `\n`, `\r`, and `\r\n` as one.
#[derive(Debug, Default)]
struct LineCount {
    ended: u64,
    after_return: bool,
}

impl LineCount {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.ended += u64::from(byte == b'\r' || byte == b'\n' && !self.after_return);
            self.after_return = byte == b'\r';
        }
    }
}
