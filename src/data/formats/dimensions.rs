//! Owns what an image's header says of its width and height, upright where its orientation is
//! applied. Must not know: pixels, files.
//!
//! It is a guess at what decoding gives, for planning: nothing is checked behind the header, and of
//! a PNG whose first bytes don't hold all of it an orientation behind the pixels isn't seen.

use std::io::Cursor;

use image::ImageDecoder as _;

use super::sniff::{Format, Sniffed, sniff};
use super::{bmp, exif, header_repair, png, pnm};
use crate::data::orientation::Orientation;
use crate::util::panics;

/// How much of an image is looked at first.
pub(crate) const HEAD_BYTES: usize = 128 << 10;

/// What the first bytes of an image say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// Its width and height.
    Size(u32, u32),
    /// It takes the whole file to tell.
    More,
    /// It is no image, or its header is damaged.
    Nothing,
}

/// What `bytes` say, the first of an image or its `whole` file.
pub(crate) fn said_by(bytes: &[u8], whole: bool, rule: Orientation) -> Said {
    let Sniffed::Known(format) = sniff(bytes) else { return Said::Nothing };
    let found = panics::catch(|| by_format(format, bytes, whole));
    match found.ok().flatten() {
        Some((0, _, _) | (_, 0, _)) => Said::Nothing,
        // From 5 on the sides change places.
        Some((width, height, 5..=8)) if rule == Orientation::Apply => Said::Size(height, width),
        Some((width, height, _)) => Said::Size(width, height),
        None if whole => Said::Nothing,
        None => Said::More,
    }
}

/// Width, height and orientation.
type Header = (u32, u32, u8);

fn by_format(format: Format, bytes: &[u8], whole: bool) -> Option<Header> {
    let upright = |(width, height)| (width, height, 1);
    match format {
        Format::Jpeg => of_jpeg(bytes, whole),
        Format::Png => of_png(bytes, whole),
        Format::WebP => of_webp(bytes, whole),
        Format::Tiff if whole => of_tiff(bytes),
        Format::Tiff => None,
        Format::Gif => of_gif(bytes).map(upright),
        Format::Bmp => bmp::size(bytes).map(upright),
        Format::Qoi => Some((big(bytes, 4)?, big(bytes, 8)?, 1)),
        Format::Pnm if bytes.starts_with(b"P7") => {
            let decoder = image::codecs::pnm::PnmDecoder::new(Cursor::new(bytes)).ok()?;
            Some(upright(decoder.dimensions()))
        }
        Format::Pnm => pnm::size(bytes).map(upright),
    }
}

fn big(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_be_bytes(four))
}

/// The numbers of the frame header. EXIF stands before the scan, which the bytes must reach.
fn of_jpeg(bytes: &[u8], whole: bool) -> Option<Header> {
    let (mut at, mut size) = (2, None);
    loop {
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let scan = match bytes.get(at..at + 4) {
            None => return size.filter(|_| whole),
            Some(&[0xFF, 0xDA | 0xD9, ..]) => true,
            Some(&[0xFF, marker, high, low]) => {
                if matches!(marker, 0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF) {
                    let sides = big(bytes, at + 5)?;
                    let orientation = exif::orientation_of_jpeg(bytes);
                    size = size.or(Some((sides & 0xFFFF, sides >> 16, orientation)));
                }
                at += 2 + usize::from(u16::from_be_bytes([high, low])).max(2);
                false
            }
            // As in libjpeg: stray bytes before a marker.
            Some(_) => {
                at += 1;
                false
            }
        };
        if scan {
            return size;
        }
    }
}

fn of_png(bytes: &[u8], whole: bool) -> Option<Header> {
    let (width, height) = (big(bytes, 16)?, big(bytes, 20)?);
    let mut before = bytes;
    if !whole {
        let mut end = 8;
        for chunk in png::chunks(bytes).take_while(|chunk| &chunk.kind != b"IDAT") {
            end += chunk.data.len() + 12;
        }
        before = bytes.get(..end)?;
        // Pixels begin there, or more of the header lies behind.
        bytes.get(end + 4..end + 8).filter(|kind| *kind == b"IDAT")?;
    }
    Some((width, height, exif::orientation_of_png(before).ok()?))
}

