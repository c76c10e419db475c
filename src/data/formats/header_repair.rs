//! Owns small, safe corrections of headers that the decoders refuse or misread and every viewer
//! accepts: each makes a copy only where it applies.

use std::borrow::Cow;

/// GIF: without a global palette a ramp of greys stands in, for frames that have none either.
pub(crate) fn gif(bytes: &[u8]) -> Cow<'_, [u8]> {
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

const PHOTOMETRIC: usize = 262;
const PALETTE: usize = 3;
const BLACK_IS_ZERO: u8 = 1;

/// TIFF and BigTIFF: a palette's indices become grey values, which the decoder reads where it
/// refuses palettes; and the chain of images ends after the first, which alone is read, so that
/// a loop in it does no harm. Returns whether there is a palette.
pub(crate) fn tiff(bytes: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let (big_endian, big) = match bytes.get(..4) {
        Some(b"MM\0*") => (true, false),
        Some(b"II*\0") => (false, false),
        Some(b"MM\0+") => (true, true),
        Some(b"II+\0") => (false, true),
        _ => return (Cow::Borrowed(bytes), false),
    };
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(size)?)?;
        let join = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        let number = match big_endian {
            true => bytes.iter().fold(0, join),
            false => bytes.iter().rev().fold(0, join),
        };
        usize::try_from(number).ok()
    };
    let word = if big { 8 } else { 4 };
    let (count, entry) = (if big { 8 } else { 2 }, 4 + 2 * word);
    let mut out = Cow::Borrowed(bytes);
    let mut palette = false;
    let Some(start) = number(word, word) else { return (out, false) };
    let Some(first) = start.checked_add(count) else { return (out, false) };
    // A directory that leaves the file is the decoder's to tell.
    let entries = number(start, count).unwrap_or(0).min(bytes.len() / entry);
    for index in 0..entries {
        let Some(at) = first.checked_add(index * entry) else { break };
        let value = at.saturating_add(4 + word);
        let fields = (number(at, 2), number(at.saturating_add(2), 2), number(value, 2));
        if fields == (Some(PHOTOMETRIC), Some(3), Some(PALETTE)) {
            let grey = if big_endian { [0, BLACK_IS_ZERO] } else { [BLACK_IS_ZERO, 0] };
            out.to_mut()[value..value + 2].copy_from_slice(&grey);
            palette = true;
        }
    }
    let next = first.saturating_add(entries * entry);
    if number(next, word).is_some_and(|offset| offset != 0) {
        out.to_mut()[next..next + word].fill(0);
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
        assert_eq!(patched[18], BLACK_IS_ZERO);
        assert_eq!(patched[22..26], [0; 4]);
    }

    #[test]
    fn sound_files_are_not_copied() {
        let gif_head = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xFF\xFF\xFF";
        assert!(matches!(gif(gif_head), Cow::Borrowed(_)));
        assert!(matches!(tiff(b"II+\0 big"), (Cow::Borrowed(_), false)));
        assert!(matches!(tiff(b"not a TIFF"), (Cow::Borrowed(_), false)));
    }
}
