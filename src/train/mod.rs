//! The `train` room: from images to a tokenizer where there is none yet. [`run`] is the one
//! visible loop. Must not know: shards, files of images, the command line.
//!
//! A run is a function of (model, settings, data): every random draw and the order of the data
//! come from the seed and the step, all arithmetic is split by shapes and not by threads, and the
//! checkpoint holds everything else; so a run that was stopped and resumed, however often, ends
//! with the same bits as one that was not.
//!
//! | file | owns |
//! |---|---|
//! | `settings` | what can be asked for |
//! | `data`, `images`, `augment` | held-out share, order, reading ahead, variation |
//! | `step`, `trainer` | one step, and all it changes |
//! | `network`, `parameters`, `init` | what is trained, and its initial values |
//! | `tape` | the way forward and back, with or without all that lies between |
//! | `adversary`, `discriminator`, `adversarial_settings` | the adversarial side |
//! | `perceptual`, `perceptual_weights` | LPIPS, and where it comes from |
//! | `watch`, `cost`, `around` | falls of PSNR, overfitting, dead codes; time and memory beforehand |
//! | `loss`, `codebook`, `estimator`, `optimizer` | the mathematics |
//! | `quantizer` | the kinds of codes, in one form, and levels of them |
//! | `revival` | which codes are used, and what happens to the others |
//! | `evaluate`, `metrics` | the judgement |
//! | `state`, `workspace` | the checkpoint, the model folder |
//! | `record`, `tensorboard`, `pictures`, `page` | what is left to be looked at |
//! | `random` | every draw |

pub mod adversarial_settings;
pub mod adversary;
mod around;
pub mod augment;
pub mod codebook;
mod codemap;
pub mod cost;
pub mod data;
pub mod discriminator;
pub mod estimator;
pub mod evaluate;
pub mod images;
pub mod init;
pub mod loss;
pub mod metrics;
pub mod network;
pub mod optimizer;
mod page;
pub mod parameters;
pub mod perceptual;
pub mod perceptual_weights;
mod pictures;
mod pixels;
pub mod quantizer;
pub mod random;
mod record;
pub mod revival;
pub mod settings;
pub mod state;
mod step;
pub mod tape;
mod tensorboard;
pub mod trainer;
pub mod watch;
mod workspace;

#[cfg(test)]
pub(crate) mod golden;
#[cfg(test)]
mod quantizer_run_tests;
#[cfg(test)]
mod run_tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use adversarial_settings::{AdversarialSettings, PerceptualSettings, WatchSettings};
pub use augment::AugmentSettings;
pub use data::TrainData;
pub use evaluate::Evaluation;
pub use settings::{CodebookSettings, TrainSettings};
pub use trainer::StepReport;
pub use watch::Look;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::text;
use around::{estimate, fresh, perceptual, probe, warn, watch};
use data::{Loader, Order, Split, prefetched};
use evaluate::Evaluator;
use metrics::LevelUse;
use pictures::Pictures;
use record::Listener;
use trainer::{Trainer, mean_length};
use workspace::{Found, Workspace};

/// Whether `folder` holds a training that was begun and not finished.
pub fn unfinished(folder: &Path) -> bool {
    workspace::unfinished(folder)
}

/// The name of the codebook among a model's weights, `[K, D]` for each residual level, one behind
/// the other.
pub const CODEBOOK_NAME: &str = "quantize.embedding.weight";

