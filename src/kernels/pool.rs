//! Owns buffers that are used again and again: fresh pages cost as much as the arithmetic on them.
//! Must not know: what lies in them.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::buffer::Buffer;

/// Those that nobody uses now.
static IDLE: Mutex<Vec<Buffer>> = Mutex::new(Vec::new());

/// Bytes of all of them, in use or not.
static HELD: AtomicU64 = AtomicU64::new(0);

/// Bytes that are held for computations to come; they are never given back.
pub(crate) fn pooled_bytes() -> u64 {
    HELD.load(Ordering::Relaxed)
}

/// A buffer that goes back to the others when it is dropped. What is in it at first is anything.
pub(crate) struct Pooled {
    buffer: Buffer,
    len: usize,
}

impl Pooled {
    /// `len` floats, of whatever was there before.
    pub(crate) fn take(len: usize) -> Pooled {
        let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough; else the largest grows.
        let fits = |at: &usize| idle[*at].len() >= len;
        let place = (0..idle.len())
            .filter(fits)
            .min_by_key(|&at| idle[at].len())
            .or_else(|| (0..idle.len()).max_by_key(|&at| idle[at].len()));
        let mut buffer = place.map(|at| idle.swap_remove(at)).unwrap_or_default();
        drop(idle);
        let before = buffer.len();
        buffer.reserve(len);
        HELD.fetch_add(4 * (buffer.len() - before) as u64, Ordering::Relaxed);
        Pooled { buffer, len }
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }
}

impl Deref for Pooled {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.buffer[..self.len]
    }
}

impl DerefMut for Pooled {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_the_length_that_was_asked_for_and_belongs_to_one_at_a_time() {
        for len in [0, 1, 100, 70_000, 5] {
            let (mut a, mut b) = (Pooled::take(len), Pooled::take(len));
            assert_eq!((a.len(), b.len()), (len, len));
            a.fill(1.0);
            b.fill(2.0);
            assert!(a.iter().all(|&x| x == 1.0));
        }
    }
}
