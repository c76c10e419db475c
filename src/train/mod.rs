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
//! | `events` | what is told |
//! | `data`, `images`, `augment` | held-out share, order, reading ahead, variation |
//! | `unreadable`, `manifest`, `same` | images that can't be read; what a resumed run must find again |
//! | `step`, `trainer` | one step, and all it changes |
//! | `network`, `parameters`, `init` | what is trained, and its initial values |
//! | `tape` | the way forward and back, with or without all that lies between |
//! | `adversary`, `discriminator`, `adversarial_settings` | the adversarial side |
//! | `perceptual`, `perceptual_weights` | LPIPS, and where it comes from |
//! | `watch`, `finite` | falls of PSNR, overfitting, dead codes; steps that are not finite |
//! | `cost`, `around` | time and memory beforehand; what is done around the steps |
//! | `loss`, `codebook`, `estimator`, `optimizer` | the mathematics |
//! | `quantizer` | the kinds of codes, in one form, and levels of them |
//! | `revival` | which codes are used, and what happens to the others |
//! | `evaluate`, `metrics`, `finish` | the judgement, and the model that comes of it |
//! | `state`, `workspace` | the checkpoint, the model folder |
//! | `record`, `tensorboard`, `pictures`, `page` | what is left to be looked at |
//! | `random` | every draw |

mod around;
pub mod evaluate;
mod events;
mod finish;
pub mod quantizer;
mod recipe;
pub mod settings;
pub mod trainer;
mod workspace;

#[cfg(test)]
pub(crate) mod golden;
pub mod input;
pub mod losses;
pub mod network;
pub mod report;
#[cfg(test)]
mod run_tests;

use std::path::Path;
use std::time::Instant;

use serde::Serialize;

pub use crate::train::input::augment::AugmentSettings;
pub use crate::train::input::loader::TrainData;
pub use crate::train::settings::adversarial::{
    AdversarialSettings, PerceptualSettings, WatchSettings,
};
pub use crate::train::settings::idle::check as refuse_idle;
pub use crate::train::trainer::monitor::Look;
pub use evaluate::Evaluation;
pub use events::{Event, Observer, TrainSummary};
pub use settings::{CodebookSettings, TrainSettings};
pub use trainer::StepReport;
pub use workspace::{RECIPE_FILE, begun, failed, finished_steps, last_summary, unfinished};

use crate::error::{Error, Result};
use crate::metrics::LevelUse;
use crate::model::config::ModelConfig;
use crate::train::input::loader::{Batch, Loader, Split, prefetched};
use crate::train::input::manifest::Manifest;
use crate::train::recipe::{recipe, same_recipe};
use crate::train::report::pictures::Pictures;
use crate::train::report::record::Listener;
use crate::train::trainer::state::Lengths;
use crate::util::panics;
use crate::util::text;
use around::{estimate, fresh, perceptual, probe, start_codebook, tell_unreadable, warn, watch};
use evaluate::Evaluator;
use finish::finish;
use trainer::{Trainer, mean_length};
use workspace::{Found, Workspace};

/// The name of the codebook among a model's weights, `[K, D]` for each residual level, one behind
/// the other.
pub const CODEBOOK_NAME: &str = "quantize.embedding.weight";

/// The entry of a model's `provenance` with the steps that it was trained for.
pub const STEPS_ENTRY: &str = "training_steps";

/// How a training in a folder begins.
#[derive(Debug, Clone, Copy, Default)]
pub struct Start<'a> {
    /// Go on from what the folder holds, if it holds anything.
    pub resume: bool,
    /// The text of the recipe, which is left in the folder.
    pub recipe: Option<&'a str>,
}

