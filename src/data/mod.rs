//! Owns the way from files on disk to pixels of the model's size: finding and reading images
//! ([`source`]), bytes to oriented RGB ([`mod@decode`]), the reference rules of resizing ([`mod@resize`]).
//! Must not know: models, shards.

pub mod decode;
mod exif;
mod formats;
use crate::guard;
mod jpeg;
#[cfg(target_arch = "x86_64")]
mod jpeg_kernels;
mod opencv;
pub mod orientation;
pub mod pictures;
pub mod pillow;
pub mod prepare;
mod repair;
pub mod resize;
pub mod sample;
mod samples;
pub mod sheet;
mod sniff;
pub mod source;
mod taps;
mod tiff;
mod uri;

pub use decode::{Alpha, Decoded, SUPPORTED, decode};
pub use orientation::Orientation;
pub use pillow::PillowVersion;
pub use samples::Limits;
pub use source::{Found, Skipped, Walk, label, read, walk};
