//! From a published checkpoint to a vqtok model: its family, its sizes, its conventions, the canonical
//! names of its weights. Must not know: containers.

mod choice;
mod config;
pub(crate) mod detect;
pub(crate) mod families;
mod fields;
mod frames;
pub(crate) mod geometry;
pub(crate) mod keys;
pub(crate) mod made;
mod placement;
mod provenance;
pub(crate) mod published;
mod recent_families;
mod recent_geometry;
mod recent_keys;
mod scales;
mod sets;
pub(crate) mod setting_names;
mod titok;
mod unitok;
mod validate;
mod vit_vqgan;
mod wavelets;
