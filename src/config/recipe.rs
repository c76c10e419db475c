//! Owns a recipe: its tables, read from TOML and written as such, and the model that it asks for.
//! Reads the one file it is asked for, nothing else.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::known::RECIPES;
use super::parse_error;
use crate::data::decode::Alpha;
use crate::data::orientation::Orientation;
use crate::data::prepare::Preparation;
use crate::data::resize::pillow::PillowVersion;
use crate::data::resize::rules::ResizeRule;
use crate::error::{Error, Result};
use crate::model::config::{
    Architecture, FORMAT, InputRange, ModelConfig, OutputRange, PixelConfig, PreprocessConfig,
    QuantizerConfig, QuantizerRule, is_one, one,
};
use crate::pipeline::OnError;
use crate::train::{RECIPE_FILE, TrainSettings};
use crate::util::regular_file::TEXT_BYTES_MAX;
use crate::util::{regular_file, text};

/// A complete job: what to train on what, and how to tokenize with it. Every field has a value
/// once it is read; unknown fields are rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// As in `--recipe`.
    pub name: String,
    /// One line for `vqtok recipe list`.
    pub description: String,
    /// What a run of it gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// What to train.
    pub model: ModelRecipe,
    /// What it is trained on.
    pub data: DataRecipe,
    /// How.
    pub train: TrainSettings,
    /// Settings of the tokenizing run.
    #[serde(default)]
    pub tokenize: TokenizeRecipe,
}

/// `[expected]`: the figures of a run of the recipe as it stands, on images held out. Beside the
/// recipe and no part of it: a model's folder doesn't repeat it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The images.
    pub images: String,
    /// Mean of the images', in dB.
    pub psnr: f64,
    /// Share of the codes used, 0 to 1.
    pub usage: f64,
    /// Processor time of the whole training.
    pub cpu_seconds: f64,
    /// The machine, and when.
    pub run: String,
}

/// `[model]`: the network and its codebook.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRecipe {
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// K, codes in the codebook.
    pub codes: usize,
    /// D, length of a code.
    pub dim: usize,
    /// Residual levels, each with a codebook of its own; with the rule `l2`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub depth: usize,
    /// How a latent becomes a code: `[model.quantizer]`.
    #[serde(default)]
    pub quantizer: QuantizerRecipe,
    /// The network: `[model.architecture]`, with its `kind`.
    pub architecture: Architecture,
}

/// `[model.quantizer]`: the rule that tokenizing will use. How its codes are learned stands in
/// `[train.codebook]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuantizerRecipe {
    /// `l2` (the nearest code), `l2-normalised` (the nearest on the sphere), `fsq`, `sign` (LFQ).
    pub rule: QuantizerRule,
    /// For `fsq`: levels of each channel; their number is `dim`, their product `codes`.
    pub levels: Vec<usize>,
}

impl Default for QuantizerRecipe {
    fn default() -> QuantizerRecipe {
        QuantizerRecipe { rule: QuantizerRule::L2, levels: Vec::new() }
    }
}

/// `[data]`: what an image becomes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// Side of the square crop, in pixels.
    pub size: u32,
    /// Resize rule.
    #[serde(default)]
    pub resize: ResizeRule,
    /// What shows through transparency.
    #[serde(default)]
    pub alpha: Alpha,
    /// What becomes of the orientation that a file states.
    #[serde(default)]
    pub orientation: Orientation,
    /// Whose resampling the rules of Pillow follow: 12, or 13 from that version on.
    #[serde(default)]
    pub pillow: PillowVersion,
}

impl DataRecipe {
    /// The same for the model's folder, so that tokenizing with it does as training did.
    fn preprocess(&self) -> PreprocessConfig {
        let DataRecipe { size, resize, alpha, orientation, pillow } = self;
        PreprocessConfig {
            alpha: unless_default(alpha),
            orientation: unless_default(orientation),
            pillow: (*pillow != PillowVersion::default()).then(|| (*pillow).into()),
            ..PreprocessConfig::new(resize.name(), Some(*size))
        }
    }
}

/// The word for a setting that isn't what goes without saying.
fn unless_default<T: Default + PartialEq + ToString>(value: &T) -> Option<String> {
    (*value != T::default()).then(|| value.to_string())
}

