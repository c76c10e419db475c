//! Owns what the loop does around its steps beside saving: the fresh start, LPIPS and the estimate
//! before the first, looks and warnings behind each. Must not know: what a step computes.

use std::path::Path;

use super::settings::TrainSettings;
use super::trainer::{StepReport, Trainer};
use super::{Event, Observer};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::input::loader::{Loader, Order, Split};
use crate::train::input::pixels;
use crate::train::losses::lpips::PerceptualLoss;
use crate::train::losses::lpips_weights;
use crate::train::network::fine_tune::Init;
use crate::train::trainer::finite;
use crate::train::trainer::monitor::{Look, Probe};
use crate::train::trainer::state::State;

/// A trainer that has done no step.
pub fn fresh(
    model: &ModelConfig,
    settings: &TrainSettings,
    loader: &Loader<'_>,
    observer: &mut dyn Observer,
) -> Result<Trainer> {
    let init = Init::read(&settings.init, model)?;
    let mut trainer = Trainer::new(model, settings, variance(model, loader, observer)?)?;
    if let Some(init) = init {
        let text = init.apply(model, &mut trainer)?;
        observer.event(&Event::Notice(&text));
    }
    Ok(trainer)
}

/// Batches whose latents k-means sees, at most.
pub(super) const KMEANS_BATCHES: usize = 16;

/// Gives the codes their first places by latents of the coming batches.
///
/// # Errors
/// [`Error::Interrupted`] where the observer says so: nothing is started then.
pub fn start_codebook(
    trainer: &mut Trainer,
    loader: &Loader<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let mut order = Order::default();
    let first = trainer.step_count();
    let mut rows_of = |step: usize, observer: &dyn Observer| {
        let pixels = loader.batch(step, &mut order)?.pixels;
        trainer.latent_rows(&pixels, &|| observer.interrupted())
    };
    let mut rows = rows_of(first, observer)?;
    let step_rows = rows.len() / trainer.dim();
    let wanted = trainer.codes() * trainer.kmeans_rows_per_code();
    let batches = wanted.div_ceil(step_rows).min(KMEANS_BATCHES);
    for step in first + 1..first + batches {
        rows.extend(rows_of(step, observer)?);
    }
    trainer.start_codebook(&rows, step_rows, &mut |done, total| {
        observer.event(&Event::Work { stage: "k-means", unit: "rows", done, total });
        if observer.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    })
}

/// Says where a resumed training goes on.
pub fn tell_resumed(
    trainer: &Trainer,
    state: &State,
    settings: &TrainSettings,
    observer: &mut dyn Observer,
) {
    let (step, steps) = (trainer.step_count(), settings.steps);
    let then = state.counters.recipe["train"]["steps"].as_u64().unwrap_or(steps as u64);
    let text = if (then as usize) < steps {
        format!(
            "going on behind step {step} to {steps} instead of {then}: from here on the learning \
             rate and all that depends on the number of steps follow a training of {steps}"
        )
    } else {
        format!("going on behind step {step} of {steps}")
    };
    observer.event(&Event::Notice(&text));
}

/// Tells of images that can't be read where they are more than `told`.
pub fn tell_unreadable(split: &Split, loader: &Loader<'_>, told: u64, observer: &mut dyn Observer) {
    let count = loader.unreadable.count();
    if count > told {
        let images = split.train.len() + split.held_out.len();
        let examples = &loader.unreadable.examples();
        observer.event(&Event::Unreadable { count, images, examples });
    }
}

/// Variance of the pixels, in the units of the network, over the first images of the first epoch.
fn variance(model: &ModelConfig, loader: &Loader<'_>, observer: &dyn Observer) -> Result<f64> {
    const IMAGES: usize = 1024;
    let table = model.pixels.input.table();
    let mut order = Order::default();
    let (mut n, mut sum, mut squares) = (0u64, 0f64, 0f64);
    for step in 0..IMAGES.min(loader.train.len()).div_ceil(loader.batch_size) {
        if observer.interrupted() {
            return Err(Error::Interrupted);
        }
        for byte in loader.batch(step, &mut order)?.pixels {
            let value = f64::from(table[byte as usize]);
            n += 1;
            sum += value;
            squares += value * value;
        }
    }
    let mean = sum / n as f64;
    // Images of one single colour have none; the loss must stay finite.
    Ok((squares / n as f64 - mean * mean).max(1e-6))
}

/// LPIPS where the settings ask for it and say where its weights are, and their sha256.
pub fn perceptual(
    model: &ModelConfig,
    settings: &TrainSettings,
    observer: &mut dyn Observer,
) -> Result<(Option<PerceptualLoss>, String)> {
    let Some(p) = &settings.perceptual else { return Ok((None, String::new())) };
    if p.weight == 0.0 {
        return Ok((None, String::new()));
    }
    if p.weights.is_empty() {
        observer.event(&Event::Warning(
            "training without LPIPS: its weights are not given. They make reconstructions of photos \
             sharper: --perceptual-weights PATH, VGG16 of torchvision and the heads of lpips",
        ));
        return Ok((None, String::new()));
    }
    let (lpips, digest) = lpips_weights::load(Path::new(&p.weights))?;
    let limits = pixels::limits(model.pixels.input);
    Ok((Some(PerceptualLoss::new(lpips, p.weight, limits)), digest))
}

/// Rehearses on a few images and tells the observer.
pub fn estimate(
    trainer: &mut Trainer,
    model: &ModelConfig,
    settings: &TrainSettings,
    split: &Split,
    observer: &mut dyn Observer,
) -> Result<()> {
    let images = rayon::current_num_threads().min(settings.images_at_once());
    let judged = if split.held_out.is_empty() { &split.train } else { &split.held_out };
    let judged = judged.len().min(settings.evaluation_images_max);
    let looked_at = |of: &[u32]| of.len().min(settings.watch.images);
    let looked_at = looked_at(&split.train) + looked_at(&split.held_out);
    let cost = trainer.cost(images, model, judged, looked_at)?;
    observer.event(&Event::Estimate {
        remaining: cost.remaining,
        memory_bytes: cost.memory_bytes,
        steps: settings.steps - trainer.step_count(),
        images: split.train.len(),
        parameters: trainer.parameter_count(),
    });
    Ok(())
}

/// The images that the training looks at, the first of each kind that can be read.
pub fn probe(settings: &TrainSettings, split: &Split, loader: &Loader<'_>) -> Probe {
    let read = |indices: &[u32]| -> Vec<u8> {
        let images = indices.iter().filter_map(|i| loader.plain(*i as usize).ok());
        images.take(settings.watch.images).flatten().collect()
    };
    Probe { trained: read(&split.train), held_out: read(&split.held_out) }
}

/// Looks at the fixed images and says what there is to say.
pub fn watch(trainer: &mut Trainer, probe: &Probe, observer: &mut dyn Observer) -> Result<Look> {
    let (look, words) = trainer.look(probe)?;
    observer.event(&Event::Look(&look));
    for text in &words {
        observer.event(&Event::Warning(text));
    }
    Ok(look)
}

/// Says what skipped updates mean.
pub fn warn(report: &StepReport, trainer: &Trainer, observer: &mut dyn Observer) {
    let (skipped, theirs) = (trainer.skipped(), trainer.discriminator_skipped());
    if let Some(text) = finite::warning(report, skipped, theirs) {
        observer.event(&Event::Warning(&text));
    }
}
