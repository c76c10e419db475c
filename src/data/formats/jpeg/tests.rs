//! Owns the unit tests of `jpeg` and its kernels: pixels equal to libjpeg's portable code, which
//! the `mozjpeg` crate calls without them.

use super::*;
use crate::testing::shared;

/// A picture with gradients, edges and noise in every colour.
fn picture(width: usize, height: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut noise = move || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as usize
    };
    let mut out = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            let edge = if (x / 9 + y / 7) % 2 == 0 { 90 } else { 0 };
            out.extend(
                [x * 3 + edge, y * 5 + noise() / 8, 255 - (x + y) / 2 + noise() / 16]
                    .map(|v| v as u8),
            );
        }
    }
    out
}

struct Kind {
    /// Pixels a chroma sample, across and down.
    chroma: (u8, u8),
    quality: f32,
    progressive: bool,
    grey: bool,
}

fn encoded(width: usize, height: usize, kind: &Kind) -> Vec<u8> {
    use mozjpeg::ColorSpace::{JCS_GRAYSCALE, JCS_RGB};
    let mut encoder = mozjpeg::Compress::new(if kind.grey { JCS_GRAYSCALE } else { JCS_RGB });
    encoder.set_fastest_defaults();
    encoder.set_size(width, height);
    encoder.set_quality(kind.quality);
    if !kind.grey {
        encoder.set_chroma_sampling_pixel_sizes(kind.chroma, kind.chroma);
    }
    if kind.progressive {
        encoder.set_progressive_mode();
    }
    let mut pixels = picture(width, height);
    if kind.grey {
        pixels = pixels.into_iter().step_by(3).collect();
    }
    let mut encoder = encoder.start_compress(Vec::new()).unwrap();
    encoder.write_scanlines(&pixels).unwrap();
    encoder.finish().unwrap()
}

fn ours(bytes: &[u8]) -> Vec<u8> {
    match decode(bytes, &Limits::default()).unwrap().samples {
        Samples::Rgb(rgb) => rgb,
        Samples::Grey(grey) => grey.iter().flat_map(|&v| [v, v, v]).collect(),
        _ => panic!("neither grey nor RGB"),
    }
}

fn portable(bytes: &[u8]) -> Vec<u8> {
    let mut started = mozjpeg::Decompress::new_mem(bytes).unwrap().rgb().unwrap();
    let pixels: Vec<[u8; 3]> = started.read_scanlines().unwrap();
    started.finish().unwrap();
    pixels.concat()
}

#[test]
fn kernels_change_no_pixel() {
    let mut checked = 0;
    for (width, height) in
        [(1, 1), (3, 5), (4, 4), (5, 9), (16, 16), (17, 33), (131, 70), (259, 31)]
    {
        for chroma in [(1, 1), (2, 1), (1, 2), (2, 2), (4, 1)] {
            for quality in [3.0, 50.0, 97.0] {
                for (progressive, grey) in [(false, false), (true, false), (false, true)] {
                    let kind = Kind { chroma, quality, progressive, grey };
                    let bytes = encoded(width, height, &kind);
                    let same = ours(&bytes) == portable(&bytes);
                    assert!(same, "{width}x{height} {chroma:?} {quality} {progressive} {grey}");
                    checked += 1;
                }
            }
        }
    }
    assert_eq!(checked, 8 * 5 * 3 * 3);
}

#[test]
fn kernels_change_no_pixel_of_a_photo() {
    let Some(folder) = shared("images/photos/bsds500") else { return };
    let mut paths: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 40);
    for path in &paths[..40] {
        let bytes = std::fs::read(path).unwrap();
        assert!(ours(&bytes) == portable(&bytes), "{}", path.display());
    }
}

#[test]
fn every_cut_is_a_rejection() {
    for progressive in [false, true] {
        let kind = Kind { chroma: (2, 2), quality: 80.0, progressive, grey: false };
        let whole = encoded(40, 30, &kind);
        assert!(decode(&whole, &Limits::default()).is_ok());
        for length in 0..whole.len() {
            assert!(decode(&whole[..length], &Limits::default()).is_err(), "cut at {length}");
        }
    }
}

#[test]
fn what_no_encoder_writes_is_a_rejection() {
    let kind = Kind { chroma: (2, 2), quality: 80.0, progressive: true, grey: false };
    let whole = encoded(40, 30, &kind);
    // The first scan, over and over: each pass costs time and few bytes.
    let first = whole.windows(2).position(|pair| pair == [0xFF, 0xDA]).unwrap();
    let length = whole[first + 2..].windows(2).position(|pair| pair[0] == 0xFF && pair[1] != 0);
    let end = first + 2 + length.unwrap();
    let mut stalling = whole[..end].to_vec();
    (0..200).for_each(|_| stalling.extend_from_slice(&whole[first..end]));
    stalling.extend_from_slice(&whole[end..]);
    let message = decode(&stalling, &Limits::default()).err().unwrap().message;
    assert!(message.contains("more than 100 scans"), "{message}");
}

#[test]
fn a_component_without_any_scan_is_neutral() {
    for progressive in [false, true] {
        let kind = Kind { chroma: (1, 1), quality: 80.0, progressive, grey: true };
        let grey = encoded(40, 30, &kind);
        // The frame header (its length in the low byte at 3) claims two more components.
        let marker = [0xFF, if progressive { 0xC2 } else { 0xC0 }];
        let frame = grey.windows(2).position(|pair| pair == marker).unwrap();
        let mut colour = grey[..frame + 13].to_vec();
        colour[frame + 3] += 6;
        colour[frame + 9] = 3;
        colour.extend_from_slice(&[2, 0x11, 0, 3, 0x11, 0]);
        colour.extend_from_slice(&grey[frame + 13..]);
        assert_eq!(ours(&colour), portable(&colour));
        assert_eq!(ours(&colour), ours(&grey));
    }
}
