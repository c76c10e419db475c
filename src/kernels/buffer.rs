//! Owns memory for activations and packed weights: zeroed, aligned to cache lines, in huge pages
//! where it is large.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

const CACHE_LINE: usize = 64;
const HUGE_PAGE: usize = 2 << 20;

/// Floats on a cache-line boundary, zero at first. Grows only by [`Buffer::reserve`].
pub(crate) struct Buffer {
    start: NonNull<f32>,
    len: usize,
}

// SAFETY: a buffer owns its memory alone, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros. Large ones ask for huge pages before the first touch, since a fresh 4 KiB page
    /// costs as much as the arithmetic on it.
    pub(crate) fn zeroed(len: usize) -> Buffer {
        if len == 0 {
            return Buffer { start: NonNull::dangling(), len: 0 };
        }
        let layout = Self::layout(len);
        // SAFETY: the layout isn't empty.
        let start = unsafe { alloc(layout) };
        let Some(start) = NonNull::new(start.cast::<f32>()) else { handle_alloc_error(layout) };
        #[cfg(target_os = "linux")]
        if layout.align() == HUGE_PAGE {
            // SAFETY: whole pages of this allocation; the call is advice and changes no content.
            unsafe {
                let pages = layout.size() / HUGE_PAGE * HUGE_PAGE;
                libc::madvise(start.as_ptr().cast(), pages, libc::MADV_HUGEPAGE);
            }
        }
        // SAFETY: the allocation's own bytes.
        unsafe { start.as_ptr().cast::<u8>().write_bytes(0, layout.size()) };
        Buffer { start, len }
    }

    /// Makes room for at least `len` floats. What was in it is lost when it grows.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.len < len {
            *self = Buffer::zeroed(0);
            *self = Buffer::zeroed(len);
        }
    }

    fn layout(len: usize) -> Layout {
        let align = if len * 4 >= HUGE_PAGE { HUGE_PAGE } else { CACHE_LINE };
        // 32 floats after the end: room for one aligned vector pair past a rounded length.
        #[allow(clippy::expect_used)]
        Layout::from_size_align((len + 32) * 4, align)
            // Fails only above isize::MAX bytes, which no allocator could give either.
            .expect("buffer beyond the address space")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: allocated in `zeroed` with the same layout.
            unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.len)) }
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised floats at `start`, or none at a dangling aligned pointer.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::zeroed(0)
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Buffer {
        let mut buffer = Buffer::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_aligned_and_keep_what_is_written() {
        for len in [0, 1, 15, 16, 1000, 3 << 20] {
            let mut b = Buffer::zeroed(len);
            assert!(b.len() == len && b.iter().all(|&x| x == 0.0));
            assert_eq!(b.as_ptr() as usize % 4, 0);
            if len > 0 {
                assert_eq!(b.as_ptr() as usize % CACHE_LINE, 0);
                b[len - 1] = 7.0;
                assert_eq!(b[len - 1], 7.0);
            }
            b.reserve(len);
            assert!(len == 0 || b[len - 1] == 7.0);
            b.reserve(len + 1);
            assert!(b.len() == len + 1 && b.iter().all(|&x| x == 0.0));
        }
    }
}
