//! Owns what stands beside the images of a walk: rows of metadata files in their folder or above, files
//! of their names. Must not know: how folders are walked.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::ahead::Ahead;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::Facts;
use crate::data::source::lists::{self, FolderMetadata};
use crate::data::source::sidecar;
use crate::error::Result;

/// What is known on the way down to the current folder.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Which columns of metadata are what; None where nobody asks for what stands beside images.
    fields: Option<Fields>,
    /// Of the folders above and the current one, those with a metadata file, and the bytes of their
    /// paths.
    folders: Vec<(usize, FolderMetadata)>,
    odd: Oddities,
    ahead: Ahead,
}

impl Beside {
    pub(super) fn asked(fields: Fields) -> Beside {
        Beside { fields: Some(fields), ..Beside::default() }
    }

    /// Looks for metadata in a folder that is entered, in which `names` lie.
    ///
    /// # Errors
    /// Those of reading it.
    pub(super) fn enter(&mut self, folder: &Path, names: &[OsString]) -> Result<()> {
        let Some(fields) = &self.fields else { return Ok(()) };
        if let Some(metadata) = lists::metadata_of(folder, names, fields)? {
            self.folders.push((folder.as_os_str().len(), metadata));
        }
        Ok(())
    }

    /// What there is to say of the metadata of the folder that is left, whose path has `bytes` bytes.
    pub(super) fn leave(&mut self, bytes: usize) -> Vec<String> {
        let left = self.folders.pop_if(|(of, _)| *of == bytes);
        left.map(|(_, metadata)| metadata.odd()).unwrap_or_default()
    }

    /// Of the image at `path`, beside which `names` lie, sorted: the row of the nearest metadata file,
    /// and the files of the image's name.
    pub(super) fn facts(&mut self, path: &[u8], names: &[OsString]) -> Facts {
        let Some(fields) = &self.fields else { return Facts::default() };
        let row = self.folders.last_mut().map(|(bytes, metadata)| {
            let below = path[*bytes..].strip_prefix(b"/").unwrap_or(&path[*bytes..]);
            metadata.take(Path::new(OsStr::from_bytes(below)))
        });
        let row = row.unwrap_or_default();
        let has = |name: &OsStr| names.binary_search_by(|n| n.as_os_str().cmp(name)).is_ok();
        let path = Path::new(OsStr::from_bytes(path));
        self.ahead.reach(path, names);
        let read = |path: &Path| self.ahead.read(path);
        let files = sidecar::facts_beside(path, has, read, fields, &mut self.odd);
        Facts {
            label: row.label.or(files.label),
            caption: row.caption.or(files.caption),
            meta_json: row.meta_json.or(files.meta_json),
        }
    }

    /// What is odd of files beside images, so far.
    pub(super) fn odd(&self) -> Vec<String> {
        self.odd.lines()
    }
}
