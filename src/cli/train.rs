//! Owns `vqtok train`, and the training that `vqtok tokenize` starts where there is no model.
//! Must not know: how a model learns.

use super::Finished;
use super::common::{
    Common, PixelFlags, recipe, refuse_unfinished, stop_flag, with_pixels, writable_folder,
};
use super::inputs::{Inputs, say_skipped};
use super::places;
use super::training;
use crate::cli::progress::{Meter, Reporter};
use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::train;
use crate::train::input::images::Images;
use crate::util::numbers;
use crate::util::numbers::counted;
use crate::util::text;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Flags of `vqtok train`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    inputs: Inputs,
    /// Folder for the model: config.json, model.safetensors, the training record
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    /// What to train: the name of a recipe or a TOML file (`vqtok recipe list`) [default:
    /// photos-vqvae-64]
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Updates [default: the recipe's]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Images an update [default: the recipe's]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Images that go through the network at once; fewer take less memory [default: the recipe's,
    /// else all of an update]
    #[arg(long, value_name = "N")]
    micro_batch: Option<usize>,
    /// Run each block of the network again in the backward pass instead of keeping what it
    /// computed: much less memory, a third more time, the same result
    #[arg(long)]
    recompute: bool,
    /// File or folder with the weights of LPIPS: torchvision's VGG16 and the heads of lpips
    /// [default: the recipe's, else trained without]
    #[arg(long, value_name = "PATH")]
    perceptual_weights: Option<String>,
    /// Begin with the weights of a checkpoint, published or vqtok's own, of the recipe's
    /// architecture; a codebook of another size or length begins anew [default: the recipe's, else
    /// random weights]
    #[arg(long, value_name = "PATH")]
    init_from: Option<String>,
    /// Family of the checkpoint to begin with, where it can't be told [default: what its names tell]
    #[arg(long, value_name = "FAMILY", requires = "init_from")]
    init_family: Option<String>,
    /// Which of several sets of weights in the checkpoint to begin with: the start of their names
    /// [default: the only one]
    #[arg(long, value_name = "PREFIX", requires = "init_from")]
    init_weights: Option<String>,
    /// Seed of everything random [default: the recipe's]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on with the training in PATH, by the recipe that lies there; --steps makes it longer, also
    /// one that is finished
    #[arg(long)]
    pub(super) resume: bool,
    #[command(flatten)]
    pixels: PixelFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Runs the command.
pub fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    args.common.start_threads()?;
    args.common.device_for_training()?;
    let stop = stop_flag()?;
    places::check_new("--model", &args.model)?;
    if let Some(error) = train::failed(&args.model) {
        return Err(error);
    }
    let stored = if args.resume { Recipe::of_model(&args.model)? } else { None };
    let mut recipe = match (&args.recipe, &stored) {
        (None, Some(stored)) => stored.clone(),
        _ => recipe(args.recipe.as_deref(), &PixelFlags::default())?,
    };
    args.overrule(&mut recipe)?;
    let mut recipe = with_pixels(recipe, &args.pixels)?;
    if let Some(stored) = &stored
        && (train::begun(&args.model) || train::finished_steps(&args.model).is_some())
    {
        let (named, given) = (args.recipe.as_deref(), args.given());
        recipe = training::resumed(&args.model, stored, recipe, named, &given)?;
    }
    if let Some(done) = train::finished_steps(&args.model).filter(|_| args.resume)
        && args.is_done(done, &recipe, stored.is_some())?
    {
        let text = training::finished(&args.model, done)?;
        reporter.say("finished", &text, json!({"model": text::lossy(&args.model), "steps": done}));
        return Ok(Finished::Clean);
    }
    if args.resume && !train::begun(&args.model) && !args.model.join("config.json").exists() {
        let model = text::path(&args.model);
        if args.recipe.is_none() && stored.is_none() {
            return Err(Error::invalid(format!(
                "--resume: there is no training in {model}; to begin one, name its --recipe or leave \
                 --resume away"
            )));
        }
        let text = format!("nothing to resume in {model}: a new training by {}", recipe.name);
        reporter.say("notice", &text, json!({"message": text}));
    }
    train(&args.inputs, &args.model, &recipe, args.resume, reporter, &stop)?;
    Ok(Finished::Clean)
}

impl Args {
    /// Whether a model that was trained for `done` steps is what is asked for. A folder of an older
    /// version holds no recipe (`has_recipe`): then only what was said counts.
    fn is_done(&self, done: usize, recipe: &Recipe, has_recipe: bool) -> Result<bool> {
        if has_recipe {
            return Ok(recipe.train.steps == done);
        }
        if let Some(name) = &self.recipe {
            training::refuse_another(&self.model, recipe, name)?;
        }
        Ok(self.steps.is_none_or(|steps| steps == done))
    }

