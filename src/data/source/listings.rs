//! Owns opening containers and lists for their images.

use std::path::Path;

use super::container::fields::Fields;
use super::container::listing::{Listing, Remarks};
use super::image::SourceImage;
use crate::error::Result;

/// One image that stands for a whole container that can't be read, so that it isn't lost.
struct Lost {
    image: Option<SourceImage>,
    remarks: Remarks,
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

/// The images of the container at `path`; `key` names it.
///
/// # Errors
/// One that is named and holds no images.
pub(super) fn of_container(
    path: &Path,
    uri: &str,
    key: &str,
    fields: &Fields,
) -> Result<Box<dyn Listing>> {
    let _ = (path, fields);
    let image = SourceImage {
        key: key.to_string(),
        uri: uri.to_string(),
        fault: Some("not yet".into()),
        ..SourceImage::default()
    };
    Ok(Box::new(Lost { image: Some(image), remarks: Remarks::default() }))
}

/// The images that the list at `path` names.
///
/// # Errors
/// One that can't be read.
pub(super) fn of_list(path: &Path, fields: &Fields) -> Result<Box<dyn Listing>> {
    of_container(path, "", "", fields)
}
