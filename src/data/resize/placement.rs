//! Owns where pixels of a resized picture come from: regions of the upright source. Must not know:
//! filters, rules by name.

/// The region of the upright source that the model sees, in source pixels, edges rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// Left edge.
    pub x: i32,
    /// Top edge.
    pub y: i32,
    /// Width, at least 1.
    pub width: i32,
    /// Height, at least 1.
    pub height: i32,
}

/// How a part was cut from a picture: that was resized to `full`, and the part begins at
/// `offset` in there; where it is larger than that, `offset` is negative and its rim is black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Width and height of the source.
    pub(super) source: (u32, u32),
    /// Width and height that it was resized to.
    pub(super) full: (u64, u64),
    /// Left and top edge of the square in there.
    pub(super) offset: (i64, i64),
}

impl Placement {
    /// Where the part of `wide` times `high` pixels lies in the source that begins at (`x`, `y`) of
    /// what was cut.
    pub(crate) fn region(&self, (x, y): (u32, u32), (wide, high): (u32, u32)) -> Crop {
        let edges = |source: u32, full: u64, start: i64, size: u32| {
            let at = |place: i64| (place as f64 * f64::from(source) / full as f64).round() as i32;
            let low = at(start).clamp(0, source as i32 - 1);
            let high = at(start + i64::from(size)).clamp(low + 1, source as i32);
            (low, high - low)
        };
        let Placement { source, full, offset } = self;
        let (x, width) = edges(source.0, full.0, offset.0 + i64::from(x), wide);
        let (y, height) = edges(source.1, full.1, offset.1 + i64::from(y), high);
        Crop { x, y, width, height }
    }
}

/// Python's `round`: halves to even.
pub(super) fn round(value: f64) -> u64 {
    value.round_ties_even() as u64
}

/// `(full - size) // 2`.
pub(super) fn floor_middle(full: u64, size: u32) -> u64 {
    full.saturating_sub(size.into()) / 2
}

/// torchvision's `int(round((full - size) / 2.0))`.
pub(crate) fn even_middle(full: u64, size: u32) -> u64 {
    round(full.saturating_sub(size.into()) as f64 / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_square_lies_where_its_pixels_come_from() {
        // 40 x 20 resized to 60 x 30, of which the middle 30 x 30 were kept.
        let placement = Placement { source: (40, 20), full: (60, 30), offset: (15, 0) };
        let whole = placement.region((0, 0), (30, 30));
        assert_eq!(whole, Crop { x: 10, y: 0, width: 20, height: 20 });
        let corner = placement.region((3, 6), (24, 24));
        assert_eq!(corner, Crop { x: 12, y: 4, width: 16, height: 16 });
    }

    #[test]
    fn a_black_rim_is_no_part_of_the_source() {
        // 10 x 4 in the middle of a square of 12.
        let placement = Placement { source: (10, 4), full: (10, 4), offset: (-1, -4) };
        assert_eq!(placement.region((0, 0), (12, 12)), Crop { x: 0, y: 0, width: 10, height: 4 });
        assert_eq!(placement.region((2, 2), (10, 10)), Crop { x: 1, y: 0, width: 9, height: 4 });
        assert_eq!(placement.region((0, 0), (6, 6)), Crop { x: 0, y: 0, width: 5, height: 2 });
        assert_eq!(placement.region((0, 9), (3, 3)), Crop { x: 0, y: 3, width: 2, height: 1 });
    }
}
