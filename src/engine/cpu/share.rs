//! Owns how images and their parts share threads and memory. Must not know: what is computed.

use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;

use crate::error::Result;

/// Things that are lent to one thread at a time and used again: as many come to be as are needed
/// at once.
#[derive(Default)]
pub struct Pool<T>(Mutex<Vec<T>>);

impl<T: Default> Pool<T> {
    /// Lends one that was used before, where there is one.
    pub fn lend<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        let free = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lent = free().pop().unwrap_or_default();
        let result = work(&mut lent);
        free().push(lent);
        result
    }
}

/// Which threads a piece of work may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The one it runs on.
    One,
    /// All of the pool it runs in.
    All,
}

impl Threads {
    /// Does the work on each part.
    pub fn each<T: Send>(self, parts: impl Iterator<Item = T>, work: impl Fn(T) + Sync + Send) {
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
pub fn each_image<I: Send, T: Send>(
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
