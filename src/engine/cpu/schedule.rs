//! Owns how images and their parts share threads and memory.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::Result;

/// Things that are lent to one thread at a time and used again: as many come to be as are needed
/// at once.
#[derive(Default)]
pub(super) struct ScratchPool<T>(Mutex<Vec<T>>);

impl<T: Default> ScratchPool<T> {
    /// Lends one that was used before, where there is one.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lent = free().pop().unwrap_or_default();
        let result = work(&mut lent);
        free().push(lent);
        result
    }
}

/// Which threads a piece of work may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// The one it runs on.
    One,
    /// All of the pool it runs in.
    All,
}

impl Threads {
    /// Does the work on each part.
    pub(super) fn each<T: Send>(
        self,
        parts: impl Iterator<Item = T>,
        work: impl Fn(T) + Sync + Send,
    ) {
        match self {
            Threads::One => parts.for_each(work),
            Threads::All => parts.collect::<Vec<_>>().into_par_iter().for_each(work),
        }
    }
}

/// Does the work on each image: as many at once as there are threads, each on one of them, and
/// what is left over one after another, each on all. `alone` where an image is so large that the
/// memory of several is too much.
///
/// # Errors
/// The first of the work's.
pub(super) fn each_image<I: Send, T: Send>(
    mut images: Vec<I>,
    alone: bool,
    work: impl Fn(I, Threads) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let threads = rayon::current_num_threads();
    let over = if alone { images.len() } else { images.len() % threads };
    // More than half of the threads are better off with an image each.
    let over = if alone || 2 * over <= threads { over } else { 0 };
    let rest = images.split_off(images.len() - over);
    let together = images.into_par_iter().map(|image| work(image, Threads::One));
    let mut done = together.collect::<Result<Vec<T>>>()?;
    // In the pool once, not once for every step.
    rayon::scope(|_| {
        rest.into_iter().try_for_each(|image| work(image, Threads::All).map(|it| done.push(it)))
    })?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn images_share_the_threads_by_their_number() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        let shares = |count: usize, alone: bool| {
            let work = |image: usize, threads: Threads| Ok((image, threads == Threads::All));
            let done = pool.install(|| each_image((0..count).collect(), alone, work)).unwrap();
            assert!(done.iter().map(|&(image, _)| image).eq(0..count), "in order");
            done.iter().filter(|&&(_, all)| all).count()
        };
        // Up to half as many as threads one after another; more of them each on its own.
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7, 8].map(|n| shares(n, false)),
            [0, 1, 2, 0, 0, 1, 2, 0, 0]
        );
        assert_eq!([0, 1, 3, 8].map(|n| shares(n, true)), [0, 1, 3, 8]);
    }

    #[test]
    fn an_error_of_any_image_is_told() {
        for wrong in 0..5 {
            let work = |image: usize, _: Threads| match image == wrong {
                true => Err(Error::invalid("this one")),
                false => Ok(()),
            };
            assert!(each_image((0..5).collect(), wrong % 2 == 0, work).is_err());
        }
    }

    #[test]
    fn what_is_lent_comes_back() {
        let pool = ScratchPool::<Vec<u8>>::default();
        pool.with(|outer| {
            outer.push(1);
            pool.with(|inner| assert!(inner.is_empty(), "the first one is away"));
        });
        assert_eq!(pool.with(|last| last.len()), 1);
    }
}
