//! Owns listing a table's images: one to a row, or to an element of a row's list, in the order of
//! the rows. Must not know: what an image holds.

use std::sync::Arc;

use super::detect::{ImageColumn, NoImages, image_column};
use super::facts::{FactColumns, RowFacts};
use super::features::Features;
use super::hive::Hive;
use super::kind::has_text;
use super::leaf::{LeafRows, TOO_FEW};
use super::side::SideColumn;
use super::table::{Table, Unopened, digest};
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::{Listing, Remarks};
use crate::data::source::image::{Part, SourceImage};
use crate::data::source::uri;
use crate::error::{Error, Result};
use crate::storage::BytesAt;
use crate::util::parquet_guard::ENCRYPTED;
use crate::util::settings::IMAGE_COLUMN;
use crate::util::text;

/// The images of a table.
pub(crate) struct TableListing {
    rows: Option<Rows>,
    /// One that stands for all, where the footer is damaged.
    fault: Option<SourceImage>,
    remarks: Remarks,
    digest: Option<String>,
}

/// The images of the Parquet file at `uri`, called `name` below its INPUT.
///
/// # Errors
/// Those of reading it; it can't be told which column holds the images, or a column that `fields` names isn't there or
/// holds something else.
pub(crate) fn list(
    bytes: Arc<dyn BytesAt>,
    uri: &str,
    name: &str,
    fields: &Fields,
) -> Result<TableListing> {
    let table = match Table::open(Arc::clone(&bytes)) {
        Ok(table) => table,
        Err(Unopened::Failed(failure)) => return Err(Error::io(uri::place(uri))(failure)),
        Err(Unopened::Damaged(reason)) => return Ok(TableListing::damaged(uri, name, &reason)),
    };
    let digest = digest(bytes.as_ref()).map_err(Error::io(uri::place(uri)))?;
    let refused = |line: String| Error::invalid(format!("{}: {line}", text::path(uri::place(uri))));
    let features = Features::of(&table);
    let image = image_column(&table, &features, fields).map_err(|why| {
        refused(match why {
            NoImages::Refused(line) => line,
            NoImages::None => format!("no column of it looks like images; set {IMAGE_COLUMN}"),
        })
    })?;
    if table.encrypted && first_row(&table, &image).is_err() {
        return match table.failure() {
            Some(failure) => Err(Error::io(uri::place(uri))(failure)),
            None => Ok(TableListing::damaged(uri, name, ENCRYPTED)),
        };
    }
    let (hive, fields) = Hive::of(name, fields, |name| table.column(name).is_some());
    let facts = FactColumns::of(&table, &features, &fields).map_err(refused)?;
    // img2dataset keeps rows of what it couldn't download.
    let status = has_text(&table, ["url", "key", "status"]).then(|| table.column("status"));
    let status = status.flatten().map(SideColumn::new);
    let stem = name.strip_suffix(".parquet").filter(|stem| !stem.is_empty()).unwrap_or(name);
    let (uri, stem) = (uri.to_owned(), stem.to_owned());
    let place = Place { group: 0, row: 0, entered: false };
    let rows =
        Rows { table, image, facts, hive, status, uri, stem, place, lengths: None, list: None };
    Ok(TableListing { rows: Some(rows), fault: None, remarks: Remarks::default(), digest })
}

/// Tries to read the first row of the images.
fn first_row(table: &Table, image: &ImageColumn) -> Result<(), String> {
    if table.groups() > 0 {
        LeafRows::open(table, 0, image.bytes, 1)?.advance()?;
    }
    Ok(())
}

impl TableListing {
    fn damaged(uri: &str, name: &str, reason: &str) -> TableListing {
        let fault = format!("the Parquet file can't be read: {reason}");
        let image = SourceImage {
            key: name.into(),
            uri: uri.into(),
            part: Some(Part::default()),
            fault: Some(fault),
            ..SourceImage::default()
        };
        let remarks = Remarks::default();
        TableListing { rows: None, fault: Some(image), remarks, digest: None }
    }
}

impl Iterator for TableListing {
    type Item = Result<SourceImage>;

    fn next(&mut self) -> Option<Result<SourceImage>> {
        if let Some(fault) = self.fault.take() {
            return Some(Ok(fault));
        }
        let rows = self.rows.as_mut()?;
        let image = rows.next(&mut self.remarks);
        if let Some(failure) = rows.table.failure() {
            let place = uri::place(&rows.uri);
            self.rows = None;
            return Some(Err(Error::io(place)(failure)));
        }
        if let Some(image) = image {
            return Some(Ok(image));
        }
        self.remarks.odd = rows.facts.odd();
        self.remarks.odd.extend(rows.status.iter().flat_map(SideColumn::odd));
        self.rows = None;
        None
    }
}

