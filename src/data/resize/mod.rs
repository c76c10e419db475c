//! The resize rules of the published tokenizers, bit for bit as Pillow and OpenCV do them.

mod names;
pub(crate) mod opencv;
pub(crate) mod pillow;
pub(crate) mod pillow_kernels;
pub(crate) mod placement;
pub(crate) mod rules;
mod smart;
