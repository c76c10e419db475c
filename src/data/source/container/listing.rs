//! Owns what listing a container gives beside its images.

use crate::data::formats::raw_image::Limits;
use crate::data::source::image::{Part, SourceImage};
use crate::error::{Reject, Result};

/// The images of a container, in its own order; nothing is read of their pixels.
///
/// An error ends a run; what is wrong with the container's content is a
/// [`fault`](SourceImage::fault) of an image, or of one more that stands for what is lost.
pub(crate) trait Listing: Iterator<Item = Result<SourceImage>> + Send {
    /// What there is to say of it; complete once the iterator has ended.
    fn remarks(&self) -> &Remarks;

    /// The digest of what the container says of its images beside their bytes, by which another one
    /// of the same names and sizes is told; known once the iterator has ended, None where it is
    /// damaged.
    fn digest(&self) -> Option<String> {
        None
    }
}

/// What isn't an image, and what is odd.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remarks {
    /// Members or rows that hold no image and were passed over.
    pub(crate) without_image: u64,
    /// Members that are neither an image nor beside one.
    pub(crate) other: u64,
    /// Members that are hidden or a system's.
    pub(crate) hidden: u64,
    /// Images of samples of which another one is taken.
    pub(crate) further_images: u64,
    /// Links, which aren't followed.
    pub(crate) links: u64,
    /// Archives inside it: how many, and the first of them.
    pub(crate) archives: u64,
    pub(crate) first_archive: Option<String>,
    /// What a user should know, in one line each, the container's path not in it: `ends without an
    /// end mark; it may have been cut`.
    pub(crate) odd: Vec<String>,
}

impl Remarks {
    /// One more archive inside it.
    pub(crate) fn archive(&mut self, member: &str) {
        self.archives += 1;
        self.first_archive.get_or_insert_with(|| member.to_owned());
    }
}

/// What there is to say of archives inside containers.
pub(crate) const ARCHIVES: &str =
    "archives inside it are not opened; unpack them to read their images";

/// Reads images of one container from any thread, in any order.
pub(crate) trait ReadPart: Send + Sync {
    /// The bytes of an image that had `bytes` of them when it was listed.
    ///
    /// # Errors
    /// A [`Reject`] of the stage `read`: another member there, damage, more than
    /// `limits.file_bytes_max`.
    fn read(&self, part: &Part, bytes: u64, limits: &Limits) -> Result<Vec<u8>, Reject>;

    /// The first of these bytes, `max` at most or more; what follows may be damaged.
    ///
    /// # Errors
    /// Those of [`ReadPart::read`].
    fn head(
        &self,
        part: &Part,
        bytes: u64,
        max: usize,
        limits: &Limits,
    ) -> Result<Vec<u8>, Reject> {
        let _ = max;
        self.read(part, bytes, limits)
    }
}

/// Reads images of one container one after the other, in its order.
pub(crate) trait ReadForward: Send {
    /// As [`ReadPart::read`]; a part that lies before the last one read costs a new start.
    ///
    /// # Errors
    /// Those of [`ReadPart::read`].
    fn read(&mut self, part: &Part, bytes: u64, limits: &Limits) -> Result<Vec<u8>, Reject>;
}
