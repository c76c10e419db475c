//! Owns fast inference behind one trait: pixels in, codes out, and back.
//! Must not know: files, shards, threads other than its own.
//!
//! `candle` is the reference that every other engine is tested against; `cpu/` holds our own
//! kernels, `cuda/` those for NVIDIA's GPUs, and `onnx/`
//! runs models in ONNX files through ONNX Runtime. `memory` says how much of it there is.

pub(crate) mod candle;
pub(crate) mod cpu;
pub(crate) mod cuda;
mod device;
mod interface;
pub(crate) mod memory;
pub(crate) mod onnx;
pub(crate) mod oom_split;
mod open;
pub(crate) mod reference;

pub use device::{DeviceChoice, EngineKind, Precision};
pub use interface::images_for_threads;
pub use interface::{CodeGrid, Decoded, Encoded, Engine, Images, PixelBatch, Submitted};
pub(crate) use onnx::OnnxEngine;
pub(crate) use open::{cards, passed_over};
pub use open::{open, require};
pub(crate) use open::{open_reference, require_reference};
