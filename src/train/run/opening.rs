//! Owns what a training needs before its first step: fresh weights or what a checkpoint's images
//! were, LPIPS, and what all of it will take.

use std::path::Path;

use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::train::checkpoints::Taken;
use crate::train::events::{Event, Observer};
use crate::train::fine_tune::Init;
use crate::train::input::loader::Loader;
use crate::train::input::manifest::Manifest;
use crate::train::input::pixels;
use crate::train::losses::{lpips::PerceptualLoss, lpips_weights};
use crate::train::settings::TrainSettings;
use crate::train::trainer::Trainer;
use crate::train::workspace::Workspace;

/// The images of a training that goes on from `taken`; what is damaged in its folder is told.
///
/// # Errors
/// Other images than it was begun with.
pub(super) fn images(
    workspace: &Workspace,
    taken: &Taken,
    loader: &Loader<'_>,
    folder: &Path,
    observer: &mut dyn Observer,
) -> Result<Manifest> {
    let (images, damaged) = workspace.images()?;
    // Trainings of older versions, and those of images that can't change, have no list.
    let missing = images.is_none() && damaged.is_none() && loader.data.stamp(0).is_some();
    let missing = missing.then(|| workspace.images_missing());
    for text in [&taken.warning, &damaged, &missing].into_iter().flatten() {
        observer.event(&Event::Warning(text));
    }
    Manifest::resumed(images, loader.data, folder)
}

/// A trainer that has done no step.
pub(in crate::train) fn fresh(
    model: &ModelConfig,
    settings: &TrainSettings,
    loader: &Loader<'_>,
    observer: &mut dyn Observer,
) -> Result<Trainer> {
    let init = Init::read(&settings.init, model)?;
    let table = model.pixels.input.table();
    let variance = loader.variance(&table, &|| observer.interrupted())?;
    let mut trainer = Trainer::new(model, settings, variance)?;
    if let Some(init) = init {
        let text = init.apply(model, &mut trainer)?;
        observer.event(&Event::Notice(&text));
    }
    Ok(trainer)
}

/// LPIPS where the settings ask for it and say where its weights are, and their sha256.
pub(in crate::train) fn perceptual_loss(
    model: &ModelConfig,
    settings: &TrainSettings,
    observer: &mut dyn Observer,
) -> Result<(Option<PerceptualLoss>, String)> {
    let Some(p) = settings.perceptual.as_ref().filter(|p| p.weight != 0.0) else {
        return Ok((None, String::new()));
    };
    if p.weights.is_empty() {
        observer.event(&Event::Warning(
            "training without LPIPS: its weights are not given. They make reconstructions of photos \
             sharper: train.perceptual.weights, VGG16 of torchvision and the heads of lpips",
        ));
        return Ok((None, String::new()));
    }
    let (lpips, digest) = lpips_weights::load(Path::new(&p.weights), settings.device.get())?;
    let limits = pixels::limits(model.pixels.input);
    Ok((Some(PerceptualLoss::new(lpips, p.weight, limits)), digest))
}

/// Rehearses on a few images what the training takes.
pub(super) fn announce_cost(
    trainer: &mut Trainer,
    model: &ModelConfig,
    loader: &Loader<'_>,
    observer: &mut dyn Observer,
) -> Result<()> {
    let (trained, held_out) = (loader.split.train.len(), loader.split.held_out.len());
    let cost = trainer.cost(model, trained, held_out)?;
    observer.event(&Event::Estimate {
        remaining: cost.remaining,
        memory_bytes: cost.memory_bytes + loader.memory_bytes(cost.steps),
        device_bytes: cost.device_bytes,
        steps: cost.steps,
        images: trained,
        parameters: trainer.parameter_count(),
    });
    Ok(())
}
