//! Owns what a format has to be able to do. Must not know: any of them.

use std::path::Path;

use super::fields::Fields;
use super::ids::Ids;
use super::journal::PartRecord;
use super::labels::Labels;
use super::part::Made;
use super::row::Row;
use crate::error::Result;

/// What a format may know of all rows.
pub(super) struct Facts {
    pub ids: Ids,
    pub labels: Labels,
    /// Whether any row has a caption.
    pub captions: bool,
    /// Those of JSON lines.
    pub fields: Fields,
}

/// A row as a format's bytes.
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// Ids that the row has there.
    pub ids: usize,
}

/// How rows become files.
pub(super) trait Format: Sync {
    /// A row's bytes; called from many threads.
    fn encode(&self, row: &Row) -> Encoded;

    /// Begins part `number` of a split in its folder.
    ///
    /// # Errors
    /// What the system refuses.
    fn part(&self, folder: &Path, number: usize) -> Result<Box<dyn Part>>;

    /// The file that lists a split's parts, with its name, where the format has one.
    fn index(&self, _parts: &[PartRecord]) -> Option<(&'static str, Vec<u8>)> {
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
    fn push(&mut self, row: &Encoded) -> Result<()>;

    /// Makes the files whole and durable, under temporary names.
    ///
    /// # Errors
    /// What the system refuses.
    fn seal(self: Box<Self>) -> Result<Vec<Made>>;
}
