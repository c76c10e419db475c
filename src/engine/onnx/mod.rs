//! Owns inference of ONNX files through ONNX Runtime, whose library is found and loaded at run time.
//! Must not know: files other than the graphs', how they were recognised.
//!
//! `available` says what is missing; `library` loads the runtime, which `python` helps to find, with
//! the memory of `arena`; `session` is a graph on a device with its tensors, `pictures` and `grids` what
//! goes into them and comes out, `encoder` and `decoder` the two graphs of a tokenizer, `engine` the
//! trait, `trial` what a network shows of itself before the first image.

mod arena;
mod available;
mod decoder;
mod encoder;
mod engine;
mod grids;
mod library;
mod pictures;
mod python;
mod session;
mod trial;

pub(crate) use available::require;
pub(crate) use engine::OnnxEngine;
