//! Owns reading and writing of weights: containers, pickles, our own model folder, the maps from
//! published names. Must not know: engines, images.
//!
//! [`open`] gives a checkpoint as it was published, untouched: names as in the file, tensors as
//! data. What the names mean is decided behind it. Every file is untrusted: no code runs, sizes
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

use sha2::{Digest, Sha256};

pub use container::file::probe;
pub(crate) use find::weights::named_as_weights;
pub use open::open;
pub use raw::RawCheckpoint;

/// The sha256 of `bytes` in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes in hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