    /// The flags that were given and stand above the recipe.
    fn given(&self) -> Vec<&'static str> {
        let pixels = &self.pixels;
        let given = [
            ("--steps", self.steps.is_some()),
            ("--batch-size", self.batch_size.is_some()),
            ("--micro-batch", self.micro_batch.is_some()),
            ("--seed", self.seed.is_some()),
            ("--init-from", self.init_from.is_some()),
            ("--perceptual-weights", self.perceptual_weights.is_some()),
        ];
        let mut given: Vec<_> = given.into_iter().filter(|g| g.1).map(|g| g.0).collect();
        given.extend(pixels.given());
        given
    }

    /// The flags that stand above the recipe.
    fn overrule(&self, recipe: &mut Recipe) -> Result<()> {
        let train = &mut recipe.train;
        if let Some(steps) = self.steps {
            train.steps = steps;
        }
        if let Some(batch_size) = self.batch_size {
            train.batch_size = batch_size;
            // What the recipe has for its own batch is the whole of a smaller one.
            if train.micro_batch > batch_size {
                train.micro_batch = 0;
            }
        }
        if let Some(micro_batch) = self.micro_batch {
            if micro_batch > train.batch_size {
                return Err(Error::invalid(format!(
                    "--micro-batch {micro_batch}: a batch has {} only",
                    counted(train.batch_size, "image")
                )));
            }
            train.micro_batch = micro_batch;
        }
        train.recompute |= self.recompute;
        if let Some(weights) = self.perceptual_weights.clone() {
            let perceptual = train.perceptual.get_or_insert_default();
            if perceptual.weight == 0.0 {
                return Err(Error::invalid(
                    "--perceptual-weights: the recipe's train.perceptual.weight is 0, so that LPIPS \
                     has no part in the loss",
                ));
            }
            perceptual.weights = weights;
        }
        if let Some(seed) = self.seed {
            train.seed = seed;
        }
        if let Some(from) = self.init_from.clone() {
            refuse_unfinished(Path::new(&from))?;
            train.init.from = from;
            train.init.family = self.init_family.clone().unwrap_or_default();
            train.init.weights = self.init_weights.clone().unwrap_or_default();
        }
        Ok(())
    }
}

/// Trains `recipe` on the images under `inputs` and leaves the model at `folder`.
pub(super) fn train(
    inputs: &Inputs,
    folder: &Path,
    recipe: &Recipe,
    resume: bool,
    reporter: &Reporter,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    writable_folder("--model", folder)?;
    let recipe = &training::with_absolute_paths(recipe.clone());
    let images = Images::list(&inputs.inputs, inputs.take(), recipe.preparation())?
        .augmented(recipe.train.augment, recipe.train.seed);
    say_skipped(images.skipped(), reporter);
    let mut watch = Watch {
        reporter: *reporter,
        steps: recipe.train.steps as u64,
        meter: reporter.meter("train", "steps", recipe.train.steps as u64),
        stage: "train",
        stop: Arc::clone(stop),
        folder: folder.to_path_buf(),
        recipe: recipe.name.clone(),
    };
    let model = recipe.model_config();
    keep_freed_memory();
    let text = recipe.to_toml()?;
    let start = train::Start { resume, recipe: Some(&text) };
    let summary = train::run(&model, &recipe.train, &images, folder, start, &mut watch)?;
    watch.meter.close();
    let found = &summary.evaluation;
    let text = format!(
        "trained {0}: PSNR {1:.2} dB, {2:.1} % of {3} codes used, perplexity {4:.1}{7}, on {5} {6} {8}; \
         {0}/training.html shows how",
        text::path(folder),
        found.psnr,
        100.0 * found.usage,
        model.quantizer.codes_in_words(),
        found.perplexity,
        numbers::count(found.images),
        if summary.held_out { "held-out" } else { "training" },
        by_level(found),
        if found.images == 1 { "image" } else { "images" },
    );
    let fields =
        json!({"model": text::lossy(folder), "summary": summary, "unreadable": summary.unreadable});
    reporter.say("trained", &(text + &left_out(&summary)), fields);
    if found.usage < recipe.train.watch.dead_usage {
        let text = format!(
            "warning: most codes of {} are dead; train longer, or with other settings",
            text::path(folder)
        );
        reporter.say("warning", &text, json!({"message": text, "usage": found.usage}));
    }
    Ok(())
}

