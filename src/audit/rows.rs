//! Owns what reading token files gives: rows, rows that can't be used, files and what they say of
//! themselves. Must not know: how anything is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

pub(super) use super::image_facts::ImageFacts;
use super::level_size::numbers;
use crate::util::text;

/// One grid of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// `height * width` codes, row-major; where a token is a list of bits, those of all.
    pub codes: Vec<u32>,
    /// In tokens.
    pub height: usize,
    /// In tokens.
    pub width: usize,
}

impl Grid {
    /// Values of a token: 1, or D where it is a list of bits.
    pub fn values(&self) -> usize {
        (self.codes.len() / (self.height * self.width).max(1)).max(1)
    }

    /// The same with numbers for tokens: lists of bits as digests of them.
    pub(crate) fn numbered(&self) -> Cow<'_, Grid> {
        match numbers(&self.codes, self.values()) {
            Cow::Borrowed(_) => Cow::Borrowed(self),
            Cow::Owned(codes) => Cow::Owned(Grid { codes, ..*self }),
        }
    }
}

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub struct GridRow {
    /// The row's key, or its number over all files.
    pub key: String,
    /// Whether the file has a key for it.
    pub keyed: bool,
    /// Number of the view, where the file says.
    pub view: Option<i64>,
    /// `tokens`, then `tokens_top` or the residual ones where there are any.
    pub levels: Vec<Grid>,
    /// Whether nothing but the number of tokens says the grid: it was taken for a square.
    pub guessed: bool,
    /// The file it is in.
    pub file: Arc<Path>,
    /// Its number in there, from 0.
    pub row: u64,
    /// What stands beside the tokens, where that was asked for.
    pub beside: Beside,
}

/// What a row says of its image; all of it may be missing.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Beside {
    /// `label`.
    pub label: Option<String>,
    /// `label_id`, where it is a whole number.
    pub label_id: Option<i64>,
    /// `caption`.
    pub caption: Option<String>,
    /// `meta_json`.
    pub meta_json: Option<String>,
    /// Where in its image it is, where that was asked for: top, left, height, width, and 1 where it is
    /// mirrored. One, unless rows were put together.
    pub crops: Vec<[i64; 5]>,
    /// What its image is, where that was asked for.
    pub image: Option<Box<ImageFacts>>,
}

/// Rows that can't be used: one, or a stretch or file of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRows {
    /// The file they are in.
    pub file: Arc<Path>,
    /// Their numbers in there, from 0; empty where a file can't be opened that far.
    pub rows: Range<u64>,
    /// The key, where it is one row that has one.
    pub key: Option<String>,
    /// One line.
    pub problem: String,
    /// Whether nothing of their file can be read.
    pub whole_file: bool,
}

impl BadRows {
    /// All rows of a file.
    pub(super) fn all_of(file: &Path, rows: u64, problem: String) -> BadRows {
        BadRows { file: file.into(), rows: 0..rows, key: None, problem, whole_file: true }
    }

    /// How many rows that is known to be; 0 where a file can't even be counted.
    pub fn count(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    /// `part.parquet, row 3 ('cat.png'): has ...`.
    pub fn in_words(&self) -> String {
        let file = text::path(&*self.file);
        let key =
            self.key.as_ref().map_or(String::new(), |key| format!(" ('{}')", text::shorten(key)));
        match self.count() {
            0 => format!("{file}: {}", self.problem),
            1 => format!("{file}, row {}{key}: {}", self.rows.start, self.problem),
            _ => format!(
                "{file}, rows {} to {}: {}",
                self.rows.start,
                self.rows.end - 1,
                self.problem
            ),
        }
    }
}

/// What a file of tokens says of the model that made them; only files of vqtok do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MadeBy {
    /// `vqtok.family`.
    pub family: String,
    /// `vqtok.weights_sha256`, hex.
    pub weights_sha256: String,
    /// `vqtok.codebook_sha256`, hex; empty where the quantizer has no codebook.
    pub codebook_sha256: String,
    /// `vqtok.codes`.
    pub codes: Option<u64>,
    /// `vqtok.bits`, where bits are counted.
    pub bits: Option<u64>,
    /// `vqtok.scales`; nothing where rows hold no codes of several scales.
    pub scales: BTreeMap<String, Vec<[usize; 2]>>,
}

impl MadeBy {
    /// Values of a token: 1, or how many bits it is a list of.
    pub fn values(&self) -> usize {
        let bits = self.bits.filter(|_| self.codes == Some(2));
        bits.and_then(|bits| usize::try_from(bits).ok()).unwrap_or(1).max(1)
    }
}

/// One file that can be read.
#[derive(Debug, Clone)]
pub struct Table {
    /// Where it lies.
    pub path: Arc<Path>,
    /// Its rows.
    pub rows: u64,
    /// The model, where it says one.
    pub made_by: Option<MadeBy>,
    /// Which partition of which output it is, where it is one.
    pub shard: Option<Shard>,
}

/// A partition, as its own metadata says.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shard {
    /// Hex digest of the plan.
    pub plan: String,
    /// How many partitions it has.
    pub partitions: u64,
    /// Which this one is.
    pub partition: u64,
}
