//! Owns what a comparison of two outputs gives, as it stands in its JSON file. Must not know: how
//! anything is compared.

use serde::Serialize;

/// How two outputs differ; `schemas/diff.v1.json` describes each name.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// `diff.v1`.
    pub schema: &'static str,
    /// Whether both hold the same images with the same tokens and labels, and the same failures.
    pub equal: bool,
    /// Rows of the first output and of the second.
    pub rows: [u64; 2],
    /// Rows of each that couldn't be read, so that they are in no other number.
    pub unreadable: [u64; 2],
    /// Settings that aren't the same in both, by name.
    pub settings: Vec<SettingDifference>,
    /// Rows that both have, and their tokens.
    pub shared: Sharing,
    /// Images of the second that the first neither has nor gave up.
    pub added: Images,
    /// Images of the first that the second neither has nor gave up.
    pub gone: Images,
    /// Images in both whose files differ.
    pub changed: Images,
    /// Images in both that have another label, or none any more.
    pub relabelled: Images,
    /// Images that the first gave up and the second has.
    pub mended: Vec<MendedImage>,
    /// How many.
    pub mended_count: u64,
    /// Images that the first has and the second gave up.
    pub broken: Vec<MendedImage>,
    /// How many.
    pub broken_count: u64,
    /// Images that both gave up.
    pub failed_in_both: u64,
    /// Images given up by one of them alone that both have beside, or neither: of the first, of the second.
    pub failed_in_one: [u64; 2],
    /// Rows of keys that both have which only one has, such as further views, or a key that stands there
    /// twice: of the first, of the second.
    pub further_rows: [u64; 2],
    /// What else there is to say, and what can't be told, in one line each.
    pub remarks: Vec<String>,
}

/// Images by their keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Images {
    /// How many.
    pub count: u64,
    /// The first of them, at most 10,000, in the order they were found in.
    pub keys: Vec<String>,
}

/// An image that one of the two outputs gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MendedImage {
    /// Its key.
    pub key: String,
    /// Why it was given up: the stage, and the error.
    pub error: String,
}

/// A setting that isn't the same in both.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SettingDifference {
    /// Its name as in `vqtok.identity`, dotted, or in the shards' metadata.
    pub name: String,
    /// In the first; null where it isn't there.
    pub a: serde_json::Value,
    /// In the second.
    pub b: serde_json::Value,
}

/// Rows that both outputs have.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Sharing {
    /// Rows with the same key and view. Where several have them, the first of one output stands against
    /// the first of the other, the second against the second.
    pub rows: u64,
    /// Those whose tokens are all equal.
    pub equal_rows: u64,
    /// Those whose grids are of another size, or have other levels: their tokens have no places in
    /// common.
    pub other_grid_rows: u64,
    /// Those whose tokens differ though the file is the same.
    pub differing_of_same_file: u64,
    /// Tokens of rows with equal grids, and how many of them are equal.
    pub tokens: u64,
    /// How many of them are equal.
    pub equal_tokens: u64,
    /// The same by level, and where they differ.
    pub levels: Vec<LevelDifference>,
    /// Rows by the share of their tokens that differ.
    pub by_share: Vec<ByShare>,
    /// Rows that differ most, the worst first, at most 20.
    pub worst: Vec<Worst>,
}

/// The tokens of one level.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LevelDifference {
    /// From 0.
    pub level: usize,
    /// Tokens that were compared.
    pub tokens: u64,
    /// How many of them are equal.
    pub equal_tokens: u64,
    /// Where they differ, by size of the grid, the size that most rows have first; at most 16 sizes.
    pub places: Vec<Place>,
}

/// Where in grids of one size tokens differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Place {
    /// In tokens.
    pub height: usize,
    /// In tokens.
    pub width: usize,
    /// Rows with such a grid.
    pub rows: u64,
    /// `height * width` numbers, row-major: rows whose token there differs.
    pub differing: Vec<u64>,
}

/// Rows whose share of differing tokens lies in a range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ByShare {
    /// The share is above this; of the first entry it is 0 itself.
    pub above: f64,
    /// And at most this.
    pub to: f64,
    /// How many.
    pub rows: u64,
}

/// A row that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worst {
    /// Its key.
    pub key: String,
    /// Its view, where it isn't the only one.
    pub view: Option<i64>,
    /// Share of its tokens that differ.
    pub differing: f64,
    /// Whether its file is another one.
    pub file_changed: bool,
}
