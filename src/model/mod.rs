//! Owns the mathematics of the models: what each network is, the configuration language, candle as
//! the reference engine and what training differentiates. Must not know: containers of weights,
//! shards, devices other than candle's.
//!
//! `config` is the language, `pixels` the bytes. `topology` says which layers a network has;
//! `sequential` makes them `layers` of candle, whose convolutions, pooling and products
//! (`conv`, `pool`, `gemm`) have backward passes of their own; `autoencoder`, `vqvae2`, `dalle` and
//! `vit_vqgan` are the networks. `quantizer`, `residual` and `fsq` pick codes, `codec` joins both,
//! `reference` is the loaded model.
//!
//! `quantizer` and `conv_kernels` take rayon's threads: rows and blocks are split by their number
//! alone, so that no bit depends on how many threads there are.

pub mod autoencoder;
pub mod codec;
pub mod config;
pub mod conv;
mod conv_kernels;
mod conv_sizes;
pub mod dalle;
pub mod finite;
pub mod fsq;
pub mod gemm;
pub mod layers;
pub mod opened;
pub mod pixels;
pub mod pool;
pub mod quantizer;
mod reference;
pub mod residual;
pub mod sequential;
mod sizes;
pub mod topology;
pub mod vit_vqgan;
pub mod vqvae2;

pub(crate) use codec::lookup_map;
pub use codec::{CodeLevel, EncodedLevel};
pub use reference::Model;
#[cfg(test)]
pub(crate) use reference::build;
pub(crate) use reference::load_quantizer;
