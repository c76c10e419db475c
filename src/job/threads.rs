//! Owns the size of the thread pool that all work shares.

use crate::error::{Error, Result};
use crate::util::compute_pool::{self, THREADS_MAX};
use crate::util::settings::THREADS;

/// Sets how many threads the process computes with: `count`, or else `RAYON_NUM_THREADS`, or else
/// one a core, which is also what goes without this call. Call it once, before any work; the pool is
/// rayon's global one.
///
/// # Errors
/// None, or too many; a pool that is there already.
pub fn set_threads(count: Option<usize>) -> Result<()> {
    match count {
        Some(threads) if !(1..=THREADS_MAX).contains(&threads) => {
            Err(Error::setting(THREADS, format!("is 1 to {THREADS_MAX}, not {threads}")))
        }
        count => compute_pool::make_global(count),
    }
}
