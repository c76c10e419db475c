//! Owns the way from a file's bytes to oriented 8-bit RGB: limits, the choice of the decoder, what
//! becomes of alpha, EXIF orientation. Must not know: files, sizes of models.
//!
//! The content decides, never a name. Every decoder runs behind `guard`, so a panic in one is a
//! rejection. What bounds an image: the file's size when it is read; its dimensions and the bytes
//! of its pixels before they are allocated; the scans of a progressive JPEG; the inflated size of
//! a PNG's colour profile. Time is bounded by these; no decoder is ever interrupted (the pipeline
//! gives up waiting for one that hangs), and a stack overflow in one could not be caught (none of
//! them recurses).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use image::RgbImage;

use super::orientation::Orientation;
use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::data::formats::sniff::{Format, Sniffed, sniff};
use crate::data::formats::{bmp, exif, jpeg, png, pnm, simple, tiff, webp};
use crate::error::{Error, Reject};
use crate::util::panics;

/// The formats that are decoded, as messages and docs name them.
pub const SUPPORTED: &str = "JPEG, PNG, WebP, BMP, GIF, TIFF, QOI, PNM";

/// What becomes of transparency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alpha {
    /// Over white, as Chameleon's reference code does it.
    #[default]
    White,
    /// Over black.
    Black,
    /// The alpha channel is dropped: hidden colours show, as with Pillow's `convert("RGB")`.
    Drop,
}

impl FromStr for Alpha {
    type Err = Error;

    fn from_str(text: &str) -> Result<Alpha, Error> {
        match text {
            "white" => Ok(Alpha::White),
            "black" => Ok(Alpha::Black),
            "drop" => Ok(Alpha::Drop),
            _ => Err(Error::invalid(format!("alpha {text:?}: use white, black or drop"))),
        }
    }
}

impl fmt::Display for Alpha {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Alpha::White => "white",
            Alpha::Black => "black",
            Alpha::Drop => "drop",
        })
    }
}

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// 8-bit RGB, upright unless the orientation was to be ignored.
    pub image: RgbImage,
    /// The format found in the content: one of [`SUPPORTED`].
    pub format: &'static str,
    /// The EXIF orientation as found, 1..=8, whether it was applied to `image` or not.
    pub orientation: u8,
    /// How the file stores its pixels, in Pillow's words: `1`, `L`, `LA`, `I;16`, `I`, `F`, `P`,
    /// `RGB`, `RGBA`, `CMYK`.
    pub color_mode: &'static str,
}

/// Bytes of an image file to upright RGB; see [`decode_as`].
///
/// # Errors
/// Those of [`decode_as`].
pub fn decode(bytes: &[u8], limits: &Limits, alpha: Alpha) -> Result<Decoded, Reject> {
    decode_as(bytes, limits, alpha, Orientation::Apply)
}

/// Bytes of an image file to RGB.
///
/// JPEG is bit for bit what Pillow (libjpeg-turbo) decodes. Of animations the first frame counts,
/// on its canvas. 16-bit grey becomes round(v / 257), where Pillow's `convert` would clip; 16-bit
/// colour keeps its high byte; 32-bit and float grey are clipped to 0..=255; all as Pillow does.
/// Colour profiles are not applied.
///
/// # Errors
/// A [`Stage::Decode`](crate::error::Stage::Decode) rejection with the reason: not an image, a format that isn't decoded (named),
/// broken, truncated, over a limit.
pub fn decode_as(
    bytes: &[u8],
    limits: &Limits,
    alpha: Alpha,
    rule: Orientation,
) -> Result<Decoded, Reject> {
    let format = match sniff(bytes) {
        Sniffed::Known(format) => format,
        Sniffed::Named(name) => {
            return Err(reject(format!(
                "{name} is not supported; convert it to one of: {SUPPORTED}"
            )));
        }
        Sniffed::Unknown if bytes.is_empty() => return Err(reject("the file is empty")),
        Sniffed::Unknown => {
            return Err(reject(format!("not an image in a known format; use one of: {SUPPORTED}")));
        }
    };
    let pixels = panics::catch(|| by_format(format, bytes, limits))
        .map_err(|_| reject(format!("{}: the decoder fails on this data", format.name())))??;
    let orientation = match format {
        Format::Jpeg => exif::orientation_of_jpeg(bytes),
        Format::Png => exif::orientation_of_png(bytes)?,
        Format::WebP => exif::orientation_of_webp(bytes),
        Format::Tiff => exif::orientation_of_tiff(bytes),
        Format::Gif | Format::Bmp | Format::Qoi | Format::Pnm => 1,
    };
    let color_mode = pixels.color_mode;
    let stored = into_rgb(pixels, alpha)?;
    let image = match rule {
        Orientation::Apply => orient(stored, orientation),
        Orientation::Ignore => stored,
    };
    Ok(Decoded { image, format: format.name(), orientation, color_mode })
}

