//! Owns pictures that benches draw, as files. Must not know: what is measured.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};

/// Waves with noise on them, which differ for every seed.
fn drawn(seed: u32, side: u32) -> RgbImage {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    RgbImage::from_fn(side, side, |x, y| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let noise = (state >> 60) as f32;
        let wave = |a: u32, b: u32| {
            let phase = (x * (1 + seed % a) + y * (1 + seed % b)) as f32 / 9.0 + seed as f32;
            (127.0 + 110.0 * phase.sin() + noise) as u8
        };
        Rgb([wave(3, 5), wave(7, 2), wave(4, 6)])
    })
}

/// As a PNG.
pub fn png(seed: u32, side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    drawn(seed, side).write_to(&mut bytes, ImageFormat::Png).expect("a PNG");
    bytes.into_inner()
}

/// As a JPEG of quality 85.
pub fn jpeg(seed: u32, side: u32) -> Vec<u8> {
    let mut encoder = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    encoder.set_size(side as usize, side as usize);
    encoder.set_fastest_defaults();
    encoder.set_quality(85.0);
    let mut started = encoder.start_compress(Vec::new()).expect("an encoder");
    started.write_scanlines(&drawn(seed, side)).expect("lines");
    started.finish().expect("a JPEG")
}
