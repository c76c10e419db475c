//! Owns small, safe corrections of headers that the decoders refuse or misread and every viewer
//! accepts: each makes a copy only where it applies. Must not know: how pixels are decoded.

use std::borrow::Cow;

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
        let mut head = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x40\0\0\0".to_vec();
        head.resize(100, 2);
        let mut tiff_head = b"II*\0\x08\0\0\0\x01\0\x06\x01\x03\0\x01\0\0\0\x03\0\0\0".to_vec();
        tiff_head.extend_from_slice(&[8, 0, 0, 0]);
        for length in 0..100 {
            let _ = tiff(&tiff_head[..length.min(tiff_head.len())]);
            let _ = gif(&head[..length]);
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
