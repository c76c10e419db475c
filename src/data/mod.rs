//! Owns the way from files on disk to pixels of the model's size: finding and reading images
//! ([`source`]), bytes to oriented RGB ([`decode`]), the reference rules of resizing ([`resize`]).
//! Must not know: models, shards.

pub mod decode;
mod exif;
mod formats;
mod guard;
mod jpeg;
mod opencv;
mod pillow;
mod repair;
pub mod resize;
mod sniff;
pub mod source;
mod tiff;
mod uri;

pub use decode::{Alpha, Decoded, Limits, SUPPORTED, decode};
pub use resize::{Crop, Prepared, ResizeRule, prepare, to_grey};
pub use source::{Found, Skipped, Walk, label, read, walk};
