//! Owns Winograd's convolutions of many images at a time, for training: maps with their zeros around them,
//! so that the tiles of small images fill the register block together. Must not know: threads, what is
//! done with the outputs.
//!
//! The transforms and products are the engine's (`winograd`); what differs is that nothing is added to the
//! sums and that an image is a range of tiles among others.

use std::ops::Range;

use super::isa::{CHANNEL_BLOCK, channel_stride};
use super::planes::Frame;
use super::simd::{Kernel, Simd};
use super::winograd_transforms::{tile_in, tile_out};
use super::winograd_weights::{Scheme, WinogradWeights, multiply};

/// Tiles transformed at a time, as many as lie near the core.
const TILES: usize = 32;

/// Floats between the matrices: keeps their rows out of each other's cache sets.
const SKEW: usize = 3 * CHANNEL_BLOCK;

/// Floats of the matrices on both sides.
fn matrices(stride: usize, outputs: usize) -> (usize, usize) {
    (TILES * stride + SKEW, TILES * channel_stride(outputs) + SKEW)
}

/// How the outputs of an image are cut into tiles, and the map that these read.
#[derive(Clone, Copy)]
pub(crate) struct Tiling {
    pub(super) scheme: Scheme,
    /// Tile rows of an image.
    pub(super) down: usize,
    /// Tiles of a row.
    pub(super) across: usize,
    /// Rows of an image's outputs.
    pub(super) height: usize,
    /// Columns of them.
    pub(super) width: usize,
    /// Where an image lies in the map that is read.
    pub(super) frame: Frame,
}

impl Tiling {
    /// Of outputs of `height` x `width` from images of that many channels.
    pub(crate) fn new(scheme: Scheme, height: usize, width: usize, channels: usize) -> Tiling {
        let (side, wide, step) = (scheme.side, scheme.wide(), scheme.window.stride);
        let (down, across) = (height.div_ceil(side), width.div_ceil(side));
        let frame = Frame {
            height: step * (side * down + wide - side),
            width: step * (side * across + wide - side),
            stride: channel_stride(channels),
            top: scheme.window.padding,
            left: scheme.window.padding,
        };
        Tiling { scheme, down, across, height, width, frame }
    }

    /// Where an image lies in its map.
    pub(crate) fn frame(&self) -> Frame {
        self.frame
    }

    /// Floats of scratch that [`winograd_maps`] wants for that many outputs.
    pub(crate) fn scratch(&self, outputs: usize) -> usize {
        let (wide, step) = (self.scheme.wide(), self.scheme.window.stride);
        let (wide_in, wide_out) = matrices(self.frame.stride, outputs);
        wide * wide * (step * step * wide_in + wide_out)
    }

    /// Tile rows of an image.
    pub(crate) fn rows(&self) -> usize {
        self.down
    }

    /// Rows of outputs of a tile row.
    pub(crate) fn side(&self) -> usize {
        self.scheme.side
    }

    /// Tiles of an image.
    pub(crate) fn tiles(&self) -> usize {
        self.down * self.across
    }

    /// The rows of a phase's tile in `maps`, and its place: image, and row and column of its first output.
    #[inline(always)]
    pub(super) fn place(&self, tile: usize) -> (usize, usize, usize) {
        let (image, tile) = (tile / self.tiles(), tile % self.tiles());
        let side = self.scheme.side;
        (image, tile / self.across * side, tile % self.across * side)
    }

    /// Where the rows of a phase's tile begin.
    ///
    /// # Safety
    /// `maps` holds the tile's image.
    #[inline(always)]
    pub(super) unsafe fn tile_rows<const WIDE: usize, const STEP: usize>(
        &self,
        maps: *const f32,
        (image, top, left): (usize, usize, usize),
        phase: usize,
    ) -> [*const f32; WIDE] {
        let Frame { height, width, stride, .. } = self.frame;
        let (a, b) = (phase / STEP, phase % STEP);
        let mut rows = [maps; WIDE];
        for (i, row) in rows.iter_mut().enumerate() {
            let y = image * height + STEP * (top + i) + a;
            // SAFETY: the frame has all rows and columns that its tiles reach.
            *row = unsafe { maps.add((y * width + STEP * left + b) * stride) };
        }
        rows
    }
}

