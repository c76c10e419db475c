//! What a training can be told: the `[train]` table of a recipe and the tables in it, their defaults,
//! their checks. Must not know: files, tensors.

pub(crate) mod adversarial;
pub(crate) mod augment;
mod check;
pub(crate) mod codebook;
pub(crate) mod ineffective;
pub(crate) mod monitor;
pub(crate) mod perceptual;
mod ranges;
pub(crate) mod training;

pub(crate) use check::{BATCH_SIZE_MAX, STEPS_MAX};
pub(crate) use training::TrainSettings;
