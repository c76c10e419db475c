//! Owns the signals that stop a command: the flag that they raise, the exit code of the one that came, and
//! the end of a command that doesn't stop in time. Must not know: what is stopped.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::again;
use super::outcome::fail;
use super::progress::Reporter;
use crate::error::{Error, Result};
use crate::util::text;

/// The signal that came first, or 0.
static CAME: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// As long what is at work has to be dropped. Schedulers kill after 30 s, some after 10.
pub(super) const GRACE: Duration = Duration::from_secs(8);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// As long the last line has to be written: where nobody reads, that would block.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A flag that SIGINT and SIGTERM raise; the second signal ends the process at once, which the
/// commit protocol survives.
pub(super) fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        let exit = flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stop));
        let came = flag::register_usize(signal, Arc::clone(&CAME), signal as usize);
        let raise = flag::register(signal, Arc::clone(&stop));
        exit.and(came).and(raise).map_err(Error::io("signal handler"))?;
    }
    Ok(stop)
}

/// The exit code of a command that was stopped: what a shell says of a program that died of the
/// signal, 130 for SIGINT and 143 for SIGTERM.
pub(super) fn exit_code() -> u8 {
    match CAME.load(Ordering::Relaxed) {
        0 => Error::Interrupted.exit_code(),
        signal => 128 + signal as u8,
    }
}

/// The last line of a command that was stopped, and its exit code; `again` goes on with it.
pub(super) fn stopped(reporter: &Reporter, again: &str) -> std::process::ExitCode {
    let line = format!("interrupted; go on with: {again}");
    fail(reporter, &text::printable(&line), exit_code(), json!({}))
}

/// Ends the process, as it stands, where `stop` was raised and it is still there after [`GRACE`]: a batch
/// on a slow device can't be interrupted. What was in work is dropped, as it would have been.
pub(super) fn end_in_time(stop: Arc<AtomicBool>, reporter: Reporter) -> Result<()> {
    let watch = move || {
        let mut raised: Option<Instant> = None;
        loop {
            std::thread::sleep(POLL_INTERVAL);
            if stop.load(Ordering::Relaxed)
                && raised.get_or_insert_with(Instant::now).elapsed() >= GRACE
            {
                end_now(reporter);
            }
        }
    };
    thread("vqtok-deadline", watch).map(|_| ())
}

fn end_now(reporter: Reporter) -> ! {
    let words = move || {
        let _ = stopped(&reporter, &again::line(std::env::args_os(), &[]));
    };
    if let Ok(told) = thread("vqtok-last-words", words) {
        let begun = Instant::now();
        while !told.is_finished() && begun.elapsed() < LAST_WORDS {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    // SAFETY: ends the process without running anything of it.
    unsafe { libc::_exit(i32::from(exit_code())) }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>> {
    let builder = std::thread::Builder::new().name(name.into());
    builder.spawn(work).map_err(Error::io(format!("thread {name}")))
}
