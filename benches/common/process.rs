//! Owns what a whole process costs: wall time and peak memory. Must not know: what it does.

use std::process::{Command, Stdio};
use std::time::Instant;

/// What a process took.
#[allow(dead_code)]
pub struct Usage {
    /// Of the clock.
    pub seconds: f64,
    /// Of all processors, in the program and in the system.
    pub cpu_seconds: f64,
    /// The peak resident set of the process or of a child of its that it waited for, whichever is
    /// larger.
    pub peak_kib: u64,
}

/// Runs a command to its end, silent (Linux).
///
/// # Panics
/// Where it doesn't start, or ends with an error.
// wait4 below waits for it; it also tells the usage, which `Child::wait` doesn't.
#[allow(clippy::zombie_processes)]
pub fn usage(command: &mut Command) -> Usage {
    let begun = Instant::now();
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("the program starts");
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value for wait4 to overwrite.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: waits for a child of ours that nobody else waits for; both pointers are valid.
    let waited = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut usage) };
    assert!(waited > 0 && status == 0, "{command:?}: status {status}");
    let of = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    Usage {
        seconds: begun.elapsed().as_secs_f64(),
        cpu_seconds: of(usage.ru_utime) + of(usage.ru_stime),
        peak_kib: usage.ru_maxrss as u64,
    }
}

/// The same: seconds and the peak in KiB.
///
/// # Panics
/// As [`usage`].
#[allow(dead_code)]
pub fn cost(command: &mut Command) -> (f64, u64) {
    let Usage { seconds, peak_kib, .. } = usage(command);
    (seconds, peak_kib)
}
