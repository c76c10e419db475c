//! Owns inference on the CPU with our own kernels.
//! Must not know: files, shards, how candle computes the same.
//!
//! `kernels` computes, `layer` holds one convolution's weights, `graph` runs layers over reused
//! maps, `schedule` gives images and their parts threads and memory, `networks`, `families` and
//! `vqvae2` say which layers a family has, `quantize` picks codes, `engine` is the trait.

#[cfg(test)]
mod drawn;
mod engine;
mod families;
mod feature_map;
mod graph;
pub mod kernels;
mod layer;
mod memory;
mod networks;
#[cfg(test)]
mod overflow_tests;
mod quantize;
mod rearrange;
mod schedule;
#[cfg(test)]
pub(crate) mod tests;
mod vqvae2;

pub use engine::{CpuEngine, StepTime};
