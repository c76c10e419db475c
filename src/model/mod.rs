//! Owns the mathematics of the models in candle: what training differentiates and what the
//! reference engine runs. Must not know: files, threads, shards.

pub mod config;
pub mod conv;
pub mod gemm;
pub mod vqvae;
