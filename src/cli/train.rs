//! Owns `vqtok train`, and the training that `vqtok tokenize` starts where there is no model.
//! Must not know: how a model learns.

use super::Finished;
use super::common::{Common, Inputs, PixelFlags, recipe, stop_flag};
use crate::config::Recipe;
use crate::error::Result;
use crate::progress::{Meter, Reporter, human_seconds};
use crate::train::{self, images::Images};
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
    /// What to train: the name of a recipe or a TOML file (`vqtok recipe list`)
    #[arg(long, value_name = "FILE")]
    recipe: Option<String>,
    /// Updates, overriding the recipe
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Images an update, overriding the recipe
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Seed of everything random, overriding the recipe
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Go on with an unfinished training in PATH
    #[arg(long)]
    resume: bool,
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
    let mut recipe = recipe(args.recipe.as_deref(), &args.pixels)?;
    if let Some(steps) = args.steps {
        recipe.train.steps = steps;
    }
    if let Some(batch_size) = args.batch_size {
        recipe.train.batch_size = batch_size;
    }
    if let Some(seed) = args.seed {
        recipe.train.seed = seed;
    }
    recipe.check()?;
    train(&args.inputs.inputs, &args.model, &recipe, args.resume, reporter, &stop)?;
    Ok(Finished::Clean)
}

/// Trains `recipe` on the images under `inputs` and leaves the model at `folder`.
pub(super) fn train(
    inputs: &[PathBuf],
    folder: &Path,
    recipe: &Recipe,
    resume: bool,
    reporter: &Reporter,
    stop: &Arc<AtomicBool>,
) -> Result<()> {
    let images = Images::list(inputs, recipe.preparation())?
        .augmented(recipe.train.augment, recipe.train.seed);
    let mut watch = Watch {
        reporter: *reporter,
        meter: reporter.meter("train", "steps", recipe.train.steps as u64),
        stop: Arc::clone(stop),
        folder: folder.to_path_buf(),
        recipe: recipe.name.clone(),
    };
    let model = recipe.model_config();
    let summary = train::run(&model, &recipe.train, &images, folder, resume, &mut watch)?;
    watch.meter.close();
    let found = &summary.evaluation;
    let text = format!(
        "trained {0}: PSNR {1:.2} dB, {2:.1} % of {3} codes used, perplexity {4:.1}, on {5} {6} images; \
         {0}/training.html shows how",
        folder.display(),
        found.psnr,
        100.0 * found.usage,
        model.quantizer.codes,
        found.perplexity,
        found.images,
        if summary.held_out { "held-out" } else { "training" },
    );
    reporter.say("trained", &text, json!({"model": folder, "summary": summary}));
    Ok(())
}

/// Shows a training.
struct Watch {
    reporter: Reporter,
    meter: Meter,
    stop: Arc<AtomicBool>,
    folder: PathBuf,
    recipe: String,
}

impl train::Observer for Watch {
    fn event(&mut self, event: &train::Event<'_>) {
        match event {
            train::Event::Estimate { remaining, steps, images, parameters } => {
                let seconds = remaining.as_secs_f64();
                let text = format!(
                    "training {} first: recipe {}, {parameters} parameters, {steps} steps on \
                     {images} images, about {}",
                    self.folder.display(),
                    self.recipe,
                    human_seconds(seconds)
                );
                let fields = json!({"model": self.folder, "recipe": self.recipe, "steps": steps,
                                    "images": images, "parameters": parameters,
                                    "seconds": seconds});
                self.reporter.say("estimate", &text, fields);
            }
            train::Event::Step { report, .. } => {
                let message = format!("loss {:.4}, PSNR {:.2} dB", report.loss, report.psnr);
                self.meter.set(report.step as u64, message, json!({"report": report}));
            }
            train::Event::Usage { step, usage, perplexity } => {
                let fields = json!({"step": step, "usage": usage, "perplexity": perplexity});
                self.meter.event("usage", fields);
            }
            train::Event::Checkpoint { step } => {
                self.meter.event("checkpoint", json!({"step": step}));
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
