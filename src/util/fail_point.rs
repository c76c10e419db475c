//! Owns fail points: places where a test makes the program die, meet an error, or panic.
//! Must not know: what happens there.
//!
//! `VQTOK_FAILPOINT=<place>:<n>[:<what>]` acts on the n-th pass of a place, counted from 1. The
//! variable is read once; without it a fail point is one load and one comparison. Whoever can set
//! it can kill the process anyway.
//!
//! | what | at a [file operation](FILE_OPERATIONS) | at a stage, as `guard::at` names it |
//! |---|---|---|
//! | none | the process dies as by `kill -9`, before the operation; before `write`, with half of the bytes written | nothing |
//! | a system's error number | the operation fails with it (`write:7:28` is a full disk) | nothing |
//! | `panic` | the thread panics | the thread panics |
//! | `hang` | nothing | the thread sleeps for an hour |
//!
//! The place `any` is every file operation. The fault tests run a job with `any:1`, `any:2`, ...
//! until it survives. `VQTOK_FAILTRACE=<file>` appends a line `<operation> <path>` for each file
//! operation, in order.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the files of an output and of a training go through, see `tokens::commit`,
/// `util::atomic_file` and `util::output_file`.
pub(crate) const FILE_OPERATIONS: &[&str] =
    &["create", "write", "sync", "link", "rename", "sync-folder", "remove", "folder"];

struct FailPoint {
    place: String,
    nth: u64,
    what: What,
    seen: AtomicU64,
}

enum What {
    Die,
    Fail(i32),
    Panic,
    Hang,
}

/// What a fail point does to its operation.
enum Fate {
    Pass,
    Fail(io::Error),
    Die,
}

fn point() -> Option<&'static FailPoint> {
    static POINT: OnceLock<Option<FailPoint>> = OnceLock::new();
    POINT
        .get_or_init(|| {
            let text = std::env::var("VQTOK_FAILPOINT").ok()?;
            let mut parts = text.split(':');
            let place = parts.next()?.to_string();
            let nth = parts.next()?.parse().ok()?;
            let what = match parts.next() {
                None => What::Die,
                Some("panic") => What::Panic,
                Some("hang") => What::Hang,
                Some(number) => What::Fail(number.parse().ok()?),
            };
            Some(FailPoint { place, nth, what, seen: AtomicU64::new(0) })
        })
        .as_ref()
}

impl FailPoint {
    /// Counts a pass; whether it is the one.
    fn is_due(&self) -> bool {
        self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.nth
    }
}

/// Counts a file operation, and says what becomes of it.
fn file(operation: &str, path: &Path) -> Fate {
    debug_assert!(FILE_OPERATIONS.contains(&operation));
    trace(operation, path);
    match point() {
        Some(point) if (point.place == operation || point.place == "any") && point.is_due() => {
            match point.what {
                What::Die => Fate::Die,
                What::Fail(number) => Fate::Fail(io::Error::from_raw_os_error(number)),
                What::Panic => panic!("fail point {operation}"),
                What::Hang => Fate::Pass,
            }
        }
        _ => Fate::Pass,
    }
}

/// Counts a file operation before it is done; where a test says so, the process dies here.
///
/// # Errors
/// The error that a test asked for.
pub(crate) fn pass(operation: &str, path: &Path) -> io::Result<()> {
    match file(operation, path) {
        Fate::Pass => Ok(()),
        Fate::Fail(error) => Err(error),
        Fate::Die => std::process::abort(),
    }
}

/// The same before `bytes` are written to `file`, half of which are there when the process dies.
///
/// # Errors
/// As [`pass`].
pub(crate) fn before_write(path: &Path, bytes: &[u8], file: &mut File) -> io::Result<()> {
    match self::file("write", path) {
        Fate::Pass => Ok(()),
        Fate::Fail(error) => Err(error),
        Fate::Die => {
            let _ = file.write_all(&bytes[..bytes.len() / 2]);
            std::process::abort()
        }
    }
}

/// Begins a stage of a thread's work, and panics or hangs where `VQTOK_FAILPOINT` says so.
pub(crate) fn stage(name: &str) {
    if let Some(point) = point()
        && point.place == name
        && matches!(point.what, What::Panic | What::Hang)
        && point.is_due()
    {
        match point.what {
            What::Hang => std::thread::sleep(Duration::from_secs(3600)),
            _ => panic!("fail point {name}"),
        }
    }
}

fn trace(operation: &str, path: &Path) {
    static FILE: OnceLock<Option<std::sync::Mutex<File>>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = std::env::var_os("VQTOK_FAILTRACE")?;
        OpenOptions::new().append(true).create(true).open(path).ok().map(std::sync::Mutex::new)
    });
    if let Some(Ok(mut file)) = file.as_ref().map(std::sync::Mutex::lock) {
        let _ = writeln!(file, "{operation} {}", path.display());
    }
}
