//! Models: their files, quantizers and engines, as the program takes or refuses them.

#[path = "../support/mod.rs"]
mod support;

mod absent_devices;
mod bits;
mod checkpoints;
mod decode;
mod onnx;
mod onnx_hostile;
mod pickle;
mod pixel_settings;
mod quantizers;
mod sequences;
