//! Owns TIFF: from bytes to 8-bit samples through the `tiff` crate, with Pillow's conversions of
//! deep, float, palette and CMYK pixels.

use std::io::{Cursor, Read, Seek};

use tiff::ColorType;
use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits as TiffLimits};
use tiff::tags::Tag;

use super::tiff_jpeg;
use crate::data::formats::raw_image::{Limits, Pixels, Samples, reject};
use crate::data::formats::{errors, header_repair};
use crate::error::Reject;

const DNG_VERSION: u16 = 50706;

/// The first image of a TIFF file.
pub(crate) fn decode(bytes: &[u8], limits: &Limits) -> Result<Pixels, Reject> {
    let (bytes, palette) = header_repair::tiff(bytes);
    let mut decoder = Decoder::new(Cursor::new(bytes.as_ref())).map_err(errors::tiff_reject)?;
    if decoder.find_tag(Tag::Unknown(DNG_VERSION)).map_err(errors::tiff_reject)?.is_some() {
        return Err(reject("camera raw (DNG) is not supported; develop it to JPEG, PNG or TIFF"));
    }
    let (width, height) = decoder.dimensions().map_err(errors::tiff_reject)?;
    limits.check(width.into(), height.into(), 3)?;
    let compression =
        decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(errors::tiff_reject)?;
    let compression = compression.unwrap_or(NONE);
    check_compression(compression)?;
    let color = decoder.colortype().map_err(errors::tiff_reject)?;
    check_format(&mut decoder, color)?;
    let samples = u64::from(color.num_samples());
    let wide = samples * (u64::from(color.bit_depth()).div_ceil(8) + 1);
    limits.check(width.into(), height.into(), wide + 3)?;
    let max = usize::try_from(limits.decoded_bytes_max).unwrap_or(usize::MAX);
    let mut own = TiffLimits::default();
    own.decoding_buffer_size = max;
    own.intermediate_buffer_size = max;
    decoder = decoder.with_limits(own);

    let pixels = width as usize * height as usize;
    if matches!(color, ColorType::YCbCr(_)) && compression != JPEG {
        return Err(reject(
            "TIFF: YCbCr is not supported without JPEG compression; save it as RGB",
        ));
    }
    let mut raster = match compression {
        JPEG => from_jpeg(&mut decoder, &bytes, color, limits)?,
        _ => read(&mut decoder, &bytes, color, compression, limits)?,
    };
    if raster.bytes.len() < pixels * usize::from(color.num_samples()) {
        return Err(reject("TIFF: the data ends early"));
    }
    let (samples, color_mode) = if palette {
        let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(errors::tiff_reject)?;
        (Samples::Rgb(through_palette(&raster.bytes, &map)), "P")
    } else {
        scale_up(&mut raster.bytes, color.bit_depth());
        let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).ok().flatten();
        meaning(raster, color, extra.and_then(|kinds| kinds.first().copied()))?
    };
    Ok(Pixels { width, height, samples, color_mode })
}

/// Values of the tag Compression.
const NONE: u16 = 1;
const JPEG: u16 = 7;
const DEFLATE: [u16; 2] = [8, 32946];

/// Refuses what isn't decoded, by name.
fn check_compression(compression: u16) -> Result<(), Reject> {
    let name = match compression {
        2 => "CCITT modified Huffman",
        3 => "CCITT Group 3",
        6 => "old-style JPEG",
        9 | 10 => "JBIG",
        32766 => "NeXT",
        32771 => "CCITT modified Huffman",
        32809 => "ThunderScan",
        32845 | 34676 | 34677 => "SGI LogLuv",
        34661 => "JBIG",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000",
        34887 => "LERC",
        34925 => "LZMA",
        34892 => "lossy JPEG of DNG",
        50000 => "Zstandard",
        50001 => "WebP",
        50002 | 52546 => "JPEG XL",
        22610 | 34934 => "JPEG XR",
        _ => return Ok(()),
    };
    Err(reject(format!(
        "TIFF: {name} compression (number {compression}) is not supported; save it with LZW, \
         deflate or none"
    )))
}

