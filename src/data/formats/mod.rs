//! Image formats, each from bytes to samples with Pillow's result. Must not know: resizing, models.

pub(crate) mod bmp;
pub(crate) mod dimensions;
pub(crate) mod errors;
pub(crate) mod exif;
pub(crate) mod header_repair;
pub(crate) mod jpeg;
#[cfg(target_arch = "x86_64")]
pub(crate) mod jpeg_kernels;
pub(crate) mod png;
pub(crate) mod pnm;
pub(crate) mod raw_image;
pub(crate) mod simple;
pub(crate) mod sniff;
pub(crate) mod tiff;
pub(crate) mod tiff_jpeg;
pub(crate) mod webp;
