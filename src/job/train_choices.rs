//! Owns what a training may be asked to follow and to begin with. Must not know: how either is used.

use std::fmt;
use std::str::FromStr;

use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::util::settings::PRECISION;
use crate::util::text;

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

/// What the convolutions of a training make of their factors on a GPU; the processor has float32 alone. What
/// they sum and all else is float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrainPrecision {
    /// Nothing.
    #[default]
    F32,
    /// Rounds them to TF32, 10 bits behind the point, on tensor cores: in all networks.
    Tf32,
    /// Rounds what the network's convolutions read to bfloat16, 7 bits, which they keep for the backward pass
    /// in half the memory.
    Bf16,
}

impl TrainPrecision {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            TrainPrecision::F32 => "f32",
            TrainPrecision::Tf32 => "tf32",
            TrainPrecision::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for TrainPrecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TrainPrecision {
    type Err = Error;

    fn from_str(word: &str) -> Result<TrainPrecision> {
        [TrainPrecision::F32, TrainPrecision::Tf32, TrainPrecision::Bf16]
            .into_iter()
            .find(|precision| precision.as_str() == word)
            .ok_or_else(|| {
                let shown = text::shorten(word);
                Error::setting(PRECISION, format!("{shown}: choose f32, bf16 or, to train, tf32"))
            })
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