/// Refuses kinds of samples whose range says nothing about brightness. Values of unsigned samples
/// up to 16 bits are plain; those of floats are where all lie within 0..1, seen when they are read.
fn check_format<R: Read + Seek>(decoder: &mut Decoder<R>, color: ColorType) -> Result<(), Reject> {
    let formats =
        decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(errors::tiff_reject)?;
    let bits = color.bit_depth();
    let name = match formats.as_deref().and_then(|formats| formats.first()) {
        Some(2) => format!("signed {bits}-bit"),
        Some(3) => return Ok(()),
        Some(5 | 6) => format!("complex {bits}-bit"),
        _ if bits > 16 => format!("{bits}-bit integer"),
        _ => return Ok(()),
    };
    Err(reject(format!(
        "TIFF: {name} samples are not supported, since their range says nothing of black and \
         white; convert it to 8 or 16 bits"
    )))
}

/// All samples as bytes, interleaved.
struct Raster {
    bytes: Vec<u8>,
    float: bool,
}

fn from_jpeg<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    bytes: &[u8],
    color: ColorType,
    limits: &Limits,
) -> Result<Raster, Reject> {
    if color.bit_depth() != 8 {
        let bits = color.bit_depth();
        return Err(reject(format!("TIFF: JPEG of {bits}-bit samples is not supported")));
    }
    let planar =
        decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(errors::tiff_reject)?;
    let photometric = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation);
    // With those that mean nothing and are left out.
    let stored =
        decoder.find_tag_unsigned::<u16>(Tag::SamplesPerPixel).map_err(errors::tiff_reject)?;
    let stored = stored.unwrap_or(1).max(color.num_samples());
    if stored > 4 {
        return Err(reject(format!("TIFF: JPEG of {stored} samples a pixel is not supported")));
    }
    let (width, height) = decoder.dimensions().map_err(errors::tiff_reject)?;
    let layout = tiff_jpeg::TileLayout {
        width: width as usize,
        height: height as usize,
        channels: usize::from(stored),
        planar: planar == Some(2),
        ycc: matches!(color, ColorType::YCbCr(_)),
    };
    if layout.planar && layout.ycc {
        return Err(reject("TIFF: JPEG of YCbCr in planes of their own is not supported"));
    }
    let mut bytes = tiff_jpeg::samples(decoder, bytes, &layout, limits)?;
    let wanted = usize::from(color.num_samples());
    if wanted < layout.channels {
        let pixels = bytes.chunks_exact(layout.channels);
        bytes = pixels.flat_map(|pixel| &pixel[..wanted]).copied().collect();
    }
    // White is zero.
    if photometric.map_err(errors::tiff_reject)? == Some(0) {
        bytes.iter_mut().for_each(|sample| *sample = 255 - *sample);
    }
    Ok(Raster { bytes, float: false })
}

fn read<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    file: &[u8],
    color: ColorType,
    compression: u16,
    limits: &Limits,
) -> Result<Raster, Reject> {
    if DEFLATE.contains(&compression) {
        check_sums(decoder, file, limits)?;
    }
    let (width, height) = decoder.dimensions().map_err(errors::tiff_reject)?;
    let (width, height) = (width as usize, height as usize);
    let mut data = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut data).map_err(errors::tiff_reject)?;
    let plane_stride = layout.plane_stride.map_or(0, |stride| stride.get());
    let planes = layout.planes;
    let channels = usize::from(color.num_samples());
    let bits = color.bit_depth();
    let mut raster = narrow(data, color)?;
    let bytes = &mut raster.bytes;
    let reversed =
        decoder.find_tag_unsigned::<u16>(Tag::FillOrder).map_err(errors::tiff_reject)? == Some(2);
    // Facsimile coding minds the order itself; for other coded data nobody writes it.
    if reversed && bits <= 8 && compression == NONE {
        bytes.iter_mut().for_each(|byte| *byte = byte.reverse_bits());
    }
    if bits < 8 {
        *bytes = unpack(bytes, bits, width * channels, height);
    }
    if planes > 1 {
        let stride = plane_stride / usize::from(bits.div_ceil(8)).max(1);
        *bytes = interleave(bytes, stride, channels, width * height)?;
    }
    Ok(raster)
}

