//! Owns how evenly codes lie in a grid: whether its lines hold one code each. Must not know: pictures,
//! what is concluded.

use std::ops::Range;

use crate::audit::Grid;

/// Tokens a side below which the inside of a grid says too little.
const SIDE_MIN: usize = 6;

/// Rows and columns of a grid.
pub(super) type Part = [Range<usize>; 2];

/// The share of tokens that have the commonest code of their line, over all rows and columns without
/// their ends; those in a part that is left out don't count. Of one colour it is 1: encoders see the
/// border, but a side is alike all along. NaN of a grid without an inside.
pub(super) fn evenness(grid: &Grid, left_out: Option<&Part>) -> f32 {
    let (height, width) = (grid.height, grid.width);
    let inner = |side: usize| {
        let margin = (side + 4) / 6;
        margin..side - margin
    };
    if !has_inside(grid) {
        return f32::NAN;
    }
    let outside = |&(y, x): &(usize, usize)| {
        !left_out.is_some_and(|[rows, columns]| rows.contains(&y) && columns.contains(&x))
    };
    let mut lines = Lines::default();
    for x in 0..width {
        lines.take(grid, inner(height).map(|y| (y, x)).filter(outside));
    }
    for y in 0..height {
        lines.take(grid, inner(width).map(|x| (y, x)).filter(outside));
    }
    lines.share()
}

/// The same over the inner rows, or over the inner columns, whichever is more: 1 of what changes along
/// one direction alone.
pub(super) fn stripiness(grid: &Grid) -> f32 {
    if !has_inside(grid) {
        return f32::NAN;
    }
    let (rows, columns) = (1..grid.height - 1, 1..grid.width - 1);
    let mut lines = [Lines::default(), Lines::default()];
    rows.clone().for_each(|y| lines[0].take(grid, columns.clone().map(|x| (y, x))));
    columns.for_each(|x| lines[1].take(grid, rows.clone().map(|y| (y, x))));
    lines[0].share().max(lines[1].share())
}

fn has_inside(grid: &Grid) -> bool {
    grid.height.min(grid.width) >= SIDE_MIN && grid.codes.len() == grid.height * grid.width
}

/// What lines have in common.
#[derive(Default)]
struct Lines {
    line: Vec<u32>,
    commonest: usize,
    tokens: usize,
}

impl Lines {
    fn take(&mut self, grid: &Grid, places: impl Iterator<Item = (usize, usize)>) {
        self.line.clear();
        self.line.extend(places.map(|(y, x)| grid.codes[y * grid.width + x]));
        self.line.sort_unstable();
        let runs = self.line.chunk_by(|a, b| a == b).map(<[u32]>::len);
        self.commonest += runs.max().unwrap_or(0);
        self.tokens += self.line.len();
    }

    fn share(&self) -> f32 {
        self.commonest as f32 / self.tokens as f32
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::grid;
    use super::*;

    /// A code by its distance to the border, as far as an encoder sees it.
    fn framed(at: u32) -> u32 {
        let [y, x] = [at / 8, at % 8].map(|place| place.min(7 - place).min(2));
        10 * y + x
    }

    #[test]
    fn one_colour_is_even_whatever_its_border_is() {
        assert_eq!(evenness(&grid(8, 8, |_| 7), None), 1.0);
        assert_eq!(evenness(&grid(8, 8, framed), None), 1.0);
        // One token of the middle is in a row and in a column, of 64 places in all.
        let spot = grid(8, 8, |at| if at == 27 { 99 } else { framed(at) });
        assert_eq!(evenness(&spot, None), 62.0 / 64.0);
        assert_eq!(evenness(&spot, Some(&[3..4, 3..4])), 1.0);
        assert_eq!(evenness(&spot, Some(&[4..5, 3..4])), 60.0 / 62.0);
        // Every line of 4 has 4 codes.
        assert_eq!(evenness(&grid(8, 8, |at| at), None), 0.25);
    }

    #[test]
    fn what_changes_in_one_direction_is_stripy() {
        assert_eq!(stripiness(&grid(8, 8, |at| at / 8)), 1.0);
        assert_eq!(stripiness(&grid(8, 8, |at| at % 8)), 1.0);
        assert_eq!(stripiness(&grid(8, 8, |at| at)), 1.0 / 6.0);
        // Rows of two halves.
        assert_eq!(stripiness(&grid(8, 8, |at| 8 * (at / 8) + u32::from(at % 8 > 3))), 0.5);
    }

    #[test]
    fn rows_of_tokens_have_no_inside() {
        for (height, width) in [(1, 32), (3, 3), (0, 0)] {
            let grid = grid(height, width, |at| at);
            assert!(evenness(&grid, None).is_nan() && stripiness(&grid).is_nan());
        }
    }
}
