//! Owns the way to stdout and stderr: nothing else in the program writes there.
//! Must not know: what is written.
//!
//! Neither of them is what a job is for, so losing one never stops work. A reader that went away
//! (`| head`) or a terminal that closed is nobody's error: from then on nothing is written there.
//! Any other error of stdout (a full disk) is remembered, and the command ends with it: whoever
//! kept the output doesn't have all of it. Where stderr can't be written there is nobody to tell.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Nothing more is written to stdout.
static OUT_CLOSED: AtomicBool = AtomicBool::new(false);
/// The first error of stdout that is one.
static OUT_ERROR: Mutex<Option<io::Error>> = Mutex::new(None);
static ERR_CLOSED: AtomicBool = AtomicBool::new(false);

/// Writes `text` and a line end to stdout, whole, and flushes.
pub(crate) fn out(text: &str) {
    if OUT_CLOSED.load(Ordering::Relaxed) {
        return;
    }
    if let Err(error) = write_whole(&mut io::stdout().lock(), &format!("{text}\n")) {
        OUT_CLOSED.store(true, Ordering::Relaxed);
        if !is_gone(&error) {
            *OUT_ERROR.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    }
}

/// Writes `text` and a line end to stderr, whole.
pub(crate) fn err(text: &str) {
    if ERR_CLOSED.load(Ordering::Relaxed) {
        return;
    }
    if write_whole(&mut io::stderr().lock(), &format!("{text}\n")).is_err() {
        ERR_CLOSED.store(true, Ordering::Relaxed);
    }
}

/// Why not everything that was meant for stdout got there; None where it did, or where its reader
/// went away. Asked once, at the end.
pub(crate) fn take_out_error() -> Option<io::Error> {
    OUT_ERROR.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn write_whole(to: &mut impl Write, text: &str) -> io::Result<()> {
    let mut left = text.as_bytes();
    while !left.is_empty() {
        match to.write(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => left = &left[count..],
            Err(error) => wait(error)?,
        }
    }
    loop {
        match to.flush() {
            Ok(()) => return Ok(()),
            Err(error) => wait(error)?,
        }
    }
}

/// A pipe that doesn't block (those of Node.js) is full for a while.
fn wait(error: io::Error) -> io::Result<()> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock => {
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        }
        _ => Err(error),
    }
}

/// A pipe or socket without a reader, or a terminal that hung up.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
        || error.raw_os_error() == Some(libc::EIO)
        || error.raw_os_error() == Some(libc::EBADF)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time and is busy in between.
    struct Slow(Vec<u8>, bool);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(ErrorKind::WouldBlock.into());
            }
            let count = bytes.len().min(3);
            self.0.extend(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_slow_gets_everything() {
        let mut slow = Slow(Vec::new(), false);
        write_whole(&mut slow, "ten bytes!").unwrap();
        assert_eq!(slow.0, b"ten bytes!");
    }
}
