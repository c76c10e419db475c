//! Owns what each convolutional network is: its layers in the order in which they run, by their
//! canonical names, each family once. Must not know: weights, tensors, devices, how a layer is
//! computed or which layers are fused.
//!
//! A family is a file of functions over [`Emit`], which receives the layers one by one. Who
//! computes networks implements it:
//!
//! | emitter | makes |
//! |---|---|
//! | `model::sequential` | candle's layers: the reference engine, and what training differentiates |
//! | `engine::cpu::graph::builder` | the CPU engine's graph |
//! | `engine::cuda::network` | the GPU's commands |
//!
//! A writer of graph files (ONNX nodes and initializers) is one more implementation: the names are
//! those of the weights, and every layer says its geometry.

pub mod dalle;
mod emit;
mod geometry;
pub mod maskgit;
mod network;
pub mod open_magvit2;
pub mod vqgan;
pub mod vqvae;
pub mod vqvae2;

pub use emit::{BottleneckSpec, Emit, Resample, ResnetSpec, Shortcut};
pub use geometry::{ConvGeometry, ConvSpec, Io, NormSpec};
pub use network::{decoder, decoder_input, encoder, is_sequence};
