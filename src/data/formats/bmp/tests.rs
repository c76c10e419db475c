//! Owns the unit tests of `bmp`.

use super::*;

/// A file of one header kind: `fields` are width, height, depth, compression.
fn file(
    size: u32,
    (width, height): (i32, i32),
    depth: u16,
    compression: u32,
    rest: &[u8],
) -> Vec<u8> {
    let mut header = size.to_le_bytes().to_vec();
    if size == 12 {
        header.extend((width as u16).to_le_bytes());
        header.extend((height as u16).to_le_bytes());
        header.extend([1, 0]);
        header.extend(depth.to_le_bytes());
    } else {
        header.extend(width.to_le_bytes());
        header.extend(height.to_le_bytes());
        header.extend([1, 0]);
        header.extend(depth.to_le_bytes());
        header.extend(compression.to_le_bytes());
    }
    header.resize(size as usize, 0);
    // No place of the pixels: they stand behind the palette.
    [b"BM\0\0\0\0\0\0\0\0\0\0\0\0", &header[..], rest].concat()
}

/// With the masks of red, green, blue and alpha in the header, or behind its 40 bytes.
fn with_masks(size: u32, depth: u16, masks: [u32; 4], pixels: &[u8]) -> Vec<u8> {
    let mut out = file(size, (2, 1), depth, BITFIELDS, b"");
    let bytes: Vec<u8> = masks.iter().flat_map(|mask| mask.to_le_bytes()).collect();
    let held = if size >= 56 { 16 } else { 12 };
    if size == 40 {
        out.extend(&bytes[..12]);
        out[10] = 14 + 40 + 12;
    } else {
        out[54..54 + held].copy_from_slice(&bytes[..held]);
    }
    out.extend_from_slice(pixels);
    out
}

fn rgb(bytes: &[u8]) -> Result<Vec<u8>, String> {
    match decode(bytes, &Limits::default()).map_err(|error| error.message)?.samples {
        Samples::Rgb(rgb) => Ok(rgb),
        Samples::Rgba(_) => Err("with alpha".into()),
        _ => Err("neither".into()),
    }
}

const BGRA: [u32; 4] = [0xFF_0000, 0xFF00, 0xFF, 0xFF00_0000];

#[test]
fn alpha_that_is_nowhere_set_is_none() {
    for size in [56, 108, 124] {
        let clear = with_masks(size, 32, BGRA, &[3, 2, 1, 0, 6, 5, 4, 0]);
        assert_eq!(rgb(&clear).unwrap(), [1, 2, 3, 4, 5, 6], "{size}");
        let some = with_masks(size, 32, BGRA, &[3, 2, 1, 0, 6, 5, 4, 9]);
        let decoded = decode(&some, &Limits::default()).unwrap();
        assert!(matches!(&decoded.samples, Samples::Rgba(v) if v[..] == [1, 2, 3, 0, 4, 5, 6, 9]));
        assert_eq!(decoded.color_mode, "RGBA");
    }
    // Shorter headers have no mask of alpha, and plain pixels no alpha at all.
    for size in [40, 52] {
        let bytes = with_masks(size, 32, BGRA, &[3, 2, 1, 0, 6, 5, 4, 9]);
        assert_eq!(rgb(&bytes).unwrap(), [1, 2, 3, 4, 5, 6], "{size}");
    }
    for size in [40, 108, 124] {
        let bytes = file(size, (2, 1), 32, PLAIN, &[3, 2, 1, 0, 6, 5, 4, 9]);
        assert_eq!(rgb(&bytes).unwrap(), [1, 2, 3, 4, 5, 6], "{size}");
    }
    let bits = with_masks(124, 16, [0x7C00, 0x3E0, 0x1F, 0x8000], &[0xFF, 0x7F, 0, 0]);
    assert_eq!(rgb(&bits).unwrap(), [255, 255, 255, 0, 0, 0]);
}

#[test]
fn channels_of_any_width_fill_a_byte() {
    let bytes = with_masks(40, 16, [0xF800, 0x7E0, 0x1F, 0], &[0x01, 0x08, 0x5F, 0xF8]);
    assert_eq!(rgb(&bytes).unwrap(), [8, 0, 8, 255, 8, 255]);
    let bytes = file(40, (2, 1), 16, PLAIN, &[0x41, 0x04, 0xFF, 0x7F]);
    assert_eq!(rgb(&bytes).unwrap(), [8, 16, 8, 255, 255, 255]);
    let wide = [0x3FF0_0000, 0xF_FC00, 0x3FF, 0];
    let bytes = with_masks(52, 32, wide, &[4, 0, 0, 0, 0xFF, 3, 0xF0, 0x3F]);
    assert_eq!(rgb(&bytes).unwrap(), [0, 0, 1, 255, 0, 255]);
    let gap = with_masks(52, 32, [0xF0F0, 0xFF, 0xFF, 0], &[0; 8]);
    assert_eq!(rgb(&gap).unwrap_err(), "BMP: bit fields with gaps are not supported");
}

