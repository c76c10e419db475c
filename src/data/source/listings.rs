//! Owns opening containers and lists for their images.

use std::path::Path;
use std::sync::Arc;

use super::container::fields::Fields;
use super::container::listing::{Listing, Remarks};
use super::container::open::{Kind, kind_of};
use super::container::parquet_table::{self, TableKind};
use super::container::{tar, zip};
use super::image::SourceImage;
use super::lists;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::error_text;

/// What a file was found to hold.
pub(crate) enum Held {
    /// Images. `forward`: the file can only be read from its beginning on. `paths`: keys are paths,
    /// whose folders may be labels.
    Images { listing: Box<dyn Listing>, forward: bool, paths: bool },
    /// None, for this reason.
    Nothing(String),
}

impl Held {
    fn images(listing: impl Listing + 'static) -> Held {
        Held::Images { listing: Box::new(listing), forward: false, paths: false }
    }

    fn paths(listing: impl Listing + 'static, forward: bool) -> Held {
        Held::Images { listing: Box::new(listing), forward, paths: true }
    }
}

/// One image that stands for a whole container that can't be read, so that it isn't lost.
struct Lost {
    image: Option<SourceImage>,
    remarks: Remarks,
}

impl Lost {
    fn new(uri: &str, key: &str, fault: String) -> Lost {
        let (key, uri) = (key.to_string(), uri.to_string());
        let image = SourceImage { key, uri, fault: Some(fault), ..SourceImage::default() };
        Lost { image: Some(image), remarks: Remarks::default() }
    }
}

impl Iterator for Lost {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        self.image.take().map(Ok)
    }
}

impl Listing for Lost {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }
}

/// What the container at `path` holds; `key` names it.
///
/// # Errors
/// It can't be told which of its columns holds the images.
pub(super) fn of_container(path: &Path, uri: &str, key: &str, fields: &Fields) -> Result<Held> {
    let bytes = match storage::open(path) {
        Ok(bytes) => bytes,
        Err(error) => return Ok(Held::images(Lost::new(uri, key, error_text::reason(&error)))),
    };
    let kind = kind_of(&bytes).map_err(Error::io(path))?.unwrap_or_else(|| kind_by_name(path));
    Ok(match kind {
        Kind::Tar => Held::paths(tar::list(bytes, uri, key, fields)?, false),
        Kind::CompressedTar(_) => Held::paths(tar::list(bytes, uri, key, fields)?, true),
        Kind::Zip => Held::paths(zip::list(bytes, uri, key, fields)?, false),
        Kind::Table => match parquet_table::kind(Arc::clone(&bytes), uri, fields)? {
            TableKind::Images => Held::images(parquet_table::list(bytes, uri, key, fields)?),
            TableKind::Vqtok => {
                Held::Nothing("it was written by vqtok: what it wrote is no input".into())
            }
            TableKind::Account => {
                Held::Nothing("it lists what lies in a tar or folder beside it".into())
            }
            TableKind::List => Held::images(lists::list_table(path, bytes, uri, key, fields)?),
            TableKind::Other => Held::Nothing(parquet_table::why_none(bytes, uri)?),
        },
    })
}

/// What a file is called that holds nothing of the kind: listing it says what is wrong.
fn kind_by_name(path: &Path) -> Kind {
    let is = |extension| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension));
    match (is("parquet"), is("zip")) {
        (true, _) => Kind::Table,
        (_, true) => Kind::Zip,
        _ => Kind::Tar,
    }
}

/// What the list at `path` names; `key` names it.
///
/// # Errors
/// One that can't be read.
pub(super) fn of_list(path: &Path, key: &str, fields: &Fields) -> Result<Held> {
    let bytes = storage::open(path).map_err(Error::io(path))?;
    Ok(Held::images(lists::list(path, bytes, key, fields)?))
}
