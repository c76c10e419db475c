//! Owns the way from files on disk to pixels of the model's size: finding images
//! ([`mod@walk`]), reading them ([`source`]), bytes to oriented RGB ([`mod@decode`]), the reference rules of resizing ([`mod@resize`]).
//! Must not know: models, shards.

mod bmp;
pub mod decode;
mod exif;
mod formats;
use crate::guard;
mod hidden;
mod jpeg;
#[cfg(target_arch = "x86_64")]
mod jpeg_kernels;
pub mod labels;
mod long;
mod opencv;
pub mod orientation;
mod own;
pub mod pictures;
pub mod pillow;
mod png;
mod pnm;
pub mod prepare;
mod repair;
pub mod resize;
pub mod sample;
mod samples;
pub mod sheet;
mod skipped;
mod sniff;
pub mod source;
mod taps;
mod tiff;
mod tiff_jpeg;
mod uri;
pub mod walk;
mod webp;
mod words;

pub use decode::{Alpha, Decoded, SUPPORTED, decode};
pub use hidden::is_hidden;
pub use orientation::Orientation;
pub use pillow::PillowVersion;
pub use samples::Limits;
pub use skipped::Skipped;
pub use source::read;
pub use walk::{Found, Take, Walk, walk, walk_taking};
