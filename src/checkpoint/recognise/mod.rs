//! From a published checkpoint to a vqtok model: its family, its sizes, its conventions, the canonical
//! names of its weights. Must not know: containers.

mod choice;
mod config;
pub mod detect;
pub mod families;
mod fields;
pub mod geometry;
pub mod keys;
mod placement;
mod provenance;
pub mod published;
mod sets;
pub mod setting_names;
mod validate;
