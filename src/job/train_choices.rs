//! Owns what a training may be asked to follow and to begin with. Must not know: how either is used.

use crate::config::Recipe;
use crate::error::Result;

/// The recipe that a training is asked to follow.
#[derive(Debug, Clone)]
pub enum RecipeChoice {
    /// By the name of one that comes with vqtok, or a TOML file.
    Named(String),
    /// As it is; checked when the training begins.
    Given(Box<Recipe>),
}

impl RecipeChoice {
    pub(super) fn load(&self) -> Result<Recipe> {
        match self {
            RecipeChoice::Named(name) => Recipe::load(name),
            RecipeChoice::Given(recipe) => Ok(Recipe::clone(recipe)),
        }
    }

    /// What messages call it.
    pub(super) fn name(&self) -> &str {
        match self {
            RecipeChoice::Named(name) => name,
            RecipeChoice::Given(recipe) => &recipe.name,
        }
    }
}

impl From<Recipe> for RecipeChoice {
    fn from(recipe: Recipe) -> RecipeChoice {
        RecipeChoice::Given(Box::new(recipe))
    }
}

impl From<&str> for RecipeChoice {
    fn from(name_or_file: &str) -> RecipeChoice {
        RecipeChoice::Named(name_or_file.into())
    }
}

impl From<String> for RecipeChoice {
    fn from(name_or_file: String) -> RecipeChoice {
        RecipeChoice::Named(name_or_file)
    }
}

/// The checkpoint whose weights a training begins with.
#[derive(Debug, Clone, Default)]
pub struct InitFrom {
    pub(super) path: String,
    pub(super) family: String,
    pub(super) weights: String,
}

impl InitFrom {
    /// A model folder or checkpoint file, of the recipe's architecture; a codebook of another size
    /// or length starts from random values.
    pub fn new(path: impl Into<String>) -> InitFrom {
        InitFrom { path: path.into(), ..InitFrom::default() }
    }

    /// Its family, where the names of its weights can't tell.
    pub fn family(mut self, name: impl Into<String>) -> InitFrom {
        self.family = name.into();
        self
    }

    /// Which of several sets of weights: the start of their names.
    pub fn weights(mut self, prefix: impl Into<String>) -> InitFrom {
        self.weights = prefix.into();
        self
    }
}