/// Steps and images that had no part, where there are any.
fn left_out(summary: &train::TrainSummary) -> String {
    let mut text = String::new();
    if summary.skipped_steps > 0 {
        let (skipped, steps) = (summary.skipped_steps, summary.steps);
        text += &format!(
            "; {} of {} not finite, without any effect",
            numbers::count(skipped),
            counted(steps, "step")
        );
    }
    if summary.unreadable > 0 {
        let left = if summary.unreadable == 1 { "was" } else { "were" };
        let images = counted(summary.unreadable, "image");
        text += &format!("; {images} can't be read and {left} left out");
    }
    text
}

/// The perplexity of each residual level, where there are several.
fn by_level(found: &train::Evaluation) -> String {
    if found.levels.is_empty() {
        return String::new();
    }
    let levels: Vec<_> = found.levels.iter().map(|l| format!("{:.1}", l.perplexity)).collect();
    format!(" (mean of {})", levels.join(", "))
}

/// Shows a training.
struct Watch {
    reporter: Reporter,
    /// Of the whole training.
    steps: u64,
    meter: Meter,
    /// What the meter counts.
    stage: &'static str,
    stop: Arc<AtomicBool>,
    folder: PathBuf,
    recipe: String,
}

impl Watch {
    /// Goes over to the bar of `stage`, if another one is shown; says whether it was.
    fn meter_of(&mut self, stage: &'static str, unit: &'static str, total: usize) -> bool {
        let other = self.stage != stage;
        if other {
            self.stage = stage;
            let next = self.reporter.meter(stage, unit, total as u64);
            std::mem::replace(&mut self.meter, next).close();
        }
        other
    }
}

impl train::Observer for Watch {
    fn event(&mut self, event: &train::Event<'_>) {
        match event {
            train::Event::Estimate { remaining, memory_bytes, steps, images, parameters } => {
                let seconds = remaining.as_secs_f64();
                let text = format!(
                    "training {} first: recipe {}, {}, {} on {}, about {}, {} of memory",
                    text::path(&self.folder),
                    self.recipe,
                    counted(*parameters, "parameter"),
                    counted(*steps, "step"),
                    counted(*images, "image"),
                    numbers::seconds(seconds),
                    numbers::bytes(*memory_bytes)
                );
                let fields = json!({"model": text::lossy(&self.folder), "recipe": self.recipe, "steps": steps,
                                    "images": images, "parameters": parameters,
                                    "seconds": seconds, "memory_bytes": memory_bytes});
                self.reporter.say("estimate", &text, fields);
                self.meter.begin(self.steps.saturating_sub(*steps as u64));
            }
            train::Event::Step { report, steps, .. } => {
                if self.meter_of("train", "steps", *steps) {
                    self.meter.begin(report.step as u64);
                }
                let message = format!("loss {:.4}, PSNR {:.2} dB", report.loss, report.psnr);
                self.meter.set(report.step as u64, message, json!({"report": report}));
            }
            train::Event::Usage { step, usage, perplexity } => {
                let fields = json!({"step": step, "usage": usage, "perplexity": perplexity});
                self.meter.event("usage", fields);
            }
            train::Event::Look(look) => self.meter.event("look", json!({"look": look})),
            train::Event::Checkpoint { step } => {
                self.meter.event("checkpoint", json!({"step": step}));
            }
            train::Event::Work { stage, unit, done, total } => {
                self.meter_of(stage, unit, *total);
                self.meter.set(*done as u64, String::new(), json!({}));
            }
            train::Event::Unreadable { count, images, examples } => {
                let shown: Vec<_> = examples
                    .iter()
                    .map(|(key, reason)| format!("{} ({reason})", text::printable(key)))
                    .collect();
                let more = if *count > shown.len() as u64 { ", ..." } else { "" };
                let text = format!(
                    "warning: {} of {} can't be read and {} left out: {}{more}",
                    numbers::count(*count),
                    counted(*images, "image"),
                    if *count == 1 { "is" } else { "are" },
                    shown.join(", ")
                );
                let examples: Vec<_> = examples
                    .iter()
                    .map(|(key, reason)| json!({"key": key, "error": reason}))
                    .collect();
                let fields = json!({"count": count, "images": images, "examples": examples});
                self.meter.line("unreadable", &text, fields);
            }
            train::Event::Notice(text) => {
                self.meter.line("notice", text, json!({"message": text}));
            }
            train::Event::Warning(text) => {
                self.meter.line("warning", &format!("warning: {text}"), json!({"message": text}));
            }
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// Tells the allocator to keep what is freed. Each step allocates the same large tensors anew, and
/// fresh pages from the system would cost a third of the time (glibc gives large ones back at once).
fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt sets a number of the allocator's under its own lock; no pointer is involved.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
