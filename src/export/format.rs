//! Owns what a format has to be able to do. Must not know: any of them.

use std::path::Path;

use super::fields::Fields;
use super::ids::Ids;
use super::journal::SplitRecord;
use super::labels::Labels;
use super::part::Made;
use super::row::Row;
use super::settings::Header;
use crate::error::Result;

/// What a format may know of all rows.
pub(super) struct Facts {
    pub ids: Ids,
    pub labels: Labels,
    /// Whether any row has a caption.
    pub captions: bool,
    /// Those of JSON lines, and what the tokens of open-muse are called.
    pub fields: Fields,
    /// Views of an image in one row, in formats that have them so; else 1.
    pub views: usize,
    /// Whether rows say which place of their images they show.
    pub crops: bool,
    /// Ids of each row, where they are equally many and that is known beforehand.
    pub length: Option<usize>,
    /// Height and width of all grids, where they are alike.
    pub grid: Option<(usize, usize)>,
    /// Values of a token: 1, or how many bits it is a list of.
    pub values: usize,
    /// Side of the images in pixels, where the files say it and it is one.
    pub pixels: Option<u32>,
    /// Rows of a part that is full.
    pub rows_of_part: u64,
    /// What stands before bare ids, where anything does.
    pub header: Option<Header>,
}

/// Where a part belongs.
pub(super) struct Place<'a> {
    /// Its split's.
    pub folder: &'a Path,
    /// Its number in the split.
    pub number: usize,
    /// Rows of the whole split.
    pub rows: u64,
}

/// A row as a format's bytes.
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// Ids that the row has there.
    pub ids: usize,
}

/// A file that lists others: its name, and its bytes piece by piece, since it can be long.
pub(super) type Listing<'a> = (&'static str, Box<dyn Iterator<Item = Vec<u8>> + 'a>);

/// A listing whose bytes are there.
pub(super) fn listing<'a>(name: &'static str, bytes: Vec<u8>) -> Listing<'a> {
    (name, Box::new(std::iter::once(bytes)))
}

/// How rows become files.
pub(super) trait Format: Sync {
    /// A row's bytes; called from many threads.
    fn encode(&self, row: &Row) -> Encoded;

    /// Begins a part.
    ///
    /// # Errors
    /// What the system refuses, or the format has no place for.
    fn part(&self, place: &Place<'_>) -> Result<Box<dyn Part>>;

    /// The files that list a split's parts, with their names, where the format has any.
    fn index<'a>(&'a self, _split: &'a SplitRecord) -> Vec<Listing<'a>> {
        Vec::new()
    }

    /// The file that lists the splits, with its name, where the format has one.
    fn root(&self, _splits: &[&str]) -> Option<(&'static str, Vec<u8>)> {
        None
    }

    /// Whether a label's id is among what a file gives back.
    fn gives_class(&self) -> bool;

    /// Whether a grid's height and width are.
    fn gives_sides(&self) -> bool;
}

/// Files that are written together, row by row.
pub(super) trait Part {
    /// Appends a row.
    ///
    /// # Errors
    /// What the system refuses, or the format has no place for.
    fn push(&mut self, row: &Row, encoded: &Encoded) -> Result<()>;

    /// Makes the files whole and durable, under temporary names.
    ///
    /// # Errors
    /// What the system refuses.
    fn seal(self: Box<Self>) -> Result<Vec<Made>>;
}
