//! The resize rules of the published tokenizers, bit for bit as Pillow and OpenCV do them.

pub(crate) mod opencv;
pub mod pillow;
pub(crate) mod pillow_kernels;
pub mod rules;