fn by_format(format: Format, bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    match format {
        Format::Jpeg => jpeg::decode(bytes, limits),
        Format::Png => png::decode(bytes, limits),
        Format::WebP => webp::decode(bytes, limits),
        Format::Gif => simple::gif(bytes, limits),
        Format::Tiff => tiff::decode(bytes, limits),
        Format::Bmp => bmp::decode(bytes, limits),
        Format::Qoi => simple::qoi(bytes, limits),
        Format::Pnm if bytes.starts_with(b"P7") => simple::pam(bytes, limits),
        Format::Pnm => pnm::decode(bytes, limits),
    }
}

fn into_rgb(pixels: Pixels, alpha: Alpha) -> Result<RgbImage, Reject> {
    let Pixels { width, height, samples, .. } = pixels;
    let rgb = match samples {
        Samples::Rgb(rgb) => rgb,
        Samples::Grey(grey) => spread(&grey, |&[v]| [v, v, v]),
        Samples::GreyAlpha(pairs) => spread(&pairs, |&[v, a]| [composite(v, a, alpha); 3]),
        Samples::Rgba(quads) => spread(&quads, |&[r, g, b, a]| match a {
            255 => [r, g, b],
            _ => [r, g, b].map(|v| composite(v, a, alpha)),
        }),
        Samples::Cmyk(quads) => {
            spread(&quads, |&[c, m, y, k]| [c, m, y].map(|ink| without_ink(ink, k)))
        }
    };
    RgbImage::from_raw(width, height, rgb)
        .ok_or_else(|| reject(format!("the decoder gave too few pixels for {width} x {height}")))
}

/// RGB made of pixels of N samples.
fn spread<const N: usize>(samples: &[u8], color: impl Fn(&[u8; N]) -> [u8; 3]) -> Vec<u8> {
    let pixels = samples.as_chunks::<N>().0;
    let mut rgb = vec![0; pixels.len() * 3];
    for (out, pixel) in rgb.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
        *out = color(pixel);
    }
    rgb
}

/// Chameleon's `_whiten_transparency`: float64, truncated.
fn composite(value: u8, alpha: u8, rule: Alpha) -> u8 {
    let background = match rule {
        Alpha::Drop => return value,
        Alpha::White => 255.0,
        Alpha::Black => 0.0,
    };
    if alpha == 255 {
        return value;
    }
    let opacity = f64::from(alpha) / 255.0;
    ((1.0 - opacity) * background + opacity * f64::from(value)) as u8
}

/// One channel of Pillow's `cmyk2rgb`: white minus black, times the paper that the ink leaves.
fn without_ink(ink: u8, black: u8) -> u8 {
    let white = 255 - i32::from(black);
    let product = i32::from(ink) * white + 128;
    (white - (((product >> 8) + product) >> 8)).clamp(0, 255) as u8
}

/// Turns and mirrors a picture so that its EXIF orientation becomes 1.
fn orient(image: RgbImage, orientation: u8) -> RgbImage {
    use image::imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270};
    match orientation {
        2 => flip_horizontal(&image),
        3 => rotate180(&image),
        4 => flip_vertical(&image),
        5 => flip_horizontal(&rotate90(&image)),
        6 => rotate90(&image),
        7 => flip_horizontal(&rotate270(&image)),
        8 => rotate270(&image),
        _ => image,
    }
}

#[cfg(test)]
mod tests;
