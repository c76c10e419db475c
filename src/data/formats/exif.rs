//! Owns finding the orientation in the containers that carry one: EXIF, and where that has none,
//! XMP, as Pillow's `exif_transpose` does. Must not know: pixels.
//!
//! Lenient on purpose: whatever is broken, missing or out of range counts as 1 (upright), as in
//! every viewer. What is inflated or joined is bounded, and every offset is checked.

use std::borrow::Cow;

use super::png;
use crate::error::Reject;

/// The tag of the orientation, in EXIF and in TIFF.
const ORIENTATION: u64 = 0x0112;

/// The tag of an XMP packet in TIFF.
const XMP: u64 = 700;

/// How many entries of a directory are looked at; real ones have fewer than a hundred.
const ENTRIES_MAX: u64 = 4096;

/// The orientation 1..=8 of a TIFF or BigTIFF file, or 1.
pub(crate) fn orientation_of_tiff(bytes: &[u8]) -> u8 {
    let Some(directory) = Directory::first(bytes) else { return 1 };
    let packet = directory.find(XMP).filter(|entry| matches!(entry.kind, 1 | 7));
    settle(directory.orientation(), packet.map(|entry| entry.data))
}

/// The orientation of a JPEG file: of its EXIF segments (a long one goes on in the next), else of
/// its last XMP segment.
pub(crate) fn orientation_of_jpeg(bytes: &[u8]) -> u8 {
    let mut exif: Option<Cow<[u8]>> = None;
    let mut xmp = None;
    let mut at = 2;
    loop {
        // Any number of 0xFF may fill the place before a marker.
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let head = bytes.get(at..at + 4).unwrap_or(&[0; 4]);
        if head[0] != 0xFF || matches!(head[1], 0xDA | 0xD9) {
            return settle(exif.as_deref().and_then(in_exif), xmp);
        }
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])).max(2);
        let segment = bytes.get(at + 4..(at + 2 + length).min(bytes.len())).unwrap_or(&[]);
        if head[1] == 0xE1
            && let Some(payload) = segment.strip_prefix(b"Exif\0\0")
        {
            match &mut exif {
                None => exif = Some(Cow::Borrowed(payload)),
                Some(whole) => whole.to_mut().extend_from_slice(payload),
            }
        } else if head[1] == 0xE1 && segment.starts_with(b"http://ns.adobe.com/xap/1.0/\0") {
            xmp = Some(segment);
        }
        at += 2 + length;
    }
}

/// Keywords of the texts of a PNG that hold an orientation.
const EXIF_TEXT: &[u8] = b"exif";
const PROFILE_TEXT: &[u8] = b"Raw profile type exif";
const XMP_TEXT: &[u8] = b"XML:com.adobe.xmp";

/// The orientation of a PNG file: of its eXIf chunk, else of its text `Raw profile type exif`, else
/// of its XMP. As in Pillow the last of each kind counts.
///
/// # Errors
/// One of these that is damaged or inflates beyond all measure.
pub(crate) fn orientation_of_png(bytes: &[u8]) -> Result<u8, Reject> {
    let mut exif: Option<Cow<[u8]>> = None;
    let mut profile: Option<Cow<[u8]>> = None;
    let mut xmp: Option<Cow<[u8]>> = None;
    let (mut animated, mut pixels) = (false, false);
    for chunk in png::chunks(bytes) {
        match &chunk.kind {
            b"acTL" => animated = chunk.data.get(..4).is_some_and(|n| n > [0, 0, 0, 1].as_slice()),
            b"IDAT" => pixels = true,
            // What follows belongs to the second frame.
            b"fcTL" if animated && pixels => break,
            b"eXIf" => {
                chunk.check()?;
                exif = Some(Cow::Borrowed(chunk.data));
            }
            _ => {
                let wanted = [EXIF_TEXT, PROFILE_TEXT, XMP_TEXT];
                let Some((keyword, text)) = png::text(&chunk, &wanted)? else { continue };
                chunk.check()?;
                match keyword {
                    // Raw bytes, which only a plain text keeps.
                    EXIF_TEXT if &chunk.kind == b"tEXt" => exif = Some(text),
                    PROFILE_TEXT => profile = Some(text),
                    XMP_TEXT if !text.is_empty() => xmp = Some(text),
                    _ => {}
                }
            }
        }
    }
    let exif = exif.or_else(|| Some(Cow::Owned(from_profile(&profile?)?)));
    Ok(settle(exif.as_deref().and_then(in_exif), xmp.as_deref()))
}

