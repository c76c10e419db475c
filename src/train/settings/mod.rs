//! What a training can be told: the `[train]` table of a recipe and the tables in it, their defaults,
//! their checks. Must not know: files, tensors.

pub mod adversarial;
pub mod augment;
mod check;
pub mod codebook;
pub(crate) mod ineffective;
pub mod monitor;
pub mod perceptual;
mod ranges;
pub mod training;

pub use training::TrainSettings;
