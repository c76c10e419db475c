//! Owns what is said of a trained model: its evaluation, its summary, the entries of its
//! configuration.

use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::evaluate::{Evaluation, Evaluator};
use crate::train::events::{Event, Observer, TrainSummary};
use crate::train::input::loader::Loader;
use crate::train::settings::TrainSettings;
use crate::train::trainer::Trainer;
use crate::train::workspace::STEPS_ENTRY;
use crate::util::text;

/// A trained model, and what it is evaluated on.
pub(super) struct Evaluated<'a> {
    pub model: &'a ModelConfig,
    pub settings: &'a TrainSettings,
    pub loader: &'a Loader<'a>,
    pub weights: &'a BTreeMap<String, Vec<f32>>,
}

impl Evaluated<'_> {
    /// The result evaluated on held-out images, or on those trained on where none is held out or
    /// none of those can be read; and which. `folder` is for messages.
    pub(super) fn evaluate(
        &self,
        folder: &Path,
        observer: &mut dyn Observer,
    ) -> Result<(Evaluator, bool)> {
        let split = &self.loader.split;
        for (images, held_out) in [(&split.held_out, true), (&split.train, false)] {
            let evaluator = self.evaluate_on(images, observer)?;
            if evaluator.images() > 0 {
                return Ok((evaluator, held_out));
            }
        }
        Err(Error::invalid(format!(
            "{}: no image to judge the model by can be read: {}",
            text::path(folder),
            self.loader.unreadable.examples_in_words()
        )))
    }

    /// The same on the first of `images`; unreadable ones are left out.
    fn evaluate_on(&self, images: &[u32], observer: &mut dyn Observer) -> Result<Evaluator> {
        let images = &images[..images.len().min(self.settings.evaluation_images_max)];
        let mut evaluator = Evaluator::new(self.model, self.weights, self.settings.device.get())?;
        let (total, mut done) = (images.len(), 0);
        for part in images.chunks(self.loader.batch_size) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let read: Vec<Option<Vec<u8>>> =
                part.par_iter().map(|i| self.loader.plain(*i as usize).ok()).collect();
            let read: Vec<Vec<u8>> = read.into_iter().flatten().collect();
            if !read.is_empty() {
                evaluator.add_until(&read.concat(), &|| observer.interrupted())?;
            }
            done += part.len();
            observer.event(&Event::Work { stage: "evaluate", unit: "images", done, total });
        }
        Ok(evaluator)
    }
}

/// The summary of what `trainer` has done, with the figures of its model.
pub(super) fn summary(
    trainer: &Trainer,
    loader: &Loader<'_>,
    (evaluation, held_out): (Evaluation, bool),
) -> TrainSummary {
    TrainSummary {
        steps: trainer.step_count(),
        images: loader.split.train.len(),
        parameters: trainer.parameter_count(),
        skipped_steps: trainer.skipped(),
        skipped_discriminator_steps: trainer.discriminator_skipped(),
        rollbacks: trainer.rollbacks(),
        revived_codes: trainer.revived(),
        unreadable: loader.unreadable.count(),
        waited_share: None,
        held_out,
        evaluation,
    }
}

/// The model's configuration with what the model card should say about its training.
pub(super) fn described(
    model: &ModelConfig,
    summary: &TrainSummary,
    recipe: &Value,
) -> ModelConfig {
    let mut model = model.clone();
    let mut say = |name: &str, value: String| {
        model.provenance.insert(name.into(), value);
    };
    say("trained_by", format!("vqtok {}", env!("CARGO_PKG_VERSION")));
    say("training_images", summary.images.to_string());
    say(STEPS_ENTRY, summary.steps.to_string());
    say("training_psnr_db", format!("{:.2}", summary.evaluation.psnr));
    say("training_code_usage", format!("{:.4}", summary.evaluation.usage));
    say("training_keys_sha256", recipe["data"]["keys_sha256"].as_str().unwrap_or("").into());
    model
}
