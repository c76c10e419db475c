//! Which files of a folder are the weights, and which configurations lie beside them. Must not know:
//! families.

pub(crate) mod configs;
pub(crate) mod interpolate;
pub(crate) mod weights;
