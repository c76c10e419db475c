//! Owns the mathematics of the models: what each network is, the configuration language, candle as
//! the reference engine and what training differentiates. Must not know: containers of weights,
//! shards, devices other than candle's.
//!
//! `config` is the language, `pixels` the bytes. `topology` says which layers a network has;
//! `sequential` makes them `layers` of candle, whose convolutions, pooling, rectifiers, norms and products
//! (`conv`, `pool`, `relu`, `group_norm`, `gemm`) have backward passes of their own, over slices that `storage`
//! gives; `autoencoder`, `vqvae2` and `dalle` are
//! the networks. `quantizer`, `residual`, `multiscale` and `fsq` pick codes, `codec` joins both,
//! `reference` is the loaded model, `compute_device` where candle computes, `cuda` the operations of
//! training there, `tf32` whether they may round.
//!
//! `quantizer` and `conv_kernels` take rayon's threads: rows and blocks are split by their number
//! alone, so that no bit depends on how many threads there are.

pub(crate) mod autoencoder;
pub(crate) mod codec;
pub(crate) mod compute_device;
pub(crate) mod config;
pub(crate) mod conv;
mod conv_fast;
mod conv_float;
mod conv_gradient;
mod conv_kernels;
pub(crate) mod conv_sizes;
pub(crate) mod cuda;
pub(crate) mod dalle;
pub(crate) mod finite;
pub(crate) mod fsq;
pub(crate) mod gemm;
mod group_norm;
pub(crate) mod layers;
pub(crate) mod multiscale;
pub(crate) mod opened;
pub(crate) mod pixels;
pub(crate) mod pool;
pub(crate) mod quantizer;
mod reference;
pub(crate) mod relu;
pub(crate) mod residual;
pub(crate) mod sequential;
mod sizes;
pub(crate) mod storage;
pub(crate) mod tf32;
pub(crate) mod topology;
pub(crate) mod vqvae2;

pub(crate) use codec::{CodeLevel, EncodedLevel, lookup_map};
pub use reference::Model;
#[cfg(test)]
pub(crate) use reference::build;
pub(crate) use reference::load_quantizer;
