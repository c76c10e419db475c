//! Owns lists of images in Parquet, as LAION, COYO and DataComp publish them. Must not know: how the
//! format is read.

use std::path::Path;
use std::sync::Arc;

use super::columns::Columns;
use super::place::Place;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, Remarks};
use crate::data::source::container::odd::Oddities;
use crate::data::source::container::parquet_table::{TextRows, text_columns, text_rows};
use crate::data::source::image::SourceImage;
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::text;

/// The images that the rows of a Parquet file name.
pub(crate) struct TableList {
    rows: TextRows,
    columns: Columns,
    place: Place,
    number: u64,
    odd: Oddities,
    remarks: Remarks,
}

/// Lists what the Parquet file at `path` names; its rows are spoken of as those of `name`, counted
/// from 1.
///
/// # Errors
/// The system's; no column that names images, one that is asked for and missing.
pub(crate) fn list_table(
    path: &Path,
    bytes: Arc<dyn BytesAt>,
    uri: &str,
    name: &str,
    fields: &Fields,
) -> Result<TableList> {
    let names = text_columns(Arc::clone(&bytes), uri)?;
    let mut odd = Oddities::default();
    let columns = Columns::of(&names, fields, &mut odd)
        .map_err(|reason| Error::invalid(format!("{}: {reason}", text::path(path))))?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rows = text_rows(bytes, uri, &names)?;
    let place = Place::of(path, name).map_err(Error::io(path))?;
    Ok(TableList { rows, columns, place, number: 0, odd, remarks: Remarks::default() })
}

impl Iterator for TableList {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        let cells = match self.rows.next() {
            Some(Ok(cells)) => cells,
            Some(Err(error)) => return Some(Err(error)),
            None => {
                self.remarks.odd = self.odd.lines();
                self.remarks.odd.extend(self.rows.odd());
                return None;
            }
        };
        self.number += 1;
        let cell = |at: usize| cells.get(at)?.as_deref().map(str::as_bytes);
        let place = self.place.row(self.number);
        let row = self.columns.row(cell, &place, &mut self.odd);
        Some(Ok(self.place.image(row, self.number)))
    }
}

impl Listing for TableList {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }
}
