//! Owns the table `[train.codebook]`: how the codes of a codebook begin and learn.

use serde::{Deserialize, Serialize};

/// Batches whose latents k-means sees, at most.
pub(crate) const KMEANS_BATCHES: usize = 16;

/// The `[train.codebook]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodebookSettings {
    /// How the codes learn, for the rules `l2` and `l2-normalised`.
    pub method: CodebookMethod,
    /// Where the codes begin.
    pub start: CodebookStart,
    /// Steps without quantization, before the codes are started. At most a tenth of the steps is
    /// taken. Rules without codebook (`fsq`, `sign`) quantize from the first step on.
    pub start_after: usize,
    /// Steps of Lloyd's algorithm.
    pub kmeans_steps: usize,
    /// Latents a code for k-means (within 16 batches).
    pub kmeans_rows_per_code: usize,
    /// CodebookMethod `ema`: g of the moving averages.
    pub decay: f64,
    /// CodebookMethod `ema`: smoothing of the counts.
    pub epsilon: f64,
    /// Methods `gradient` and `simvq`: weight of mean((q - sg(z))^2), which pulls the codes.
    pub code_weight: f64,
    /// Rule `sign`: weight of the entropy of each latent's codes less that of all together; 0 =
    /// neither is computed.
    pub entropy_weight: f64,
    /// Rule `sign`: tau of the probabilities of codes.
    pub entropy_temperature: f64,
    /// First interval between revivals, which doubles while hardly any code is dead; 0 = none. A
    /// code is dead that was not used for as many steps, or for longer where a batch has few
    /// latents for many codes.
    pub revive_every: usize,
    /// Share of the steps after which there is no scheduled revival.
    pub revive_until: f64,
    /// Recent usage under which codes are revived behind `revive_until` too.
    pub rearm_usage: f64,
}

impl Default for CodebookSettings {
    fn default() -> Self {
        CodebookSettings {
            method: CodebookMethod::Ema,
            start: CodebookStart::Kmeans,
            start_after: 100,
            kmeans_steps: 10,
            kmeans_rows_per_code: 32,
            decay: 0.99,
            epsilon: 1e-5,
            code_weight: 1.0,
            entropy_weight: 0.1,
            entropy_temperature: 0.01,
            revive_every: 20,
            revive_until: 0.8,
            rearm_usage: 0.5,
        }
    }
}

/// How the codes of a codebook learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodebookMethod {
    /// Moving averages of the latents that chose them.
    Ema,
    /// Gradients of their distance to these latents.
    Gradient,
    /// Gradients, through a linear map of a frozen random table (SimVQ).
    Simvq,
}

/// Where the codes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodebookStart {
    /// Among the latents: on centres of k-means; with `simvq`, by the latents' mean and covariance.
    Kmeans,
    /// Anywhere: uniform in +-1/K, as the first VQ-VAE; with `simvq`, as any linear layer.
    Random,
}

/// The way of the decoder's gradient to the encoder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Estimator {
    /// z + sg(q - z): the gradient passes unchanged.
    #[default]
    StraightThrough,
    /// The rotation trick (Fifty et al. 2024): the gradient turns with the rotation from z to q.
    Rotation,
}
