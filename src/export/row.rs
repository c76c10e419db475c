//! Owns a row on its way into a file, and the digest that what was read is compared by with what is
//! read back. Must not know: formats.

use sha2::{Digest, Sha256};

/// A row on its way into a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its number in the export's order, from 0.
    pub number: u64,
    /// As it is written: of one among several views, with the view behind it.
    pub key: String,
    pub label: Option<String>,
    /// The label's id, where labels have ids.
    pub class: Option<i64>,
    pub caption: Option<String>,
    pub meta_json: Option<String>,
    /// The chosen levels' codes; those of further levels come after those of the levels before. In
    /// formats that have the views of an image in one row: of one view after the other.
    pub codes: Vec<u32>,
    pub height: usize,
    pub width: usize,
    /// Views in it.
    pub views: usize,
    /// Where each is in its image: top, left, height, width, mirrored.
    pub crops: Vec<[i64; 5]>,
}

/// What of a row a file gives back.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// Where the format has a place for it.
    pub class: Option<i64>,
    /// Where the format has a place for it.
    pub sides: Option<(usize, usize)>,
    pub codes: Vec<u32>,
}

/// A digest of rows in order.
#[derive(Clone, Default)]
pub(super) struct RowDigest {
    hasher: Sha256,
    rows: u64,
}

impl RowDigest {
    /// Adds a row.
    pub(super) fn add(&mut self, class: Option<i64>, sides: Option<(usize, usize)>, codes: &[u32]) {
        let (height, width) = sides.unwrap_or((0, 0));
        let head = [class.unwrap_or(i64::MIN), height as i64, width as i64, codes.len() as i64];
        head.iter().for_each(|value| self.hasher.update(value.to_le_bytes()));
        let bytes: Vec<u8> = codes.iter().flat_map(|code| code.to_le_bytes()).collect();
        self.hasher.update(bytes);
        self.rows += 1;
    }

    /// Of all rows so far, with their number.
    pub(super) fn finish(self) -> ([u8; 32], u64) {
        (self.hasher.finalize().into(), self.rows)
    }
}
