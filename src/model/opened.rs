//! Owns what an opened model is before anything runs it: a configuration with its weights.

use super::config::ModelConfig;
use crate::weights::digests::Pending;
use crate::weights::store::Weights;

/// A model as it lies in its files, understood: what every engine is made of. Its weights are being
/// hashed, and our own checked, while it is put to use.
pub struct Opened {
    /// What it is.
    pub config: ModelConfig,
    /// Under canonical names, on the CPU.
    pub weights: Weights,
    /// To be waited for before anything that comes of the weights is used: an error where they
    /// aren't those that were written.
    pub digests: Pending,
}
