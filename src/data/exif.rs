//! Owns finding the orientation in the containers that carry one: EXIF, and where that has none,
//! XMP, as Pillow's `exif_transpose` does. Must not know: pixels.
//!
//! Lenient on purpose: whatever is broken, missing or out of range counts as 1 (upright), as in
//! every viewer. Nothing is allocated and every offset is checked.

/// The tag of the orientation, in EXIF and in TIFF.
const ORIENTATION: u16 = 0x0112;

/// How many entries of a directory are looked at; real ones have fewer than a hundred.
const ENTRIES_MAX: usize = 4096;

/// The orientation 1..=8 in a TIFF structure (what an EXIF payload is), or 1.
pub(super) fn orientation_of_tiff(bytes: &[u8]) -> u8 {
    settle(first_directory(bytes), None)
}

/// The orientation of a JPEG file: of its first EXIF segment, else of its first XMP segment.
pub(super) fn orientation_of_jpeg(bytes: &[u8]) -> u8 {
    let (mut exif, mut xmp) = (None, None);
    let mut at = 2;
    loop {
        // Any number of 0xFF may fill the place before a marker.
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let head = bytes.get(at..at + 4).unwrap_or(&[0; 4]);
        if head[0] != 0xFF || matches!(head[1], 0xDA | 0xD9) {
            return settle(exif.and_then(first_directory), xmp);
        }
        let length = usize::from(u16::from_be_bytes([head[2], head[3]])).max(2);
        let segment = bytes.get(at + 4..(at + 2 + length).min(bytes.len())).unwrap_or(&[]);
        if head[1] == 0xE1 && segment.starts_with(b"Exif\0") {
            exif = exif.or(Some(segment.get(6..).unwrap_or(&[])));
        } else if head[1] == 0xE1 && segment.starts_with(b"http://ns.adobe.com/xap/1.0/\0") {
            xmp = xmp.or(Some(segment));
        }
        at += 2 + length;
    }
}

/// The orientation of a PNG file: of its eXIf chunk, else of its XMP text.
pub(super) fn orientation_of_png(bytes: &[u8]) -> u8 {
    let (mut exif, mut xmp) = (None, None);
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let payload = bytes.get(at + 8..(at + 8).saturating_add(length)).unwrap_or(&[]);
        match &head[4..8] {
            b"eXIf" => exif = exif.or(Some(payload)),
            b"iTXt" if payload.starts_with(b"XML:com.adobe.xmp\0") => xmp = xmp.or(Some(payload)),
            _ => {}
        }
        at = at.saturating_add(12).saturating_add(length);
    }
    settle(exif.map(without_prefix).and_then(first_directory), xmp)
}

/// The orientation of a WebP file: of its EXIF chunk, else of its XMP chunk.
pub(super) fn orientation_of_webp(bytes: &[u8]) -> u8 {
    let (mut exif, mut xmp) = (None, None);
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let payload = bytes.get(at + 8..(at + 8).saturating_add(length)).unwrap_or(&[]);
        match &head[..4] {
            b"EXIF" => exif = exif.or(Some(payload)),
            b"XMP " => xmp = xmp.or(Some(payload)),
            _ => {}
        }
        at = at.saturating_add(8).saturating_add(length + length % 2);
    }
    settle(exif.map(without_prefix).and_then(first_directory), xmp)
}

/// Some writers keep JPEG's prefix in other containers.
fn without_prefix(payload: &[u8]) -> &[u8] {
    payload.strip_prefix(b"Exif\0\0").unwrap_or(payload)
}

/// EXIF's word counts if it says one, even an invalid one; else XMP's.
fn settle(exif: Option<u32>, xmp: Option<&[u8]>) -> u8 {
    let value = exif.or_else(|| in_xmp(xmp?)).unwrap_or(1);
    if (1..=8).contains(&value) { value as u8 } else { 1 }
}

/// The digit behind `tiff:Orientation="` or `tiff:Orientation>`.
fn in_xmp(packet: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    let found = packet.windows(NAME.len()).position(|part| part == NAME)?;
    let rest = &packet[found + NAME.len()..];
    let digit = rest.strip_prefix(b"=\"").or_else(|| rest.strip_prefix(b">"))?.first()?;
    (*digit as char).to_digit(10)
}

/// The orientation that the first directory of a TIFF structure states, in range or not.
fn first_directory(bytes: &[u8]) -> Option<u32> {
    let big = match bytes.get(..2)? {
        b"MM" => true,
        b"II" => false,
        _ => return None,
    };
    let u16_at = |at: usize| -> Option<u16> {
        let pair = bytes.get(at..at.checked_add(2)?)?;
        let pair = [pair[0], pair[1]];
        Some(if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    };
    let u32_at = |at: usize| -> Option<u32> {
        let four = bytes.get(at..at.checked_add(4)?)?;
        let four = [four[0], four[1], four[2], four[3]];
        Some(if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) })
    };
    if u16_at(2)? != 42 {
        return None;
    }
    let directory = u32_at(4)? as usize;
    let entries = usize::from(u16_at(directory)?).min(ENTRIES_MAX);
    for entry in 0..entries {
        let at = directory + 2 + entry * 12;
        if u16_at(at)? != ORIENTATION {
            continue;
        }
        return match u16_at(at + 2)? {
            1 => Some(u32::from(*bytes.get(at + 8)?)),
            3 => Some(u32::from(u16_at(at + 8)?)),
            4 => u32_at(at + 8),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiff(value: u16) -> Vec<u8> {
        let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
        bytes.extend_from_slice(&value.to_le_bytes());
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0]);
        bytes
    }

    #[test]
    fn values_outside_one_to_eight_are_upright() {
        for value in 1..=8 {
            assert_eq!(orientation_of_tiff(&tiff(value)), value as u8);
        }
        for value in [0, 9, 65535] {
            assert_eq!(orientation_of_tiff(&tiff(value)), 1);
        }
    }

    #[test]
    fn xmp_counts_where_exif_is_silent() {
        let mut png = b"\x89PNG\r\n\x1A\n".to_vec();
        let text = b"XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation=\"6\"/>";
        png.extend_from_slice(&(text.len() as u32).to_be_bytes());
        png.extend_from_slice(b"iTXt");
        png.extend_from_slice(text);
        png.extend_from_slice(&[0; 4]);
        assert_eq!(orientation_of_png(&png), 6);
        let exif = tiff(9);
        png.extend_from_slice(&(exif.len() as u32).to_be_bytes());
        png.extend_from_slice(b"eXIf");
        png.extend_from_slice(&exif);
        assert_eq!(orientation_of_png(&png), 1);
        assert_eq!(in_xmp(b"<tiff:Orientation>3</tiff:Orientation>"), Some(3));
        assert_eq!(in_xmp(b"<tiff:Orientation"), None);
    }

    #[test]
    fn every_cut_is_survived() {
        let whole = tiff(6);
        for length in 0..whole.len() {
            orientation_of_tiff(&whole[..length]);
        }
        let mut jpeg = b"\xFF\xD8\xFF\xFF\xE1".to_vec();
        jpeg.extend_from_slice(&(8 + whole.len() as u16).to_be_bytes());
        jpeg.extend_from_slice(b"Exif\0\0");
        jpeg.extend_from_slice(&whole);
        assert_eq!(orientation_of_jpeg(&jpeg), 6);
        for length in 0..jpeg.len() {
            orientation_of_jpeg(&jpeg[..length]);
            orientation_of_png(&jpeg[..length]);
            orientation_of_webp(&jpeg[..length]);
        }
    }
}
