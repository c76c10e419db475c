//! Owns what each network is: its layers in the order in which they run, by their
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
//! | `checkpoint::onnx::write` | ONNX nodes and initializers |

mod blocks;
pub(crate) mod dalle;
mod emit;
mod geometry;
pub(crate) mod maskgit;
mod network;
pub(crate) mod open_magvit2;
pub(crate) mod titok;
pub(crate) mod unitok;
pub(crate) mod vit_vqgan;
pub(crate) mod vqgan;
pub(crate) mod vqvae;
pub(crate) mod vqvae2;

pub(crate) use blocks::{
    InvertedSide, InvertedSpec, MlpSpec, Nonlinearity, RowMap, TokenRow, TransformerSpec,
};
pub(crate) use emit::{BottleneckSpec, Emit, Resample, ResnetSpec, Shortcut};
pub(crate) use geometry::{ConvGeometry, ConvSpec};
pub use geometry::{Io, NormSpec};
pub(crate) use network::{decoder, decoder_input, encoder, is_sequence};
