//! Owns GIF, QOI and PAM: each from bytes to samples, through the decoders of the image-rs family.

use std::io::Cursor;
use std::num::NonZeroU64;

use image::codecs::pnm::PnmDecoder;
use image::codecs::qoi::QoiDecoder;
use image::{ColorType, ImageDecoder};

use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::data::formats::{errors, header_repair};
use crate::error::Reject;

/// The first frame of a GIF on its canvas. As in Pillow the canvas grows to hold the frame, and
/// what the frame leaves open shows the background colour, or nothing if the frame has a
/// transparent one.
pub(crate) fn gif(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let failed = |error: gif::DecodingError| reject(format!("GIF: {}", errors::gif(&error)));
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::Indexed);
    let max = NonZeroU64::new(limits.decoded_bytes_max).unwrap_or(NonZeroU64::MIN);
    options.set_memory_limit(gif::MemoryLimit::Bytes(max));
    let bytes = header_repair::gif(bytes);
    let mut decoder = options.read_info(bytes.as_ref()).map_err(failed)?;
    limits.check(decoder.width().into(), decoder.height().into(), 5)?;
    let frame = decoder.next_frame_info().map_err(failed)?;
    let frame = frame.ok_or_else(|| reject("GIF: the file holds no frame"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let transparent = frame.transparent;
    let width = usize::from(decoder.width()).max(left + frame_width);
    let height = usize::from(decoder.height()).max(top + frame_height);
    limits.check(width as u64, height as u64, 5)?;
    let mut indices = vec![0; frame_width * frame_height];
    decoder.read_into_buffer(&mut indices).map_err(failed)?;
    let palette = decoder.palette().map_err(failed)?;
    let color = |index: u8| -> [u8; 4] {
        let at = usize::from(index) * 3;
        let rgb = palette.get(at..at + 3).unwrap_or(&[0, 0, 0]);
        [rgb[0], rgb[1], rgb[2], if transparent == Some(index) { 0 } else { 255 }]
    };
    let open = transparent.unwrap_or(decoder.bg_color().unwrap_or(0).min(255) as u8);
    let mut data: Vec<u8> = color(open).repeat(width * height);
    for (y, row) in indices.chunks_exact(frame_width.max(1)).enumerate() {
        let start = ((top + y) * width + left) * 4;
        for (pixel, &index) in data[start..start + frame_width * 4].chunks_exact_mut(4).zip(row) {
            pixel.copy_from_slice(&color(index));
        }
    }
    let (width, height) = (width as u32, height as u32);
    Ok(Pixels { width, height, samples: Samples::Rgba(data), color_mode: "P" })
}

/// QOI.
pub(crate) fn qoi(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let decoder = QoiDecoder::new(Cursor::new(bytes)).map_err(|e| failed("QOI", &e))?;
    through_image("QOI", decoder, limits)
}

/// PAM.
pub(crate) fn pam(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let decoder = PnmDecoder::new(Cursor::new(bytes)).map_err(|e| failed("PNM", &e))?;
    through_image("PNM", decoder, limits)
}

fn failed(format: &str, error: &image::ImageError) -> Reject {
    reject(format!("{format}: {}", errors::image(error)))
}

fn through_image(
    format: &str,
    mut decoder: impl ImageDecoder,
    limits: &Limits,
) -> Result<Pixels, Reject> {
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    // The decoder's own buffer, the output and its 8-bit version.
    limits.check(width.into(), height.into(), 2 * u64::from(color.bytes_per_pixel()) + 3)?;
    let mut own = image::Limits::default();
    own.max_alloc = Some(limits.decoded_bytes_max);
    decoder.set_limits(own).map_err(|e| failed(format, &e))?;
    let size = usize::try_from(decoder.total_bytes()).map_err(|_| reject("too large"))?;
    let mut data = vec![0; size];
    decoder.read_image(&mut data).map_err(|e| failed(format, &e))?;
    let (samples, color_mode) = match color {
        ColorType::L8 => (Samples::Grey(data), "L"),
        ColorType::La8 => (Samples::GreyAlpha(data), "LA"),
        ColorType::Rgb8 => (Samples::Rgb(data), "RGB"),
        ColorType::Rgba8 => (Samples::Rgba(data), "RGBA"),
        ColorType::L16 => (Samples::Grey(narrow_grey(&to_big_endian(data))), "I"),
        ColorType::La16 => (Samples::GreyAlpha(high_bytes(&to_big_endian(data))), "LA"),
        ColorType::Rgb16 => (Samples::Rgb(high_bytes(&to_big_endian(data))), "RGB"),
        ColorType::Rgba16 => (Samples::Rgba(high_bytes(&to_big_endian(data))), "RGBA"),
        other => {
            let bits = other.bits_per_pixel();
            return Err(reject(format!("{format}: pixels of {bits} bits are not supported")));
        }
    };
    Ok(Pixels { width, height, samples, color_mode })
}

/// `image` hands out 16-bit samples in the machine's byte order, PNG in its own.
fn to_big_endian(mut data: Vec<u8>) -> Vec<u8> {
    if cfg!(target_endian = "little") {
        data.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    }
    data
}

/// Big-endian 16-bit grey to 8 bits: round(v / 257), exactly.
pub(crate) fn narrow_grey(data: &[u8]) -> Vec<u8> {
    let value = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair[1]);
    data.chunks_exact(2).map(|pair| ((value(pair) + 128) / 257) as u8).collect()
}

/// Big-endian 16-bit samples to their high bytes, as Pillow reads 16-bit colour.
pub(crate) fn high_bytes(data: &[u8]) -> Vec<u8> {
    data.chunks_exact(2).map(|pair| pair[0]).collect()
}
