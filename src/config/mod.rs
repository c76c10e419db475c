//! Recipes: TOML to checked settings. Must not know: any file but the recipe's.

mod check;
mod known;
mod parse_error;
mod recipe;

#[cfg(test)]
mod effects;

pub(crate) use crate::train::settings::BATCH_SIZE_MAX;
pub use known::RECIPES;
pub use recipe::{DataRecipe, Expected, ModelRecipe, QuantizerRecipe, Recipe, TokenizeRecipe};
