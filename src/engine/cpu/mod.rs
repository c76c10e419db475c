//! Owns inference on the CPU by `crate::kernels`.
//! Must not know: files, shards, how candle computes the same.
//!
//! `layer` holds one convolution's weights, `graph` runs layers over reused
//! maps, as `graph::builder` makes them of `model::topology`; `schedule` gives images and their parts
//! threads, `vqvae2` is the family with two quantizers, `quantize` picks codes, `engine`
//! is the trait.

#[cfg(test)]
mod drawn;
mod engine;
mod feature_map;
mod graph;
mod layer;
#[cfg(test)]
mod overflow_tests;
mod quantize;
mod rearrange;
mod schedule;
#[cfg(test)]
pub(crate) mod tests;
mod vqvae2;

pub use engine::CpuEngine;
#[cfg(feature = "cuda")]
pub(super) use engine::one_grid;
#[cfg(any(test, feature = "cuda"))]
pub(super) use rearrange::transposed;
#[cfg(feature = "cuda")]
pub(super) use vqvae2::two_grids;
