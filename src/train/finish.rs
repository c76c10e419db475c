//! Owns the end of a training: the judgement, the page, the model folder. Must not know: how a step
//! works.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rayon::prelude::*;

use super::evaluate::Evaluator;
use super::{Event, Observer, Run, STEPS_ENTRY, TrainSummary};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::input::loader::{Loader, Split};
use crate::train::report::page;
use crate::train::trainer::finite::no_result;
use crate::util::panics;
use crate::util::text;

/// Judges the result and turns the folder into a model.
///
/// # Errors
/// A result that is none; [`Error::Interrupted`] where the observer says so: the checkpoint is
/// behind the last step then.
pub fn finish(
    mut run: Run<'_>,
    split: &Split,
    loader: &Loader<'_>,
    observer: &mut dyn Observer,
) -> Result<TrainSummary> {
    let Run { model, settings, .. } = run;
    let weights = run.trainer.final_weights()?;
    if let Some(reason) = no_result(run.trainer.skipped(), settings.steps, &weights) {
        return Err(run.fail(&reason));
    }
    let _judging = panics::at("evaluation", None);
    let most = |images: &[u32]| images[..images.len().min(settings.evaluation_images_max)].to_vec();
    let mut held_out = !split.held_out.is_empty();
    let mut evaluator = judge(model, loader, &most(&split.held_out), &weights, observer)?;
    if evaluator.images() == 0 {
        // None is held out, or none of those can be read.
        held_out = false;
        evaluator = judge(model, loader, &most(&split.train), &weights, observer)?;
    }
    if evaluator.images() == 0 {
        return Err(Error::invalid(format!(
            "{}: no image to judge the model by can be read: {}",
            text::path(run.folder),
            loader.unreadable.examples_in_words()
        )));
    }
    let map = page::CodeMap::new(&evaluator, model.factor()[0], model.pixels.channels)?;
    let evaluation = evaluator.finish();
    let trainer = &run.trainer;
    let summary = TrainSummary {
        steps: trainer.step_count(),
        images: split.train.len(),
        parameters: trainer.parameter_count(),
        skipped_steps: trainer.skipped(),
        skipped_discriminator_steps: trainer.discriminator_skipped(),
        rollbacks: trainer.rollbacks(),
        revived_codes: trainer.revived(),
        unreadable: loader.unreadable.count(),
        held_out,
        evaluation,
    };
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, shape) in trainer.shapes() {
        if let Some(values) = weights.get(&name) {
            tensors.insert(name, Tensor::from_slice(values, shape, &Device::Cpu)?);
        }
    }
    let _drawing = panics::at("training page", None);
    let page = page::render(run.workspace.record()?, &summary, &run.recipe, &map)?;
    let config = described(model, &summary, &run.recipe);
    run.workspace.finish(&summary, &page, &config, &tensors)?;
    Ok(summary)
}

/// Weights, codebook included, judged on the images `judged`; unreadable ones are left out.
fn judge(
    model: &ModelConfig,
    loader: &Loader<'_>,
    judged: &[u32],
    weights: &BTreeMap<String, Vec<f32>>,
    observer: &mut dyn Observer,
) -> Result<Evaluator> {
    let mut evaluator = Evaluator::new(model, weights)?;
    let (total, mut done) = (judged.len(), 0);
    for part in judged.chunks(loader.batch_size) {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let images: Vec<Option<Vec<u8>>> =
            part.par_iter().map(|i| loader.plain(*i as usize).ok()).collect();
        let images: Vec<Vec<u8>> = images.into_iter().flatten().collect();
        if !images.is_empty() {
            evaluator.add_until(&images.concat(), &|| observer.interrupted())?;
        }
        done += part.len();
        observer.event(&Event::Work { stage: "evaluate", unit: "images", done, total });
    }
    Ok(evaluator)
}

/// The model's configuration with what the identity card should say about its training.
fn described(
    model: &ModelConfig,
    summary: &TrainSummary,
    recipe: &serde_json::Value,
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
