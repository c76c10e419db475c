//! Owns what of a padded picture is the image: the resize rule `pad` puts it into the middle of black.
//! Must not know: what is looked for in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use super::picture::Picture;
use crate::audit::Grid;

/// Pixels along a side of the squares.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padding(usize);

impl Padding {
    /// Of an output by how it says that it was made; None where nothing was padded.
    pub(super) fn of(made_by: &BTreeMap<String, String>) -> Option<Padding> {
        let padded = made_by.get("resize").is_some_and(|rule| rule == "pad");
        let side = made_by.get("size").filter(|_| padded)?.parse().ok()?;
        (side > 0).then_some(Padding(side))
    }

    /// Rows and columns of the square that are the image; None where all are, or nothing says it.
    fn inside(self, [width, height]: [u32; 2]) -> Option<[Range<usize>; 2]> {
        let (width, height) = (width as usize, height as usize);
        if width == 0 || height == 0 {
            return None;
        }
        let scale = (self.0 as f64 / width.max(height) as f64).min(1.0);
        let range = |side: usize| {
            let side = ((side as f64 * scale).round() as usize).clamp(1, self.0);
            let before = (self.0 - side) / 2;
            before..before + side
        };
        let ranges = [range(height), range(width)];
        ranges.iter().any(|range| range.len() < self.0).then_some(ranges)
    }

    /// The image, of that width and height before, in a picture of its row.
    pub(super) fn picture(self, size: [u32; 2], picture: Picture) -> Picture {
        let square = (picture.width, picture.height) == (self.0, self.0);
        let Some([down, across]) = self.inside(size).filter(|_| square) else { return picture };
        let (width, height) = (across.len(), down.len());
        let line = |y: usize| &picture.rgb[3 * (y * picture.width + across.start)..][..3 * width];
        Picture { width, height, rgb: down.flat_map(line).copied().collect() }
    }

    /// The tokens that have a part in the image.
    pub(super) fn grid(self, size: [u32; 2], grid: &Grid) -> Cow<'_, Grid> {
        let Some([down, across]) = self.inside(size) else { return Cow::Borrowed(grid) };
        let tokens = |pixels: Range<usize>, of: usize| {
            pixels.start * of / self.0..(pixels.end * of).div_ceil(self.0).min(of)
        };
        let (down, across) = (tokens(down, grid.height), tokens(across, grid.width));
        let (width, height) = (across.len(), down.len());
        let line = |y: usize| &grid.codes[y * grid.width + across.start..][..width];
        let codes = down.flat_map(line).copied().collect();
        Cow::Owned(Grid { codes, height, width })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_by(rule: &str) -> BTreeMap<String, String> {
        [("resize", rule), ("size", "8")].map(|(a, b)| (a.to_string(), b.to_string())).into()
    }

    #[test]
    fn the_image_is_cut_out_of_its_padding() {
        assert!(Padding::of(&made_by("bicubic")).is_none());
        let padding = Padding::of(&made_by("pad")).unwrap();
        let grid = Grid { codes: (0..16).collect(), height: 4, width: 4 };
        let picture =
            Picture { width: 8, height: 8, rgb: (0..64).flat_map(|at| [at as u8; 3]).collect() };
        for (width, height, wanted, tokens) in [
            (16, 16, [8, 8], 0..16),
            (16, 8, [8, 4], 4..12),
            (32, 7, [8, 2], 4..12),
            (100, 1, [8, 1], 4..8),
            (0, 0, [8, 8], 0..16),
        ] {
            let cut = padding.picture([width, height], picture.clone());
            assert_eq!([cut.width, cut.height], wanted, "{width}x{height}");
            assert_eq!(cut.rgb.len(), 3 * wanted[0] * wanted[1]);
            assert_eq!(usize::from(cut.rgb[0]), (8 - wanted[1]) / 2 * 8);
            let seen = padding.grid([width, height], &grid).into_owned();
            assert!(seen.codes.into_iter().eq(tokens), "{width}x{height}");
        }
        // One that is smaller isn't enlarged.
        let cut = padding.picture([2, 4], picture.clone());
        assert_eq!((cut.width, cut.height, cut.rgb[0]), (2, 4, 2 * 8 + 3));
    }
}
