//! Tests of what the formats say of orientation.

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

use crate::data::formats::png::tests::{chunk, deflated, sound};

/// The orientation of a PNG with `chunks` before or behind its pixels, the same either way.
fn of_png(chunks: &[Vec<u8>]) -> u8 {
    let chunks = chunks.concat();
    let before = orientation_of_png(&sound(&chunks, b"")).unwrap();
    assert_eq!(orientation_of_png(&sound(b"", &chunks)).unwrap(), before);
    before
}

/// `text` under `keyword` in every kind of chunk that holds texts.
fn texts(keyword: &[u8], text: &[u8]) -> [Vec<u8>; 4] {
    let packed = deflated(text, 6);
    [
        chunk(b"tEXt", &[keyword, b"\0", text].concat()),
        chunk(b"zTXt", &[keyword, b"\0\0", &packed].concat()),
        chunk(b"iTXt", &[keyword, b"\0\0\0en\0key\0", text].concat()),
        chunk(b"iTXt", &[keyword, b"\0\x01\0\0\0", &packed].concat()),
    ]
}

fn profile(exif: &[u8]) -> Vec<u8> {
    let hex: Vec<String> = exif.iter().map(|byte| format!("{byte:02x}")).collect();
    let lines: Vec<String> = hex.chunks(36).map(|line| line.concat()).collect();
    format!("\nexif\n{:8}\n{}\n", exif.len(), lines.join("\n")).into_bytes()
}

#[test]
fn pngs_carry_exif_in_a_chunk_or_in_a_text() {
    let prefixed = [b"Exif\0\0", &tiff(6)[..]].concat();
    for exif in [tiff(6), prefixed.clone(), [b"Exif\0\0", &prefixed[..]].concat()] {
        assert_eq!(of_png(&[chunk(b"eXIf", &exif)]), 6);
        for text in texts(b"Raw profile type exif", &profile(&exif)) {
            assert_eq!(of_png(&[text]), 6);
        }
    }
    // Of two kinds EXIF's own chunk counts, of one kind the last.
    let [text, ..] = texts(b"Raw profile type exif", &profile(&tiff(6)));
    let [other, ..] = texts(b"Raw profile type exif", &profile(&tiff(8)));
    assert_eq!(of_png(&[chunk(b"eXIf", &tiff(3)), text.clone()]), 3);
    assert_eq!(of_png(&[text.clone(), other]), 8);
    for broken in [&b"\nexif\n 9\nxyz"[..], b"\nexif", b"", b"4949"] {
        assert_eq!(of_png(&[texts(b"Raw profile type exif", broken)[0].clone()]), 1);
    }
    // Other profiles are none.
    assert_eq!(of_png(&[texts(b"Raw profile type APP1", &profile(&tiff(6)))[0].clone()]), 1);
}

#[test]
fn xmp_counts_where_exif_is_silent() {
    for text in texts(b"XML:com.adobe.xmp", b"<x tiff:Orientation=\"6\"/>") {
        assert_eq!(of_png(std::slice::from_ref(&text)), 6);
        // A value out of range is one all the same.
        assert_eq!(of_png(&[text.clone(), chunk(b"eXIf", &tiff(9))]), 1);
        assert_eq!(of_png(&[text.clone(), chunk(b"eXIf", &tiff(8))]), 8);
        let mut silent = tiff(8);
        silent[10] = 0x0F;
        assert_eq!(of_png(&[text, chunk(b"eXIf", &silent)]), 6);
    }
    assert_eq!(in_xmp(b"<tiff:Orientation>3</tiff:Orientation>"), Some(3));
    assert_eq!(in_xmp(b"tiff:Orientation tiff:Orientation=\"8\""), Some(8));
    assert_eq!(in_xmp(b"tiff:Orientation='8'"), None);
    assert_eq!(in_xmp(b"<tiff:Orientation"), None);
}

#[test]
fn texts_that_are_damaged_or_without_measure_are_told() {
    let mut damaged = chunk(b"eXIf", &tiff(6));
    damaged[30] ^= 1;
    let message = orientation_of_png(&sound(b"", &damaged)).unwrap_err().message;
    assert!(message.contains("(CRC-32) of the eXIf chunk is wrong"), "{message}");
    let bomb = texts(b"XML:com.adobe.xmp", &vec![b' '; 17 << 20]);
    let message = orientation_of_png(&sound(b"", &bomb[1])).unwrap_err().message;
    assert!(message.contains("'XML:com.adobe.xmp' inflates to more than"), "{message}");
    // Of no concern here.
    let other = texts(b"Comment", &vec![b' '; 17 << 20]);
    assert_eq!(of_png(&[other[1].clone()]), 1);
}

