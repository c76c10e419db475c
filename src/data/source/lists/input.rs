//! Owns the bytes that lists are read from, from the front to the back.

use std::io::{self, BufRead, BufReader};
use std::sync::Arc;

use crate::storage::{BytesAt, Cursor};

/// Longest row: a caption and as much again for the rest, of a few bytes a character. A longer one
/// is a broken one, such as what follows a quote that nothing closes.
pub(super) const ROW_BYTES_MAX: usize = 8 << 20;

/// What a list is read from.
pub(super) type Input = Box<dyn BufRead + Send>;

/// A list from its beginning.
pub(super) fn open(bytes: &Arc<dyn BytesAt>) -> Input {
    Box::new(BufReader::with_capacity(1 << 16, Cursor::new(Arc::clone(bytes))))
}

/// What comes next; empty at the end alone.
///
/// # Errors
/// The system's.
pub(super) fn peek(input: &mut Input) -> io::Result<&[u8]> {
    // The buffer can't be returned from inside a loop that borrows it again.
    while let Err(error) = input.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    input.fill_buf()
}

/// The text without the blanks around it.
pub(super) fn trimmed(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}
