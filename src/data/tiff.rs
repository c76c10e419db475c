//! Owns TIFF: from bytes to 8-bit samples through the `tiff` crate, with Pillow's conversions of
//! deep, float, palette and CMYK pixels. Must not know: alpha rules, orientation.

use std::io::Cursor;

use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits as TiffLimits};
use tiff::tags::Tag;

use super::repair;
use super::samples::{Limits, Pixels, Samples, reject};
use crate::error::Reject;

const DNG_VERSION: u16 = 50706;

fn failed(error: tiff::TiffError) -> Reject {
    match error {
        tiff::TiffError::LimitsExceeded | tiff::TiffError::IntSizeError => {
            reject("TIFF: sizes beyond what is supported")
        }
        tiff::TiffError::UnsupportedError(what) => {
            reject(format!("TIFF: this variant is not supported: {what}"))
        }
        other => reject(format!("TIFF: {other}")),
    }
}

/// The first image of a TIFF file.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let (bytes, palette) = repair::tiff(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes.as_ref())).map_err(failed)?;
    if decoder.find_tag(Tag::Unknown(DNG_VERSION)).map_err(failed)?.is_some() {
        return Err(reject("camera raw (DNG) is not supported; develop it to JPEG, PNG or TIFF"));
    }
    let (width, height) = decoder.dimensions().map_err(failed)?;
    limits.check(width.into(), height.into(), 3)?;
    let color = decoder.colortype().map_err(failed)?;
    let samples = u64::from(color.num_samples());
    let wide = samples * (u64::from(color.bit_depth()).div_ceil(8) + 1);
    limits.check(width.into(), height.into(), wide + 3)?;
    let max = usize::try_from(limits.decoded_bytes_max).unwrap_or(usize::MAX);
    let mut own = TiffLimits::default();
    own.decoding_buffer_size = max;
    own.intermediate_buffer_size = max;
    decoder = decoder.with_limits(own);

    let mut data = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut data).map_err(failed)?;
    let (width_px, height_px) = (width as usize, height as usize);
    let plane_stride = layout.plane_stride.map_or(0, |stride| stride.get());
    let planes = layout.planes;
    let channels = usize::from(color.num_samples());
    let bits = color.bit_depth();
    let mut bytes = narrow(data, color)?;
    let reversed = decoder.find_tag_unsigned::<u16>(Tag::FillOrder).map_err(failed)? == Some(2);
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(failed)?;
    // Facsimile coding minds the order itself; for other coded data nobody writes it.
    if reversed && bits < 8 && matches!(compression, None | Some(1)) {
        bytes.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }
    if bits < 8 {
        bytes = unpack(&bytes, bits, width_px * channels, height_px);
    }
    if planes > 1 {
        let stride = plane_stride / usize::from(bits.div_ceil(8)).max(1);
        bytes = interleave(&bytes, stride, channels, width_px * height_px)?;
    }
    if bytes.len() < width_px * height_px * channels {
        return Err(reject("TIFF: the data ends early"));
    }
    let (samples, color_mode) = if palette {
        let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(failed)?;
        (Samples::Rgb(through_palette(&bytes, &map)), "P")
    } else {
        let scaled = |mut bytes: Vec<u8>| {
            scale_up(&mut bytes, bits);
            bytes
        };
        let associated = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
        let associated = associated.is_some_and(|kinds| kinds.first() == Some(&1));
        match color {
            ColorType::Gray(1) => (Samples::Grey(scaled(bytes)), "1"),
            ColorType::Gray(16) => (Samples::Grey(bytes), "I;16"),
            ColorType::Gray(32 | 64) => (Samples::Grey(bytes), "F"),
            ColorType::Gray(_) => (Samples::Grey(scaled(bytes)), "L"),
            ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => {
                (Samples::GreyAlpha(divide_alpha(bytes, 2, associated)), "LA")
            }
            ColorType::RGB(_) => (Samples::Rgb(bytes), "RGB"),
            ColorType::RGBA(_) => (Samples::Rgba(divide_alpha(bytes, 4, associated)), "RGBA"),
            ColorType::CMYK(_) => (Samples::Cmyk(bytes), "CMYK"),
            other => return Err(reject(format!("TIFF: {other:?} pixels are not supported"))),
        }
    };
    Ok(Pixels { width, height, samples, color_mode })
}

