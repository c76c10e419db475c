//! Finding image files, in one order that depends on names alone, and reading them. Must not know:
//! what an image holds.

pub(crate) mod container;
pub(crate) mod file;
pub(crate) mod hidden;
pub(crate) mod image;
pub(crate) mod labels;
pub(crate) mod lists;
pub(crate) mod long_paths;
pub(crate) mod own;
mod peek;
pub(crate) mod sidecar;
pub(crate) mod skipped;
pub(crate) mod uri;
pub(crate) mod walk;
