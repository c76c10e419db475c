//! Owns reading and writing of weights: containers, pickles, our own model folder, the maps from
//! published names. Must not know: engines, images.
//!
//! `open` gives a checkpoint as it was published, untouched: names as in the file, tensors as
//! data. What the names mean is decided in `recognise`. Every file is untrusted: no code runs, sizes
//! are checked before memory is taken, and a file without tensors is an error that says what was
//! found instead.

mod budget;
pub(crate) mod container;
pub(crate) mod convert;
pub(crate) mod find;
pub(crate) mod folder;
pub(crate) mod model_card;
pub(crate) mod onnx;
mod open;
pub(crate) mod pickle;
mod raw;
pub(crate) mod recognise;

pub use container::file::probe;
pub(crate) use find::weights::named_as_weights;
pub use open::open;
