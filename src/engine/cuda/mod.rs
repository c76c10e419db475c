//! Owns inference on an NVIDIA GPU. Must not know: files, shards, how other engines compute.
//!
//! What runs is a [`program`]: a flat list of commands (a launch of one of our kernels, a matrix
//! product, a convolution) over numbered buffers, with every size, stride, grid and offset worked
//! out. `encoder` and `decoder` make it of a model, `network` takes the layers of `model::topology`;
//! `emit`, `maps`, `attention` and `search` turn them into commands, with weights packed by `weights`; all of that is plain Rust, compiled and tested without a GPU, where `emulate.c` runs
//! the very kernels of `kernels.cu` on emulated threads. With the feature `cuda`, `device`, `blas` and
//! `convolution` carry commands out through the driver, cuBLAS and cuDNN, by those of the configurations
//! of `nvidia::choice` that `timing` found to be the fastest and `kept` remembers; `transfer` brings images and results, `flight` keeps two runs queued, `compile` makes the
//! kernels machine code, and `engine` is the trait.
//!
//! Maps are `[images, height, width, channels]`, weights `[outputs, ky, kx, inputs]`.

#[cfg(any(test, feature = "cuda"))]
mod attention;
#[cfg(feature = "cuda")]
mod blas;
#[cfg(any(test, feature = "cuda"))]
mod books;
#[cfg(feature = "cuda")]
mod compile;
#[cfg(feature = "cuda")]
mod convolution;
#[cfg(any(test, feature = "cuda"))]
mod decoder;
#[cfg(feature = "cuda")]
mod device;
#[cfg(any(test, feature = "cuda"))]
mod emit;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod encoder;
#[cfg(feature = "cuda")]
mod engine;
#[cfg(test)]
mod family_tests;
#[cfg(feature = "cuda")]
mod flight;
#[cfg(feature = "cuda")]
mod graph;
#[cfg(test)]
pub(crate) mod host;
#[cfg(feature = "cuda")]
mod kept;
pub(crate) mod libraries;
#[cfg(any(test, feature = "cuda"))]
mod maps;
#[cfg(any(test, feature = "cuda"))]
mod network;
#[cfg(test)]
mod norm_tests;
#[cfg(any(test, feature = "cuda"))]
mod norms;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod program;
#[cfg(any(test, feature = "cuda"))]
mod search;
#[cfg(test)]
mod tests;
#[cfg(feature = "cuda")]
mod timing;
#[cfg(feature = "cuda")]
mod transfer;
#[cfg(any(test, feature = "cuda"))]
mod vqvae2;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod weights;

#[cfg(feature = "cuda")]
pub(crate) use device::cards;
#[cfg(feature = "cuda")]
pub use engine::{CudaEngine, StageTime};
