//! Owns the one interface of remote places.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::bytes_at::BytesAt;
use super::coming::Coming;
use super::facts::{Facts, Listing};

/// Where remote files lie. Addresses are whole: `s3://bucket/key`.
pub(super) trait Store: Send + Sync {
    /// What lies at an address.
    fn facts(&self, address: &Path) -> io::Result<Facts>;

    /// Opens a file for reads by place.
    fn open(self: Arc<Self>, address: &Path) -> io::Result<Arc<dyn BytesAt>>;

    /// Asks for bytes: those of `range`, or all, unless they are more than `bytes_max`.
    fn begin(&self, address: &Path, range: Option<Range<u64>>, bytes_max: u64) -> Coming;

    /// What lies in a folder; nothing where nothing lies below.
    fn list(&self, folder: &Path) -> io::Result<Listing>;

    /// Puts bytes at an address; where `once`, only if nothing is there:
    /// [`io::ErrorKind::AlreadyExists`].
    fn put(&self, address: &Path, bytes: bytes::Bytes, once: bool) -> io::Result<()>;

    /// Removes what lies at an address.
    fn remove(&self, address: &Path) -> io::Result<()>;
}
