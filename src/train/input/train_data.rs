//! Owns the form in which a training gets its images.

use serde::{Deserialize, Serialize};

use crate::error::{Reject, Result};

/// A set of images of one size.
pub trait TrainData: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What an image is called, the same in every run: decides whether it is held out.
    fn key(&self, index: usize) -> String {
        index.to_string()
    }

    /// The pixels of an image in an epoch (augmentation may differ by it), `[H, W, C]` bytes.
    /// Called from many threads, several at a time.
    ///
    /// # Errors
    /// A file that can't be read, decoded or resized.
    fn example(&self, index: usize, epoch: u64) -> Result<Vec<u8>, Reject>;

    /// The pixels of an image as it is judged: never augmented.
    ///
    /// # Errors
    /// As [`TrainData::example`].
    fn plain(&self, index: usize) -> Result<Vec<u8>, Reject> {
        self.example(index, 0)
    }

    /// Bytes that are kept in memory of each image once it was read.
    fn kept_bytes(&self) -> u64 {
        0
    }

    /// An image's size and time of writing; None where images can't change.
    fn stamp(&self, index: usize) -> Option<Stamp> {
        let _ = index;
        None
    }

    /// sha256 of the content that was read for an image; None as long as none was.
    fn read_digest(&self, index: usize) -> Option<[u8; 32]> {
        let _ = index;
        None
    }

    /// sha256 of the content that an image has now; None where it can't be read.
    fn content_digest(&self, index: usize) -> Option<[u8; 32]> {
        let _ = index;
        None
    }
}

/// An image's size and time of writing, by which a change shows without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in nanoseconds since 1970; None where the system doesn't say.
    pub modified: Option<i64>,
}
