//! Owns the gradient of a convolution's weights in float32 on the CPU. Must not know: tensors' graphs,
//! modules.
//!
//! A sum of outer products over Winograd's tiles, for convolutions that go through them. Images are taken block by block, and each block's products are added to the sums in that order: what is
//! dealt out to threads are the sums' rows, never the terms.

use rayon::prelude::*;

use super::conv_fast::framed;
use super::conv_sizes::ConvSizes;
use crate::kernels::{
    GRADIENT_TILES, GradientShape, Isa, Pooled, Scheme, TilePairs, Tiling, gradient_product,
    gradient_tiles, gradient_weights,
};

/// Pairs of matrices of tiles in a block: the sums are read and written once for so many.
const PAIRS: usize = 8;
/// Outputs whose weights are transformed back together.
const OUTPUTS: usize = 8;

/// Images of a block that has so many of what an image has so many of.
fn images(block: usize, each: usize) -> usize {
    block.div_ceil(each.max(1)).max(1)
}

/// The gradient of the weight `[O, C, kh, kw]` from x `[N, C, H, W]` and that of the output
/// `[N, O, OH, OW]`.
pub(super) fn weight_gradient(
    isa: Isa,
    g: &ConvSizes,
    scheme: Scheme,
    x: &[f32],
    dy: &[f32],
) -> Vec<f32> {
    if g.batch == 0 || g.weight_size() == 0 {
        return vec![0.0; g.weight_size()];
    }
    let tiling = Tiling::new(scheme, g.out_h, g.out_w, g.channels);
    let shape = &GradientShape { tiling, inputs: g.channels, outputs: g.filters };
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
