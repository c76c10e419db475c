//! Owns where the threads of a job compute. A job blocks the thread that calls it; were that a
//! thread of the pool that the job's other threads compute in, enough such jobs would wait for each
//! other for ever. And how large rayon's global pool may become.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Beyond any machine that images are tokenized on.
pub(crate) const THREADS_MAX: usize = 1 << 10;

/// Whether the global pool is there, of a size that doesn't come from the environment.
static SIZED: AtomicBool = AtomicBool::new(false);

/// Makes rayon's global pool: of `threads`, or as large as the environment or the machine says.
///
/// # Errors
/// A pool that is there already; threads that the system refuses; those of [`check_environment`].
pub(crate) fn make_global(threads: Option<usize>) -> Result<()> {
    let mut pool = ThreadPoolBuilder::new().thread_name(|index| format!("vqtok-worker-{index}"));
    match threads {
        Some(threads) => pool = pool.num_threads(threads),
        None => check_environment()?,
    }
    pool.build_global().map_err(|error| match std::error::Error::source(&error) {
        Some(system) => Error::invalid(format!("can't start threads: {system}")),
        None => Error::invalid(
            "the thread pool is there already: set its threads once, before any work and before \
             anything else uses rayon",
        ),
    })?;
    SIZED.store(true, Ordering::Relaxed);
    Ok(())
}

/// Refuses a number of threads that rayon would take from the environment and the machine could not
/// start. Whatever comes to rayon's global pool calls this first: [`crate::Tokenizer`]s as they are
/// opened, trainings, `verify`, `finalize`.
///
/// # Errors
/// That, where nobody has sized the pool.
pub(crate) fn check_environment() -> Result<()> {
    match from_environment(|name| std::env::var(name).ok()) {
        Some((name, threads)) if threads > THREADS_MAX && !SIZED.load(Ordering::Relaxed) => {
            Err(Error::invalid(format!("{name}={threads}: choose 1 to {THREADS_MAX}")))
        }
        _ => Ok(()),
    }
}

/// The number of threads that rayon takes from the environment, and the name that it stands under.
fn from_environment(value: impl Fn(&str) -> Option<String>) -> Option<(&'static str, usize)> {
    let number = |name| Some((name, value(name)?.parse::<usize>().ok()?));
    match number("RAYON_NUM_THREADS") {
        // Rayon's older name counts where there is no number under the newer one.
        None => number("RAYON_RS_NUM_CPUS"),
        found => found,
    }
}

/// Rayon's global pool, or one of the job's own where its caller is a thread of a pool.
pub(crate) struct ComputePool(Option<ThreadPool>);

impl ComputePool {
    /// For a job that the current thread calls. One of its own has as many threads as the caller's.
    ///
    /// # Errors
    /// Threads that the system refuses.
    pub(crate) fn of_caller() -> Result<ComputePool> {
        if rayon::current_thread_index().is_none() {
            return Ok(ComputePool(None));
        }
        let threads = rayon::current_num_threads();
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|e| Error::invalid(format!("can't start threads: {e}")))?;
        Ok(ComputePool(Some(pool)))
    }

    /// Runs `work`, whose parallel parts the pool's threads share.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            None => work(),
            Some(pool) => pool.install(work),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn callers_that_block_a_whole_pool_get_their_work_done() {
        let (sender, done) = mpsc::channel();
        std::thread::spawn(move || {
            let callers = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
            let sum: u64 = callers.install(|| (0..6).into_par_iter().map(blocking_sum).sum());
            sender.send(sum).unwrap();
        });
        assert_eq!(done.recv_timeout(Duration::from_secs(60)), Ok(6 * 4950));
    }

    /// As a job does: another thread computes, the caller waits for it.
    fn blocking_sum(_: u32) -> u64 {
        let pool = ComputePool::of_caller().unwrap();
        assert_eq!(pool.run(rayon::current_num_threads), 2);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| pool.run(|| (0..100_u64).into_par_iter().sum()));
            other.join().unwrap()
        })
    }

    #[test]
    fn the_environment_is_read_as_rayon_reads_it() {
        let read = |new: Option<&str>, old: Option<&str>| {
            from_environment(|name| {
                if name == "RAYON_NUM_THREADS" { new } else { old }.map(str::to_owned)
            })
        };
        assert_eq!(read(Some("9"), Some("7")), Some(("RAYON_NUM_THREADS", 9)));
        assert_eq!(read(Some("0"), Some("7")), Some(("RAYON_NUM_THREADS", 0)));
        assert_eq!(read(Some("x"), Some("7")), Some(("RAYON_RS_NUM_CPUS", 7)));
        assert_eq!(read(None, Some("-1")), None);
    }

    #[test]
    fn an_ordinary_thread_has_the_global_pool() {
        assert!(ComputePool::of_caller().unwrap().0.is_none());
    }
}
