//! Owns the CUDA side of the operations that training differentiates. Must not know: what is trained.
//!
//! `launches` says which kernels of `training.cu` an operation is; `run`, in a build with the feature
//! `candle-cuda`, carries them out on candle's tensors. With the feature `cuda` as well convolutions go
//! through cuDNN where it has a plan: `convolutions` says which, `cudnn` carries them out. The tests compile the kernels as C and hold them
//! against the CPU side on emulated threads: no GPU has run them yet.

#[cfg(feature = "cuda")]
pub(crate) mod convolutions;
#[cfg(all(feature = "cuda", feature = "candle-cuda"))]
pub(crate) mod cudnn;
#[cfg(any(test, feature = "candle-cuda"))]
pub(crate) mod launches;
#[cfg(feature = "candle-cuda")]
mod run;
#[cfg(test)]
mod tests;

#[cfg(feature = "candle-cuda")]
pub(crate) use run::{compute, compute_in_place};
