//! Owns inference on the CPU with our own kernels.
//! Must not know: files, shards, how candle computes the same.
//!
//! `kernels` computes, `layer` holds one convolution's weights, `plan` runs layers over reused
//! maps, `share` gives images and their parts threads and memory, `builder` makes plans of weights,
//! `networks`, `families` and `two_levels` say which layers a family has, `coder` picks codes, `engine` is the trait.

mod builder;
mod coder;
#[cfg(test)]
mod drawn;
mod engine;
mod families;
pub mod kernels;
mod layer;
mod maps;
mod memory;
mod networks;
#[cfg(test)]
mod overflow_tests;
mod plan;
mod rearrange;
mod share;
#[cfg(test)]
pub(crate) mod tests;
mod two_levels;

pub use engine::{CpuEngine, StepTime};
