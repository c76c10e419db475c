//! Owns reading and writing of weights: containers, pickles, our own model folder, the maps from
//! published names. Must not know: engines, images.
//!
//! `open` gives a checkpoint as it was published, untouched: names as in the file, tensors as
//! data. What the names mean is decided in `recognise`. Every file is untrusted: no code runs, sizes
//! are checked before memory is taken, and a file without tensors is an error that says what was
//! found instead.

mod budget;
pub mod container;
pub mod convert;
pub mod find;
pub mod folder;
pub mod model_card;
mod open;
pub mod pickle;
mod raw;
pub mod recognise;

pub use container::file::probe;
pub(crate) use find::weights::named_as_weights;
pub use open::open;
pub use raw::RawCheckpoint;
