//! Owns how a map is cut into Winograd's tiles, and the memory that they take on their way.

use super::isa::{CHANNEL_BLOCK, channel_stride};
use super::winograd_weights::Scheme;

/// Tiles of 4x4 transformed at a time: their matrices stay near the core while each packed weight
/// that is read from further away is used for all of them. Tiles of 2x2 have half as many
/// positions, so that twice as many lie as near.
const TILES: usize = 32;

/// Floats between the matrices: keeps their rows out of each other's cache sets.
const SKEW: usize = 3 * CHANNEL_BLOCK;

/// How a map is cut into tiles, bands of tile rows and chunks.
#[derive(Clone, Copy)]
pub(super) struct TileShape {
    pub height: usize,
    pub width: usize,
    /// Tiles in a row.
    pub across: usize,
    /// Tile rows.
    pub down: usize,
    /// Tiles of a chunk.
    pub tiles: usize,
    /// Tile rows that are worked on together.
    pub band: usize,
    /// Pixels of a ring row.
    pub columns: usize,
    /// Floats of a ring row.
    pub row: usize,
    /// Rows of the ring: a band's and what its last tiles reach below.
    pub ring: usize,
    /// Matrices on the input side.
    pub matrices: usize,
    /// Floats of a matrix on the input side.
    pub wide_in: usize,
    /// Matrices on the output side.
    pub positions: usize,
    /// Floats of a matrix on the output side.
    pub wide_out: usize,
}

impl TileShape {
    pub(super) fn new(
        scheme: Scheme,
        stride: usize,
        outputs: usize,
        height: usize,
        width: usize,
    ) -> TileShape {
        let (step, side, wide) = (scheme.window.stride, scheme.side, scheme.wide());
        let (down, across) = (height.div_ceil(side), width.div_ceil(side));
        // The phases' matrices are more: fewer tiles keep them as near.
        let tiles = TILES / step * 4 / side;
        let band = tiles.div_ceil(across.max(1)).clamp(1, down.max(1));
        let columns = step * (side * across + wide - side);
        TileShape {
            height,
            width,
            across,
            down,
            tiles,
            band,
            columns,
            row: columns * stride,
            ring: step * (side * band + wide - side),
            matrices: wide * wide * step * step,
            wide_in: tiles * stride + SKEW,
            positions: wide * wide,
            wide_out: tiles * channel_stride(outputs) + SKEW,
        }
    }

    pub(super) fn scratch(&self) -> usize {
        self.ring * self.row + self.matrices * self.wide_in + self.positions * self.wide_out
    }
}
