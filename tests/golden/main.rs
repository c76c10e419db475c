//! Reference tokens, pixels and decoders of every family, on each engine.

#[path = "../support/mod.rs"]
mod support;

mod converted_to_onnx;
mod cpu_engine;
mod published_families;
mod recent_families;
