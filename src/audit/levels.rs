//! Owns what the levels of a row are called, in columns and metadata, as `schemas/tokens.v1.json`
//! tells it. Must not know: the writer, what is in them.

use std::sync::LazyLock;

use arrow::datatypes::Schema;
use serde_json::Value;

/// Grids of a row at most.
pub(super) const LEVELS_MAX: usize = 16;

/// The names of one level.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// The column of its codes.
    pub tokens: String,
    /// The column of its grid's height.
    pub grid_height: String,
    /// The column of its grid's width.
    pub grid_width: String,
    /// The metadata that says K, without the prefix `vqtok.`.
    pub codes: String,
    /// The metadata that says D where bits are counted, without it.
    pub bits: String,
    /// Whether it holds what the levels before it left over.
    pub residual: bool,
    /// Whether it holds the codes of another book, beside the first level's.
    pub book: bool,
}

impl Level {
    /// Whether its grid is the first level's.
    pub(super) fn has_first_grid(&self) -> bool {
        self.residual || self.book
    }
}

/// Every level that a file can have: `tokens`, `tokens_top`, `tokens_residual_1`, ..., `tokens_book_1`,
/// ...
pub(super) fn all() -> &'static [Level] {
    static ALL: LazyLock<Vec<Level>> = LazyLock::new(|| {
        let level = |suffix: String, residual, book| Level {
            tokens: format!("tokens{suffix}"),
            grid_height: format!("grid{suffix}_height"),
            grid_width: format!("grid{suffix}_width"),
            codes: format!("codes{suffix}"),
            bits: format!("bits{suffix}"),
            residual,
            book,
        };
        let alone = ["", "_top"].map(|suffix| level(suffix.into(), false, false));
        let residual = (1..LEVELS_MAX).map(|n| level(format!("_residual_{n}"), true, false));
        let books = (1..LEVELS_MAX).map(|n| level(format!("_book_{n}"), false, true));
        alone.into_iter().chain(residual).chain(books).collect()
    });
    &ALL
}

/// The columns of every level that a file can have.
pub(super) fn columns() -> impl Iterator<Item = &'static str> {
    let names = |level: &'static Level| {
        [&level.tokens, &level.grid_height, &level.grid_width].map(String::as_str)
    };
    all().iter().flat_map(names)
}

/// The levels that a file with these columns has; residual ones and books up to the first that is
/// missing.
pub(super) fn of(schema: &Schema) -> Vec<&'static Level> {
    let has = |level: &&Level| schema.column_with_name(&level.tokens).is_some();
    let (alone, further) = all().split_at(2);
    let (residual, books) = further.split_at(LEVELS_MAX - 1);
    let further = residual.iter().take_while(has).chain(books.iter().take_while(has));
    alone.iter().filter(has).chain(further).collect()
}

/// The levels that a plan's identity announces.
pub(super) fn announced(identity: &Value) -> Vec<&'static Level> {
    let levels = identity["levels"].as_array().into_iter().flatten().enumerate();
    let index = |(index, level): (usize, &Value)| match (index, level["residual"] == true) {
        (0, _) => 0,
        (index, true) => index + 1,
        (index, _) if level["book"] == true => index + LEVELS_MAX,
        _ => 1,
    };
    levels.filter_map(|level| all().get(index(level))).collect()
}

/// Which of the levels `quantization_error` is of: the last residual one, else the first.
pub(super) fn measured(levels: &[&Level]) -> usize {
    levels.iter().rposition(|level| level.residual).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::testing::deep_identity;
    use crate::tokens::{LevelLayout, schema};

    #[test]
    fn names_are_the_writers_for_every_kind_of_levels() {
        let deep = deep_identity(10);
        let mut plain = deep.clone();
        plain.levels.truncate(1);
        let mut hierarchical = plain.clone();
        hierarchical.levels.push(LevelLayout::new(32, Some([1, 2])));
        let mut books = plain.clone();
        let book = LevelLayout { book: true, ..plain.levels[0].clone() };
        books.levels.resize(4, book);
        let mut deepest = deep.clone();
        deepest.levels.resize(LEVELS_MAX, deep.levels[1].clone());
        for (identity, measured) in
            [(deep, 2), (plain, 0), (hierarchical, 0), (books, 0), (deepest, 15)]
        {
            identity.check().unwrap();
            let levels = of(&schema::tokens(&identity.levels, schema::TOKENS));
            assert_eq!(levels.len(), identity.levels.len());
            assert_eq!(announced(&identity.sorted()), levels);
            assert_eq!(super::measured(&levels), measured);
        }
    }

    #[test]
    fn a_level_that_was_not_announced_is_another() {
        let deep = deep_identity(10);
        let mut other = deep.clone();
        other.levels.pop();
        assert_ne!(of(&schema::tokens(&other.levels, schema::TOKENS)), announced(&deep.sorted()));
        other.levels[1].residual = false;
        assert_ne!(
            of(&schema::tokens(&deep.levels[..2], schema::TOKENS)),
            announced(&other.sorted())
        );
    }
}
