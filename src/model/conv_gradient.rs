//! Owns the gradient of a convolution's weights in float32 on the CPU. Must not know: tensors' graphs,
//! modules.
//!
//! A sum of outer products over pixels, or over Winograd's tiles where the convolution goes through them.
//! Images are taken block by block, and each block's products are added to the sums in that order: what is
//! dealt out to threads are the sums' rows, never the terms.

use rayon::prelude::*;

use super::conv_fast::{Way, framed, window_frame};
use super::conv_sizes::ConvSizes;
use crate::kernels::{
    CHANNEL_BLOCK, Frame, GRADIENT_TILES, GradientShape, Isa, Pooled, Segment, TilePairs, Tiling,
    Window, channel_stride, gradient_product, gradient_tiles, gradient_weights, outer,
    window_columns,
};

/// Pairs of matrices of tiles in a block: the sums are read and written once for so many.
const PAIRS: usize = 8;
/// Pixels of a part of a block's columns, and parts of a block.
const PIXELS: usize = 64;
const PARTS: usize = 8;
/// Floats between rows that are read one after another: they would lie on few lines of the first-level cache
/// where channels are a power of two.
const APART: usize = CHANNEL_BLOCK;
/// Rows of the sums that a thread takes at a time: whole register blocks of either kind.
const ROWS: usize = 48;
/// Outputs whose weights are transformed back together.
const OUTPUTS: usize = 8;

/// The gradient of the weight `[O, C, kh, kw]` from x `[N, C, H, W]` and that of the output
/// `[N, O, OH, OW]`.
pub(super) fn weight_gradient(
    isa: Isa,
    g: &ConvSizes,
    way: Way,
    x: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    if g.batch == 0 || g.weight_size() == 0 {
        return vec![0.0; g.weight_size()];
    }
    match way {
        Way::Tiles(scheme) => {
            let tiling = Tiling::new(scheme, g.out_h, g.out_w, g.channels);
            let shape = GradientShape { tiling, inputs: g.channels, outputs: g.filters };
            over_tiles(isa, g, &shape, x, dy)
        }
        Way::Windows(window) => over_pixels(isa, g, window, x, dy),
    }
}

/// Images of a block that has so many of what an image has so many of.
fn images(block: usize, each: usize) -> usize {
    block.div_ceil(each.max(1)).max(1)
}

fn over_tiles(isa: Isa, g: &ConvSizes, shape: &GradientShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let products = shape.products();
    let mut sums = Pooled::take(products.len() * shape.product_len());
    sums.fill(0.0);
    let tiles = shape.tiling.tiles();
    let block = images(PAIRS * GRADIENT_TILES, tiles);
    let mut pairs: Vec<TilePairs> = (0..PAIRS).map(|_| shape.pairs()).collect();
    for (x, dy) in x.chunks(block * g.in_size()).zip(dy.chunks(block * g.out_size())) {
        let inputs = framed(isa, x, g.channels, (g.height, g.width), shape.tiling.frame());
        let gradients = framed(isa, dy, g.filters, (g.out_h, g.out_w), shape.frame());
        let all = x.len() / g.in_size() * tiles;
        for first in (0..all).step_by(PAIRS * GRADIENT_TILES) {
            let count = (all - first).div_ceil(GRADIENT_TILES).min(PAIRS);
            let pairs = &mut pairs[..count];
            pairs.par_iter_mut().enumerate().for_each(|(at, pairs)| {
                let from = first + at * GRADIENT_TILES;
                let tiles = from..(from + GRADIENT_TILES).min(all);
                gradient_tiles(isa, shape, (&inputs, &gradients), tiles, pairs);
            });
            let sums = sums.par_chunks_mut(shape.product_len()).zip(&products);
            sums.for_each(|(sums, product)| {
                gradient_product(isa, shape, *product, pairs, sums);
            });
        }
    }
    let mut dw = vec![0.0; g.weight_size()];
    let parts = dw.par_chunks_mut(OUTPUTS * g.taps()).enumerate();
    parts.for_each(|(at, dw)| gradient_weights(isa, shape, &sums, at * OUTPUTS, dw));
    dw
}

fn over_pixels(isa: Isa, g: &ConvSizes, window: Window, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let columns = channel_stride(g.filters);
    // [kh][kw][C][O]
    let mut sums = Pooled::take(g.taps() * columns);
    sums.fill(0.0);
    let plane = g.out_plane();
    let block = images(PARTS * PIXELS, plane);
    let from = window_frame(g);
    let right_step = columns + APART;
    let whole = Frame { height: g.out_h, width: g.out_w, stride: right_step, top: 0, left: 0 };
    for (x, dy) in x.chunks(block * g.in_size()).zip(dy.chunks(block * g.out_size())) {
        let inputs = framed(isa, x, g.channels, (g.height, g.width), from);
        let gradients = framed(isa, dy, g.filters, (g.out_h, g.out_w), whole);
        let all = x.len() / g.in_size() * plane;
        for first in (0..all).step_by(PARTS * PIXELS) {
            let depth = (PARTS * PIXELS).min(all - first);
            let seen = columns_of(g, window, from, &inputs, (first, depth));
            let (left_step, right) = (g.taps() + APART, &gradients[first * right_step..]);
            let segment = Segment { left: &seen, left_step, right, right_step, depth };
            let rows = sums.par_chunks_mut(ROWS * columns).enumerate();
            rows.for_each(|(at, sums)| outer(isa, &[segment], at * ROWS, columns, sums));
        }
    }
    let area = g.kernel_h * g.kernel_w;
    let mut dw = vec![0.0; g.weight_size()];
    for (o, row) in dw.chunks_exact_mut(g.taps()).enumerate() {
        for (at, to) in row.iter_mut().enumerate() {
            let (c, tap) = (at / area, at % area);
            *to = sums[(tap * g.channels + c) * columns + o];
        }
    }
    dw
}

/// What the windows of `count` outputs see, counted from `first` over all images of the maps.
fn columns_of(
    g: &ConvSizes,
    window: Window,
    frame: Frame,
    maps: &[f32],
    (first, count): (usize, usize),
) -> Pooled {
    let plane = g.out_plane();
    let step = g.taps() + APART;
    let mut columns = Pooled::take(count * step);
    let parts = columns.par_chunks_mut(PIXELS * step).enumerate();
    parts.for_each(|(part, mut to)| {
        let mut at = first + part * PIXELS;
        while !to.is_empty() {
            let (image, pixel) = (at / plane, at % plane);
            let count = (plane - pixel).min(to.len() / step);
            let here;
            (here, to) = to.split_at_mut(count * step);
            let map = &maps[image * frame.len()..][..frame.len()];
            window_columns(window, frame, map, (pixel, g.out_w), (step, here));
            at += count;
        }
    });
    columns
}