/// What happens while a training runs.
#[derive(Debug)]
pub enum Event<'a> {
    /// Before the first step: the expected time and memory, from a rehearsal on a few images.
    Estimate {
        /// Until the end of the training.
        remaining: Duration,
        /// Most memory that a step needs, in bytes.
        memory_bytes: u64,
        /// Steps to do.
        steps: usize,
        /// Images trained on.
        images: usize,
        /// Trainable scalars.
        parameters: usize,
    },
    /// After each step.
    Step {
        /// What it did.
        report: &'a StepReport,
        /// Steps of the whole training.
        steps: usize,
        /// Until the end, from the steps of this run so far.
        remaining: Duration,
    },
    /// With each line of the record: use of the codes since the last one.
    Usage {
        /// Steps done.
        step: usize,
        /// Share of codes used, 0 to 1.
        usage: f64,
        /// exp of their entropy; of several levels their mean.
        perplexity: f64,
    },
    /// A look at the fixed images.
    Look(&'a Look),
    /// A checkpoint is on the disk.
    Checkpoint {
        /// Steps it holds.
        step: usize,
    },
    /// Something that the user should know, one line.
    Notice(&'a str),
    /// Something that the user should hear, one line.
    Warning(&'a str),
}

/// Who is told, and who can stop it.
pub trait Observer {
    /// Called between steps, from the calling thread.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Asked before each step: true writes a checkpoint and ends with [`Error::Interrupted`].
    fn interrupted(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// The result of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Steps done.
    pub steps: usize,
    /// Images trained on.
    pub images: usize,
    /// Trainable scalars.
    pub parameters: usize,
    /// Steps skipped since a loss or gradient was not finite.
    pub skipped_steps: u64,
    /// Updates of the discriminator skipped for the same reason.
    #[serde(default)]
    pub skipped_discriminator_steps: u64,
    /// Times that PSNR fell behind the discriminator's start and the weights were rolled back.
    #[serde(default)]
    pub rollbacks: u64,
    /// Codes revived.
    pub revived_codes: u64,
    /// Times that an image could not be read and another took its place, in this run.
    #[serde(skip)]
    pub unreadable: u64,
    /// Whether the evaluation is on images that were not trained on.
    pub held_out: bool,
    /// The saved model's figures.
    pub evaluation: Evaluation,
}

/// A line of the training record.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    report: &'a StepReport,
    /// Over all steps since the last line that has them; None before the codebook starts, and
    /// where these steps are too few to speak for the data set.
    usage: Option<f64>,
    perplexity: Option<f64>,
    /// Both for each residual level, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    levels: Vec<LevelUse>,
    /// Root mean square length of the codes; none for rules without codebook.
    #[serde(skip_serializing_if = "Option::is_none")]
    codebook_norm: Option<f64>,
}

/// Trains `model` on `data` and leaves a model folder at `folder`; see [`TrainSettings`] for what
/// can be asked. With `resume`, goes on from the checkpoint in the folder if there is one.
///
/// # Errors
/// Settings that can't work, before any work; a folder that holds something else; a checkpoint of
/// another recipe (the difference is named); [`Error::Interrupted`] where the observer says so.
pub fn run(
    model: &ModelConfig,
    settings: &TrainSettings,
    data: &dyn TrainData,
    folder: &Path,
    resume: bool,
    observer: &mut dyn Observer,
) -> Result<TrainSummary> {
    settings.check(model)?;
    let split = Split::new(data, settings.held_out_share)?;
    let (perceptual, perceptual_sha256) = perceptual(model, settings, observer)?;
    let recipe = recipe(model, settings, &split, &perceptual_sha256)?;
    let (mut workspace, found) = Workspace::open(folder, resume)?;
    let side = settings::side(model)?;
    let loader = Loader {
        data,
        train: &split.train,
        seed: settings.seed,
        batch_size: settings.batch_size,
        image_bytes: side * side * model.pixels.channels,
        rejected: AtomicU64::new(0),
    };
    let mut trainer = match found {
        Found::Finished(summary) => {
            workspace.tidy()?;
            return Ok(*summary);
        }
        Found::Unfinished(state) => {
            same_recipe(&state.counters.recipe, &recipe, folder)?;
            let mut trainer = Trainer::new(model, settings, 1.0)?;
            trainer.restore(&state)?;
            trainer
        }
        Found::Nothing => fresh(model, settings, &loader, observer)?,
    };
    trainer.set_perceptual(perceptual);
    let pictures = Pictures::choose(settings, &split, &loader, model.pixels.channels, side);
    estimate(&mut trainer, settings, &split, observer)?;
    let observer = &mut Listener::new(observer);
    let probe = probe(settings, &split, &loader);
    let first = trainer.step_count();
    let begun = Instant::now();
    prefetched(&loader, first, settings.steps, |batches| {
        for done in first..settings.steps {
            if observer.interrupted() {
                save(&mut workspace, &trainer, &recipe, observer)?;
                return Err(Error::Interrupted);
            }
            if trainer.wants_codebook() {
                start_codebook(&mut trainer, &loader)?;
            }
            let batch = batches
                .recv()
                .map_err(|_| Error::invalid("the thread that reads images has ended"))??;
            let report = trainer.step(&batch.pixels)?;
            let left = (settings.steps - report.step) as f64 / (report.step - first) as f64;
            let remaining = begun.elapsed().mul_f64(left);
            observer.event(&Event::Step { report: &report, steps: settings.steps, remaining });
            warn(&report, observer);
            if trainer.look_is_due() && !probe.is_empty() {
                let look = watch(&mut trainer, &probe, observer)?;
                workspace.record()?.line(report.step, &look)?;
            }
            if report.step % settings.log_every == 0 || report.step == settings.steps {
                log(&mut workspace, &mut trainer, &report, observer)?;
            }
            if pictures.due(report.step) {
                picture(model, &mut workspace, &trainer, &pictures)?;
            }
            for text in observer.warnings() {
                workspace.record()?.warning(report.step, &text)?;
            }
            if report.step % settings.checkpoint_every == 0 && done + 1 < settings.steps {
                save(&mut workspace, &trainer, &recipe, observer)?;
            }
        }
        Ok(())
    })?;
    save(&mut workspace, &trainer, &recipe, observer)?;
    finish(model, settings, &split, &loader, trainer, workspace, &recipe)
}

/// Everything that a resumed run must share with the one it goes on with.
fn recipe(
    model: &ModelConfig,
    settings: &TrainSettings,
    split: &Split,
    perceptual_sha256: &str,
) -> Result<serde_json::Value> {
    let json = |e: serde_json::Error| Error::invalid(format!("the recipe is no JSON: {e}"));
    let mut train = serde_json::to_value(settings).map_err(json)?;
    if let Some(train) = train.as_object_mut() {
        // How often a run is saved, and whether blocks run twice, has no influence on what it
        // computes; where LPIPS lies neither, but what it is.
        train.remove("checkpoint_every");
        train.remove("recompute");
        if let Some(perceptual) = train.get_mut("perceptual").and_then(|p| p.as_object_mut()) {
            perceptual.insert("weights".into(), perceptual_sha256.into());
        }
    }
    let mut model = serde_json::to_value(model).map_err(json)?;
    in_full(&mut model);
    let images = split.train.len() + split.held_out.len();
    let value = serde_json::json!({
        "model": model,
        "train": train,
        "data": {"images": images, "keys_sha256": split.digest},
    });
    Ok(state::through_text(&value))
}

/// Settings of the pixels that came later than checkpoints: of older ones they are not known.
const PREPROCESS_LATER: [&str; 3] = ["alpha", "orientation", "pillow"];

/// Says what a model's configuration leaves unsaid, so that what isn't there is known to be old.
fn in_full(model: &mut serde_json::Value) {
    let Some(preprocess) = model["preprocess"].as_object_mut() else { return };
    for (name, usual) in
        PREPROCESS_LATER.into_iter().zip(["white".into(), "apply".into(), 12.into()])
    {
        let usual: serde_json::Value = usual;
        preprocess.entry(name).or_insert(usual);
    }
}

fn same_recipe(then: &serde_json::Value, now: &serde_json::Value, folder: &Path) -> Result<()> {
    let mut now = now.clone();
    for name in PREPROCESS_LATER {
        // A training of an earlier version doesn't say it.
        if then["model"]["preprocess"].get(name).is_none()
            && let Some(preprocess) = now["model"]["preprocess"].as_object_mut()
        {
            preprocess.remove(name);
        }
    }
    match state::first_difference(then, &now, "") {
        None => Ok(()),
        Some(difference) => Err(Error::Mismatch(format!(
            "{}: the training to resume is another one: {difference}; give the same recipe and \
             images, or another path",
            text::path(&folder)
        ))),
    }
}

/// Batches whose latents k-means sees, at most.
const KMEANS_BATCHES: usize = 16;

/// Gives the codes their first places by latents of the coming batches.
fn start_codebook(trainer: &mut Trainer, loader: &Loader<'_>) -> Result<()> {
    let mut order = Order::default();
    let first = trainer.step_count();
    let mut rows = trainer.latent_rows(&loader.batch(first, &mut order)?.pixels)?;
    let step_rows = rows.len() / trainer.dim();
    let wanted = trainer.codes() * trainer.kmeans_rows_per_code();
    let batches = wanted.div_ceil(step_rows).min(KMEANS_BATCHES);
    for step in first + 1..first + batches {
        rows.extend(trainer.latent_rows(&loader.batch(step, &mut order)?.pixels)?);
    }
    trainer.start_codebook(&rows, step_rows)
}

fn log(
    workspace: &mut Workspace,
    trainer: &mut Trainer,
    report: &StepReport,
    observer: &mut dyn Observer,
) -> Result<()> {
    let window = trainer.take_window();
    let codebook_norm = trainer.codebook()?.map(|codes| mean_length(&codes, trainer.dim()));
    let usage = window.as_ref().map(|w| w.usage());
    let perplexity = window.as_ref().map(|w| w.perplexity());
    let levels = window.as_ref().map(|w| w.by_level()).unwrap_or_default();
    let line = Line { report, usage, perplexity, levels, codebook_norm };
    workspace.record()?.line(report.step, &line)?;
    if let Some(window) = &window {
        if let Some(text) = trainer.dead_codes(window) {
            observer.event(&Event::Warning(&text));
        }
        workspace.record()?.codes(report.step, &window.counts)?;
        let (usage, perplexity) = (window.usage(), window.perplexity());
        observer.event(&Event::Usage { step: report.step, usage, perplexity });
    }
    Ok(())
}

/// A picture of what the weights that would be saved now make of the chosen images.
fn picture(
    model: &ModelConfig,
    workspace: &mut Workspace,
    trainer: &Trainer,
    pictures: &Pictures,
) -> Result<()> {
    let weights = trainer.final_weights()?;
    let evaluator = Evaluator::new(model, &weights)?;
    let (sheet, psnr) = pictures.draw(evaluator, model.pixels.channels)?;
    workspace.record()?.picture(trainer.step_count(), &sheet, psnr)
}

fn save(
    workspace: &mut Workspace,
    trainer: &Trainer,
    recipe: &serde_json::Value,
    observer: &mut dyn Observer,
) -> Result<()> {
    let state = trainer.state(recipe, workspace.record()?.lengths())?;
    workspace.checkpoint(&state)?;
    observer.event(&Event::Checkpoint { step: trainer.step_count() });
    Ok(())
}

/// Judges the result and turns the folder into a model.
fn finish(
    model: &ModelConfig,
    settings: &TrainSettings,
    split: &Split,
    loader: &Loader<'_>,
    trainer: Trainer,
    mut workspace: Workspace,
    recipe: &serde_json::Value,
) -> Result<TrainSummary> {
    let weights = trainer.final_weights()?;
    let held_out = !split.held_out.is_empty();
    let judged = if held_out { &split.held_out } else { &split.train };
    let judged = &judged[..judged.len().min(settings.evaluation_images_max)];
    let evaluator = judge(model, loader, judged, &weights)?;
    let map = page::CodeMap::new(&evaluator, model.factor()[0], model.pixels.channels)?;
    let evaluation = evaluator.finish();
    let summary = TrainSummary {
        steps: trainer.step_count(),
        images: split.train.len(),
        parameters: trainer.parameter_count(),
        skipped_steps: trainer.skipped(),
        skipped_discriminator_steps: trainer.discriminator_skipped(),
        rollbacks: trainer.rollbacks(),
        revived_codes: trainer.revived(),
        unreadable: loader.rejected.load(Ordering::Relaxed),
        held_out,
        evaluation,
    };
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, shape) in trainer.shapes() {
        if let Some(values) = weights.get(&name) {
            tensors.insert(name, Tensor::from_slice(values, shape, &Device::Cpu)?);
        }
    }
    let page = page::render(workspace.record()?, &summary, recipe, &map)?;
    workspace.finish(&summary, &page, &described(model, &summary, recipe), &tensors)?;
    Ok(summary)
}

/// Weights, codebook included, judged on the images `judged`; unreadable ones are left out.
fn judge(
    model: &ModelConfig,
    loader: &Loader<'_>,
    judged: &[u32],
    weights: &BTreeMap<String, Vec<f32>>,
) -> Result<Evaluator> {
    use rayon::prelude::*;
    let mut evaluator = Evaluator::new(model, weights)?;
    for part in judged.chunks(loader.batch_size) {
        let images: Vec<Option<Vec<u8>>> =
            part.par_iter().map(|i| loader.plain(*i as usize).ok()).collect();
        let images: Vec<Vec<u8>> = images.into_iter().flatten().collect();
        if !images.is_empty() {
            evaluator.add(&images.concat())?;
        }
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
    say("training_steps", summary.steps.to_string());
    say("training_psnr_db", format!("{:.2}", summary.evaluation.psnr));
    say("training_code_usage", format!("{:.4}", summary.evaluation.usage));
    say("training_keys_sha256", recipe["data"]["keys_sha256"].as_str().unwrap_or("").into());
    model
}
