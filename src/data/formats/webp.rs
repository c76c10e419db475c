//! Owns WebP: from bytes to samples through the `image-webp` crate, and the first frame of an
//! animation on its canvas as libwebp shows it.

use std::borrow::Cow;
use std::io::Cursor;

use image_webp::WebPDecoder;

use crate::data::formats::errors;
use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::error::Reject;

fn failed(error: image_webp::DecodingError) -> Reject {
    reject(format!("WebP: {}", errors::webp(&error)))
}

/// A WebP file to samples; of an animation the first frame on its canvas.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    check_length(bytes)?;
    let bytes = announced(bytes);
    let bytes = bytes.as_ref();
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    // Besides the output: YUV planes or a second RGBA image.
    limits.check(width.into(), height.into(), 8)?;
    let alpha = decoder.has_alpha();
    let data = match decoder.is_animated() {
        true => first_frame(bytes, (width as usize, height as usize), alpha, limits)?,
        false => pixels(decoder, limits)?,
    };
    let (samples, color_mode) =
        if alpha { (Samples::Rgba(data), "RGBA") } else { (Samples::Rgb(data), "RGB") };
    Ok(Pixels { width, height, samples, color_mode })
}

/// Checks that the file is as long as its header says and that every part of it lies inside, as
/// libwebp does: less is a part of a file.
fn check_length(bytes: &[u8]) -> Result<(), Reject> {
    let stated = bytes.get(4..8).and_then(|four| <[u8; 4]>::try_from(four).ok());
    let stated = stated.map_or(0, |four| u32::from_le_bytes(four) as usize).saturating_add(8);
    if bytes.len() < stated {
        return Err(reject(format!(
            "WebP: the header says {stated} bytes and the file has {}: truncated",
            bytes.len()
        )));
    }
    let mut rest = bytes.get(12..stated).unwrap_or(&[]);
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        rest = behind
            .get(length.saturating_add(length % 2)..)
            .ok_or_else(|| reject("WebP: a part is longer than the file says it is: damaged"))?;
    }
    match rest.is_empty() && stated > 12 {
        true => Ok(()),
        false => Err(reject("WebP: the length in the header is wrong: damaged")),
    }
}

/// A header that announces a colour profile, EXIF or XMP that the file doesn't hold no longer does:
/// they don't touch the pixels, and libwebp reads such files.
fn announced(bytes: &[u8]) -> Cow<'_, [u8]> {
    const PARTS: [(u8, &[u8; 4]); 3] = [(0x20, b"ICCP"), (0x08, b"EXIF"), (0x04, b"XMP ")];
    let mut out = Cow::Borrowed(bytes);
    if bytes.get(12..16) == Some(b"VP8X") && bytes.len() > 20 {
        for (flag, name) in PARTS {
            if bytes[20] & flag != 0 && chunks(&bytes[12..]).all(|(found, _)| &found != name) {
                out.to_mut()[20] &= !flag;
            }
        }
    }
    out
}

fn pixels(mut decoder: WebPDecoder<Cursor<&[u8]>>, limits: &Limits) -> Result<Vec<u8>, Reject> {
    decoder.set_memory_limit(usize::try_from(limits.decoded_bytes_max).unwrap_or(usize::MAX));
    let size = decoder.output_buffer_size().ok_or_else(|| reject("WebP: too large"))?;
    let mut data = vec![0; size];
    decoder.read_image(&mut data).map_err(failed)?;
    Ok(data)
}

/// The chunks in `bytes`: name and content, as much of it as is there.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_first_chunk::<8>()?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let content = &behind[..length.min(behind.len())];
        rest = behind.get(length.saturating_add(length % 2)..).unwrap_or(&[]);
        Some(([head[0], head[1], head[2], head[3]], content))
    })
}

/// Flag of a VP8X chunk: there is alpha.
const ALPHA: u8 = 0x10;

/// The first frame, RGBA or RGB. libwebp draws it onto a clear canvas as it is, whatever blending
/// and background the file asks for: the frame's colours stay, also where they are transparent.
fn first_frame(
    bytes: &[u8],
    (width, height): (usize, usize),
    alpha: bool,
    limits: &Limits,
) -> Result<Vec<u8>, Reject> {
    let outside = || reject("WebP: the first frame is damaged");
    let frame = chunks(bytes.get(12..).unwrap_or(&[])).find(|(name, _)| name == b"ANMF");
    let (head, body) =
        frame.and_then(|(_, frame)| frame.split_first_chunk::<16>()).ok_or_else(outside)?;
    let three = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], 0]) as usize;
    let (left, top) = (three(0) * 2, three(3) * 2);
    let (frame_width, frame_height) = (three(6) + 1, three(9) + 1);
    if left + frame_width > width || top + frame_height > height {
        return Err(reject("WebP: the first frame leaves its canvas"));
    }
    let still = still(body, frame_width, frame_height).ok_or_else(outside)?;
    let decoder = WebPDecoder::new(Cursor::new(still.as_slice())).map_err(failed)?;
    if decoder.dimensions() != (frame_width as u32, frame_height as u32) {
        return Err(reject("WebP: the first frame is not as large as it says"));
    }
    let from_channels = if decoder.has_alpha() { 4 } else { 3 };
    let data = pixels(decoder, limits)?;
    let channels = if alpha { 4 } else { 3 };
    let mut canvas = vec![0; width * height * channels];
    for (y, row) in data.chunks_exact(frame_width * from_channels).enumerate() {
        let start = ((top + y) * width + left) * channels;
        let out = canvas[start..start + frame_width * channels].chunks_exact_mut(channels);
        for (out, pixel) in out.zip(row.chunks_exact(from_channels)) {
            let shared = channels.min(from_channels);
            out[..shared].copy_from_slice(&pixel[..shared]);
            out[shared..].fill(255);
        }
    }
    Ok(canvas)
}

/// A file of its own that holds what a frame holds.
fn still(frame: &[u8], width: usize, height: usize) -> Option<Vec<u8>> {
    let find = |name: &[u8; 4]| chunks(frame).find(|(found, _)| found == name);
    let picture = chunks(frame).find(|(name, _)| matches!(name, b"VP8 " | b"VP8L"))?;
    let alpha = find(b"ALPH").filter(|_| &picture.0 == b"VP8 ");
    let mut extended = [0; 10];
    extended[0] = ALPHA;
    extended[4..7].copy_from_slice(&(width as u32 - 1).to_le_bytes()[..3]);
    extended[7..].copy_from_slice(&(height as u32 - 1).to_le_bytes()[..3]);
    let mut out = b"RIFF\0\0\0\0WEBP".to_vec();
    let header = alpha.map(|_| (*b"VP8X", extended.as_slice()));
    for (name, content) in [header, alpha, Some(picture)].into_iter().flatten() {
        out.extend_from_slice(&name);
        out.extend_from_slice(&(content.len() as u32).to_le_bytes());
        out.extend_from_slice(content);
        out.resize(out.len() + content.len() % 2, 0);
    }
    let length = (out.len() - 8) as u32;
    out[4..8].copy_from_slice(&length.to_le_bytes());
    Some(out)
}

#[cfg(test)]
mod tests;
