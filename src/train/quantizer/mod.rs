//! The kinds of codes that can be trained. Must not know: networks, optimizers, files.
//!
//! | file | rule of the model | how the codes learn |
//! |---|---|---|
//! | `ema` | `l2`, `l2-normalised` | moving averages of the latents (EMA) |
//! | `gradient` | the same | by gradients of their own loss |
//! | `simvq` | the same | a trained linear map of a frozen random table (SimVQ) |
//! | `finite_scalar` | `fsq` | there is no codebook |
//! | `lookup_free` | `sign` | there is none; entropies keep the bits in use (LFQ) |
//! | `residual` | `l2` with a depth | those of `ema` or `gradient`, level by level |
//!
//! They share the form in `trainable`, the search in `nearest`, the gradient in `estimator`; `build`
//! makes the one that is asked for; `revival` knows which codes are used.
//!
//! What is trained lies among the network's parameters under
//! [`QUANTIZER_PREFIX`](crate::train::network::parameters::QUANTIZER_PREFIX): the optimizer, the
//! average of the weights and the checkpoint treat it as any weight. What is not (averages) is
//! the quantizer's own state. Either way the model folder gets one codebook, or none.

mod build;
pub(crate) mod ema;
pub(crate) mod estimator;
mod finite_scalar;
mod gradient;
pub(crate) mod kmeans;
pub(crate) mod layout;
mod lookup_free;
pub(crate) mod nearest;
mod residual;
pub(crate) mod revival;
mod simvq;
#[cfg(test)]
mod tests;
pub(crate) mod trainable;

pub(super) use build::build;
