//! Owns which members of an archive are images, by their names, as a folder's files are.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::entry::Entry;
use crate::data::formats::sniff;
use crate::data::source::sidecar::Side;
use crate::data::source::{file_kind, hidden};

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Image,
    /// It has no extension: its first bytes say whether it is an image.
    Nameless,
    /// A text that may belong to an image.
    Beside(Side),
    Folder,
    /// A name that is hidden or a system's.
    Hidden,
    /// A symbolic link.
    Link,
    /// Another archive.
    Archive,
    Other,
}

impl Kind {
    /// By its name; hidden ones too where `hidden`.
    pub(super) fn of(entry: &Entry, hidden: bool) -> Kind {
        let key = entry.key.as_str();
        // `..` is a step on the way and no hidden folder.
        let is_hidden = |part: &str| !matches!(part, "." | "..") && hidden::is_hidden(part);
        if key.ends_with('/') || key.is_empty() {
            return Kind::Folder;
        }
        if !hidden && key.split('/').any(is_hidden) {
            return Kind::Hidden;
        }
        if entry.is_link {
            return Kind::Link;
        }
        match extension(key) {
            None => Kind::Nameless,
            Some(extension) if sniff::is_image_extension(extension) => Kind::Image,
            Some(_) if file_kind::is_archive(key.as_bytes()) => Kind::Archive,
            Some(extension) => Side::of(extension).map_or(Kind::Other, Kind::Beside),
        }
    }
}

/// The extension of the last part; None where it has none.
fn extension(key: &str) -> Option<&[u8]> {
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    Path::new(name).extension().filter(|e| !e.is_empty()).map(OsStr::as_bytes)
}

/// The key without its extension: what an image and the texts beside it have in common.
pub(super) fn stem(key: &str) -> &str {
    match extension(key) {
        Some(extension) => &key[..key.len() - extension.len() - 1],
        None => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_what_is_common() {
        for (key, common) in [
            ("a/b.c.jpg", "a/b.c"),
            ("a.b/c", "a.b/c"),
            ("a/.jpg", "a/.jpg"),
            ("x.", "x."),
            ("..", ".."),
        ] {
            assert_eq!(stem(key), common);
        }
    }
}
