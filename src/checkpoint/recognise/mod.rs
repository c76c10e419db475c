//! From a published checkpoint to a vqtok model: its family, its sizes, its conventions, the canonical
//! names of its weights. Must not know: containers.

pub(crate) mod conventions;
pub mod detect;
pub mod families;
pub(crate) mod fields;
pub mod flags;
pub mod geometry;
pub mod keys;
pub mod published;
pub(crate) mod sets;
pub(crate) mod sound;
