//! Owns when a worker must end before it is done: a signal, or the death of the process that started
//! it. Must not write anything: where nobody reads, that would block.

use std::os::unix::process::parent_id;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::cli::signals::{GRACE, stop_flag};
use crate::error::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// "Try again": see [`Error::exit_code`].
const TRY_AGAIN: i32 = 75;

/// Raised flags are never lowered.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// By a signal, or since the parent is gone.
    stop: Arc<AtomicBool>,
    orphaned: Arc<AtomicBool>,
}

impl Guard {
    /// Keeps watch from here on. To be told of the parent's death by the system (PR_SET_PDEATHSIG) won't
    /// do: that comes when the thread ends that started this process, such as one of a pool.
    pub(super) fn watch() -> Result<Guard> {
        let parent = parent_id();
        let guard = Guard { stop: stop_flag()?, orphaned: Arc::new(AtomicBool::new(false)) };
        let own = guard.clone();
        std::thread::Builder::new()
            .name("vqtok-guard".into())
            .spawn(move || own.keep(parent))
            .map_err(Error::io("thread vqtok-guard"))?;
        Ok(guard)
    }

    fn keep(&self, parent: u32) {
        let mut stopped = None;
        loop {
            std::thread::sleep(POLL_INTERVAL);
            if parent_id() != parent {
                self.orphaned.store(true, Ordering::Relaxed);
                self.stop.store(true, Ordering::Relaxed);
            }
            if !self.is_raised() {
                continue;
            }
            if stopped.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                // SAFETY: ends the process without running anything of it.
                unsafe { libc::_exit(TRY_AGAIN) }
            }
        }
    }

    pub(super) fn is_raised(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// What ends the worker; `dropped`: the partition in work.
    pub(super) fn error(&self, dropped: Option<usize>) -> Error {
        let why = match self.orphaned.load(Ordering::Relaxed) {
            true => "the process that started this worker is gone",
            false => "stopped by a signal",
        };
        Error::busy(match dropped {
            Some(partition) => {
                format!("{why}; partition {partition} is dropped, and left to others")
            }
            None => why.to_string(),
        })
    }
}
