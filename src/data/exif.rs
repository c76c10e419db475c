//! Owns finding the EXIF orientation in the containers that carry one. Must not know: pixels.
//!
//! Lenient on purpose: whatever is broken, missing or out of range counts as 1 (upright), as in
//! every viewer. Nothing is allocated and every offset is checked.

/// The tag of the orientation, in EXIF and in TIFF.
const ORIENTATION: u16 = 0x0112;

/// How many entries of a directory are looked at; real ones have fewer than a hundred.
const ENTRIES_MAX: usize = 4096;

/// The orientation 1..=8 in a TIFF structure (what an EXIF payload is), or 1.
pub(super) fn orientation_of_tiff(bytes: &[u8]) -> u8 {
    first_directory(bytes).unwrap_or(1)
}

/// The orientation of a JPEG file: its first APP1 segment with EXIF, as Pillow takes it.
pub(super) fn orientation_of_jpeg(bytes: &[u8]) -> u8 {
    let mut at = 2;
    loop {
        // Any number of 0xFF may fill the place before a marker.
        while bytes.get(at) == Some(&0xFF) && bytes.get(at + 1) == Some(&0xFF) {
            at += 1;
        }
        let (Some(0xFF), Some(&marker)) = (bytes.get(at), bytes.get(at + 1)) else { return 1 };
        if marker == 0xDA || marker == 0xD9 {
            return 1;
        }
        let (Some(&high), Some(&low)) = (bytes.get(at + 2), bytes.get(at + 3)) else { return 1 };
        let length = usize::from(high) << 8 | usize::from(low);
        let segment = bytes.get(at + 4..(at + 2 + length).min(bytes.len())).unwrap_or(&[]);
        if marker == 0xE1 && segment.starts_with(b"Exif\0") {
            return orientation_of_tiff(segment.get(6..).unwrap_or(&[]));
        }
        at += 2 + length.max(2);
    }
}

/// The orientation of a PNG file: its eXIf chunk.
pub(super) fn orientation_of_png(bytes: &[u8]) -> u8 {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if &head[4..8] == b"eXIf" {
            let payload = bytes.get(at + 8..(at + 8).saturating_add(length)).unwrap_or(&[]);
            // Some writers keep the JPEG prefix.
            return orientation_of_tiff(payload.strip_prefix(b"Exif\0\0").unwrap_or(payload));
        }
        at = at.saturating_add(12).saturating_add(length);
    }
    1
}

/// The orientation of a WebP file: its EXIF chunk.
pub(super) fn orientation_of_webp(bytes: &[u8]) -> u8 {
    let mut at = 12;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if &head[..4] == b"EXIF" {
            let payload = bytes.get(at + 8..(at + 8).saturating_add(length)).unwrap_or(&[]);
            return orientation_of_tiff(payload.strip_prefix(b"Exif\0\0").unwrap_or(payload));
        }
        at = at.saturating_add(8).saturating_add(length + length % 2);
    }
    1
}

fn first_directory(bytes: &[u8]) -> Option<u8> {
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
        let value = match u16_at(at + 2)? {
            1 => u32::from(*bytes.get(at + 8)?),
            3 => u32::from(u16_at(at + 8)?),
            4 => u32_at(at + 8)?,
            _ => return None,
        };
        return (1..=8).contains(&value).then_some(value as u8);
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
