//! Owns the way from files on disk to pixels of the model's size: finding and reading images
//! ([`source`]), bytes to oriented RGB ([`mod@decode`]), the reference rules of resizing
//! ([`mod@resize`]), the views of an image ([`mod@views`]), aspect buckets ([`mod@buckets`]). Must
//! not know: models, shards.

pub(crate) mod buckets;
pub(crate) mod contact_sheet;
pub mod decode;
pub(crate) mod formats;
pub(crate) mod orientation;
pub(crate) mod prepare;
pub(crate) mod random_crop;
pub(crate) mod resize;
pub(crate) mod source;
pub(crate) mod subsample;
pub(crate) mod synthetic;
pub(crate) mod views;

pub use crate::data::formats::raw_image::Limits;
pub use crate::data::resize::pillow::PillowVersion;
pub use crate::data::source::file::read;
pub(crate) use crate::data::source::hidden::is_hidden;
pub(crate) use crate::data::source::image::{Facts, Part, SourceImage};
pub use crate::data::source::skipped::Skipped;
pub(crate) use crate::data::source::walk::ImageWalk;
pub use crate::data::source::walk::{SourceFile, Take, walk, walk_taking};
pub use buckets::{BucketSizes, Buckets};
pub use decode::{Alpha, decode};
pub use orientation::Orientation;
pub use views::Views;
