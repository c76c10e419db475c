//! Owns whether convolutions on a GPU may round their factors to TF32: a thread's word, since candle's
//! operations have no settings. Must not know: what is computed, who asks.

use std::cell::Cell;
use std::marker::PhantomData;

thread_local! {
    static MAY: Cell<bool> = const { Cell::new(false) };
}

/// Whether those that this thread computes may.
#[cfg(any(test, all(feature = "cuda", feature = "candle-cuda")))]
pub(crate) fn tf32() -> bool {
    MAY.get()
}

/// This thread's word, until it is dropped.
pub(crate) struct Tf32 {
    before: bool,
    /// It belongs to the thread that made it.
    _here: PhantomData<*const ()>,
}

impl Tf32 {
    /// As `wanted` from here on.
    pub(crate) fn set(wanted: bool) -> Tf32 {
        Tf32 { before: MAY.replace(wanted), _here: PhantomData }
    }
}

impl Drop for Tf32 {
    fn drop(&mut self) {
        MAY.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_this_threads_and_ends_with_what_asked_for_it() {
        assert!(!tf32());
        let outer = Tf32::set(true);
        {
            let _inner = Tf32::set(false);
            assert!(!tf32());
        }
        assert!(tf32() && !std::thread::spawn(tf32).join().unwrap());
        drop(outer);
        assert!(!tf32());
    }
}
