//! Owns what the loop does around its steps beside saving: the fresh start, LPIPS and the estimate
//! before the first, looks and warnings behind each. Must not know: what a step computes.

use std::path::Path;

use super::data::{Loader, Order, Split};
use super::init::Init;
use super::perceptual::PerceptualLoss;
use super::settings::TrainSettings;
use super::trainer::{StepReport, Trainer};
use super::watch::{Look, Probe};
use super::{Event, Observer, perceptual_weights, pixels};
use crate::error::Result;
use crate::model::config::ModelConfig;

/// A trainer that has done no step.
pub fn fresh(
    model: &ModelConfig,
    settings: &TrainSettings,
    loader: &Loader<'_>,
    observer: &mut dyn Observer,
) -> Result<Trainer> {
    let init = Init::read(&settings.init, model)?;
    let mut trainer = Trainer::new(model, settings, variance(model, loader)?)?;
    if let Some(init) = init {
        let text = init.apply(model, &mut trainer)?;
        observer.event(&Event::Notice(&text));
    }
    Ok(trainer)
}

/// Variance of the pixels, in the units of the network, over the first images of the first epoch.
fn variance(model: &ModelConfig, loader: &Loader<'_>) -> Result<f64> {
    const IMAGES: usize = 1024;
    let table = model.pixels.input.table();
    let mut order = Order::default();
    let (mut n, mut sum, mut squares) = (0u64, 0f64, 0f64);
    for step in 0..IMAGES.min(loader.train.len()).div_ceil(loader.batch_size) {
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
    let (lpips, digest) = perceptual_weights::load(Path::new(&p.weights))?;
    let limits = pixels::limits(model.pixels.input);
    Ok((Some(PerceptualLoss::new(lpips, p.weight, limits)), digest))
}

/// Rehearses on a few images and tells the observer.
pub fn estimate(
    trainer: &mut Trainer,
    settings: &TrainSettings,
    split: &Split,
    observer: &mut dyn Observer,
) -> Result<()> {
    let images = rayon::current_num_threads().min(settings.images_at_once());
    let cost = trainer.cost(images)?;
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

/// Says what a skipped update means.
pub fn warn(report: &StepReport, observer: &mut dyn Observer) {
    if report.skipped {
        let text = format!(
            "step {}: the loss or a gradient is not finite; skipped. Often: lower learning_rate",
            report.step
        );
        observer.event(&Event::Warning(&text));
    } else if report.adversarial.as_ref().is_some_and(|a| a.discriminator_skipped) {
        let text = format!(
            "step {}: the discriminator's loss or a gradient is not finite; its update is skipped. \
             Often: lower train.adversarial.learning_rate",
            report.step
        );
        observer.event(&Event::Warning(&text));
    }
}
