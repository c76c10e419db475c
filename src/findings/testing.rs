//! Owns drawn pictures and grids for the tests of this room.

use super::columns::{Growing, GrowingTexts};
use super::features::Features;
use super::images::{ImageSize, Images, NO_LABEL};
use super::look::Look;
use super::picture::Picture;
use super::result::Unreadable;
use crate::audit::Grid;
use crate::error::Result;

/// A picture by the colour of each pixel, given its column and row.
pub(super) fn picture(width: usize, height: usize, colour: impl Fn(u8, u8) -> [u8; 3]) -> Picture {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x as u8, y as u8)));
    Picture { width, height, rgb: pixels.flat_map(|(x, y)| colour(x, y)).collect() }
}

/// A grid by the code of each place.
pub(super) fn grid(height: usize, width: usize, code: impl Fn(u32) -> u32) -> Grid {
    Grid { codes: (0..(height * width) as u32).map(code).collect(), height, width }
}

/// Images of such looks; the second number is of the file, and equal files have equal ones.
pub(super) fn images(looks: &[(Features, u8)]) -> Result<Images> {
    let mut keys = GrowingTexts::new();
    let (mut files, mut grids) = (Growing::new(), Growing::new());
    let (mut labels, mut sizes, mut seen) = (Growing::new(), Growing::new(), Growing::new());
    for (at, (features, file)) in looks.iter().enumerate() {
        keys.push(&format!("{at}.png"))?;
        files.push([*file; 16])?;
        grids.push([*file; 16])?;
        labels.push(NO_LABEL)?;
        sizes.push(ImageSize { quantization_error: 1.0, ..ImageSize::default() })?;
        seen.push(Look { features: *features })?;
    }
    Ok(Images {
        keys: keys.finish()?,
        files: files.finish()?,
        grids: grids.finish()?,
        labels: labels.finish()?,
        label_names: Vec::new(),
        sizes: sizes.finish()?,
        looks: seen.finish()?,
        thumbnails: Growing::new().finish()?,
        further_views: 0,
        bad: Unreadable::default(),
        turned: None,
    })
}