impl Listing for TableListing {
    fn remarks(&self) -> &Remarks {
        &self.remarks
    }

    fn digest(&self) -> Option<String> {
        self.digest.clone()
    }
}

struct Rows {
    table: Table,
    image: ImageColumn,
    facts: FactColumns,
    hive: Hive,
    status: Option<SideColumn>,
    uri: String,
    /// What rows without a key are called by, before their numbers.
    stem: String,
    place: Place,
    /// Of a column of lists: the leaf that tells their lengths.
    lengths: Option<LeafRows>,
    /// A row's list that isn't through yet.
    list: Option<Elements>,
}

/// The next row.
struct Place {
    group: usize,
    row: u64,
    /// Whether the columns have come to its row group.
    entered: bool,
}

/// What is left of a row's list.
struct Elements {
    /// Of the first of them; the others differ in their numbers.
    row: RowFacts,
    number: u64,
    next: usize,
    count: usize,
}

impl Rows {
    fn next(&mut self, remarks: &mut Remarks) -> Option<SourceImage> {
        loop {
            if let Some(image) = self.element() {
                return Some(image);
            }
            if self.place.group >= self.table.groups() {
                return None;
            }
            let (_, behind) = self.table.rows_of(self.place.group);
            if self.place.row >= behind {
                self.place.group += 1;
                self.place.entered = false;
                continue;
            }
            if !self.place.entered {
                self.place.entered = true;
                if let Err(reason) = self.enter() {
                    return Some(self.lost(&reason));
                }
            }
            match self.row(remarks) {
                Ok(None) => {}
                Ok(Some(image)) => return Some(image),
                Err(reason) => return Some(self.lost(&reason)),
            }
        }
    }

    /// Goes to the first row of the row group.
    fn enter(&mut self) -> Result<(), String> {
        let group = self.place.group;
        self.facts.enter(&self.table, group);
        if let Some(status) = &mut self.status {
            status.enter(&self.table, group);
        }
        if self.image.list.is_some() {
            // The paths are shorter than the images.
            let leaf = self.image.path.unwrap_or(self.image.bytes);
            self.lengths = Some(LeafRows::open(&self.table, group, leaf, 1)?);
        }
        Ok(())
    }

    /// The next row's image; None where it has none, or a list.
    fn row(&mut self, remarks: &mut Remarks) -> Result<Option<SourceImage>, String> {
        let number = self.place.row;
        let count = match (self.image.list, &mut self.lengths) {
            (Some(def), Some(lengths)) => {
                if !lengths.advance()? {
                    return Err(TOO_FEW.into());
                }
                Some(lengths.cells().defs.iter().filter(|level| **level >= def).count())
            }
            _ => None,
        };
        self.place.row += 1;
        let mut row = self.facts.next(&self.table, number);
        self.hive.add(&mut row.facts);
        let status = self.status.as_mut().map(|status| status.next(&self.table, number));
        let failed = status.is_some_and(|status| status.as_str().is_some_and(|s| s != "success"));
        if failed || count == Some(0) {
            remarks.without_image += 1;
            return Ok(None);
        }
        if let Some(count) = count {
            self.list = Some(Elements { row, number, next: 0, count });
            return Ok(None);
        }
        Ok(Some(self.image_of(row, number, self.image.name.clone())))
    }

    /// The next image of a row's list.
    fn element(&mut self) -> Option<SourceImage> {
        let list = self.list.as_mut()?;
        if list.next == list.count {
            self.list = None;
            return None;
        }
        let (next, number) = (list.next, list.number);
        list.next += 1;
        let row = RowFacts { key: list.row.key.clone(), facts: list.row.facts.clone() };
        let mut image = self.image_of(row, number, format!("{}[{next}]", self.image.name));
        image.key += &format!("/{next}");
        Some(image)
    }

    fn image_of(&self, row: RowFacts, number: u64, member: String) -> SourceImage {
        SourceImage {
            planned: None,
            key: row.key.unwrap_or_else(|| format!("{}/{number}", self.stem)),
            uri: self.uri.clone(),
            bytes: 0,
            part: Some(Part { member, offset: number }),
            facts: row.facts,
            forward: false,
            fault: None,
            bucket: None,
        }
    }

    /// One image that stands for the rest of the row group, of which nobody can tell how many there
    /// are.
    fn lost(&mut self, reason: &str) -> SourceImage {
        let (number, (_, behind)) = (self.place.row, self.table.rows_of(self.place.group));
        self.place.row = behind;
        self.lengths = None;
        let row = RowFacts { key: None, facts: Default::default() };
        let mut image = self.image_of(row, number, self.image.name.clone());
        image.fault = Some(format!(
            "rows {number} to {} can't be read, nor told how many images they hold: {reason}",
            behind - 1
        ));
        image
    }
}