#[test]
fn rows_come_from_below_or_from_above() {
    let palette = [0, 0, 0, 0, 1, 2, 3, 0];
    for size in [40, 52, 64, 108] {
        for (height, expected) in [(2, [3, 2, 1, 0, 0, 0]), (-2, [0, 0, 0, 3, 2, 1])] {
            let pixels = [0x00, 0, 0, 0, 0x80, 0, 0, 0];
            let mut bytes = file(size, (1, height), 1, PLAIN, &[&palette[..], &pixels].concat());
            assert_eq!(rgb(&bytes).unwrap(), expected, "{size}");
            bytes.truncate(bytes.len() - 3);
            assert_eq!(rgb(&bytes).unwrap(), expected, "padding is no loss");
            bytes.pop();
            assert_eq!(rgb(&bytes).unwrap_err(), "BMP: the file ends early: truncated");
        }
    }
    let os2 = file(12, (2, 1), 24, PLAIN, &[3, 2, 1, 6, 5, 4, 0, 0]);
    assert_eq!(rgb(&os2).unwrap(), [1, 2, 3, 4, 5, 6]);
}

/// The red of every pixel, upper row first, of a picture of 3 x 3 run-length coded indices.
fn runs(depth: u16, compression: u32, codes: &[u8]) -> Result<Vec<u8>, String> {
    let palette: Vec<u8> =
        (0..1u32 << depth).flat_map(|index| [0, 0, (index * 10) as u8, 0]).collect();
    let bytes = file(40, (3, 3), depth, compression, &[&palette[..], codes].concat());
    Ok(rgb(&bytes)?.iter().step_by(3).copied().collect())
}

#[test]
fn run_lengths_deltas_and_ends_leave_the_first_index() {
    let codes = [3, 1, 0, 0, 0, 2, 1, 1, 1, 2, 0, 1];
    assert_eq!(runs(8, RLE8, &codes).unwrap(), [0, 20, 0, 0, 0, 0, 10, 10, 10]);
    // Two empty rows, then three pixels as they are, padded to an even count.
    let codes = [0, 0, 0, 0, 0, 3, 4, 5, 6, 0, 0, 1];
    assert_eq!(runs(8, RLE8, &codes).unwrap(), [40, 50, 60, 0, 0, 0, 0, 0, 0]);
    let codes = [3, 0x12, 0, 0, 0, 3, 0x34, 0x50, 0, 0, 2, 7, 0, 1];
    assert_eq!(runs(4, RLE4, &codes).unwrap(), [0, 70, 0, 30, 40, 50, 10, 20, 10]);
    // A run ends with its row.
    assert_eq!(runs(8, RLE8, &[9, 1, 0, 1]).unwrap(), [0, 0, 0, 0, 0, 0, 10, 10, 10]);
}

#[test]
fn damaged_runs_are_told() {
    assert_eq!(runs(8, RLE8, &[3, 1, 0, 0]).unwrap_err(), "BMP: the file ends early: truncated");
    assert_eq!(runs(8, RLE8, &[0, 9, 1]).unwrap_err(), "BMP: the file ends early: truncated");
    assert_eq!(
        runs(8, RLE8, &[0, 4, 1, 2, 3, 4]).unwrap_err(),
        "BMP: pixels cross the end of their row: damaged"
    );
}

#[test]
fn what_is_not_decoded_is_named() {
    let message = |size, depth, compression| {
        rgb(&file(size, (1, 1), depth, compression, &[0; 64])).unwrap_err()
    };
    assert_eq!(message(40, 24, 4), "BMP: JPEG inside BMP is not supported");
    assert_eq!(message(40, 24, 5), "BMP: PNG inside BMP is not supported");
    assert_eq!(message(64, 24, 4), "BMP: OS/2's 24-bit run lengths are not supported");
    assert_eq!(message(64, 1, 3), "BMP: OS/2's Huffman coding is not supported");
    assert_eq!(message(40, 64, 0), "BMP: 64 bits a pixel are not supported");
    assert_eq!(message(40, 4, 1), "BMP: run lengths of 4-bit pixels are not supported");
    assert_eq!(message(40, 24, 99), "BMP: compression number 99 is not supported");
    assert_eq!(message(41, 24, 0), "BMP: a header of 41 bytes is not supported");
    let empty = rgb(&file(40, (0, 1), 24, 0, b"")).unwrap_err();
    assert_eq!(empty, "BMP: the image is 0 x 1, which is no size of a picture");
}

#[test]
fn every_cut_is_a_rejection() {
    let whole = with_masks(124, 32, BGRA, &[3, 2, 1, 0, 6, 5, 4, 9]);
    assert!(decode(&whole, &Limits::default()).is_ok());
    for length in 0..whole.len() {
        assert!(decode(&whole[..length], &Limits::default()).is_err(), "cut at {length}");
    }
}
