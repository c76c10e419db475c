//! Owns what the levels of a row are called: columns and metadata. Must not know: what is in them.

use super::level_layout::LevelLayout;

/// The names of one level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LevelNames {
    /// The column of its codes.
    pub tokens: String,
    /// The column of its grid's height.
    pub grid_height: String,
    /// The column of its grid's width.
    pub grid_width: String,
    /// The metadata that says K.
    pub codes_entry: String,
    /// The metadata that says D where bits are counted.
    pub bits_entry: String,
    /// The metadata that says its grid.
    pub grid_entry: String,
}

/// The names of all levels, in their order: `tokens`, then `tokens_top` or `tokens_residual_1`,
/// `tokens_residual_2` ..., or `tokens_book_1`, `tokens_book_2` ...
pub(super) fn names(levels: &[LevelLayout]) -> Vec<LevelNames> {
    let suffixes = levels.iter().enumerate().map(|(index, level)| match (index, level.residual) {
        (0, _) => String::new(),
        (_, true) => format!("_residual_{index}"),
        _ if level.book => format!("_book_{index}"),
        (_, false) => "_top".to_string(),
    });
    let named = suffixes.map(|suffix| LevelNames {
        tokens: format!("tokens{suffix}"),
        grid_height: format!("grid{suffix}_height"),
        grid_width: format!("grid{suffix}_width"),
        codes_entry: format!("vqtok.codes{suffix}"),
        bits_entry: format!("vqtok.bits{suffix}"),
        grid_entry: format!("vqtok.grid{suffix}"),
    });
    named.collect()
}
