//! Owns fast inference behind one trait: pixels in, codes out, and back.
//! Must not know: files, shards, threads other than its own.
//!
//! `candle` is the reference that every other engine is tested against; `cpu/` holds our own
//! kernels, `cuda/` those for NVIDIA's GPUs.

pub mod candle;
pub mod cpu;
pub mod cuda;
mod device;
mod interface;
pub mod oom_split;
mod open;

pub use device::{DeviceChoice, Precision};
pub use interface::{CodeGrid, Decoded, Encoded, Engine, Failed, PixelBatch, images_for_threads};
pub use open::{open, require};
