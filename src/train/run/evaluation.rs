//! Owns what is said of a trained model: its evaluation, its summary, the entries of its
//! configuration.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::evaluate::{Evaluation, Evaluator};
use crate::train::events::{Event, TrainSummary};
use crate::train::run::Run;
use crate::train::workspace::STEPS_ENTRY;
use crate::util::text;

impl Run<'_> {
    /// The result evaluated on held-out images, or on those trained on where none is held out or
    /// none of those can be read; and which.
    pub(super) fn evaluate(
        &mut self,
        weights: &BTreeMap<String, Vec<f32>>,
    ) -> Result<(Evaluator, bool)> {
        let split = &self.loader.split;
        let evaluator = self.evaluate_on(&split.held_out, weights)?;
        if evaluator.images() > 0 {
            return Ok((evaluator, true));
        }
        let evaluator = self.evaluate_on(&split.train, weights)?;
        if evaluator.images() > 0 {
            return Ok((evaluator, false));
        }
        Err(Error::invalid(format!(
            "{}: no image to judge the model by can be read: {}",
            text::path(self.folder),
            self.loader.unreadable.examples_in_words()
        )))
    }

    /// The same on the first of `images`; unreadable ones are left out.
    fn evaluate_on(
        &mut self,
        images: &[u32],
        weights: &BTreeMap<String, Vec<f32>>,
    ) -> Result<Evaluator> {
        let Run { loader, observer, .. } = self;
        let images = &images[..images.len().min(self.settings.evaluation_images_max)];
        let mut evaluator = Evaluator::new(self.model, weights)?;
        let (total, mut done) = (images.len(), 0);
        for part in images.chunks(loader.batch_size) {
            if observer.interrupted() {
                return Err(Error::Interrupted);
            }
            let read: Vec<Option<Vec<u8>>> =
                part.par_iter().map(|i| loader.plain(*i as usize).ok()).collect();
            let read: Vec<Vec<u8>> = read.into_iter().flatten().collect();
            if !read.is_empty() {
                evaluator.add_until(&read.concat(), &|| observer.interrupted())?;
            }
            done += part.len();
            observer.event(&Event::Work { stage: "evaluate", unit: "images", done, total });
        }
        Ok(evaluator)
    }

    pub(super) fn summary(&self, evaluation: Evaluation, held_out: bool) -> TrainSummary {
        let trainer = &self.trainer;
        TrainSummary {
            steps: trainer.step_count(),
            images: self.loader.split.train.len(),
            parameters: trainer.parameter_count(),
            skipped_steps: trainer.skipped(),
            skipped_discriminator_steps: trainer.discriminator_skipped(),
            rollbacks: trainer.rollbacks(),
            revived_codes: trainer.revived(),
            unreadable: self.loader.unreadable.count(),
            held_out,
            evaluation,
        }
    }

    /// The model's configuration with what the model card should say about its training.
    pub(super) fn described(&self, summary: &TrainSummary) -> ModelConfig {
        let mut model = self.model.clone();
        let mut say = |name: &str, value: String| {
            model.provenance.insert(name.into(), value);
        };
        say("trained_by", format!("vqtok {}", env!("CARGO_PKG_VERSION")));
        say("training_images", summary.images.to_string());
        say(STEPS_ENTRY, summary.steps.to_string());
        say("training_psnr_db", format!("{:.2}", summary.evaluation.psnr));
        say("training_code_usage", format!("{:.4}", summary.evaluation.usage));
        let keys = &self.recipe["data"]["keys_sha256"];
        say("training_keys_sha256", keys.as_str().unwrap_or("").into());
        model
    }
}
