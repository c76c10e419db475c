//! Owns the small pictures of a page: how large they are, how they are stored. Must not know: where
//! pictures come from, where they are shown.

use std::collections::BTreeMap;

use base64::Engine as _;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{RgbImage, imageops};

use crate::findings::picture::Picture;

/// Side up to which a picture keeps every pixel, and is shown with its pixels.
const EXACT_MAX: u32 = 48;
/// Sides that a picture is reduced to where it is larger, in pixels, and qualities of JPEG, from 1 to
/// 100: the first by which a picture has few bytes, else the last.
const SIZES: [(u32, u8); 4] = [(144, 78), (144, 50), (112, 40), (80, 30)];
/// Bytes that are few: a page with all its pictures has 6 MB of them at most.
const BYTES_FEW: usize = 6500;

/// Whose picture it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The audited output's.
    Here,
    /// The other's.
    There,
}

/// One small picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Small {
    /// The whole picture as an address.
    pub uri: String,
    /// Whether its pixels are to be seen.
    pub exact: bool,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// Whether it was drawn from tokens, rather than read from the source.
    pub drawn: bool,
}

/// Small pictures by whose they are and their key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Thumbnails {
    pictures: BTreeMap<(Side, String), Small>,
}

impl Thumbnails {
    /// Takes a picture.
    pub(crate) fn insert(&mut self, side: Side, key: &str, small: Small) {
        self.pictures.insert((side, key.to_string()), small);
    }

    pub(super) fn get(&self, side: Side, key: &str) -> Option<&Small> {
        // A borrowed pair is no key of a map of owned ones.
        self.pictures.get(&(side, key.to_string()))
    }

    /// Whether that picture is there.
    pub(crate) fn has(&self, side: Side, key: &str) -> bool {
        self.get(side, key).is_some()
    }

    /// Whether there is none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.pictures.is_empty()
    }

    /// Whether one was drawn from tokens, and whether one was read.
    pub(super) fn origins(&self) -> (bool, bool) {
        let drawn = |drawn| self.pictures.values().any(|picture| picture.drawn == drawn);
        (drawn(true), drawn(false))
    }
}

impl Small {
    /// Of a picture that was `drawn` from tokens, or else read from the source; None of one without
    /// pixels.
    pub(crate) fn of(picture: Picture, drawn: bool) -> Option<Small> {
        let (width, height) = (picture.width as u32, picture.height as u32);
        let side = width.max(height);
        let image = RgbImage::from_raw(width, height, picture.rgb)
            .filter(|image| image.width() > 0 && image.height() > 0)?;
        let exact = side <= EXACT_MAX;
        let (bytes, (width, height)) = match exact {
            true => (png(&image)?, (width, height)),
            false => jpeg(image)?,
        };
        let kind = if exact { "png" } else { "jpeg" };
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        Some(Small { uri: format!("data:image/{kind};base64,{text}"), exact, width, height, drawn })
    }
}

/// None where the encoder refuses it, which has no reason to.
fn png(image: &RgbImage) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (much, filter) = (CompressionType::Default, FilterType::Adaptive);
    let encoder = PngEncoder::new_with_quality(&mut bytes, much, filter);
    image.write_with_encoder(encoder).ok().map(|()| bytes)
}

/// The same with the size it was reduced to.
fn jpeg(mut image: RgbImage) -> Option<(Vec<u8>, (u32, u32))> {
    let mut bytes = Vec::new();
    for (most, quality) in SIZES {
        let (width, height) = image.dimensions();
        let side = width.max(height);
        if side > most {
            let to = |length: u32| (u64::from(length) * u64::from(most)).div_ceil(u64::from(side));
            image = imageops::thumbnail(&image, to(width) as u32, to(height) as u32);
        }
        bytes.clear();
        image.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)).ok()?;
        if bytes.len() <= BYTES_FEW {
            break;
        }
    }
    Some((bytes, image.dimensions()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 13) as u8;
        Picture { width, height, rgb: (0..width * height * 3).map(noise).collect() }
    }

    #[test]
    fn pictures_are_small_and_keep_their_shape() {
        let grey = |width, height| Picture { width, height, rgb: vec![128; width * height * 3] };
        let shapes = [(32, 32), (64, 64), (1000, 500), (3, 4000)].map(|(w, h)| {
            let made = Small::of(grey(w, h), true).unwrap();
            (made.width, made.height, made.exact)
        });
        let expected = [(32, 32, true), (64, 64, false), (144, 72, false), (1, 144, false)];
        assert_eq!(shapes, expected);
        // Noise costs the most.
        let made = |w, h| Small::of(picture(w, h), true).unwrap();
        assert!(made(144, 144).uri.len() < 9000, "{}", made(144, 144).uri.len());
        assert_eq!((made(144, 144).width, made(500, 250).height), (80, 72));
        assert!(made(32, 32).uri.starts_with("data:image/png;base64,"));
        assert_eq!(made(200, 100), made(200, 100));
        assert_eq!(Small::of(picture(0, 9), true), None);
        assert_eq!(Small::of(Picture { rgb: vec![0; 5], ..picture(2, 2) }, true), None);
    }
}