impl From<bool> for Start<'_> {
    /// Whether to go on.
    fn from(resume: bool) -> Self {
        Start { resume, recipe: None }
    }
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
/// can be asked. Where `start` says so, goes on from the checkpoint in the folder if there is one,
/// also beyond the end of a training for fewer steps.
///
/// # Errors
/// Settings that can't work, before any work; a folder that holds something else; a checkpoint of
/// another recipe or of other images (the difference is named); a training of which most steps are
/// not finite; [`Error::Interrupted`] where the observer says so.
pub fn run<'a>(
    model: &ModelConfig,
    settings: &TrainSettings,
    data: &dyn TrainData,
    folder: &Path,
    start: impl Into<Start<'a>>,
    observer: &mut dyn Observer,
) -> Result<TrainSummary> {
    let start = start.into();
    settings.check(model)?;
    let split = Split::new(data, settings.held_out_share)?;
    let (perceptual, perceptual_sha256) = perceptual(model, settings, observer)?;
    let recipe = recipe(model, settings, &split, &perceptual_sha256)?;
    let (mut workspace, found) = Workspace::open(folder, start.resume, settings.steps)?;
    let side = settings::side(model)?;
    let loader = Loader {
        data,
        train: &split.train,
        seed: settings.seed,
        batch_size: settings.batch_size,
        image_bytes: side * side * model.pixels.channels,
        unreadable: Default::default(),
    };
    let (mut trainer, images) = match found {
        Found::Finished(summary) => return Ok(*summary),
        Found::Unfinished(state) => {
            let images = match workspace.images()? {
                Some(then) => Manifest::resumed(&then, data, folder)?,
                None => Manifest::of(data),
            };
            same_recipe(&state.counters.recipe, &recipe, folder)?;
            let mut trainer = Trainer::new(model, settings, 1.0)?;
            trainer.restore(&state)?;
            workspace.begin(state.counters.record, start.recipe)?;
            around::tell_resumed(&trainer, &state, settings, observer);
            (trainer, images)
        }
        Found::Nothing => {
            let trainer = fresh(model, settings, &loader, observer)?;
            workspace.begin(Lengths::default(), start.recipe)?;
            (trainer, Manifest::of(data))
        }
    };
    trainer.set_perceptual(perceptual);
    let observer = &mut Listener::new(observer);
    let pictures = Pictures::choose(settings, &split, &loader, model.pixels.channels, side);
    let probe = probe(settings, &split, &loader);
    tell_unreadable(&split, &loader, 0, observer);
    estimate(&mut trainer, model, settings, &split, observer)?;
    let told = loader.unreadable.count();
    let mut run = Run { model, settings, folder, recipe, workspace, trainer, images, data };
    let first = run.trainer.step_count();
    let begun = Instant::now();
    prefetched(&loader, first, settings.steps, |batches| {
        while run.trainer.step_count() < settings.steps {
            let report = match run.step(batches, &loader, observer) {
                Err(Error::Interrupted) => {
                    run.save(observer)?;
                    return Err(Error::Interrupted);
                }
                report => report?,
            };
            let left = (settings.steps - report.step) as f64 / (report.step - first) as f64;
            let remaining = begun.elapsed().mul_f64(left);
            observer.event(&Event::Step { report: &report, steps: settings.steps, remaining });
            run.record(&report, &probe, &pictures, observer)?;
            if let Some(reason) = run.trainer.stops() {
                return Err(run.fail(&reason));
            }
            if report.step % settings.checkpoint_every == 0 && report.step < settings.steps {
                run.save(observer)?;
            }
        }
        Ok(())
    })?;
    run.save(observer)?;
    let summary = finish(run, &split, &loader, observer)?;
    tell_unreadable(&split, &loader, told, observer);
    Ok(summary)
}

/// A training under way.
struct Run<'a> {
    model: &'a ModelConfig,
    settings: &'a TrainSettings,
    folder: &'a Path,
    /// What a resumed run must share.
    recipe: serde_json::Value,
    workspace: Workspace,
    trainer: Trainer,
    images: Manifest,
    data: &'a dyn TrainData,
}

impl Run<'_> {
    /// One step, behind the start of the codebook where that is due. Interrupted, all is as before.
    fn step(
        &mut self,
        batches: &crossbeam_channel::Receiver<Result<Batch>>,
        loader: &Loader<'_>,
        observer: &mut dyn Observer,
    ) -> Result<StepReport> {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let _at = panics::at("training", Some(&format!("step {}", self.trainer.step_count() + 1)));
        if self.trainer.wants_codebook() {
            start_codebook(&mut self.trainer, loader, observer)?;
        }
        let ended = |_| Error::invalid("the thread that reads images has ended");
        let batch = batches.recv().map_err(ended)??;
        self.trainer.step_until(&batch.pixels, &|| observer.interrupted())
    }

    /// What is told and kept behind a step.
    fn record(
        &mut self,
        report: &StepReport,
        probe: &crate::train::trainer::monitor::Probe,
        pictures: &Pictures,
        observer: &mut Listener<'_>,
    ) -> Result<()> {
        warn(report, &self.trainer, observer);
        if self.trainer.look_is_due() && !probe.is_empty() {
            let look = watch(&mut self.trainer, probe, observer)?;
            self.workspace.record()?.line(report.step, &look)?;
        }
        if report.step.is_multiple_of(self.settings.log_every) || report.step == self.settings.steps
        {
            log(&mut self.workspace, &mut self.trainer, report, observer)?;
        }
        if pictures.due(report.step) {
            picture(self.model, &mut self.workspace, &self.trainer, pictures)?;
        }
        for text in observer.warnings() {
            self.workspace.record()?.warning(report.step, &text)?;
        }
        Ok(())
    }

    fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        let state = self.trainer.state(&self.recipe, self.workspace.record()?.lengths())?;
        self.workspace.checkpoint(&state, &mut self.images, self.data)?;
        observer.event(&Event::Checkpoint { step: self.trainer.step_count() });
        Ok(())
    }

    /// The end of a training of which no model comes, for this reason.
    fn fail(&mut self, reason: &str) -> Error {
        let step = self.trainer.step_count();
        if let Err(error) = self.workspace.fail(step, reason) {
            return error;
        }
        let shown = text::path(self.folder);
        let rest = match finished_steps(self.folder) {
            Some(done) => format!("The model of {done} steps stays as it is"),
            None => format!("Remove {shown} to train again"),
        };
        Error::invalid(format!(
            "{shown}: the training stops at step {step} and leaves no model: {reason}; {}. {rest}",
            crate::train::trainer::finite::ADVICE
        ))
    }
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
