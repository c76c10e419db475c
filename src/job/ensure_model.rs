//! Owns when a model has to be trained before tokenizing, and what a recipe means beside one that
//! stands.

use std::path::Path;

use super::events::Observer;
use super::tokenize::Tokenize;
use super::tokenizer_options::TokenizerOptions;
use super::train::{Train, chosen};
use super::{places, resume};
use crate::checkpoint::named_as_weights;
use crate::checkpoint::onnx::OnnxSettings;
use crate::config::{Recipe, TokenizeRecipe};
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::PLAN_FILE;
use crate::train;
use crate::util::settings::{FAMILY, LIST_ONLY, MODEL, MODEL_CONFIG, OUT, SCALES, WEIGHTS};
use crate::util::text;

impl Tokenize {
    /// Trains the model where there is none yet, goes on with a training that isn't finished, and
    /// lets a model that stands be; `training` names its folder and `options` are those that the
    /// tokenizer will be opened with. What the recipe says of tokenizing counts from then on.
    ///
    /// # Errors
    /// A recipe that isn't the model's; those of [`Train::run`].
    pub fn ensure_model(
        &mut self,
        training: &Train,
        options: &TokenizerOptions,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        self.check_pixels(options.pixels)?;
        let recipe = storage::opening(|| ensure(&self.out, training, options, observer))?;
        self.recipe = Some(recipe);
        Ok(())
    }

    /// Demands a model that stands: workers that list an input in shares would each train one.
    ///
    /// # Errors
    /// A model that isn't there, or whose training isn't finished.
    pub fn require_model(&self, model: &Path) -> Result<()> {
        if storage::is_remote(model) || (model.exists() && !train::unfinished(model)) {
            return Ok(());
        }
        Err(Error::setting(
            LIST_ONLY,
            format!(
                "{MODEL} {} isn't there yet, or still to be trained, and listing trains none; \
                 `vqtok train` first",
                text::path(model)
            ),
        ))
    }
}

/// What is said about tokenizing by the recipe named, else by the one that the model was trained by.
fn ensure(
    out: &Path,
    training: &Train,
    options: &TokenizerOptions,
    observer: &mut dyn Observer,
) -> Result<TokenizeRecipe> {
    let model = &training.model;
    if storage::is_remote(model) {
        return beside_a_model(training, &storage::local_copy(model).map_err(Error::io(model))?);
    }
    let unfinished = train::unfinished(model);
    if let Some(error) = train::failed(model).filter(|_| unfinished) {
        return Err(error);
    }
    if !unfinished && model.exists() {
        return beside_a_model(training, model);
    }
    places::check_new(MODEL, model)?;
    if !unfinished {
        refuse_to_train(model, options)?;
    }
    if storage::exists(&out.join(PLAN_FILE)).map_err(Error::io(out))? {
        return Err(Error::mismatch(format!(
            "{OUT} {}: it holds tokens of another model, as {} is still to be trained; give \
             another {OUT}",
            text::path(out),
            text::path(model)
        )));
    }
    let stored = if unfinished { Recipe::of_model(model)? } else { None };
    let asked = match (&training.recipe, &stored) {
        (None, Some(stored)) => stored.clone(),
        (choice, _) => chosen(choice.as_ref())?,
    };
    let asked = training.pixels.over(asked)?;
    let recipe = match &stored {
        Some(stored) if train::begun(model) => training.resumed(stored, asked)?,
        _ => asked,
    };
    training.train(&recipe, unfinished, observer)?;
    Ok(recipe.tokenize)
}

/// The pixel settings are not the recipe's here: a model that stands has rules of its own.
fn beside_a_model(training: &Train, model: &Path) -> Result<TokenizeRecipe> {
    let Some(choice) = &training.recipe else {
        return Ok(Recipe::of_model(model)?.map(|r| r.tokenize).unwrap_or_default());
    };
    let (named, name) = (choice.load()?, choice.name());
    // The same command again, after the training that it began with.
    let again = training.pixels.over(named.clone());
    if !again.is_ok_and(|again| resume::refuse_another(model, &again, name).is_ok()) {
        resume::refuse_another(model, &named, name)?;
    }
    Ok(named.tokenize)
}

/// A mistyped checkpoint must not cost a training: one is only made where a model is asked for in
/// words that fit a new one.
fn refuse_to_train(model: &Path, options: &TokenizerOptions) -> Result<()> {
    let TokenizerOptions { family, model_config, weights, scales, onnxruntime, onnx, .. } = options;
    let of_onnx = onnxruntime.is_some() || *onnx != OnnxSettings::default();
    let said = [family.is_some(), model_config.is_some(), weights.is_some(), scales.is_some()];
    let reason = if said.contains(&true) {
        format!("{FAMILY}, {MODEL_CONFIG}, {WEIGHTS} and {SCALES} are for one that exists")
    } else if of_onnx {
        "what is said of a model in ONNX files is for one that exists".to_owned()
    } else if named_as_weights(model) {
        "to train one first, give the name of a folder".into()
    } else {
        return Ok(());
    };
    Err(Error::setting(MODEL, format!("{}: no such checkpoint; {reason}", text::path(model))))
}
