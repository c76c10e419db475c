//! Owns the way from files on disk to pixels of the model's size: finding and reading images
//! ([`source`]), bytes to oriented RGB ([`mod@decode`]), the reference rules of resizing
//! ([`mod@resize`]). Must not know: models, shards.

pub mod contact_sheet;
pub mod decode;
pub mod formats;
pub mod orientation;
pub mod prepare;
pub mod resize;
pub mod source;
pub mod subsample;
pub mod synthetic;

pub use crate::data::formats::raw_image::Limits;
pub use crate::data::resize::pillow::PillowVersion;
pub use crate::data::source::file::read;
pub use crate::data::source::hidden::is_hidden;
pub use crate::data::source::skipped::Skipped;
pub use crate::data::source::walk::{ImageWalk, SourceFile, Take, walk, walk_taking};
pub use decode::{Alpha, Decoded, SUPPORTED, decode};
pub use orientation::Orientation;
