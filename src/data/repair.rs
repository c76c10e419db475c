//! Owns small, safe corrections of headers that the decoders refuse or misread and every viewer
//! accepts: each makes a copy only where it applies. Must not know: how pixels are decoded.

use std::borrow::Cow;

use super::samples::reject;
use crate::error::Reject;

/// BMP: OS/2's 64-byte header becomes Windows' first 40 bytes (they agree so far), a count of
/// planes other than 1 becomes 1, and pixels that would start inside the palette start behind it.
pub(super) fn bmp(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Reject> {
    let long = |at: usize| -> Option<u32> {
        Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    let (Some(pixels), Some(header @ 40..), Some(compression), Some(used)) =
        (long(10), long(14), long(30), long(46))
    else {
        return Ok(Cow::Borrowed(bytes));
    };
    let mut out = Cow::Borrowed(bytes);
    let planes_ok = bytes[26..28] == [1, 0];
    if !planes_ok {
        out.to_mut()[26..28].copy_from_slice(&[1, 0]);
    }
    let mut pixels = pixels;
    if header == 64 {
        // 3 and 4 mean Huffman and 24-bit runs there, bit fields and JPEG in Windows.
        if compression >= 3 {
            return Err(reject("BMP: OS/2's Huffman and 24-bit run coding are not supported"));
        }
        if bytes.len() < 78 {
            return Err(reject("BMP: the header ends early"));
        }
        out.to_mut().drain(54..78);
        out.to_mut()[14..18].copy_from_slice(&40u32.to_le_bytes());
        pixels = pixels.saturating_sub(24);
        out.to_mut()[10..14].copy_from_slice(&pixels.to_le_bytes());
    }
    let depth = u32::from(bytes[28]);
    if (1..=8).contains(&depth) && matches!(header, 40 | 64) {
        let colors = if used == 0 { 1 << depth } else { used.min(1 << depth) };
        let behind = 54 + 4 * colors;
        if pixels < behind && pixels <= 54 {
            let out = out.to_mut();
            out[10..14].copy_from_slice(&behind.to_le_bytes());
            // The padding of the last row may be missing.
            out.extend_from_slice(&[0; 3]);
        }
    }
    Ok(out)
}

/// GIF: without a global palette a ramp of greys stands in, for frames that have none either.
pub(super) fn gif(bytes: &[u8]) -> Cow<'_, [u8]> {
    match bytes.get(10) {
        Some(flags) if flags & 0x80 == 0 && bytes.len() >= 13 => {
            let mut out = Vec::with_capacity(bytes.len() + 768);
            out.extend_from_slice(&bytes[..13]);
            out[10] |= 0x87;
            out.extend((0..=255u8).flat_map(|v| [v, v, v]));
            out.extend_from_slice(&bytes[13..]);
            Cow::Owned(out)
        }
        _ => Cow::Borrowed(bytes),
    }
}

/// Largest colour profile that a PNG may hold once inflated; real ones are below 4 MiB.
const PROFILE_BYTES_MAX: u64 = 16 << 20;

/// PNG: a transparent grey of fewer than 8 bits keeps only those bits, as the standard says.
///
/// Rejects a wrong checksum of what decides about pixels in the header (that of the pixels
/// themselves is left to zlib's own, as in Pillow, which reads such files), and a colour profile
/// that inflates without measure: it is never used, but a file made to exhaust its readers is no
/// picture to trust, and Pillow refuses it too.
pub(super) fn png(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Reject> {
    let mut out = Cow::Borrowed(bytes);
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 8) {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let end = (at + 8).saturating_add(length);
        let chunk = bytes.get(at + 8..end).unwrap_or(&[]);
        match &head[4..8] {
            b"IDAT" => break,
            b"IHDR" | b"PLTE" | b"tRNS" => {
                let stored = bytes.get(end..end.saturating_add(4)).unwrap_or(&[]);
                let mut sum = flate2::Crc::new();
                sum.update(&bytes[at + 4..end.min(bytes.len())]);
                if stored != sum.sum().to_be_bytes() {
                    let name = String::from_utf8_lossy(&head[4..8]).into_owned();
                    return Err(reject(format!("PNG: the {name} chunk's checksum is wrong")));
                }
                let shallow = bytes.get(25) == Some(&0) && bytes.get(24).is_some_and(|d| *d < 8);
                if &head[4..8] == b"tRNS" && shallow && chunk.len() >= 2 {
                    let mask = ((1u16 << bytes[24]) - 1) as u8;
                    if chunk[0] != 0 || chunk[1] & !mask != 0 {
                        out.to_mut()[at + 8..at + 10].copy_from_slice(&[0, chunk[1] & mask]);
                    }
                }
            }
            // Deflate shrinks at most 1032 times.
            b"iCCP" if length as u64 * 1032 > PROFILE_BYTES_MAX => {
                // The name, its terminating zero, the method.
                let name = chunk.iter().take(80).position(|&byte| byte == 0);
                let stream = name.and_then(|end| chunk.get(end + 2..)).unwrap_or(&[]);
                if inflates_beyond(stream, PROFILE_BYTES_MAX) {
                    return Err(reject(format!(
                        "PNG: the colour profile inflates to more than {PROFILE_BYTES_MAX} bytes"
                    )));
                }
            }
            _ => {}
        }
        at = end.saturating_add(4);
    }
    Ok(out)
}

fn inflates_beyond(stream: &[u8], max: u64) -> bool {
    use std::io::Read as _;
    let mut inflater = flate2::read::ZlibDecoder::new(stream).take(max + 1);
    let mut total = 0;
    let mut buffer = [0; 16 << 10];
    // A stream that breaks off counts as what it gave until then.
    while let Ok(read @ 1..) = inflater.read(&mut buffer) {
        total += read as u64;
    }
    total > max
}

const PHOTOMETRIC: u16 = 262;
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;

/// TIFF (not BigTIFF): a palette's indices become grey values, which the decoder reads where it
/// refuses palettes; and the chain of images ends behind the first, which alone is read, so that
/// a loop in it does no harm. Returns whether there is a palette.
pub(super) fn tiff(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let mut out = Cow::Borrowed(bytes);
    let big = bytes.starts_with(b"MM\0*");
    if !big && !bytes.starts_with(b"II*\0") {
        return (out, false);
    }
    let word = |at: usize| -> Option<u16> {
        let pair: [u8; 2] = bytes.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    };
    let start = bytes.get(4..8).and_then(|four| <[u8; 4]>::try_from(four).ok());
    let start = start.map(|b| if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) });
    let Some(start) = start.map(|start| start as usize) else { return (out, false) };
    let Some(entries) = word(start).map(usize::from) else { return (out, false) };
    let mut palette = false;
    for entry in 0..entries {
        let at = start + 2 + entry * 12;
        let fields = (word(at), word(at + 2), word(at + 8));
        if fields == (Some(PHOTOMETRIC), Some(3), Some(PALETTE)) {
            let grey = BLACK_IS_ZERO;
            let grey = if big { grey.to_be_bytes() } else { grey.to_le_bytes() };
            out.to_mut()[at + 8..at + 10].copy_from_slice(&grey);
            palette = true;
        }
    }
    let next = start + 2 + entries * 12;
    if bytes.get(next..next + 4).is_some_and(|offset| offset != [0; 4]) {
        out.to_mut()[next..next + 4].fill(0);
    }
    (out, palette)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_of_a_header_is_survived() {
        let mut bmp_head = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x40\0\0\0".to_vec();
        bmp_head.resize(100, 2);
        let mut tiff_head = b"II*\0\x08\0\0\0\x01\0\x06\x01\x03\0\x01\0\0\0\x03\0\0\0".to_vec();
        tiff_head.extend_from_slice(&[8, 0, 0, 0]);
        for length in 0..100 {
            let _ = bmp(&bmp_head[..length]);
            let _ = tiff(&tiff_head[..length.min(tiff_head.len())]);
            let _ = gif(&bmp_head[..length]);
            let _ = png(&bmp_head[..length]);
        }
        let (patched, palette) = tiff(&tiff_head);
        assert!(palette);
        assert_eq!(patched[18], BLACK_IS_ZERO as u8);
        assert_eq!(patched[22..26], [0; 4]);
    }

    #[test]
    fn sound_files_are_not_copied() {
        let gif_head = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF";
        assert!(matches!(gif(gif_head), Cow::Borrowed(_)));
        assert!(matches!(tiff(b"II+\0 big"), (Cow::Borrowed(_), false)));
    }
}
