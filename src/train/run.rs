//! Owns a training, in order: opened, step by step, finished.

mod evaluation;
pub(super) mod opening;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use crossbeam_channel::Receiver;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::evaluate::Evaluator;
use crate::train::events::{Event, Observer, TrainSummary};
use crate::train::input::loader::{Batch, Loader, Order, prefetched};
use crate::train::input::manifest::Manifest;
use crate::train::input::train_data::TrainData;
use crate::train::recipe::{going_on, recipe, same_recipe};
use crate::train::report::page;
use crate::train::report::pictures::Pictures;
use crate::train::report::record::LogLine;
use crate::train::run::evaluation::{Evaluated, described, summary};
use crate::train::settings::TrainSettings;
use crate::train::settings::codebook::KMEANS_BATCHES;
use crate::train::trainer::monitor::Probe;
use crate::train::trainer::state::Lengths;
use crate::train::trainer::step_report::StepReport;
use crate::train::trainer::{Trainer, skips};
use crate::train::workspace::{Workspace, WorkspaceState, finished_steps, last_summary};
use crate::util::settings::CACHE_CROPS;
use crate::util::{panics, text};

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
    settings.check(model)?;
    let loader = Loader::new(data, model, settings)?;
    let Some(mut run) = Run::open(model, settings, &loader, folder, start.into(), observer)? else {
        return last_summary(folder);
    };
    run.steps()?;
    run.finish()
}

/// The share of waiting for images that is worth a word, in a training of this length.
const WAITED_MAX: f64 = 0.1;
const WORTH_ADVICE: Duration = Duration::from_secs(20);

/// A training under way.
struct Run<'a> {
    model: &'a ModelConfig,
    settings: &'a TrainSettings,
    loader: &'a Loader<'a>,
    folder: &'a Path,
    observer: &'a mut dyn Observer,
    /// What a resumed run must share.
    recipe: Value,
    workspace: Workspace,
    trainer: Trainer,
    images: Manifest,
    /// The images that the training is monitored on.
    probe: Probe,
    pictures: Pictures,
    /// Those since the last line of the record.
    warnings: Vec<String>,
    /// Images that the observer knows to be unreadable.
    unreadable: u64,
    /// Time that steps spent waiting for images.
    waited: Duration,
    /// The share of all their time, in the end.
    waited_share: Option<f64>,
}

