//! Owns recipes: TOML to checked settings. Reads the one file it is asked for, nothing else.

use crate::data::decode::Alpha;
use crate::data::orientation::Orientation;
use crate::data::prepare::Preparation;
use crate::data::resize::pillow::PillowVersion;
use crate::data::resize::rules::ResizeRule;
use crate::error::{Error, Result};
use crate::model::config::{
    Architecture, DEPTH_MAX, FORMAT, InputRange, ModelConfig, OutputRange, PixelConfig,
    PreprocessConfig, QuantizerConfig, QuantizerRule, is_one, one,
};
use crate::pipeline::OnError;
use crate::train::{RECIPE_FILE, TrainSettings, refuse_ineffective};
use crate::util::{error_text, text};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The recipes that come with vqtok, by name.
pub const RECIPES: [(&str, &str); 7] = [
    ("quickstart", include_str!("../pipelines/quickstart.toml")),
    ("mnist-vqvae", include_str!("../pipelines/mnist-vqvae.toml")),
    ("cifar10-vqvae", include_str!("../pipelines/cifar10-vqvae.toml")),
    ("photos-vqvae-64", include_str!("../pipelines/photos-vqvae-64.toml")),
    ("photos-vqgan-64", include_str!("../pipelines/photos-vqgan-64.toml")),
    ("vqgan-f8-256", include_str!("../pipelines/vqgan-f8-256.toml")),
    ("vqgan-f16-256", include_str!("../pipelines/vqgan-f16-256.toml")),
];

/// A complete job: what to train on what, and how to tokenize with it. Every field has a value
/// once it is read; unknown fields are rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// As in `--recipe`.
    pub name: String,
    /// One line for `vqtok recipe list`.
    pub description: String,
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

/// Images a batch at most, in training and tokenizing.
pub(crate) const BATCH_SIZE_MAX: usize = 1 << 16;

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
    pub fn parse(text: &str, origin: &str) -> Result<Recipe> {
        let recipe: Recipe = toml::from_str(text)
            .map_err(|e| Error::invalid(format!("recipe {origin}: {}", one_line(&e, text))))?;
        recipe.check().map_err(|e| Error::invalid(format!("recipe {origin}: {e}")))?;
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
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        Recipe::parse(&text, &crate::util::text::path(&path)).map(Some)
    }

    /// The recipe with every setting filled in, as TOML that reads back to the same.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::invalid(format!("recipe {}: {e}", self.name)))
    }

    /// Checks what types can't: sizes that fit the network, counts above zero.
    ///
    /// # Errors
    /// The first impossible setting, in one line.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: String| Err(Error::invalid(text));
        if self.name.trim().is_empty() || self.name.contains(text::is_steering) {
            return wrong("name is a recipe's name, on one line of plain text".into());
        }
        if !matches!(self.model.channels, 1 | 3) {
            return wrong(format!(
                "model.channels is {}: 1 (grey) or 3 (RGB)",
                self.model.channels
            ));
        }
        if self.data.resize == ResizeRule::None {
            return wrong("data.resize is none: training needs one size for all images".into());
        }
        self.data.resize.check(self.data.pillow)?;
        if self.data.resize == ResizeRule::Pad && self.train.augment.crop.is_some() {
            return wrong("train.augment.crop doesn't go with data.resize = \"pad\"".into());
        }
        if self.tokenize.batch_size == Some(0) || self.tokenize.shard_rows == 0 {
            return wrong("tokenize.batch_size and tokenize.shard_rows must be at least 1".into());
        }
        self.check_bounds()?;
        let model = self.model_config();
        self.train.check(&model)?;
        refuse_ineffective(&self.train, &model)
    }

    /// Refuses sizes far beyond any tokenizer, before anything of such a size is allocated.
    fn check_bounds(&self) -> Result<()> {
        const WIDTH_MAX: usize = 1 << 13;
        const BLOCKS_MAX: usize = 1 << 10;
        const CODEBOOK_VALUES_MAX: usize = 1 << 30;
        let mut sizes = vec![
            ("model.codes", self.model.codes, 1 << 24),
            ("model.dim", self.model.dim, 1 << 16),
            ("model.depth", self.model.depth, DEPTH_MAX),
            ("data.size", self.data.size as usize, 1 << 14),
            ("train.batch_size", self.train.batch_size, BATCH_SIZE_MAX),
            ("tokenize.batch_size", self.tokenize.batch_size.unwrap_or(1), BATCH_SIZE_MAX),
            ("tokenize.shard_rows", self.tokenize.shard_rows, 1 << 24),
        ];
        match &self.model.architecture {
            Architecture::Vqvae(c) => sizes.extend([
                ("model.architecture.hidden", c.hidden, WIDTH_MAX),
                ("model.architecture.res_hidden", c.res_hidden, WIDTH_MAX),
                ("model.architecture.res_blocks", c.res_blocks, BLOCKS_MAX),
            ]),
            Architecture::Vqgan(c) => {
                let decoder = c.decoder();
                let widths = c.widths.iter().chain(&decoder.widths);
                sizes.extend(widths.map(|&w| ("model.architecture.widths", w, WIDTH_MAX)));
                sizes.extend([
                    ("model.architecture.ch", c.ch, WIDTH_MAX),
                    ("model.architecture.z_channels", c.z_channels, WIDTH_MAX),
                    ("model.architecture.res_blocks", c.res_blocks, BLOCKS_MAX),
                    ("model.architecture.decoder.blocks", decoder.blocks, BLOCKS_MAX),
                ]);
            }
            _ => {}
        }
        if let Some((name, size, max)) = sizes.into_iter().find(|(_, size, max)| size > max) {
            return Err(Error::invalid(format!("{name} is {size}; it must be at most {max}")));
        }
        let values = self.model.depth * self.model.codes * self.model.dim;
        if values > CODEBOOK_VALUES_MAX {
            return Err(Error::invalid(format!(
                "model.codes times model.dim, and times model.depth, is {values}; it must be at \
                 most {CODEBOOK_VALUES_MAX}"
            )));
        }
        Ok(())
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
            "recipe {file}: no such file, and no recipe of that name ({})",
            names.join(", ")
        )));
    }
    std::fs::read_to_string(path).map_err(Error::io(path))
}

