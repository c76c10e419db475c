//! Owns the size of the thread pool that all work shares.

use crate::error::{Error, Result};
use crate::util::settings::THREADS;

/// Beyond any machine that images are tokenized on.
const THREADS_MAX: usize = 1 << 10;

/// Sets how many threads the process computes with: `count`, or else `RAYON_NUM_THREADS`, or else
/// one a core, which is also what goes without this call. Call it once, before any work; the pool is
/// rayon's global one.
///
/// # Errors
/// None, or too many; a pool that is there already.
pub fn set_threads(count: Option<usize>) -> Result<()> {
    if count.is_none() {
        check_environment()?;
    }
    let mut pool =
        rayon::ThreadPoolBuilder::new().thread_name(|index| format!("vqtok-worker-{index}"));
    if let Some(threads) = count {
        if !(1..=THREADS_MAX).contains(&threads) {
            return Err(Error::setting(THREADS, format!("is 1 to {THREADS_MAX}, not {threads}")));
        }
        pool = pool.num_threads(threads);
    }
    pool.build_global().map_err(|e| Error::invalid(format!("thread pool: {e}")))
}

/// Refuses a `RAYON_NUM_THREADS` that rayon would take and the machine could not.
pub(crate) fn check_environment() -> Result<()> {
    match std::env::var("RAYON_NUM_THREADS").ok().and_then(|n| n.parse::<usize>().ok()) {
        Some(threads) if threads > THREADS_MAX => {
            Err(Error::invalid(format!("RAYON_NUM_THREADS={threads}: choose 1 to {THREADS_MAX}")))
        }
        _ => Ok(()),
    }
}
