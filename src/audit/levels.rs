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
    /// Whether it holds what the levels before it left over.
    pub residual: bool,
}

/// Every level that a file can have: `tokens`, `tokens_top`, `tokens_residual_1`, ...
pub(super) fn all() -> &'static [Level] {
    static ALL: LazyLock<Vec<Level>> = LazyLock::new(|| {
        let level = |suffix: String, residual| Level {
            tokens: format!("tokens{suffix}"),
            grid_height: format!("grid{suffix}_height"),
            grid_width: format!("grid{suffix}_width"),
            codes: format!("codes{suffix}"),
            residual,
        };
        let alone = ["", "_top"].map(|suffix| level(suffix.into(), false));
        let residual = (1..LEVELS_MAX).map(|n| level(format!("_residual_{n}"), true));
        alone.into_iter().chain(residual).collect()
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

/// The levels that a file with these columns has; residual ones up to the first that is missing.
pub(super) fn of(schema: &Schema) -> Vec<&'static Level> {
    let has = |level: &&Level| schema.column_with_name(&level.tokens).is_some();
    let (alone, residual) = all().split_at(2);
    alone.iter().filter(has).chain(residual.iter().take_while(has)).collect()
}

/// The levels that a plan's identity announces.
pub(super) fn announced(identity: &Value) -> Vec<&'static Level> {
    let levels = identity["levels"].as_array().into_iter().flatten().enumerate();
    let index = |(index, level): (usize, &Value)| match (index, level["residual"] == true) {
        (0, _) => 0,
        (_, false) => 1,
        (index, true) => index + 1,
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
        let mut deepest = deep.clone();
        deepest.levels.resize(LEVELS_MAX, deep.levels[1].clone());
        for (identity, measured) in [(deep, 2), (plain, 0), (hierarchical, 0), (deepest, 15)] {
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
