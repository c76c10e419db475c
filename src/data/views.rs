//! Owns the views of an image: which parts of it are tokenized beside each other, mirrored or not,
//! as trainers need that cache augmentations. Must not know: how an image is decoded or resized.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::data::random_crop::{self, CropSettings};
use crate::data::resize::placement::even_middle;
use crate::data::resize::rules::Crop;
use crate::error::{Error, Result};
use crate::util::random::Draws;

/// Random crops of an image at most: all its views are in memory at once.
const RANDOM_CROPS_MAX: u32 = 256;
/// LlamaGen's default.
const RANGE: f64 = 1.1;

/// Several rows for each image.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Views {
    /// The image and its mirror.
    Flips,
    /// LlamaGen's ten crops, torchvision's `TenCrop`: four corners and the centre of a square that
    /// is `range` times as large, then those of its mirror.
    TenCrop {
        /// From 1 up, below 2; LlamaGen's is 1.1 or 1.05.
        range: f64,
    },
    /// torchvision's `RandomResizedCrop` and a flip of every other one, drawn from the image's key.
    RandomCrops {
        /// How many, 1 to 256.
        count: u32,
    },
}

impl Views {
    /// Rows that an image gets.
    pub fn count(self) -> usize {
        match self {
            Views::Flips => 2,
            Views::TenCrop { .. } => 10,
            Views::RandomCrops { count } => count as usize,
        }
    }

    /// Refuses numbers out of their bounds.
    ///
    /// # Errors
    /// One line that says what there is.
    pub(crate) fn check(self) -> Result<()> {
        let fits = match self {
            Views::Flips => true,
            Views::TenCrop { range } => (1.0..2.0).contains(&range),
            Views::RandomCrops { count } => (1..=RANDOM_CROPS_MAX).contains(&count),
        };
        if fits { Ok(()) } else { Err(unknown(&self.to_string())) }
    }
}

fn unknown(text: &str) -> Error {
    Error::invalid(format!(
        "no views {text:?}: use flips, ten-crop, ten-crop=RANGE (from 1 up, below 2) or \
         random-crops=N (1 to {RANDOM_CROPS_MAX})"
    ))
}

impl FromStr for Views {
    type Err = Error;

    fn from_str(text: &str) -> Result<Views> {
        let views = match text.split_once('=') {
            None if text == "flips" => Some(Views::Flips),
            None if text == "ten-crop" => Some(Views::TenCrop { range: RANGE }),
            Some(("ten-crop", range)) => range.parse().ok().map(|range| Views::TenCrop { range }),
            Some(("random-crops", count)) => {
                count.parse().ok().map(|count| Views::RandomCrops { count })
            }
            _ => None,
        };
        let views = views.ok_or_else(|| unknown(text))?;
        views.check()?;
        Ok(views)
    }
}

impl fmt::Display for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Views::Flips => f.write_str("flips"),
            Views::TenCrop { range } => write!(f, "ten-crop={range}"),
            Views::RandomCrops { count } => write!(f, "random-crops={count}"),
        }
    }
}

/// One of ten crops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Left edge in the square that isn't mirrored.
    pub(crate) x: u32,
    /// Top edge.
    pub(crate) y: u32,
    /// Whether it is mirrored once it is cut.
    pub(crate) flip: bool,
}

/// The side of the square that crops of `size` pixels are cut from: Python's `int(size * range)`.
pub(crate) fn ten_crop_side(size: u32, range: f64) -> u32 {
    ((f64::from(size) * range) as u32).max(size)
}

/// Where torchvision's `TenCrop` cuts a square of `side` pixels: top left, top right, bottom left,
/// bottom right, centre; then the same of the mirrored square.
pub(crate) fn ten_crop(side: u32, size: u32) -> [Cut; 10] {
    let far = side.saturating_sub(size);
    let middle = even_middle(side.into(), size) as u32;
    let five = [(0, 0), (far, 0), (0, far), (far, far), (middle, middle)];
    std::array::from_fn(|view| {
        let ((x, y), flip) = (five[view % 5], view >= 5);
        // What begins at x in the mirrored square ends as far from the right edge of the square.
        Cut { x: if flip { far - x } else { x }, y, flip }
    })
}

/// The part of an image of (width, height) that its random view shows, and whether it is mirrored:
/// a function of key and number alone.
pub(crate) fn random_crop(key: &str, view: u32, size: (u32, u32)) -> (Crop, bool) {
    let mut seed = Sha256::new();
    seed.update(b"vqtok random crop\0");
    seed.update(view.to_le_bytes());
    seed.update(key);
    let mut start = [0; 8];
    start.copy_from_slice(&seed.finalize()[..8]);
    let mut draws = Draws::of(u64::from_le_bytes(start));
    let flip = draws.below(2) == 1;
    (random_crop::draw(&CropSettings::TORCHVISION, &mut draws, size), flip)
}

/// Mirrors rows of `width` pixels of `channels` bytes in place.
pub(crate) fn mirror(pixels: &mut [u8], width: usize, channels: usize) {
    for row in pixels.chunks_exact_mut(width * channels) {
        for x in 0..width / 2 {
            let (left, right) = row.split_at_mut((width - 1 - x) * channels);
            left[x * channels..][..channels].swap_with_slice(&mut right[..channels]);
        }
    }
}

#[cfg(test)]
mod tests;
