//! Owns PNG: its chunks and their checksums, its texts, and the way from bytes to samples through
//! the `png` crate. Must not know: alpha rules, what a text means.
//!
//! A damaged file is a rejection that names the checksum: the CRC-32 of every chunk up to the last
//! of the pixels, the Adler-32 of the pixels themselves. As in Pillow pixels that their Adler-32
//! proves sound are read though the CRC of their chunk is wrong: then that alone is damaged. Behind
//! the pixels only what is used is checked.

use std::borrow::Cow;
use std::io::{Cursor, ErrorKind, Read as _};

use png::{BitDepth, ColorType, Transformations};

use crate::data::formats::errors;
use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::data::formats::simple::{high_bytes, narrow_grey};
use crate::error::Reject;

/// The bytes before the first chunk.
const SIGNATURE: usize = 8;

/// Largest colour profile or text that is inflated; real ones are below 4 MiB.
const INFLATED_MAX: u64 = 16 << 20;

/// One chunk of a file.
#[derive(Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) kind: [u8; 4],
    /// As much of it as the file holds.
    pub(crate) data: &'a [u8],
    /// Where `data` starts in the file.
    at: usize,
    /// How long it says it is.
    length: usize,
    /// Whether the file holds all of it, checksum included.
    whole: bool,
    sum: [u8; 4],
}

impl Chunk<'_> {
    fn name(&self) -> String {
        String::from_utf8_lossy(&self.kind).into_owned()
    }

    /// A rejection where the checksum is wrong or the file ends before it.
    pub(crate) fn check(&self) -> Result<(), Reject> {
        let name = self.name();
        if !self.whole {
            return Err(reject(format!("PNG: the file ends inside the {name} chunk: truncated")));
        }
        match self.is_sound() {
            true => Ok(()),
            false => Err(reject(format!(
                "PNG: the checksum (CRC-32) of the {name} chunk is wrong: the file is damaged"
            ))),
        }
    }

    fn is_sound(&self) -> bool {
        let mut sum = flate2::Crc::new();
        sum.update(&self.kind);
        sum.update(self.data);
        sum.sum().to_be_bytes() == self.sum
    }
}

/// The chunks of a PNG file in order, up to IEND, the end of the file, or what is no chunk.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut next = Some(SIGNATURE);
    std::iter::from_fn(move || {
        let at = next?;
        let head: &[u8; 8] = bytes.get(at..at.checked_add(8)?)?.try_into().ok()?;
        let kind = [head[4], head[5], head[6], head[7]];
        if !kind.iter().all(u8::is_ascii_alphabetic) {
            return None;
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = (at + 8).saturating_add(length);
        let sum = bytes.get(end..end.saturating_add(4)).and_then(|sum| sum.try_into().ok());
        next = (&kind != b"IEND").then(|| end.saturating_add(4));
        Some(Chunk {
            kind,
            data: &bytes[at + 8..end.min(bytes.len())],
            at: at + 8,
            length,
            whole: sum.is_some(),
            sum: sum.unwrap_or_default(),
        })
    })
}

