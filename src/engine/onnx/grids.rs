//! Owns what the shape of a token output means: the grid of each image. Must not know: the tokens.

/// The grid of one image, as far as the shape of an output for `images` images tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Height and width.
    Grid(usize, usize),
    /// So many tokens, in whatever grid.
    Tokens(usize),
}

/// Reads the shape of an output: `[N, h, w]` with or without a side of one for channels, `[N, L]`, flat,
/// or `[h, w]` of a single image.
///
/// # Errors
/// Another shape, or one of other images.
pub(super) fn shape(dims: &[i64], images: usize) -> Result<Shape, String> {
    let other =
        || format!("{dims:?} for {images} images is no grid of codes: [N,h,w], [N,L] or flat");
    let sides: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let sides = sides.ok_or_else(other)?;
    let found = match sides[..] {
        [n, h, w] if n == images => Shape::Grid(h, w),
        [n, 1, h, w] | [n, h, w, 1] if n == images => Shape::Grid(h, w),
        [n, tokens] if n == images => Shape::Tokens(tokens),
        [h, w] if images == 1 => Shape::Grid(h, w),
        [all] if images > 0 && all % images == 0 => Shape::Tokens(all / images),
        _ => return Err(other()),
    };
    match found {
        Shape::Grid(h, w) if h * w > 0 => Ok(found),
        Shape::Tokens(tokens) if tokens > 0 => Ok(found),
        _ => Err(other()),
    }
}

/// What tells the grid of tokens in a row.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Known {
    /// The grid itself.
    pub(super) grid: Option<[usize; 2]>,
    /// Pixels a token covers.
    pub(super) factor: Option<[usize; 2]>,
}

impl Known {
    /// That a grid which the network gives is the one that was said; of sizes that are no multiples of a
    /// token the network knows best.
    fn agrees(self, grid: (usize, usize), size: (usize, usize)) -> Result<(), String> {
        let given = |said: String| {
            let (h, w) = grid;
            Err(format!(
                "it gives a grid of {h}x{w} tokens for {}x{} pixels where {said}",
                size.1, size.0
            ))
        };
        if let Some([h, w]) = self.grid {
            return if (h, w) == grid { Ok(()) } else { given(format!("{h}x{w} was said")) };
        }
        let covers = |pixels: usize, side: usize, tokens: usize| {
            pixels / side == tokens || pixels.div_ceil(side) == tokens
        };
        match self.factor {
            Some([fh, fw]) if !covers(size.0, fh, grid.0) || !covers(size.1, fw, grid.1) => {
                given(format!("a token of {fh}x{fw} pixels was said"))
            }
            _ => Ok(()),
        }
    }
}

impl Shape {
    /// The grid for images of `height` x `width` pixels: as it is known, else that of square tokens,
    /// else a row.
    ///
    /// # Errors
    /// A grid that is known and has another number of tokens.
    pub(super) fn grid(
        self,
        (height, width): (usize, usize),
        known: Known,
    ) -> Result<(usize, usize), String> {
        let tokens = match self {
            Shape::Grid(h, w) => return known.agrees((h, w), (height, width)).map(|()| (h, w)),
            Shape::Tokens(tokens) => tokens,
        };
        let factor = |[fh, fw]: [usize; 2]| [height / fh, width / fw];
        if let Some([h, w]) = known.grid.or(known.factor.map(factor)) {
            return match h.checked_mul(w) == Some(tokens) {
                true => Ok((h, w)),
                false => Err(format!("it gives {tokens} codes where a grid of {h}x{w} was said")),
            };
        }
        let square = (1..=height.min(width)).find(|side| {
            let (h, w) = (height / side, width / side);
            height % side == 0 && width % side == 0 && h * w == tokens
        });
        Ok(square.map_or((1, tokens), |side| (height / side, width / side)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_of_all_kinds() {
        for (dims, images, expected) in [
            (&[4, 8, 6][..], 4, Shape::Grid(8, 6)),
            (&[4, 1, 8, 6], 4, Shape::Grid(8, 6)),
            (&[4, 8, 6, 1], 4, Shape::Grid(8, 6)),
            (&[4, 48], 4, Shape::Tokens(48)),
            (&[192], 4, Shape::Tokens(48)),
            (&[8, 6], 1, Shape::Grid(8, 6)),
            (&[1, 48], 1, Shape::Tokens(48)),
        ] {
            assert_eq!(shape(dims, images), Ok(expected), "{dims:?}");
        }
        for dims in [&[4, 2, 8, 6][..], &[3, 8, 6], &[7], &[], &[4, 0], &[0], &[4, -1], &[1; 5]] {
            assert!(shape(dims, 4).is_err(), "{dims:?}");
        }
    }

    #[test]
    fn tokens_in_a_row_find_their_grid() {
        let none = Known::default();
        let row = Shape::Tokens(48);
        assert_eq!(row.grid((64, 48), none), Ok((8, 6)));
        assert_eq!(row.grid((64, 64), none), Ok((1, 48)));
        let said = Known { grid: Some([4, 12]), ..none };
        assert_eq!(row.grid((64, 64), said), Ok((4, 12)));
        let said = Known { factor: Some([4, 16]), ..none };
        assert_eq!(row.grid((64, 48), said), Ok((16, 3)));
        assert!(row.grid((64, 64), said).unwrap_err().contains("16x4"));
        assert_eq!(Shape::Grid(16, 4).grid((64, 64), said), Ok((16, 4)));
        assert_eq!(Shape::Grid(17, 4).grid((65, 64), said), Ok((17, 4)));
        let refused = |grid: Shape, size| grid.grid(size, said).unwrap_err();
        assert!(refused(Shape::Grid(2, 3), (64, 64)).contains("a token of 4x16 pixels was said"));
        // As many tokens as a size has room for, with the last ones cut or left out.
        assert_eq!(Shape::Grid(16, 4).grid((66, 70), said), Ok((16, 4)));
        assert!(refused(Shape::Grid(4, 4), (66, 70)).contains("4x4 tokens for 70x66 pixels"));
        let said = Known { grid: Some([4, 12]), ..none };
        assert!(Shape::Grid(8, 6).grid((64, 48), said).unwrap_err().contains("4x12 was said"));
    }
}
