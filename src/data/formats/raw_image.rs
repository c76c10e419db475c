//! Owns what every format's decoder shares: what an image may cost, the samples it hands over, a
//! rejection in one line.

use crate::error::{Reject, Stage};
use crate::util::text::printable;

/// What one image may cost. Checked before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file that is read, in bytes.
    pub file_bytes_max: u64,
    /// Largest width times height.
    pub pixels_max: u64,
    /// Most bytes held for the pixels of one image while it is decoded.
    pub decoded_bytes_max: u64,
}

impl Default for Limits {
    /// 1 GiB files; as many pixels as Pillow decodes at most (178,956,970); 2 GiB of pixels.
    fn default() -> Limits {
        Limits { file_bytes_max: 1 << 30, pixels_max: 178_956_970, decoded_bytes_max: 2 << 30 }
    }
}

impl Limits {
    /// Rejects an image of `width` times `height` that takes `bytes_per_pixel` to decode.
    pub(crate) fn check(
        &self,
        width: u64,
        height: u64,
        bytes_per_pixel: u64,
    ) -> Result<(), Reject> {
        if width == 0 || height == 0 {
            return Err(reject(format!("the image is {width} x {height}: it has no pixels")));
        }
        let pixels = width.saturating_mul(height);
        if pixels > self.pixels_max {
            let max = self.pixels_max;
            return Err(reject(format!(
                "the image is {width} x {height}, more than the limit of {max} pixels"
            )));
        }
        let bytes = pixels.saturating_mul(bytes_per_pixel);
        if bytes > self.decoded_bytes_max {
            let max = self.decoded_bytes_max;
            return Err(reject(format!(
                "decoding {width} x {height} takes {bytes} bytes, more than the limit of {max}"
            )));
        }
        Ok(())
    }
}

/// What a format's decoder hands over: upright or not, in whatever 8-bit samples it has.
pub(crate) struct Pixels {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) samples: Samples,
    pub(crate) color_mode: &'static str,
}

/// Interleaved 8-bit samples, rows from the top, no padding.
pub(crate) enum Samples {
    Grey(Vec<u8>),
    GreyAlpha(Vec<u8>),
    Rgb(Vec<u8>),
    Rgba(Vec<u8>),
    /// 0 is no ink.
    Cmyk(Vec<u8>),
}

/// A rejection of [`Stage::Decode`].
pub(crate) fn reject(message: impl Into<String>) -> Reject {
    // Messages of third-party decoders may span lines; a row's reason is one.
    let message: String = message.into();
    let line: Vec<&str> = message.split_whitespace().collect();
    Reject::new(Stage::Decode, printable(&line.join(" ")))
}