/// Rejects deflated strips and tiles whose own checksum is wrong: the decoder stops reading where
/// the last sample stands, before it.
fn check_sums<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    file: &[u8],
    limits: &Limits,
) -> Result<(), Reject> {
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(errors::tiff_reject)?;
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(errors::tiff_reject)?;
    let mut left = limits.decoded_bytes_max;
    for (index, (offset, length)) in offsets.into_iter().zip(lengths).enumerate() {
        let place = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let Some(data) = place.and_then(|(at, n)| file.get(at..at.checked_add(n)?)) else {
            return Err(reject(format!("TIFF: part {index} lies outside the file: truncated")));
        };
        let mut inflater = flate2::read::ZlibDecoder::new(data).take(left);
        match std::io::copy(&mut inflater, &mut std::io::sink()) {
            Ok(inflated) => left -= inflated,
            // Whether enough is there is seen when the samples are read.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(_) => {
                return Err(reject(format!(
                    "TIFF: the deflated data of part {index} is damaged: it doesn't inflate to \
                     what its checksum (Adler-32) says"
                )));
            }
        }
    }
    Ok(())
}

/// What the samples show, and how Pillow calls it. `extra` is what the first sample beyond the
/// colour is said to be.
fn meaning(
    raster: Raster,
    color: ColorType,
    extra: Option<u16>,
) -> Result<(Samples, &'static str), Reject> {
    const UNSPECIFIED: Option<u16> = Some(0);
    let associated = extra == Some(1);
    let Raster { bytes, float } = raster;
    Ok(match color {
        ColorType::Gray(_) if float => (Samples::Grey(bytes), "F"),
        ColorType::Gray(1) => (Samples::Grey(bytes), "1"),
        ColorType::Gray(16) => (Samples::Grey(bytes), "I;16"),
        ColorType::Gray(_) => (Samples::Grey(bytes), "L"),
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. }
            if extra == UNSPECIFIED =>
        {
            (Samples::Grey(bytes.chunks_exact(2).map(|pixel| pixel[0]).collect()), "L")
        }
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => {
            (Samples::GreyAlpha(divide_alpha(bytes, 2, associated)), "LA")
        }
        // JPEG's, which its decoder has turned to RGB.
        ColorType::RGB(_) | ColorType::YCbCr(_) => (Samples::Rgb(bytes), "RGB"),
        ColorType::RGBA(_) => (Samples::Rgba(divide_alpha(bytes, 4, associated)), "RGBA"),
        ColorType::CMYK(_) => (Samples::Cmyk(bytes), "CMYK"),
        other => {
            let name = errors::tiff_color(other);
            return Err(reject(format!("TIFF: {name} pixels are not supported")));
        }
    })
}

/// All samples as bytes: 8 bits as they are (packed below 8), 16-bit grey as round(v / 257), other
/// 16-bit samples by their high byte, as Pillow does; floats that all lie within 0..1 as
/// round(255 v).
fn narrow(data: DecodingResult, color: ColorType) -> Result<Raster, Reject> {
    let grey = matches!(color, ColorType::Gray(_));
    let bytes = match data {
        DecodingResult::U8(bytes) => bytes,
        DecodingResult::U16(words) if grey && color.bit_depth() == 16 => {
            words.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect()
        }
        DecodingResult::U16(words) if color.bit_depth() == 16 => {
            words.iter().map(|&v| (v >> 8) as u8).collect()
        }
        DecodingResult::F16(values) => {
            let values = values.iter().map(|value| value.to_f64());
            return unit_range(values, "half-float");
        }
        DecodingResult::F32(values) => {
            return unit_range(values.iter().map(|&value| value.into()), "float");
        }
        DecodingResult::F64(values) => return unit_range(values.iter().copied(), "64-bit float"),
        _ => {
            let (name, bits) = (errors::tiff_color(color), color.bit_depth());
            return Err(reject(format!("TIFF: {bits}-bit samples of {name} are not supported")));
        }
    };
    Ok(Raster { bytes, float: false })
}

/// Floats within 0..1 as bytes; what else they are is told, since it may mean anything.
fn unit_range(values: impl Iterator<Item = f64> + Clone, kind: &str) -> Result<Raster, Reject> {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.clone() {
        if value.is_nan() {
            return Err(reject(format!(
                "TIFF: {kind} samples of which some are no number (NaN) are not supported; \
                 convert it to 8 or 16 bits"
            )));
        }
        (least, most) = (least.min(value), most.max(value));
    }
    if least < 0.0 || most > 1.0 {
        let (least, most) = (errors::number(least), errors::number(most));
        return Err(reject(format!(
            "TIFF: {kind} samples from {least} to {most} are not supported, only those within \
             0..1; convert it to 8 or 16 bits"
        )));
    }
    let bytes = values.map(|value| (value * 255.0).round() as u8).collect();
    Ok(Raster { bytes, float: true })
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

/// Samples of fewer than 8 bits to the full range.
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
mod tests;
