//! Owns the `[train]` table of a recipe and its defaults.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::compute_device::ComputeDevice;
use crate::model::config::ModelConfig;
use crate::train::settings::adversarial::AdversarialSettings;
use crate::train::settings::augment::AugmentSettings;
use crate::train::settings::codebook::{CodebookSettings, Estimator};
use crate::train::settings::monitor::MonitorSettings;
use crate::train::settings::perceptual::PerceptualSettings;
use crate::util::pair::pair;

/// The `[train]` table. Every field has a default; unknown ones are rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Updates of the weights.
    pub steps: usize,
    /// Images per update.
    pub batch_size: usize,
    /// Images that go through the network at once; their gradients are summed over the batch, in
    /// order. 0 = the whole batch. Less memory; with another value the last bits (and with a
    /// discriminator, which normalises over them, more) of the result are others.
    pub micro_batch: usize,
    /// Keeps only the borders of the network's blocks and runs each block again in the backward
    /// pass: about a third more time, much less memory, the same bits.
    pub recompute: bool,
    /// Of weights, data order and codebook.
    pub seed: u64,
    /// Share of the images, chosen by the hash of their keys, that is never trained on and on
    /// which the result is judged; 0 to 0.5. With 0 it is judged on images trained on.
    pub held_out_share: f64,
    /// Images the result is judged on, at most.
    pub evaluation_images_max: usize,

    /// Distance of image and reconstruction.
    pub loss: ReconstructionLoss,
    /// beta, the weight of mean((sg(q) - z)^2).
    pub commitment: f64,
    /// How the decoder's gradient passes the quantizer.
    pub estimator: Estimator,

    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub learning_rate_floor: f64,
    /// Share of the steps over which the learning rate rises.
    pub warm_up_share: f64,
    /// AdamW's (b1, b2).
    #[serde(deserialize_with = "pair")]
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// AdamW's decay; biases and norms are never decayed.
    pub weight_decay: f64,
    /// Limit on the norm of the whole gradient; 0 = none.
    pub clip_norm: f64,
    /// Decay of the average of the weights, which is what is saved; 0 = save the last weights.
    pub weight_average: f64,

    /// The codebook.
    pub codebook: CodebookSettings,
    /// What to begin with.
    pub init: InitSettings,
    /// The discriminator; None = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialSettings>,
    /// LPIPS; None = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualSettings>,
    /// How the training watches itself.
    pub watch: MonitorSettings,

    /// Variation of the training images.
    pub augment: AugmentSettings,

    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Steps between lines of the training record.
    pub log_every: usize,
    /// Images on each picture of reconstructions; 0 = no pictures.
    pub pictures: usize,
    /// Steps between pictures; 0 = eight in the whole training. The last step has one always.
    pub picture_every: usize,

    /// Where the training computes: no part of the recipe. A training that goes on elsewhere ends with other
    /// last bits.
    #[serde(skip)]
    pub device: ComputeDevice,
    /// Whether the network's convolutions read bfloat16, and keep it for the backward pass: no part of the
    /// recipe either. Weights, moments, norms, losses and the quantizer are float32.
    #[serde(skip)]
    pub narrow: bool,
    /// Whether convolutions of a step may multiply in TF32, on a GPU; what they read and sum is float32. No part
    /// of the recipe either.
    #[serde(skip)]
    pub tf32: bool,
}

/// The `[train.init]` table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InitSettings {
    /// A checkpoint to begin with, published or vqtok's own: file or folder. Empty: from scratch.
    pub from: String,
    /// Its family where names and shapes leave a doubt. Empty: detected.
    pub family: String,
    /// Which of several sets of weights in it: the start of their names. Empty: there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub weights: String,
}

/// How far a reconstruction is from its image; all are means over images, channels and pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReconstructionLoss {
    /// mean((x - x')^2), also written `l2`.
    #[serde(alias = "l2")]
    Mse,
    /// mean((x - x')^2) / variance of the data: the classic VQ-VAE's.
    MseOverVariance,
    /// mean(|x - x'|)
    L1,
}

impl Default for TrainSettings {
    fn default() -> Self {
        TrainSettings {
            steps: 10_000,
            batch_size: 32,
            micro_batch: 0,
            recompute: false,
            seed: 1,
            held_out_share: 0.02,
            evaluation_images_max: 2_000,
            loss: ReconstructionLoss::MseOverVariance,
            commitment: 0.25,
            estimator: Estimator::StraightThrough,
            learning_rate: 1e-3,
            learning_rate_floor: 0.0,
            warm_up_share: 0.02,
            betas: (0.9, 0.95),
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            weight_average: 0.999,
            codebook: CodebookSettings::default(),
            augment: AugmentSettings::default(),
            init: InitSettings::default(),
            adversarial: None,
            perceptual: None,
            watch: MonitorSettings::default(),
            checkpoint_every: 500,
            log_every: 50,
            pictures: 8,
            picture_every: 0,
            device: ComputeDevice::default(),
            narrow: false,
            tf32: false,
        }
    }
}

impl TrainSettings {
    /// Images that go through the network at once.
    pub fn images_at_once(&self) -> usize {
        match self.micro_batch {
            0 => self.batch_size,
            n => n.min(self.batch_size),
        }
    }

    /// The step at which the codes are started.
    pub fn codebook_starts_at(&self) -> usize {
        self.codebook.start_after.min(self.steps / 10)
    }
}

/// Side of the square that training sees, in pixels.
///
/// # Errors
/// Where the model doesn't say one.
pub(crate) fn side(model: &ModelConfig) -> Result<usize> {
    match model.preprocess.size {
        Some(size) if size > 0 => Ok(size as usize),
        Some(_) => Err(Error::invalid("data.size is 0; it must be at least 1")),
        None => Err(Error::invalid("training needs one image size: set data.size")),
    }
}
