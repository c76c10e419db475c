//! Owns pixels that were decoded once, on the disk, in a file that nobody else sees and that is gone
//! with the process: a data set too large for memory isn't decoded again in each epoch. Must not
//! know: images, what pixels mean.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::util::nameless_file;

/// A place for the pixels of each of the first images.
pub(crate) struct CropCache {
    file: File,
    /// Bytes of a place.
    each: usize,
    /// Whether the place of an image holds its pixels.
    filled: Vec<AtomicBool>,
    /// Whether the disk has refused a write: then nothing more is kept.
    refused: AtomicBool,
}

impl CropCache {
    /// In `folder`, for as many of `count` images of `each` bytes as `bytes_max` hold.
    ///
    /// # Errors
    /// Where there can be no file.
    pub(crate) fn create(
        folder: &Path,
        bytes_max: u64,
        each: usize,
        count: usize,
    ) -> Result<CropCache> {
        let places = (bytes_max / each.max(1) as u64).min(count as u64) as usize;
        let file = nameless_file::create(folder).map_err(Error::io(folder))?;
        let filled = (0..places).map(|_| AtomicBool::new(false)).collect();
        Ok(CropCache { file, each, filled, refused: AtomicBool::new(false) })
    }

    /// Images that it has a place for.
    pub(crate) fn places(&self) -> usize {
        self.filled.len()
    }

    /// The pixels of an image, where they were put here.
    pub(crate) fn get(&self, index: usize) -> Option<Vec<u8>> {
        self.filled.get(index).filter(|filled| filled.load(Ordering::Acquire))?;
        let mut pixels = vec![0; self.each];
        self.file.read_exact_at(&mut pixels, self.at(index)).ok()?;
        Some(pixels)
    }

    /// Keeps the pixels of an image, where there is a place for them. A full disk costs time alone.
    pub(crate) fn put(&self, index: usize, pixels: &[u8]) {
        let Some(filled) = self.filled.get(index).filter(|_| pixels.len() == self.each) else {
            return;
        };
        if self.refused.load(Ordering::Relaxed) {
            return;
        }
        match self.file.write_all_at(pixels, self.at(index)) {
            Ok(()) => filled.store(true, Ordering::Release),
            Err(_) => self.refused.store(true, Ordering::Relaxed),
        }
    }

    fn at(&self, index: usize) -> u64 {
        index as u64 * self.each as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_comes_back_within_the_bound_and_the_file_is_nobodys() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CropCache::create(folder.path(), 11, 3, 9).unwrap();
        assert_eq!(cache.places(), 3);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        cache.put(2, b"two");
        cache.put(0, b"one");
        cache.put(1, b"short?"); // of another length
        cache.put(3, b"out"); // beyond the bound
        let got = [0, 1, 2, 3, 9].map(|index| cache.get(index));
        assert_eq!(got, [Some(b"one".to_vec()), None, Some(b"two".to_vec()), None, None]);
        assert_eq!(CropCache::create(folder.path(), 1 << 40, 3, 9).unwrap().places(), 9);
        assert!(CropCache::create(&folder.path().join("none"), 9, 3, 9).is_err());
    }
}
