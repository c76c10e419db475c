//! Owns the unit tests of `png`, and small PNG files for those of its neighbours.

use super::*;

/// A chunk with its checksum.
pub(crate) fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut out = (data.len() as u32).to_be_bytes().to_vec();
    out.extend_from_slice(kind);
    out.extend_from_slice(data);
    let mut sum = flate2::Crc::new();
    sum.update(&out[4..]);
    out.extend_from_slice(&sum.sum().to_be_bytes());
    out
}

/// `data` as a zlib stream.
pub(crate) fn deflated(data: &[u8], level: u32) -> Vec<u8> {
    let mut out = Vec::new();
    let level = flate2::Compression::new(level);
    flate2::read::ZlibEncoder::new(data, level).read_to_end(&mut out).unwrap();
    out
}

const WIDTH: usize = 5;
const HEIGHT: usize = 3;

/// Rows of an RGB picture, each behind its filter's byte.
fn raw() -> Vec<u8> {
    (0..HEIGHT)
        .flat_map(|y| (0..=WIDTH * 3).map(move |x| if x == 0 { 0 } else { (x * 7 + y) as u8 }))
        .collect()
}

/// A file of 5 x 3 pixels with chunks before and after the `parts` of its zlib stream.
pub(crate) fn file(before: &[u8], parts: &[&[u8]], after: &[u8]) -> Vec<u8> {
    let mut header = [0; 13];
    (header[3], header[7]) = (WIDTH as u8, HEIGHT as u8);
    (header[8], header[9]) = (8, 2);
    let mut out = b"\x89PNG\r\n\x1A\n".to_vec();
    out.extend(chunk(b"IHDR", &header));
    out.extend_from_slice(before);
    parts.iter().for_each(|part| out.extend(chunk(b"IDAT", part)));
    out.extend_from_slice(after);
    out.extend(chunk(b"IEND", b""));
    out
}

/// A sound file with chunks before and after its pixels.
pub(crate) fn sound(before: &[u8], after: &[u8]) -> Vec<u8> {
    file(before, &[&deflated(&raw(), 6)], after)
}

fn pixels(bytes: &[u8]) -> Result<Vec<u8>, String> {
    match decode(bytes, &Limits::default()).map_err(|error| error.message)?.samples {
        Samples::Rgb(rgb) => Ok(rgb),
        _ => Err("no RGB".into()),
    }
}

fn expected() -> Vec<u8> {
    raw().chunks(WIDTH * 3 + 1).flat_map(|row| row[1..].to_vec()).collect()
}

#[test]
fn sound_files_of_every_shape_are_read() {
    for level in [0, 1, 9] {
        let stream = deflated(&raw(), level);
        let bytes: Vec<&[u8]> = stream.chunks(1).collect();
        let (first, second) = stream.split_at(7);
        let beyond = [&stream[..], b"more data"].concat();
        for parts in [&[&stream[..]][..], &[first, &[], second], &bytes, &[&beyond]] {
            assert_eq!(pixels(&file(b"", parts, b"")).unwrap(), expected());
        }
    }
    let whole = sound(b"", b"");
    // Neither the last chunk nor what follows it matters.
    assert_eq!(pixels(&whole[..whole.len() - 12]).unwrap(), expected());
    assert_eq!(pixels(&[&whole[..], b"trailing"].concat()).unwrap(), expected());
}

#[test]
fn no_flipped_bit_changes_a_pixel_unseen() {
    for level in [0, 6] {
        let text = chunk(b"tEXt", b"Comment\0words");
        let whole = file(&text, &[&deflated(&raw(), level)], &text);
        for at in 8..whole.len() {
            for bit in 0..8 {
                let mut damaged = whole.clone();
                damaged[at] ^= 1 << bit;
                match pixels(&damaged) {
                    Ok(pixels) => assert_eq!(pixels, expected(), "bit {bit} of byte {at}"),
                    Err(message) => assert!(message.starts_with("PNG: "), "{message}"),
                }
            }
        }
    }
}

#[test]
fn the_wrong_checksum_is_named() {
    let stream = deflated(&raw(), 0);
    let mut flipped = sound(b"", b"");
    let at = flipped.len() - 12 - 4 - 8;
    flipped[at] ^= 1;
    let crc = "PNG: the checksum (CRC-32) of the IDAT chunk is wrong: the file is damaged";
    assert_eq!(pixels(&flipped).unwrap_err(), crc);
    // The chunk is sound and the stream in it is not.
    let mut other = stream.clone();
    other[10] ^= 1;
    let adler = "PNG: the checksum (Adler-32) of the pixels is wrong: the file is damaged";
    assert_eq!(pixels(&file(b"", &[&other], b"")).unwrap_err(), adler);
    // Its checksum in a chunk of its own, where no decoder of rows gets to.
    let (data, sum) = other.split_at(other.len() - 4);
    assert_eq!(pixels(&file(b"", &[data, sum], b"")).unwrap_err(), adler);
    let mut text = chunk(b"tEXt", b"Comment\0words");
    text[9] ^= 1;
    let message = pixels(&sound(&text, b"")).unwrap_err();
    assert!(message.contains("(CRC-32) of the tEXt chunk is wrong"), "{message}");
    // Pixels that their own checksum proves are read, as in Pillow.
    let mut sum = sound(b"", b"");
    let at = sum.len() - 12 - 1;
    sum[at] ^= 1;
    assert_eq!(pixels(&sum).unwrap(), expected());
}

#[test]
fn every_cut_is_told() {
    let text = chunk(b"tEXt", b"Comment\0words");
    let whole = sound(b"", &text);
    let end_of_pixels = whole.len() - 12 - text.len();
    for length in 8..whole.len() {
        match pixels(&whole[..length]) {
            // What is missing then is no part of the picture.
            Ok(pixels) => assert!(length >= end_of_pixels && pixels == expected(), "{length}"),
            Err(message) => assert!(message.contains("truncated"), "{message}"),
        }
    }
    assert!(pixels(&whole[..end_of_pixels + 15]).is_err(), "inside a chunk behind the pixels");
    let zeros = [&whole[..50], &[0; 40]].concat();
    assert!(pixels(&zeros).is_err());
}

#[test]
fn apples_variant_is_named() {
    let cgbi = sound(b"", b"");
    let cgbi = [&cgbi[..8], &chunk(b"CgBI", &[0x50, 0, 0x20, 2]), &cgbi[8..]].concat();
    let message = pixels(&cgbi).unwrap_err();
    assert!(message.starts_with("PNG: Apple's CgBI variant of iOS apps is not supported"));
    let unknown = pixels(&sound(&chunk(b"ABCD", b"?"), b"")).unwrap_err();
    assert_eq!(unknown, "PNG: unrecognized critical chunk: ABCD");
}
