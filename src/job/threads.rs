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