/// A directory of one entry, the value as given.
fn directory(big_endian: bool, big: bool, kind: u16, value: &[u8]) -> Vec<u8> {
    let number = |value: u64, size: usize| match big_endian {
        true => value.to_be_bytes()[8 - size..].to_vec(),
        false => value.to_le_bytes()[..size].to_vec(),
    };
    let word = if big { 8 } else { 4 };
    let mut out = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    out.extend(number(if big { 43 } else { 42 }, 2));
    if big {
        out.extend([number(8, 2), number(0, 2)].concat());
    }
    out.extend(number(if big { 16 } else { 8 }, word));
    out.extend(number(1, if big { 8 } else { 2 }));
    out.extend([number(ORIENTATION, 2), number(kind.into(), 2), number(1, word)].concat());
    let at = out.len() + 2 * word;
    match value.len() > word {
        true => out.extend([number(at as u64, word), number(0, word), value.to_vec()].concat()),
        false => {
            out.extend_from_slice(value);
            out.resize(at, 0);
        }
    }
    out
}

#[test]
fn tiff_and_bigtiff_say_it_in_any_number_type() {
    for (big_endian, big) in [(false, false), (true, false), (false, true), (true, true)] {
        let bytes = |value: &[u8]| {
            let mut value = value.to_vec();
            if !big_endian {
                value.reverse();
            }
            value
        };
        let rational = [bytes(&[0, 0, 0, 12]), bytes(&[0, 0, 0, 2])].concat();
        for (kind, value, expected) in [
            (3, bytes(&[0, 6]), 6),
            (4, bytes(&[0, 0, 0, 6]), 6),
            (16, bytes(&[0, 0, 0, 0, 0, 0, 0, 6]), 6),
            (5, rational, 6),
            (11, bytes(&6f32.to_be_bytes()), 6),
            (12, bytes(&6f64.to_be_bytes()), 6),
            (11, bytes(&6.5f32.to_be_bytes()), 1),
            // Bytes are no number to Pillow.
            (1, vec![6], 1),
            (7, vec![6], 1),
            (99, vec![6], 1),
        ] {
            let file = directory(big_endian, big, kind, &value);
            assert_eq!(orientation_of_tiff(&file), expected, "{big_endian} {big} {kind}");
            for length in 0..file.len() {
                orientation_of_tiff(&file[..length]);
            }
        }
    }
}

#[test]
fn jpeg_joins_exif_and_takes_the_last_xmp() {
    let segment = |payload: &[u8]| {
        let length = (payload.len() as u16 + 2).to_be_bytes();
        [&[0xFF, 0xE1], &length[..], payload].concat()
    };
    let jpeg = |segments: &[Vec<u8>]| {
        orientation_of_jpeg(&[b"\xFF\xD8", &segments.concat()[..], b"\xFF\xD9"].concat())
    };
    let exif = |payload: &[u8]| segment(&[b"Exif\0\0", payload].concat());
    let xmp = |value: u8| {
        let name = b"http://ns.adobe.com/xap/1.0/\0tiff:Orientation=\"";
        segment(&[&name[..], &[b'0' + value]].concat())
    };
    assert_eq!(jpeg(&[exif(&tiff(6)), exif(&tiff(3))]), 6);
    let (start, end) = (&tiff(6)[..15], &tiff(6)[15..]);
    assert_eq!(jpeg(&[exif(start), exif(end)]), 6);
    assert_eq!(jpeg(&[xmp(3), xmp(6)]), 6);
    assert_eq!(jpeg(&[xmp(3), exif(&tiff(8))]), 8);
    assert_eq!(jpeg(&[exif(b""), xmp(3)]), 3);
    assert_eq!(jpeg(&[exif(b"no directory"), xmp(3)]), 1);
}

#[test]
fn webp_counts_what_its_header_announces() {
    let part = |name: &[u8; 4], content: &[u8]| {
        [&name[..], &(content.len() as u32).to_le_bytes(), content].concat()
    };
    let webp = |flags: u8, parts: &[Vec<u8>]| {
        let header = part(b"VP8X", &[flags, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        orientation_of_webp(&[b"RIFF\0\0\0\0WEBP", &header[..], &parts.concat()].concat())
    };
    let (exif, xmp) = (part(b"EXIF", &tiff(6)), part(b"XMP ", b"tiff:Orientation=\"3\""));
    assert_eq!(webp(0, &[exif.clone(), xmp.clone()]), 1);
    assert_eq!(webp(WEBP_EXIF, &[exif.clone(), xmp.clone()]), 6);
    assert_eq!(webp(WEBP_XMP, &[exif.clone(), xmp.clone()]), 3);
    assert_eq!(webp(WEBP_EXIF | WEBP_XMP, &[xmp, exif]), 6);
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
        let _ = orientation_of_png(&jpeg[..length]);
        orientation_of_webp(&jpeg[..length]);
    }
}
