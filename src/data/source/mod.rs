//! Finding image files, in one order that depends on names alone, and reading them. Must not know:
//! what an image holds.

mod asked;
pub(crate) mod container;
pub(crate) mod fetch;
pub(crate) mod file;
pub(crate) mod file_kind;
pub(crate) mod hidden;
pub(crate) mod image;
mod json;
pub(crate) mod labels;
pub(crate) mod library;
pub(crate) mod listings;

pub(crate) mod lists;
mod names;
pub(crate) mod own;
pub(crate) mod patterns;
mod peek;
pub(crate) mod sidecar;
pub(crate) mod skipped;
pub(crate) mod stream;
pub(crate) mod uri;
pub(crate) mod walk;
mod watched;
