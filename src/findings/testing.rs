//! Owns drawn pictures and grids for the tests of this room.

use super::picture::Picture;
use crate::audit::Grid;

/// A picture by the colour of each pixel, given its column and row.
pub(super) fn picture(width: usize, height: usize, colour: impl Fn(u8, u8) -> [u8; 3]) -> Picture {
    let pixels = (0..height).flat_map(|y| (0..width).map(move |x| (x as u8, y as u8)));
    Picture { width, height, rgb: pixels.flat_map(|(x, y)| colour(x, y)).collect() }
}

/// A grid by the code of each place.
pub(super) fn grid(height: usize, width: usize, code: impl Fn(u32) -> u32) -> Grid {
    Grid { codes: (0..(height * width) as u32).map(code).collect(), height, width }
}
