//! Owns JPEG inside TIFF (compression 7): its strips and tiles through the decoder of .jpg files,
//! put together, so that both give the same pixels.

use std::io::{Read, Seek};

use tiff::decoder::{ChunkType, Decoder};
use tiff::tags::Tag;

use super::jpeg::{self, Raster, Space};
use crate::data::formats::raw_image::{Limits, reject};
use crate::error::Reject;

/// Where the samples go.
pub(crate) struct TileLayout {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Samples a pixel.
    pub(crate) channels: usize,
    /// Whether each sample has a plane of its own in the file.
    pub(crate) planar: bool,
    /// Whether the samples are YCbCr, which becomes RGB.
    pub(crate) ycc: bool,
}

/// Interleaved samples of the decoder's current image. `bytes` is the file that it reads.
pub(crate) fn samples<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    bytes: &[u8],
    layout: &TileLayout,
    limits: &Limits,
) -> Result<Vec<u8>, Reject> {
    let (offsets, lengths) = match decoder.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let offsets = decoder.get_tag_u64_vec(offsets).map_err(super::errors::tiff_reject)?;
    let lengths = decoder.get_tag_u64_vec(lengths).map_err(super::errors::tiff_reject)?;
    let tables = match decoder.find_tag(Tag::JPEGTables).map_err(super::errors::tiff_reject)? {
        Some(tables) => tables.into_u8_vec().map_err(super::errors::tiff_reject)?,
        None => Vec::new(),
    };
    let chunk_width = (decoder.chunk_dimensions().0 as usize).max(1);
    let chunk_height = (decoder.chunk_dimensions().1 as usize).max(1);
    let across = layout.width.div_ceil(chunk_width);
    let down = layout.height.div_ceil(chunk_height);
    let planes = if layout.planar { layout.channels } else { 1 };
    // No part decodes to much more than its place.
    let room = (chunk_width as u64 + 63).saturating_mul(chunk_height as u64 + 63);
    let limits = &Limits { pixels_max: limits.pixels_max.min(room), ..*limits };
    let mut out = vec![0; layout.width * layout.height * layout.channels];
    for index in 0..across * down * planes {
        let named = |what: &str| reject(format!("TIFF: part {index} {what}"));
        let (Some(&offset), Some(&length)) = (offsets.get(index), lengths.get(index)) else {
            return Err(named("is missing"));
        };
        let data = usize::try_from(offset).ok().zip(usize::try_from(length).ok());
        let data = data.and_then(|(at, length)| bytes.get(at..at.checked_add(length)?));
        let data = data.ok_or_else(|| named("lies outside the file: truncated"))?;
        let space = if layout.ycc && planes == 1 { Space::Ycc } else { Space::Stored };
        let part = jpeg::decode_as(&stream(&tables, data), space, limits)
            .map_err(|error| reject(format!("TIFF: part {index}: {}", error.message)))?;
        let (plane, place) = (index / (across * down), index % (across * down));
        let (left, top) = (place % across * chunk_width, place / across * chunk_height);
        let width = chunk_width.min(layout.width - left);
        let height = chunk_height.min(layout.height - top);
        fits(&part, layout, (width, height)).map_err(|what| named(&what))?;
        for row in 0..height {
            let to = ((top + row) * layout.width + left) * layout.channels + plane;
            copy(&part, row, width, &mut out[to..], layout.channels);
        }
    }
    Ok(out)
}

/// Refuses a part of other components than the layout's, or smaller than its place.
fn fits(part: &Raster, layout: &TileLayout, (width, height): (usize, usize)) -> Result<(), String> {
    let expected = if layout.planar { 1 } else { layout.channels };
    if part.channels != expected {
        return Err(format!("has {} components, not {expected}", part.channels));
    }
    if (part.width as usize) < width || (part.height as usize) < height {
        return Err("is smaller than its place".into());
    }
    Ok(())
}

/// `width` pixels of a row of `part` to `out`, whose pixels are `stride` samples apart.
fn copy(part: &Raster, row: usize, width: usize, out: &mut [u8], stride: usize) {
    let from = &part.data[row * part.width as usize * part.channels..][..width * part.channels];
    if part.channels == stride {
        out[..from.len()].copy_from_slice(from);
    } else {
        out.iter_mut().step_by(stride).zip(from).for_each(|(to, &from)| *to = from);
    }
}

/// A stream of its own from the tables that all parts share and the data of one.
fn stream(tables: &[u8], data: &[u8]) -> Vec<u8> {
    const START: [u8; 2] = [0xFF, 0xD8];
    const END: [u8; 2] = [0xFF, 0xD9];
    let tables = tables.strip_prefix(&START).unwrap_or(&[]);
    let tables = tables.strip_suffix(&END).unwrap_or(tables);
    let data = data.strip_prefix(&START).unwrap_or(data);
    // libtiff doesn't mind a missing end; one that comes too early is still found out.
    [&START, tables, data, &END].concat()
}