/// Convolves tile rows, counted over all images of `maps`, into `out`, which begins with the first of them:
/// `[rows, width, outputs' stride]`.
///
/// # Panics
/// Where maps or output are shorter than that: a bug of the caller.
pub(crate) fn winograd_maps(
    weights: &WinogradWeights,
    tiling: &Tiling,
    maps: &[f32],
    rows: Range<usize>,
    out: &mut [f32],
    scratch: &mut [f32],
) {
    assert!(weights.scheme == tiling.scheme, "a tiling of another scheme");
    assert!(weights.inputs <= tiling.frame.stride);
    let images = rows.end.div_ceil(tiling.down.max(1));
    assert!(maps.len() >= images * tiling.frame.len(), "too few maps");
    let stride = channel_stride(weights.outputs);
    let first = |row: usize| {
        let (image, row) = (row / tiling.down, row % tiling.down);
        (image * tiling.height + row * tiling.scheme.side) * tiling.width * stride
    };
    let before = first(rows.start);
    let end = match rows.end % tiling.down {
        0 => rows.end / tiling.down * tiling.height * tiling.width * stride,
        _ => first(rows.end),
    };
    assert_eq!(out.len(), end - before, "an output of another size");
    assert!(scratch.len() >= tiling.scratch(weights.outputs), "too little scratch");
    let tiles = rows.start * tiling.across..rows.end * tiling.across;
    let (out, scratch) = (out.as_mut_ptr(), scratch.as_mut_ptr());
    let work = Work { weights, tiling, maps: maps.as_ptr(), tiles, out, before, scratch };
    match (tiling.scheme.window.stride, tiling.scheme.side) {
        (1, 2) => weights.isa.run(Maps::<4, 2, 1>(work)),
        (1, _) => weights.isa.run(Maps::<6, 4, 1>(work)),
        _ => weights.isa.run(Maps::<5, 4, 2>(work)),
    }
}

struct Work<'a> {
    weights: &'a WinogradWeights,
    tiling: &'a Tiling,
    maps: *const f32,
    tiles: Range<usize>,
    out: *mut f32,
    /// Floats of all images' outputs before those of `out`.
    before: usize,
    scratch: *mut f32,
}

struct Maps<'a, const WIDE: usize, const SIDE: usize, const STEP: usize>(Work<'a>);

impl<const WIDE: usize, const SIDE: usize, const STEP: usize> Kernel
    for Maps<'_, WIDE, SIDE, STEP>
{
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Work { weights, tiling, maps, tiles, scratch, .. } = &self.0;
        let stride = tiling.frame.stride;
        let (wide_in, wide_out) = matrices(stride, weights.outputs);
        let positions = WIDE * WIDE;
        // SAFETY: `winograd_maps` checked the maps and the output for these tiles and made the scratch as
        // long as both kinds of matrices.
        unsafe {
            let back = scratch.add(STEP * STEP * positions * wide_in);
            for first in tiles.clone().step_by(TILES) {
                let count = TILES.min(tiles.end - first);
                for phase in 0..STEP * STEP {
                    for tile in 0..count {
                        let place = tiling.place(first + tile);
                        let rows = tiling.tile_rows::<WIDE, STEP>(*maps, place, phase);
                        let to = scratch.add(phase * positions * wide_in + tile * stride);
                        tile_in(s, rows, (STEP, stride), to, wide_in);
                    }
                }
                let from = (scratch.cast_const(), wide_in, stride);
                multiply(s, weights, from, (back, wide_out), count);
                for tile in 0..count {
                    self.write(s, back, (first, tile), wide_out);
                }
            }
        }
    }
}

impl<const WIDE: usize, const SIDE: usize, const STEP: usize> Maps<'_, WIDE, SIDE, STEP> {
    /// Transforms a tile back and writes those of its pixels that are outputs.
    #[inline(always)]
    unsafe fn write<S: Simd>(
        &self,
        s: S,
        wide: *const f32,
        (first, tile): (usize, usize),
        apart: usize,
    ) {
        let Work { weights, tiling, out, before, .. } = &self.0;
        let stride = channel_stride(weights.outputs);
        let (image, top, left) = tiling.place(first + tile);
        let (height, width) = (SIDE.min(tiling.height - top), SIDE.min(tiling.width - left));
        let at = ((image * tiling.height + top) * tiling.width + left) * stride - before;
        for c in (0..stride).step_by(S::LANES) {
            // SAFETY: the caller's promise; these pixels lie in the output.
            unsafe {
                let values = tile_out::<S, WIDE, SIDE>(s, wide.add(tile * stride + c), apart);
                for (i, row) in values.iter().enumerate().take(height) {
                    for (j, value) in row.iter().enumerate().take(width) {
                        s.store(out.add(at + (i * tiling.width + j) * stride + c), *value);
                    }
                }
            }
        }
    }
}