/// The keyword and the text of a tEXt, zTXt or iTXt chunk, inflated where it is `wanted`; None for
/// other chunks, keywords that aren't wanted, and texts that can't be read. What a stream that
/// breaks off gave until then counts, as in Pillow; a damaged one doesn't.
///
/// # Errors
/// A text that inflates beyond all measure.
pub(crate) fn text<'a>(
    chunk: &Chunk<'a>,
    wanted: &[&[u8]],
) -> Result<Option<(&'a [u8], Cow<'a, [u8]>)>, Reject> {
    let plain = match &chunk.kind {
        b"tEXt" | b"zTXt" | b"iTXt" => split(chunk.data),
        _ => None,
    };
    let Some((keyword, rest)) = plain.filter(|(keyword, _)| wanted.contains(keyword)) else {
        return Ok(None);
    };
    let (packed, text) = match (&chunk.kind, rest) {
        (b"tEXt", text) => (false, text),
        (b"zTXt", [0, stream @ ..]) => (true, stream),
        (b"iTXt", [packed, method, names @ ..]) => {
            let behind_names = split(names).and_then(|(_, rest)| split(rest));
            match behind_names {
                Some((_, text)) if *packed == 0 => (false, text),
                Some((_, text)) if *method == 0 => (true, text),
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    };
    if !packed {
        return Ok(Some((keyword, Cow::Borrowed(text))));
    }
    match inflate(text) {
        Inflated::TooMuch => Err(reject(format!(
            "PNG: the text '{}' inflates to more than {INFLATED_MAX} bytes",
            String::from_utf8_lossy(keyword)
        ))),
        Inflated::Damaged => Ok(None),
        Inflated::Bytes(bytes) => Ok(Some((keyword, Cow::Owned(bytes)))),
    }
}

/// What stands before the first zero byte and after it.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

enum Inflated {
    /// All of it, or what came before the stream broke off.
    Bytes(Vec<u8>),
    Damaged,
    TooMuch,
}

fn inflate(stream: &[u8]) -> Inflated {
    let mut inflater = flate2::read::ZlibDecoder::new(stream).take(INFLATED_MAX + 1);
    let mut out = Vec::new();
    match inflater.read_to_end(&mut out) {
        _ if out.len() as u64 > INFLATED_MAX => Inflated::TooMuch,
        Err(error) if error.kind() != ErrorKind::UnexpectedEof => Inflated::Damaged,
        _ => Inflated::Bytes(out),
    }
}

/// Checks what must be sound before pixels are read. Returns the bytes, corrected where every
/// viewer corrects them: a transparent grey of fewer than 8 bits keeps only those bits, as the
/// standard says.
fn checked(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Reject> {
    let mut out = Cow::Borrowed(bytes);
    let last = chunks(bytes).filter(|chunk| &chunk.kind == b"IDAT").last().map(|chunk| chunk.at);
    let (mut end, mut doubtful) = (SIGNATURE, false);
    for chunk in chunks(bytes) {
        if &chunk.kind == b"CgBI" {
            return Err(reject(
                "PNG: Apple's CgBI variant of iOS apps is not supported; turn it back into a \
                 standard PNG (Xcode's pngcrush -revert-iphone-optimizations does)",
            ));
        }
        match &chunk.kind {
            b"IDAT" if chunk.whole && !chunk.is_sound() => {
                // The whole stream is checked once, at the first such chunk.
                if !doubtful && inflate_pixels(bytes).is_err() {
                    chunk.check()?;
                }
                doubtful = true;
            }
            _ => chunk.check()?,
        }
        match &chunk.kind {
            b"tRNS" => {
                if let Some(grey) = kept_bits(bytes, chunk.data) {
                    out.to_mut()[chunk.at..chunk.at + 2].copy_from_slice(&grey);
                }
            }
            // It is never used, but a file made to exhaust its readers is no picture to trust, and
            // Pillow refuses it too. Deflate shrinks at most 1032 times.
            b"iCCP" if chunk.data.len() as u64 * 1032 > INFLATED_MAX => check_profile(chunk.data)?,
            _ => {}
        }
        end = chunk.at + chunk.data.len() + 4;
        if Some(chunk.at) == last {
            check_rest(bytes, chunk.at)?;
            // The decoder stops with the last row, before a checksum in a chunk of its own.
            let apart = chunk.data.len() <= 4;
            if apart && inflate_pixels(bytes).is_err_and(|e| e.kind() != ErrorKind::UnexpectedEof) {
                return Err(reject(format!("PNG: {}", errors::ADLER)));
            }
            // The decoder wants to see a chunk behind the pixels; viewers do without.
            if !chunks(bytes).any(|chunk| &chunk.kind == b"IEND" && chunk.whole) {
                out.to_mut().truncate(end);
                out.to_mut().extend_from_slice(b"\0\0\0\0IEND\xAE\x42\x60\x82");
            }
            return Ok(out);
        }
    }
    Err(without_pixels(bytes, end))
}

/// The transparent grey of fewer than 8 bits as the standard says, where the chunk says another.
fn kept_bits(bytes: &[u8], transparent: &[u8]) -> Option<[u8; 2]> {
    let depth = bytes.get(24).filter(|depth| **depth < 8 && bytes.get(25) == Some(&0))?;
    let grey = [0, transparent.get(1)? & ((1u16 << depth) - 1) as u8];
    (transparent[..2] != grey).then_some(grey)
}

/// Refuses a colour profile that inflates without measure.
fn check_profile(data: &[u8]) -> Result<(), Reject> {
    let stream = split(data).and_then(|(_, rest)| rest.get(1..)).unwrap_or(&[]);
    match inflate(stream) {
        Inflated::TooMuch => Err(reject(format!(
            "PNG: the colour profile inflates to more than {INFLATED_MAX} bytes"
        ))),
        _ => Ok(()),
    }
}

/// Why no pixels came up to `end`.
fn without_pixels(bytes: &[u8], end: usize) -> Reject {
    reject(if chunks(bytes).any(|chunk| &chunk.kind == b"IEND") {
        "PNG: the file holds no pixels"
    } else if bytes.get(end..end + 8).is_none() {
        "PNG: the file ends before any pixels: truncated"
    } else {
        "PNG: a chunk has no valid name: the file is damaged"
    })
}

/// Inflates all IDAT chunks for the sake of their checksum.
fn inflate_pixels(bytes: &[u8]) -> std::io::Result<u64> {
    let parts = chunks(bytes).filter(|chunk| &chunk.kind == b"IDAT").map(|chunk| chunk.data);
    let stream: Vec<u8> = parts.flatten().copied().collect();
    std::io::copy(&mut flate2::read::ZlibDecoder::new(&stream[..]), &mut std::io::sink())
}

/// Checks what stands behind the pixels, as far as it belongs to this picture: a chunk that the
/// file doesn't hold to its end means that the file was cut.
fn check_rest(bytes: &[u8], pixels: usize) -> Result<(), Reject> {
    let animated = chunks(bytes).any(|chunk| &chunk.kind == b"acTL");
    let rest = chunks(bytes).skip_while(|chunk| chunk.at <= pixels);
    for chunk in rest.take_while(|chunk| !(animated && &chunk.kind == b"fcTL")) {
        if chunk.at + chunk.length > bytes.len() && &chunk.kind != b"IEND" {
            return chunk.check();
        }
    }
    Ok(())
}

fn failed(error: png::DecodingError) -> Reject {
    reject(format!("PNG: {}", errors::png(&error)))
}

/// A PNG file to samples; of an APNG the default image.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let bytes = checked(bytes)?;
    let mut options = png::DecodeOptions::default();
    options.set_ignore_crc(true);
    options.set_ignore_adler32(false);
    let mut decoder = png::Decoder::new_with_options(Cursor::new(bytes.as_ref()), options);
    let max = usize::try_from(limits.decoded_bytes_max).unwrap_or(usize::MAX);
    decoder.set_limits(png::Limits { bytes: max });
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    decoder.set_transformations(Transformations::EXPAND);
    let header = decoder.read_header_info().map_err(failed)?;
    let (width, height) = (header.width, header.height);
    limits.check(width.into(), height.into(), 8)?;
    let grey = header.color_type == ColorType::Grayscale;
    let color_mode = match (header.color_type, header.bit_depth) {
        (ColorType::Grayscale, BitDepth::One) => "1",
        (ColorType::Grayscale, BitDepth::Sixteen) => "I;16",
        (ColorType::Grayscale, _) => "L",
        (ColorType::GrayscaleAlpha, _) => "LA",
        (ColorType::Indexed, _) => "P",
        (ColorType::Rgb, _) => "RGB",
        (ColorType::Rgba, _) => "RGBA",
    };
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().ok_or_else(|| reject("PNG: too large"))?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(failed)?;
    data.truncate(frame.buffer_size());
    let sixteen = frame.bit_depth == BitDepth::Sixteen;
    let samples = match frame.color_type {
        ColorType::Grayscale if sixteen => Samples::Grey(narrow_grey(&data)),
        // With a transparent grey: the same greys as without.
        ColorType::GrayscaleAlpha if sixteen && grey => Samples::GreyAlpha(narrow_grey(&data)),
        ColorType::GrayscaleAlpha if sixteen => Samples::GreyAlpha(high_bytes(&data)),
        ColorType::Rgb if sixteen => Samples::Rgb(high_bytes(&data)),
        ColorType::Rgba if sixteen => Samples::Rgba(high_bytes(&data)),
        ColorType::Grayscale => Samples::Grey(data),
        ColorType::GrayscaleAlpha => Samples::GreyAlpha(data),
        ColorType::Rgb => Samples::Rgb(data),
        ColorType::Rgba => Samples::Rgba(data),
        ColorType::Indexed => return Err(reject("PNG: the palette is missing")),
    };
    Ok(Pixels { width, height, samples, color_mode })
}

#[cfg(test)]
pub(crate) mod tests;
