//! Owns what is looked at without being taken: the names in a folder, whether a file of another
//! extension holds an image.

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use crate::data::formats::sniff::{self, Sniffed};
use crate::data::source::file::open;
use crate::data::source::long_paths::reach;

/// The names in a folder, sorted by their bytes.
pub(super) fn list(path: &Path) -> std::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in reach(path, |path| fs::read_dir(path))? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a file begins as an image does.
pub(super) fn holds_an_image(path: &Path) -> bool {
    let mut head = Vec::with_capacity(sniff::HEAD_BYTES);
    let Ok(file) = open(path) else { return false };
    if file.take(sniff::HEAD_BYTES as u64).read_to_end(&mut head).is_err() {
        return false;
    }
    is_images_head(&head)
}

/// Whether the first bytes are an image's.
pub(super) fn is_images_head(head: &[u8]) -> bool {
    // TGA is only a guess and "an archive" no image: without extension, only images by signature.
    matches!(
        sniff::sniff(head),
        Sniffed::Known(_) | Sniffed::Named("HEIC" | "HEIF" | "AVIF" | "JPEG XL" | "JPEG 2000")
    )
}