/// The bytes of ImageMagick's raw profile: three lines (empty, the name, the length), then hex.
fn from_profile(text: &[u8]) -> Option<Vec<u8>> {
    let hex = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits = hex.iter().filter(|byte| !byte.is_ascii_whitespace());
    let digits: Option<Vec<u32>> = digits.map(|&byte| (byte as char).to_digit(16)).collect();
    Some(digits?.as_chunks::<2>().0.iter().map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// Flags of a VP8X chunk that say what the file holds.
const WEBP_EXIF: u8 = 0x08;
const WEBP_XMP: u8 = 0x04;

/// The orientation of a WebP file: of its EXIF chunk, else of its XMP chunk. As in libwebp there
/// are none that the header doesn't announce.
pub(crate) fn orientation_of_webp(bytes: &[u8]) -> u8 {
    let announced = match bytes.get(12..21) {
        Some([b'V', b'P', b'8', b'X', .., flags]) => *flags,
        _ => 0,
    };
    let (mut exif, mut xmp) = (None, None);
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let payload = bytes.get(at + 8..(at + 8).saturating_add(length)).unwrap_or(&[]);
        match &head[..4] {
            b"EXIF" if announced & WEBP_EXIF != 0 => exif = exif.or(Some(payload)),
            b"XMP " if announced & WEBP_XMP != 0 => xmp = xmp.or(Some(payload)),
            _ => {}
        }
        at = at.saturating_add(8).saturating_add(length + length % 2);
    }
    settle(exif.and_then(in_exif), xmp)
}

/// EXIF's word counts if it says one, even an invalid one; else XMP's.
fn settle(exif: Option<u64>, xmp: Option<&[u8]>) -> u8 {
    let value = exif.or_else(|| in_xmp(xmp?)).unwrap_or(1);
    if (1..=8).contains(&value) { value as u8 } else { 1 }
}

/// The digit after the first `tiff:Orientation="` or `tiff:Orientation>`.
fn in_xmp(packet: &[u8]) -> Option<u64> {
    const NAME: &[u8] = b"tiff:Orientation";
    packet.windows(NAME.len()).enumerate().find_map(|(at, part)| {
        let rest = (part == NAME).then(|| &packet[at + NAME.len()..])?;
        let digit = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
        (*digit as char).to_digit(10).map(u64::from)
    })
}

/// The orientation in an EXIF payload, in range or not.
fn in_exif(mut payload: &[u8]) -> Option<u64> {
    // JPEG's prefix, which some writers keep in other containers, even twice.
    while let Some(rest) = payload.strip_prefix(b"Exif\0\0") {
        payload = rest;
    }
    match Directory::first(payload) {
        Some(directory) => directory.orientation(),
        // What is no EXIF says nothing, and Pillow asks no further then.
        None => (!payload.is_empty()).then_some(0),
    }
}

/// A directory of a TIFF structure (what an EXIF payload is), classic or BigTIFF.
struct Directory<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// 64-bit counts and offsets.
    big: bool,
    start: u64,
}

struct Entry<'a> {
    kind: u64,
    data: &'a [u8],
}

impl<'a> Directory<'a> {
    fn first(bytes: &'a [u8]) -> Option<Directory<'a>> {
        // Some writers swap the 42 alone.
        let (big_endian, big) = match bytes.get(..4)? {
            b"MM\0*" | b"MM*\0" => (true, false),
            b"II*\0" | b"II\0*" => (false, false),
            b"MM\0+" => (true, true),
            b"II+\0" => (false, true),
            _ => return None,
        };
        let mut directory = Directory { bytes, big_endian, big, start: 0 };
        directory.start = if big { directory.number(8, 8)? } else { directory.number(4, 4)? };
        Some(directory)
    }

    /// The unsigned number of `size` bytes at `at`.
    fn number(&self, at: u64, size: usize) -> Option<u64> {
        let bytes = self.slice(at, size as u64)?;
        let join = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        Some(match self.big_endian {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        })
    }

    fn slice(&self, at: u64, length: u64) -> Option<&'a [u8]> {
        let start = usize::try_from(at).ok()?;
        self.bytes.get(start..start.checked_add(usize::try_from(length).ok()?)?)
    }

    /// The entry of `tag`; of several the last counts. Reading ends, as in Pillow, where the file
    /// does: at the first entry whose value lies outside.
    fn find(&self, tag: u64) -> Option<Entry<'a>> {
        let word = if self.big { 8 } else { 4 };
        let head = if self.big { 8 } else { 2 };
        let entries = self.number(self.start, head)?.min(ENTRIES_MAX);
        let mut found = None;
        for index in 0..entries {
            let at = self.start + head as u64 + index * (4 + 2 * word);
            let Some(count) = self.number(at + 4, word as usize) else { break };
            let (Some(this), Some(kind)) = (self.number(at, 2), self.number(at + 2, 2)) else {
                break;
            };
            let unit = match kind {
                1 | 2 | 6 | 7 => 1,
                3 | 8 => 2,
                4 | 9 | 11 | 13 => 4,
                5 | 10 | 12 | 16 => 8,
                _ => continue,
            };
            let size = count.saturating_mul(unit);
            let place = at + 4 + word;
            let place = match size > word {
                true => self.number(place, word as usize),
                false => Some(place),
            };
            let Some(data) = place.and_then(|place| self.slice(place, size)) else { break };
            if this == tag && !data.is_empty() {
                found = Some(Entry { kind, data });
            }
        }
        found
    }

    /// What the orientation's tag says; a value that is no whole number counts as an invalid one.
    fn orientation(&self) -> Option<u64> {
        let entry = self.find(ORIENTATION)?;
        let inner = Directory { bytes: entry.data, ..*self };
        let number = |at, size| inner.number(at, size).unwrap_or(0);
        Some(match entry.kind {
            3 | 8 => number(0, 2),
            4 | 9 | 13 => number(0, 4),
            16 => number(0, 8),
            6 => number(0, 1),
            5 | 10 => {
                let (numerator, denominator) = (number(0, 4), number(4, 4));
                let whole = denominator != 0 && numerator % denominator == 0;
                if whole { numerator / denominator } else { 0 }
            }
            11 => whole(f32::from_bits(number(0, 4) as u32).into()),
            12 => whole(f64::from_bits(number(0, 8))),
            _ => 0,
        })
    }
}

/// `value` as a whole number, 0 where it is none.
fn whole(value: f64) -> u64 {
    if value.fract() == 0.0 { value as u64 } else { 0 }
}

#[cfg(test)]
mod tests;