/// toml's message without its drawing: what, at which line.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error_text::plain(error.message()).replace('\n', " ");
    let Some(span) = error.span() else { return message };
    let before = &text[..span.start];
    let line = 1 + before.matches('\n').count();
    match setting(before) {
        Some(name) => format!("line {line}, {name}: {message}"),
        None => format!("line {line}: {message}"),
    }
}

/// The setting whose value begins behind `before`.
fn setting(before: &str) -> Option<&str> {
    let line = before.rsplit('\n').next()?.trim_end().strip_suffix('=')?;
    let name = line.rsplit(['{', ',']).next()?.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::Value;

    /// Paths of all floats below `value`.
    fn floats(value: &Value, path: &[String], found: &mut Vec<Vec<String>>) {
        let below = |name: String| [path, &[name]].concat();
        match value {
            Value::Float(_) => found.push(path.to_vec()),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    floats(item, &below(i.to_string()), found);
                }
            }
            Value::Table(table) => {
                for (name, item) in table {
                    floats(item, &below(name.clone()), found);
                }
            }
            _ => {}
        }
    }

    fn set(value: &mut Value, path: &[String], number: f64) {
        match (value, path) {
            (value, []) => *value = Value::Float(number),
            (Value::Array(items), [i, rest @ ..]) => {
                set(&mut items[i.parse::<usize>().unwrap()], rest, number);
            }
            (Value::Table(table), [name, rest @ ..]) => set(&mut table[name], rest, number),
            _ => unreachable!(),
        }
    }

    #[test]
    fn no_number_may_be_without_end_or_none_at_all() {
        let mut tried = 0;
        for (name, _) in RECIPES {
            let full = Recipe::load(name).unwrap().to_toml().unwrap();
            let full: Value = full.parse::<toml::Table>().unwrap().into();
            let mut paths = Vec::new();
            floats(&full, &[], &mut paths);
            for path in paths {
                for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                    let mut wrong = full.clone();
                    set(&mut wrong, &path, number);
                    let text = toml::to_string(&wrong).unwrap();
                    let error = Recipe::parse(&text, name).expect_err(&path.join(".")).to_string();
                    let setting = path.iter().rfind(|p| p.parse::<usize>().is_err()).unwrap();
                    assert!(error.contains(setting.as_str()), "{path:?} = {number}: {error}");
                    tried += 1;
                }
            }
        }
        assert!(tried > 300, "{tried}");
    }

    const TINY: &str = "name = \"tiny\"\ndescription = \"\"\n[model]\nchannels = 3\ncodes = 16\n\
        dim = 4\narchitecture = { kind = \"vqvae\", hidden = 8, downsamples = 2, res_blocks = 1, \
        res_hidden = 4 }\n[data]\nsize = 16\n[train]\nsteps = 4\nbatch_size = 4\n";

    #[test]
    fn what_is_wrong_is_told_in_words_and_by_the_users_names() {
        Recipe::parse(TINY, "tiny").unwrap();
        let tiny = "recipe tiny: ";
        for (setting, wrong, said) in [
            (
                "steps = 4",
                "steps = -1",
                "line 11, steps: the number -1 where a whole number (0 or more) belongs",
            ),
            (
                "steps = 4",
                "steps = 1.5",
                "line 11, steps: the number 1.5 where a whole number (0 or more) belongs",
            ),
            (
                "hidden = 8",
                "hidden = \"8\"",
                "line 7, architecture: the text \"8\" where a whole number (0 or more) belongs",
            ),
            ("steps = 4", "step = 4", "line 11: there is no setting `step`; use "),
            ("\"vqvae\"", "\"vae\"", "line 7, kind: there is no `vae`; use `vqvae`, "),
            ("name = \"tiny\"", "", "line 1: the setting `name` is missing"),
            ("size = 16", "size = 18", "data.size is 18; it must be a multiple of 4, "),
            ("size = 16", "size = 0", "data.size is 0; it must be at least 1"),
            (
                "codes = 16",
                "codes = 1",
                "model.codes is 1 and model.dim 4; they must be at least 2 and 1",
            ),
            ("channels = 3", "channels = 2", "model.channels is 2: 1 (grey) or 3 (RGB)"),
            (
                "steps = 4",
                "steps = 4\nlearning_rate = 1e300",
                "train.learning_rate is 1e300; it must be above 0 and at most 1000",
            ),
            (
                "steps = 4",
                "steps = 4\nclip_norm = -1e-300",
                "train.clip_norm is -1e-300; it must be 0 or more",
            ),
            (
                "steps = 4",
                "steps = 4\nlearning_rate = nan",
                "train.learning_rate is not a number; it must be ",
            ),
            (
                "steps = 4",
                "steps = 4\nbetas = [0.5]",
                "line 12, betas: 1 values where a list of 2 values belongs",
            ),
        ] {
            let text = TINY.replacen(setting, wrong, 1);
            assert_ne!(text, TINY);
            let error = Recipe::parse(&text, "tiny").unwrap_err().to_string();
            assert!(error.starts_with(&format!("{tiny}{said}")), "{wrong}: {error}");
        }
    }
}

#[cfg(test)]
mod effects;
