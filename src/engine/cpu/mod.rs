//! Owns inference on the CPU with our own kernels.
//! Must not know: files, shards, how candle computes the same.

pub mod kernels;
