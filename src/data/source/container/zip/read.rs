//! Owns reading the images of an archive by the places that its listing gave them.

use std::sync::Arc;

use super::bytes::Trouble;
use super::content;
use super::directory::{Directory, entry_at};
use super::entry::Entry;
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::listing::ReadPart;
use crate::data::source::image::Part;
use crate::error::{Reject, Stage};
use crate::storage::BytesAt;
use crate::util::text;

/// An archive whose images are read in any order, from any thread.
pub(crate) struct ZipReader {
    bytes: Arc<dyn BytesAt>,
    directory: Directory,
}

impl ZipReader {
    /// Finds its directory.
    ///
    /// # Errors
    /// A rejection of every image in it: the directory is missing or damaged.
    pub(crate) fn open(bytes: Arc<dyn BytesAt>) -> Result<ZipReader, Reject> {
        let found = Directory::find(bytes.as_ref());
        let directory = found.map_err(|trouble| reject(trouble.message()))?;
        Ok(ZipReader { bytes, directory })
    }
}

impl ZipReader {
    /// The entry that was planned.
    fn found(&self, part: &Part, bytes: u64) -> Result<Entry, Reject> {
        let entry = entry_at(self.bytes.as_ref(), &self.directory, part.offset)
            .map_err(|error| reject(Trouble::System(error).message()))?;
        let Some(entry) = entry.filter(|entry| entry.key == part.member) else {
            return Err(reject(format!(
                "the file has changed since it was planned: {} isn't where it was in its directory",
                text::quoted(&part.member)
            )));
        };
        if entry.bytes != bytes {
            return Err(reject(format!(
                "the file has changed since it was planned: the image had {bytes} bytes and now has {}",
                entry.bytes
            )));
        }
        Ok(entry)
    }
}

impl ReadPart for ZipReader {
    fn read(&self, part: &Part, bytes: u64, limits: &Limits) -> Result<Vec<u8>, Reject> {
        let entry = self.found(part, bytes)?;
        content::read(&self.bytes, &entry, limits.file_bytes_max)
            .map_err(|trouble| reject(trouble.message()))
    }

    fn head(&self, part: &Part, bytes: u64, max: usize, _: &Limits) -> Result<Vec<u8>, Reject> {
        let entry = self.found(part, bytes)?;
        content::head(&self.bytes, &entry, max as u64).map_err(|trouble| reject(trouble.message()))
    }
}

fn reject(message: String) -> Reject {
    Reject::new(Stage::Read, message)
}
