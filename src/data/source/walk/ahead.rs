//! Owns asking a store for the texts beside images ahead of time: one after the other they would take
//! longer than all else. Must not know: what they say.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::data::formats::sniff;
use crate::data::source::sidecar;
use crate::storage::{self, Coming};

/// Texts that are on their way at once.
const FILES_MAX: usize = 64;

/// The texts of one folder that were asked for.
#[derive(Default)]
pub(super) struct Ahead {
    folder: OsString,
    coming: BTreeMap<OsString, Coming>,
    /// How many of the folder's names have been looked at.
    looked_at: usize,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").field("coming", &self.coming.len()).finish_non_exhaustive()
    }
}

impl Ahead {
    /// Asks for the texts of the images from `path` on, beside which `names` lie, sorted.
    pub(super) fn reach(&mut self, path: &Path, names: &[OsString]) {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
        if !storage::is_remote(path) {
            return;
        }
        if self.folder != folder.as_os_str() {
            *self = Ahead { folder: folder.into(), ..Ahead::default() };
        }
        // What sorts before the image and its texts isn't asked for any more.
        let stem = path.file_stem().unwrap_or(name);
        self.coming = self.coming.split_off(stem);
        let first = names.partition_point(|other| other.as_os_str() < stem);
        self.looked_at = self.looked_at.max(first);
        while self.coming.len() < FILES_MAX
            && let Some(next) = names.get(self.looked_at)
        {
            self.looked_at += 1;
            if sidecar::is_side(next) && has_image(next, names) {
                self.coming.insert(next.clone(), sidecar::begin(&folder.join(next)));
            }
        }
    }

    /// The bytes of a text.
    ///
    /// # Errors
    /// As the system or the store says.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        match self.coming.remove(path.file_name().unwrap_or_default()) {
            Some(coming) if Some(Path::new(&self.folder)) == path.parent() => {
                sidecar::arrived(coming)
            }
            _ => sidecar::read(path),
        }
    }
}

/// Whether an image of a text's name lies beside it.
fn has_image(text: &OsStr, names: &[OsString]) -> bool {
    let Some(stem) = Path::new(text).file_stem() else { return false };
    let first = names.partition_point(|other| other.as_os_str() < stem);
    let same = names[first..].iter().take_while(|n| n.as_bytes().starts_with(stem.as_bytes()));
    // Few names of an image and its texts begin alike.
    same.take(32).map(Path::new).filter(|name| name.file_stem() == Some(stem)).any(|name| {
        name.extension().is_none_or(|extension| sniff::is_image_extension(extension.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_without_an_image_are_not_asked_for() {
        let names: Vec<OsString> =
            ["a.jpg", "a.txt", "b.txt", "c", "c.json", "d.e.png", "d.e.txt", "d.txt", "x.tar"]
                .map(Into::into)
                .into();
        let asked = names.iter().filter(|name| sidecar::is_side(name) && has_image(name, &names));
        assert_eq!(asked.collect::<Vec<_>>(), ["a.txt", "c.json", "d.e.txt"]);
    }
}