fn of_webp(bytes: &[u8], whole: bool) -> Option<Header> {
    const MARKS: u8 = 0x08 | 0x04; // EXIF and XMP stand behind the pixels.
    let little = |at: usize, count: usize| {
        let bytes = bytes.get(at..at + count)?.iter().rev();
        Some(bytes.fold(0, |number, &byte| number << 8 | u32::from(byte)))
    };
    match bytes.get(12..16)? {
        b"VP8X" => {
            let marked = bytes.get(20)? & MARKS != 0;
            let orientation = match (marked, whole) {
                (false, _) => 1,
                (true, true) => exif::orientation_of_webp(bytes),
                (true, false) => return None,
            };
            Some((little(24, 3)? + 1, little(27, 3)? + 1, orientation))
        }
        b"VP8L" => {
            let sides = little(21, 4)?;
            Some(((sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1, 1))
        }
        _ => Some((little(26, 2)? & 0x3FFF, little(28, 2)? & 0x3FFF, 1)),
    }
}

fn of_tiff(bytes: &[u8]) -> Option<Header> {
    let (sound, _) = header_repair::tiff(bytes);
    let mut decoder = ::tiff::decoder::Decoder::new(Cursor::new(sound.as_ref())).ok()?;
    let (width, height) = decoder.dimensions().ok()?;
    Some((width, height, exif::orientation_of_tiff(bytes)))
}

/// The canvas, grown to hold the first frame.
fn of_gif(bytes: &[u8]) -> Option<(u32, u32)> {
    let mut options = ::gif::DecodeOptions::new();
    options.set_color_output(::gif::ColorOutput::Indexed);
    let bytes = header_repair::gif(bytes);
    let mut decoder = options.read_info(bytes.as_ref()).ok()?;
    let (width, height) = (u32::from(decoder.width()), u32::from(decoder.height()));
    let frame = decoder.next_frame_info().ok()??;
    let right = u32::from(frame.left) + u32::from(frame.width);
    Some((width.max(right), height.max(u32::from(frame.top) + u32::from(frame.height))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::formats::raw_image::Limits;
    use crate::data::{Alpha, decode};
    use image::{DynamicImage, ImageFormat, RgbImage};

    fn encoded(format: ImageFormat) -> Vec<u8> {
        let picture = RgbImage::from_fn(70, 41, |x, y| image::Rgb([x as u8, y as u8, 9]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(picture).write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_format_says_its_size() {
        use ImageFormat::{Bmp, Gif, Png, Pnm, Qoi, Tiff, WebP};
        for format in [Bmp, Gif, Png, Pnm, Qoi, Tiff, WebP] {
            let bytes = encoded(format);
            let said = said_by(&bytes, true, Orientation::Apply);
            assert_eq!(said, Said::Size(70, 41), "{format:?}");
            // However little there is, it is the same size or the demand for more.
            for length in 0..bytes.len() {
                match said_by(&bytes[..length], false, Orientation::Apply) {
                    Said::Size(w, h) => assert_eq!((w, h), (70, 41), "{format:?}, {length}"),
                    Said::More => {}
                    Said::Nothing => assert!(length < 16, "{format:?}, {length}"),
                }
            }
        }
    }

    #[test]
    fn sizes_are_those_of_the_decoder() {
        let Some(folder) = crate::testing::shared("images/nasty/files") else { return };
        let limits = Limits { pixels_max: 1 << 22, ..Limits::default() };
        let (mut compared, mut wrong) = (0, Vec::new());
        for entry in walkdir::WalkDir::new(folder).into_iter().flatten() {
            let Ok(bytes) = std::fs::read(entry.path()) else { continue };
            let Ok(decoded) = decode(&bytes, &limits, Alpha::White) else { continue };
            let head = &bytes[..bytes.len().min(HEAD_BYTES)];
            let said = match said_by(head, head.len() == bytes.len(), Orientation::Apply) {
                Said::More => said_by(&bytes, true, Orientation::Apply),
                said => said,
            };
            let (width, height) = decoded.image.dimensions();
            if said != Said::Size(width, height) {
                wrong.push(format!("{:?}: {said:?} for {width}x{height}", entry.path()));
            }
            compared += 1;
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(compared > 500, "only {compared} images");
    }

    #[test]
    fn what_is_no_image_says_nothing() {
        for bytes in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"\xFF\xD8\xFF\xE0"] {
            assert_eq!(said_by(bytes, true, Orientation::Apply), Said::Nothing);
        }
    }
}
