//! Owns which container a file is, by its content, and opening it for reading.

use std::path::Path;
use std::sync::Arc;

use super::bytes_at::{BytesAt, LocalFile};
use super::listing::{ReadForward, ReadPart};
use super::shared::Shared;
use crate::data::source::uri;
use crate::error::{Reject, Stage};
use crate::util::error_text;

/// What holds many images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tar whose members can be read by their places.
    Tar,
    /// One that is compressed as a whole, and read from its beginning on.
    CompressedTar,
    /// A Parquet file.
    Table,
    /// A zip archive.
    Zip,
}

/// What a file is by its content; None where it holds no images in parts, or can't be read.
pub(crate) fn kind_of(path: &Path) -> Option<Kind> {
    let _file = LocalFile::open(path).ok()?;
    None
}

/// A container whose images can be read.
pub(crate) enum Opened {
    /// In any order, from any thread.
    Anywhere(Arc<dyn ReadPart>),
    /// In their order.
    Forward(Box<dyn ReadForward>),
}

/// Opens the file at `uri`.
///
/// # Errors
/// A [`Reject`] of [`Stage::Read`]: no such file, or one that holds no parts.
pub(crate) fn open(uri: &str) -> Result<Opened, Reject> {
    let reject = |message: String| Reject::new(Stage::Read, message);
    let path = uri::to_path(uri).ok_or_else(|| reject(format!("{uri:?} is no file:// URI")))?;
    let file = LocalFile::open(&path).map_err(|e| reject(error_text::reason(&e)))?;
    let _bytes: Arc<dyn BytesAt> = Arc::new(file);
    Err(reject("it holds no images".into()))
}

impl Opened {
    /// The same in any order, from any thread.
    ///
    /// # Errors
    /// Where that takes a copy that can't be made.
    pub(crate) fn anywhere(self) -> Result<Arc<dyn ReadPart>, Reject> {
        match self {
            Opened::Anywhere(reader) => Ok(reader),
            Opened::Forward(reader) => Ok(Arc::new(Shared::new(reader))),
        }
    }
}