/// `[tokenize]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizeRecipe {
    /// Images a batch; None = what suits the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<usize>,
    /// Rows a shard.
    pub shard_rows: usize,
    /// What a bad image costs.
    pub on_error: OnError,
}

impl Default for TokenizeRecipe {
    fn default() -> TokenizeRecipe {
        TokenizeRecipe { batch_size: None, shard_rows: 4096, on_error: OnError::Record }
    }
}

impl Recipe {
    /// What `vqtok tokenize` trains where nobody says otherwise.
    pub const DEFAULT: &str = "photos-vqvae-64";

    /// A recipe by the name of one that comes with vqtok, or from a TOML file; checked.
    ///
    /// # Errors
    /// No such name or file, TOML that doesn't parse, an unknown field, impossible settings.
    pub fn load(name_or_file: &str) -> Result<Recipe> {
        let known = RECIPES.iter().find(|(name, _)| *name == name_or_file);
        let text = match known {
            Some((_, text)) => text.to_string(),
            None => read(name_or_file)?,
        };
        Recipe::parse(&text, name_or_file)
    }

    /// A recipe from its TOML text; `origin` names it in errors.
    ///
    /// # Errors
    /// TOML that doesn't parse, an unknown field, impossible settings.
    pub fn parse(text: &str, origin: &str) -> Result<Recipe> {
        let origin = text::printable(origin);
        let mut recipe: Recipe = toml::from_str(text).map_err(|e| {
            Error::invalid(format!("recipe {origin}: {}", parse_error::one_line(&e, text)))
        })?;
        recipe.train.codebook.fill_in(recipe.model.quantizer.rule);
        recipe.check().map_err(|e| Error::invalid(format!("recipe {origin}: {}", e.message())))?;
        Ok(recipe)
    }

    /// The recipe that a model folder was trained by, or is being trained by; None where the folder
    /// doesn't say, as those of older versions.
    ///
    /// # Errors
    /// A file that can't be read, or holds no recipe.
    pub fn of_model(folder: &Path) -> Result<Option<Recipe>> {
        let path = folder.join(RECIPE_FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let text = regular_file::read_to_string(&path, TEXT_BYTES_MAX).map_err(Error::io(&path))?;
        Recipe::parse(&text, &text::path(&path)).map(Some)
    }

    /// The recipe with every setting filled in, as TOML that reads back to the same.
    ///
    /// # Errors
    /// A setting that TOML has no form for, such as a seed beyond 2^63.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| Error::invalid(format!("recipe {}: {e}", text::printable(&self.name))))
    }

    /// What an image becomes before it is trained on: the same as when it is tokenized.
    pub fn preparation(&self) -> Preparation {
        Preparation {
            limits: Default::default(),
            alpha: self.data.alpha,
            orientation: self.data.orientation,
            pillow: self.data.pillow,
            rule: self.data.resize,
            size: Some(self.data.size),
            channels: self.model.channels,
            views: None,
            buckets: None,
        }
    }

    /// The model that this recipe trains.
    pub fn model_config(&self) -> ModelConfig {
        let (input, output) = match self.model.architecture {
            Architecture::Vqvae(_) => (InputRange::Centered, OutputRange::CenteredRound),
            _ => (InputRange::Symmetric, OutputRange::SymmetricRound),
        };
        ModelConfig {
            format: FORMAT.into(),
            family: "vqtok".into(),
            architecture: self.model.architecture.clone(),
            quantizer: QuantizerConfig {
                levels: self.model.quantizer.levels.clone(),
                depth: self.model.depth,
                ..QuantizerConfig::new(self.model.quantizer.rule, self.model.codes, self.model.dim)
            },
            pixels: PixelConfig { channels: self.model.channels, input, output },
            preprocess: self.data.preprocess(),
            provenance: [("recipe".to_string(), self.name.clone())].into(),
        }
    }
}

fn read(file: &str) -> Result<String> {
    let path = Path::new(file);
    if !path.exists() {
        let names: Vec<_> = RECIPES.iter().map(|(name, _)| *name).collect();
        return Err(Error::invalid(format!(
            "recipe {}: no such file, and no recipe of that name ({})",
            text::path(path),
            names.join(", ")
        )));
    }
    regular_file::read_to_string(path, TEXT_BYTES_MAX).map_err(Error::io(path))
}

#[cfg(test)]
mod tests;