impl<'a> Run<'a> {
    /// Everything before the first step; None where the folder holds the finished model.
    fn open(
        model: &'a ModelConfig,
        settings: &'a TrainSettings,
        loader: &'a Loader<'a>,
        folder: &'a Path,
        start: Start<'_>,
        observer: &'a mut dyn Observer,
    ) -> Result<Option<Run<'a>>> {
        let (perceptual, perceptual_sha256) = opening::perceptual_loss(model, settings, observer)?;
        let recipe = recipe(model, settings, &loader.split, &perceptual_sha256)?;
        let (mut workspace, found) = Workspace::open(folder, start.resume, settings.steps)?;
        let (mut trainer, images, recorded) = match found {
            WorkspaceState::Finished => return Ok(None),
            WorkspaceState::Unfinished(taken) => {
                let images = opening::images(&workspace, &taken, loader, folder, observer)?;
                let state = &taken.state;
                same_recipe(&state.counters.recipe, &recipe, folder)?;
                let mut trainer = Trainer::new(model, settings, 1.0)?;
                trainer.restore(state)?;
                observer.event(&Event::Notice(&going_on(state, settings.steps)));
                (trainer, images, state.counters.record)
            }
            WorkspaceState::Nothing => {
                let trainer = opening::fresh(model, settings, loader, observer)?;
                (trainer, Manifest::of(loader.data), Lengths::default())
            }
        };
        if let Some(lost) = workspace.begin(recorded, start.recipe)? {
            observer.event(&Event::Warning(&lost));
        }
        trainer.set_perceptual(perceptual);
        let pictures = Pictures::choose(settings, loader, model)?;
        let probe = |of: &[u32]| loader.readable(of, settings.watch.images);
        let (trained, held_out) = (probe(&loader.split.train), probe(&loader.split.held_out));
        announce_unreadable(loader, 0, observer);
        opening::announce_cost(&mut trainer, model, loader, observer)?;
        Ok(Some(Run {
            model,
            settings,
            loader,
            folder,
            observer,
            recipe,
            workspace,
            trainer,
            images,
            probe: Probe { trained, held_out },
            pictures,
            warnings: Vec::new(),
            unreadable: loader.unreadable.count(),
            waited: Duration::ZERO,
            waited_share: None,
        }))
    }

    /// The loop: every step up to the last one, and the checkpoint after it.
    fn steps(&mut self) -> Result<()> {
        let (loader, steps) = (self.loader, self.settings.steps);
        let (first, begun) = (self.trainer.step_count(), Instant::now());
        prefetched(loader, first, steps, |batches| {
            while self.trainer.step_count() < steps {
                let report = match self.step(batches) {
                    Err(Error::Interrupted) => {
                        self.checkpoint()?;
                        return Err(Error::Interrupted);
                    }
                    report => report?,
                };
                let left = (steps - report.step) as f64 / (report.step - first) as f64;
                let remaining = begun.elapsed().mul_f64(left);
                let waited = self.waited;
                self.observer.event(&Event::Step { report: &report, steps, remaining, waited });
                self.record(&report)?;
                if let Some(reason) = self.trainer.stops() {
                    return Err(self.fail(&reason));
                }
                if report.step % self.settings.checkpoint_every == 0 && report.step < steps {
                    self.checkpoint()?;
                }
            }
            Ok(())
        })?;
        if first < steps {
            self.advise(begun.elapsed());
        }
        self.checkpoint()
    }

    /// Says where much of the steps' time went into waiting for images.
    fn advise(&mut self, all: Duration) {
        let share = self.waited.as_secs_f64() / all.as_secs_f64().max(1e-9);
        self.waited_share = Some(share);
        if all >= WORTH_ADVICE && share > WAITED_MAX {
            let text = format!(
                "{:.0} % of the time of the steps was spent waiting for images: read from a faster \
                 disk, or keep what is decoded with {CACHE_CROPS}",
                100.0 * share
            );
            self.observer.event(&Event::Warning(&text));
        }
    }

    /// One step, after the start of the codebook where that is due. Interrupted, all is as before.
    fn step(&mut self, batches: &Receiver<Result<Batch>>) -> Result<StepReport> {
        if self.observer.interrupted() {
            return Err(Error::Interrupted);
        }
        let _at = panics::at("training", Some(&format!("step {}", self.trainer.step_count() + 1)));
        if self.trainer.wants_codebook() {
            self.start_codebook()?;
        }
        let ended = |_| Error::invalid("the thread that reads images has ended");
        let asked = Instant::now();
        let batch = batches.recv().map_err(ended)??;
        self.waited += asked.elapsed();
        let observer = &*self.observer;
        self.trainer.step_until(&batch.pixels, &|| observer.interrupted())
    }

    /// Gives the codes their first places by latents of the coming batches.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the observer says so: nothing is started then.
    fn start_codebook(&mut self) -> Result<()> {
        let Run { trainer, loader, observer, .. } = self;
        let mut order = Order::default();
        let mut rows_of = |step: usize| {
            let pixels = loader.batch(step, &mut order)?.pixels;
            trainer.latent_rows(&pixels, &|| observer.interrupted())
        };
        let first = trainer.step_count();
        let mut rows = rows_of(first)?;
        let step_rows = rows.len() / trainer.dim();
        let wanted = trainer.codes() * trainer.kmeans_rows_per_code();
        let batches = wanted.div_ceil(step_rows).min(KMEANS_BATCHES);
        for step in first + 1..first + batches {
            rows.extend(rows_of(step)?);
        }
        trainer.start_codebook(&rows, step_rows, &mut |done, total| {
            observer.event(&Event::Work { stage: "k-means", unit: "rows", done, total });
            if observer.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        })
    }

    /// What is reported and kept after a step.
    fn record(&mut self, report: &StepReport) -> Result<()> {
        let (skipped, theirs) = (self.trainer.skipped(), self.trainer.discriminator_skipped());
        if let Some(text) = skips::warning(report, skipped, theirs) {
            self.warn(text);
        }
        if self.trainer.probe_is_due() && !self.probe.is_empty() {
            let (found, words) = self.trainer.evaluate_probe(&self.probe)?;
            self.observer.event(&Event::Probe(&found));
            words.into_iter().for_each(|text| self.warn(text));
            self.workspace.record()?.line(report.step, &found)?;
        }
        if report.step.is_multiple_of(self.settings.log_every) || report.step == self.settings.steps
        {
            self.log(report)?;
        }
        if self.pictures.due(report.step) {
            self.picture()?;
        }
        for text in std::mem::take(&mut self.warnings) {
            self.workspace.record()?.warning(report.step, &text)?;
        }
        Ok(())
    }

    fn warn(&mut self, text: String) {
        self.observer.event(&Event::Warning(&text));
        self.warnings.push(text);
    }

    /// A line of the record, and the use of the codes since the last one.
    fn log(&mut self, report: &StepReport) -> Result<()> {
        let trainer = &mut self.trainer;
        let window = trainer.take_window();
        let line = LogLine::new(report, window.as_ref(), trainer.codebook_norm()?);
        self.workspace.record()?.line(report.step, &line)?;
        if let Some(window) = &window {
            if let Some(text) = self.trainer.dead_codes(window) {
                self.warn(text);
            }
            self.workspace.record()?.codes(report.step, &window.counts)?;
            let (usage, perplexity) = (window.usage(), window.perplexity());
            self.observer.event(&Event::Usage { step: report.step, usage, perplexity });
        }
        Ok(())
    }

    /// A picture of what the weights that would be saved now make of the chosen images.
    fn picture(&mut self) -> Result<()> {
        let evaluator =
            Evaluator::new(self.model, &self.trainer.final_weights()?, self.settings.device.get())?;
        let (sheet, psnr) = self.pictures.draw(evaluator, self.model.pixels.channels)?;
        self.workspace.record()?.picture(self.trainer.step_count(), &sheet, psnr)
    }

    fn checkpoint(&mut self) -> Result<()> {
        let state = self.trainer.state(&self.recipe, self.workspace.record()?.lengths())?;
        self.workspace.checkpoint(&state, &mut self.images, self.loader.data)?;
        self.observer.event(&Event::Checkpoint { step: self.trainer.step_count() });
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
            skips::ADVICE
        ))
    }

    /// Evaluates the result and turns the folder into a model.
    ///
    /// # Errors
    /// A result that is none; [`Error::Interrupted`] where the observer says so: the checkpoint is
    /// that of the last step then.
    fn finish(mut self) -> Result<TrainSummary> {
        let weights = self.trainer.final_weights()?;
        let (skipped, steps) = (self.trainer.skipped(), self.settings.steps);
        if let Some(reason) = skips::no_result(skipped, steps, &weights) {
            return Err(self.fail(&reason));
        }
        let _evaluating = panics::at("evaluation", None);
        let Run { model, settings, loader, .. } = self;
        let evaluated = Evaluated { model, settings, loader, weights: &weights };
        let (evaluator, held_out) = evaluated.evaluate(self.folder, self.observer)?;
        let map = page::CodeMap::new(&evaluator, model.factor()[0], model.pixels.channels)?;
        let mut summary = summary(&self.trainer, loader, (evaluator.finish(), held_out));
        summary.waited_share = self.waited_share;
        let mut tensors = BTreeMap::new();
        for (name, shape) in self.trainer.shapes() {
            if let Some(values) = weights.get(&name) {
                tensors.insert(name, Tensor::from_slice(values, shape, &Device::Cpu)?);
            }
        }
        let _drawing = panics::at("training page", None);
        let page = page::render(self.workspace.record()?, &summary, &self.recipe, &map)?;
        let config = described(model, &summary, &self.recipe);
        self.workspace.finish(&summary, &page, &config, &tensors)?;
        announce_unreadable(loader, self.unreadable, self.observer);
        Ok(summary)
    }
}

/// Reports images that can't be read where they are more than `known`.
fn announce_unreadable(loader: &Loader<'_>, known: u64, observer: &mut dyn Observer) {
    let count = loader.unreadable.count();
    if count > known {
        let images = loader.split.train.len() + loader.split.held_out.len();
        let examples = &loader.unreadable.examples();
        observer.event(&Event::Unreadable { count, images, examples });
    }
}

#[cfg(test)]
mod tests;
