//! Owns where the threads of a job compute. A job blocks the thread that calls it; were that a
//! thread of the pool that the job's other threads compute in, enough such jobs would wait for each
//! other for ever.

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

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
    fn an_ordinary_thread_has_the_global_pool() {
        assert!(ComputePool::of_caller().unwrap().0.is_none());
    }
}
