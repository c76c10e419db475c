//! Owns what the two sides of vqtok that compute on an NVIDIA GPU have in common: errors of its libraries,
//! and cuDNN's backend. Must not know: networks, who owns the device's memory.
//!
//! `graph` has the parts of a graph, `choice` which configurations may compute it, `plan` one that does;
//! `descriptor` is what all of them are to cuDNN, `handle` the library on a stream.

#[cfg(feature = "cuda")]
pub(crate) mod choice;
#[cfg(feature = "cuda")]
pub(crate) mod descriptor;
#[cfg(any(test, feature = "cuda"))]
pub(crate) mod errors;
#[cfg(feature = "cuda")]
pub(crate) mod graph;
#[cfg(feature = "cuda")]
pub(crate) mod handle;
#[cfg(feature = "cuda")]
pub(crate) mod plan;