/// All samples as bytes: 8 bits as they are (packed below 8), 16-bit grey as round(v / 257), other
/// 16-bit samples by their high byte, 32-bit and float grey clipped to 0..=255, as Pillow does.
fn narrow(data: DecodingResult, color: ColorType) -> Result<Vec<u8>, Reject> {
    let grey = matches!(color, ColorType::Gray(_));
    Ok(match data {
        DecodingResult::U8(bytes) => bytes,
        DecodingResult::U16(words) if grey && color.bit_depth() == 16 => {
            words.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect()
        }
        DecodingResult::U16(words) if color.bit_depth() == 16 => {
            words.iter().map(|&v| (v >> 8) as u8).collect()
        }
        // Pillow's mode I is signed: what lies above 2^31 is negative there.
        DecodingResult::U32(words) if grey => {
            words.iter().map(|&v| (v as i32).clamp(0, 255) as u8).collect()
        }
        DecodingResult::I32(words) if grey => {
            words.iter().map(|&v| v.clamp(0, 255) as u8).collect()
        }
        DecodingResult::I16(words) if grey => {
            words.iter().map(|&v| v.clamp(0, 255) as u8).collect()
        }
        // `as` truncates, saturates and makes NaN zero.
        DecodingResult::F32(values) if grey => values.iter().map(|&v| v as u8).collect(),
        DecodingResult::F64(values) if grey => values.iter().map(|&v| v as u8).collect(),
        _ => return Err(reject(format!("TIFF: samples of {color:?} are not supported"))),
    })
}

/// Samples of fewer than 8 bits, rows padded to bytes, to one byte each.
fn unpack(packed: &[u8], bits: u8, row_samples: usize, rows: usize) -> Vec<u8> {
    let stride = (row_samples * usize::from(bits)).div_ceil(8);
    let mask = (1u16 << bits) - 1;
    let mut out = Vec::with_capacity(row_samples * rows);
    for row in packed.chunks_exact(stride.max(1)).take(rows) {
        for sample in 0..row_samples {
            let at = sample * usize::from(bits);
            let pair = u16::from(row[at / 8]) << 8 | u16::from(*row.get(at / 8 + 1).unwrap_or(&0));
            out.push((pair >> (16 - at % 8 - usize::from(bits)) & mask) as u8);
        }
    }
    out
}

/// Grey of fewer than 8 bits to the full range.
fn scale_up(samples: &mut [u8], bits: u8) {
    if bits < 8 {
        let max = (1u32 << bits) - 1;
        samples.iter_mut().for_each(|v| *v = (u32::from(*v) * 255 / max) as u8);
    }
}

fn interleave(
    planar: &[u8],
    stride: usize,
    channels: usize,
    pixels: usize,
) -> Result<Vec<u8>, Reject> {
    let mut out = vec![0; pixels * channels];
    for channel in 0..channels {
        let plane = planar.get(channel * stride..channel * stride + pixels);
        let plane = plane.ok_or_else(|| reject("TIFF: a plane is missing"))?;
        for (to, &from) in out[channel..].iter_mut().step_by(channels).zip(plane) {
            *to = from;
        }
    }
    Ok(out)
}

/// Pillow takes the high byte of the 16-bit palette entries: all reds, all greens, all blues.
fn through_palette(indices: &[u8], map: &[u16]) -> Vec<u8> {
    let third = map.len() / 3;
    let entry = |channel: usize, index: u8| {
        let at = usize::from(index);
        if at < third { (map[channel * third + at] >> 8) as u8 } else { 0 }
    };
    indices.iter().flat_map(|&index| [entry(0, index), entry(1, index), entry(2, index)]).collect()
}

/// Colour that was multiplied by its alpha (the last channel) goes back to what it was.
fn divide_alpha(mut samples: Vec<u8>, channels: usize, associated: bool) -> Vec<u8> {
    if associated {
        for pixel in samples.chunks_exact_mut(channels) {
            let alpha = u32::from(pixel[channels - 1]);
            if alpha != 0 && alpha != 255 {
                for value in &mut pixel[..channels - 1] {
                    *value = (u32::from(*value) * 255 / alpha).min(255) as u8;
                }
            }
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_samples_come_apart_row_by_row() {
        assert_eq!(unpack(&[0b1010_0000, 0b0110_0000], 1, 3, 2), [1, 0, 1, 0, 1, 1]);
        assert_eq!(unpack(&[0x12, 0x30, 0x45, 0x60], 4, 3, 2), [1, 2, 3, 4, 5, 6]);
        let mut grey = [0, 1, 2, 3];
        scale_up(&mut grey, 2);
        assert_eq!(grey, [0, 85, 170, 255]);
    }
}
