//! Owns which container a file is, by its content, and opening it for reading.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::listing::{ReadForward, ReadPart};
use super::parquet_table::{self, TableReader};
use super::shared::Shared;
use super::spool;
use super::tar::{self, Compression, TarReader, TarStream};
use super::zip::{self, ZipReader};
use crate::data::source::image::Planned;
use crate::data::source::uri;
use crate::error::{Reject, Stage};
use crate::storage::{self, BytesAt};
use crate::util::error_text;

/// What holds many images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tar whose members can be read by their places.
    Tar,
    /// One that is compressed as a whole, and read from its beginning on.
    CompressedTar(Compression),
    /// A Parquet file.
    Table,
    /// A zip archive.
    Zip,
}

/// What a file is by its content; None where it is no container.
///
/// # Errors
/// As the system or the store says.
pub(crate) fn kind_of(bytes: &Arc<dyn BytesAt>) -> io::Result<Option<Kind>> {
    let mut head = [0; 512];
    let filled = bytes.fill_at(0, &mut head)?;
    let head = &head[..filled];
    if parquet_table::is_parquet(head) {
        return Ok(Some(Kind::Table));
    }
    if tar::is_tar(head) {
        return Ok(Some(Kind::Tar));
    }
    if let Some(compression) = tar::compression(head)
        && tar::holds_tar(Arc::clone(bytes))?
    {
        return Ok(Some(Kind::CompressedTar(compression)));
    }
    Ok(zip::is_zip(bytes.as_ref()).then_some(Kind::Zip))
}

/// Whether the file at `path` is a container by its content.
pub(crate) fn is_container(path: &Path) -> bool {
    let Ok(bytes) = storage::open(path) else { return false };
    kind_of(&bytes).is_ok_and(|kind| kind.is_some())
}

/// A container to be read.
pub(crate) struct Container {
    uri: String,
    bytes: Arc<dyn BytesAt>,
    kind: Kind,
}

/// How a container's images are read in the order of a plan.
pub(crate) enum InOrder {
    /// From any thread.
    Anywhere(Arc<dyn ReadPart>),
    /// One after the other.
    Forward(Box<dyn ReadForward>),
}

impl Container {
    /// Opens the file at `uri`.
    ///
    /// # Errors
    /// A [`Reject`] of [`Stage::Read`]: no such file, or one that holds no parts.
    pub(crate) fn open(uri: &str) -> Result<Container, Reject> {
        let path = uri::to_path(uri).ok_or_else(|| reject(format!("{uri:?} is no file:// URI")))?;
        let bytes = storage::open(&path).map_err(|error| reject(error_text::reason(&error)))?;
        let kind = kind_of(&bytes).map_err(|error| reject(error_text::reason(&error)))?;
        let kind = kind.ok_or_else(|| {
            reject("the file has changed since it was planned: it holds no images now".into())
        })?;
        Ok(Container { uri: uri.to_string(), bytes, kind })
    }

    /// Whether its images are rows.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.kind, Kind::Table)
    }

    /// The same, unless it has changed since it was `planned`. Of another size, members of archives
    /// tell themselves whether they are the planned ones, and rows don't; of the same, neither do,
    /// but its footer or directory does. A tar's headers lie all over it: they are for listings.
    ///
    /// # Errors
    /// That; where it can't be read.
    pub(crate) fn unless_changed(self, planned: Option<&Planned>) -> Result<Container, Reject> {
        let Some(Planned { bytes, digest }) = planned else { return Ok(self) };
        let size = self.bytes.size();
        if size != *bytes {
            return match self.kind {
                Kind::Table => Err(reject(format!(
                    "the Parquet file has changed since it was planned: it had {bytes} bytes and now \
                     has {size}; its rows may be others"
                ))),
                _ => Ok(self),
            };
        }
        let today = match self.kind {
            Kind::Table => parquet_table::digest(self.bytes.as_ref()),
            Kind::Zip => zip::digest(self.bytes.as_ref()),
            Kind::Tar | Kind::CompressedTar(_) => return Ok(self),
        };
        let today = today.map_err(|error| reject(error_text::reason(&error)))?;
        match digest.is_some() && today != *digest {
            true => Err(reject(
                "the file has changed since it was planned: it is another one of the same size, and \
                 its images may be others"
                    .into(),
            )),
            false => Ok(self),
        }
    }

    /// For reading in the order of a plan.
    ///
    /// # Errors
    /// Those of the format.
    pub(crate) fn in_order(self) -> Result<InOrder, Reject> {
        match self.kind {
            Kind::Tar | Kind::Zip => Ok(InOrder::Anywhere(self.anywhere()?)),
            Kind::Table => Ok(InOrder::Forward(Box::new(self.table()))),
            Kind::CompressedTar(compression) => {
                Ok(InOrder::Forward(Box::new(TarStream::new(self.bytes, compression))))
            }
        }
    }

    /// For reading in any order. A compressed tar is unpacked into a file that nobody else sees.
    ///
    /// # Errors
    /// Those of the format; where that file can't be written.
    pub(crate) fn anywhere(self) -> Result<Arc<dyn ReadPart>, Reject> {
        match self.kind {
            Kind::Tar => Ok(Arc::new(TarReader::new(self.bytes))),
            Kind::Zip => Ok(Arc::new(ZipReader::open(self.bytes)?)),
            Kind::Table => Ok(Arc::new(Shared::new(Box::new(self.table())))),
            Kind::CompressedTar(compression) => {
                let unpacked = spool::unpacked(self.bytes, compression).map_err(reject)?;
                Ok(Arc::new(TarReader::new(unpacked)))
            }
        }
    }

    fn table(self) -> TableReader {
        // Data sets of Hugging Face have `data/train.parquet` beside `images/`.
        let folder = uri::to_path(&self.uri).and_then(|path| Some(path.parent()?.parent()?.into()));
        let folder: Option<std::path::PathBuf> = folder;
        TableReader::new(self.bytes, &self.uri, folder.as_deref())
    }
}

fn reject(message: String) -> Reject {
    Reject::new(Stage::Read, message)
}
