//! Owns what is looked at without being taken: the names in a folder, whether a file of another
//! extension holds an image.

use std::ffi::OsString;
use std::path::Path;

use crate::data::formats::sniff::{self, Sniffed};
use crate::storage::{self, Entry, Facts, Odd};

/// What lies in a folder, sorted by the bytes of the names.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) names: Vec<OsString>,
    /// What a store says of each along with the names; empty for a folder of the system.
    pub(super) facts: Vec<Facts>,
    /// What lies there and can't be asked for.
    pub(super) odd: Vec<Odd>,
}

/// Lists a folder.
///
/// # Errors
/// As the system or the store says.
pub(super) fn list(path: &Path) -> std::io::Result<Names> {
    let listing = storage::list_all(path)?;
    let mut listed = Names { odd: listing.odd, ..Names::default() };
    for Entry { name, facts } in listing.entries {
        listed.names.push(name);
        listed.facts.extend(facts);
    }
    Ok(listed)
}

/// Whether a file begins as an image does.
pub(super) fn holds_an_image(path: &Path) -> bool {
    storage::read_head(path, sniff::HEAD_BYTES as u64).is_ok_and(|head| is_images_head(&head))
}

/// Whether the first bytes are an image's.
pub(super) fn is_images_head(head: &[u8]) -> bool {
    // TGA is only a guess and "an archive" no image: without extension, only images by signature.
    matches!(
        sniff::sniff(head),
        Sniffed::Known(_) | Sniffed::Named("HEIC" | "HEIF" | "AVIF" | "JPEG XL" | "JPEG 2000")
    )
}
