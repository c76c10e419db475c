//! Owns listing the images that a list names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::place::Place;
use super::row::Row;
use super::rows::Rows;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, Remarks};
use crate::data::source::container::odd::Oddities;
use crate::data::source::image::SourceImage;
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::settings::KEY_COLUMN;
use crate::util::text;

/// The images that a list names, in its order.
pub(crate) struct ListListing {
    path: PathBuf,
    place: Place,
    /// None once all are given.
    rows: Option<Rows>,
    /// What it is called, and the column of names that is asked for.
    name: String,
    key: Option<String>,
    odd: Oddities,
    remarks: Remarks,
}

/// Lists what the list at `path` names; `bytes` is its content, and its rows are spoken of as those
/// of `name`. Images have no [`Part`](crate::data::source::image::Part): they are files.
///
/// # Errors
/// The system's; it can't be used as a list at all: no text, no column that names images, one that
/// is asked for and missing.
pub(crate) fn list(
    path: &Path,
    bytes: Arc<dyn BytesAt>,
    name: &str,
    fields: &Fields,
) -> Result<ListListing> {
    let mut odd = Oddities::default();
    let place = Place::of(path, name).map_err(Error::io(path))?;
    let rows = Rows::open(path, name, &bytes, fields, &mut odd).map_err(Error::io(path))?;
    let rows = rows.map_err(|reason| Error::invalid(format!("{}: {reason}", text::path(path))))?;
    let (path, name, key) = (path.to_path_buf(), name.to_string(), fields.key.clone());
    Ok(ListListing { path, place, rows: Some(rows), name, key, odd, remarks: Remarks::default() })
}

impl ListListing {
    /// Takes note of a row that lacks the name that is asked for.
    fn look_at(&mut self, row: &Row, number: u64) {
        if let Some(key) = self.key.as_ref().filter(|_| row.key.is_none()) {
            let what = format!("rows without the {} that {KEY_COLUMN} names", text::quoted(key));
            self.odd.note(what, &format!("{}:{number}", self.name));
        }
    }
}

impl Iterator for ListListing {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        let next = self.rows.as_mut()?.next(&mut self.odd);
        match next {
            Ok(Some((number, Ok(row)))) => {
                self.look_at(&row, number);
                Some(Ok(self.place.image(row, number)))
            }
            Ok(Some((number, Err(reason)))) => Some(Ok(self.place.lost(number, reason))),
            end => {
                self.rows = None;
                self.remarks.odd = self.odd.lines();
                end.err().map(|error| Err(Error::io(&self.path)(error)))
            }
        }
    }
}

impl Listing for ListListing {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }
}
