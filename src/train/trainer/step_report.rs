//! Owns what one step reports.

use serde::Serialize;

/// What one step did.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// The whole loss.
    pub loss: f64,
    /// The reconstruction's part.
    pub reconstruction: f64,
    /// LPIPS, weighted; None without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<f64>,
    /// The commitment's part; 0 before the codebook starts and where the rule has none.
    pub commitment: f64,
    /// The part of the codes that learn by gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_loss: Option<f64>,
    /// The part of the entropies (LFQ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy_loss: Option<f64>,
    /// The adversarial part; None before the discriminator starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialReport>,
    /// PSNR of the batch before the update, dB, unclamped.
    pub psnr: f64,
    /// Of this update.
    pub learning_rate: f64,
    /// Norm of the whole gradient before clipping.
    pub gradient_norm: f64,
    /// Root mean square length of the latents: a growing one is a warning.
    pub latent_norm: f64,
    /// Codes revived after this step.
    pub revived: usize,
    /// The loss or a gradient was not finite and nothing was changed.
    pub skipped: bool,
}

/// What one step did about the discriminator.
#[derive(Debug, Clone, Serialize)]
pub struct AdversarialReport {
    /// The generator's loss, unweighted; 0 during the discriminator's warmup.
    pub loss: f64,
    /// Its weight: adaptive weight, ramp and `weight_scale` together.
    pub weight: f64,
    /// What falls of PSNR have left of the weight, 1 down to 0.
    #[serde(rename = "trust")]
    pub weight_scale: f64,
    /// The discriminator's loss, LeCAM included.
    pub discriminator: f64,
    /// Norm of its gradient before clipping.
    pub discriminator_norm: f64,
    /// Its loss or gradient was not finite, or the whole step was skipped.
    pub discriminator_skipped: bool,
}
