//! Owns what is known of a place before it is read.

use std::ffi::OsString;
use std::fs::Metadata;
use std::time::SystemTime;

/// What lies at an address, links followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    /// A file's size.
    pub(crate) bytes: u64,
    /// A folder; in a store, that objects lie below.
    pub(crate) is_folder: bool,
    /// A regular file, or an object.
    pub(crate) is_file: bool,
    /// When it was last written, where that can be told.
    pub(crate) written: Option<SystemTime>,
}

impl Facts {
    /// Of a place of the system.
    pub(crate) fn of(metadata: &Metadata) -> Facts {
        Facts {
            bytes: metadata.len(),
            is_folder: metadata.is_dir(),
            is_file: metadata.is_file(),
            written: metadata.modified().ok(),
        }
    }

    /// Of a folder in a store.
    #[cfg(feature = "stores")]
    pub(super) fn folder() -> Facts {
        Facts { bytes: 0, is_folder: true, is_file: false, written: None }
    }
}

/// A name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Without its folder.
    pub(crate) name: OsString,
    /// What a store says of it along with the name; None for the system's files.
    pub(crate) facts: Option<Facts>,
}

/// What lies in a folder of a store.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listing {
    /// Sorted by the bytes of the names.
    pub(crate) entries: Vec<Entry>,
    /// What lies there and can't be asked for.
    pub(crate) odd: Vec<Odd>,
}

/// An object that can't be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Odd {
    /// Its key behind the folder's.
    pub(crate) name: String,
    /// Why, and what to do.
    pub(crate) reason: String,
}
