//! Owns the arithmetic of convolutions for training on the CPU: forward, gradient of the input,
//! gradient of the weight, over slices. Must not know: tensors' graphs, modules.
//!
//! All three are im2col and a matrix product over blocks that fit the cache. The split of the work
//! depends on shapes only, so results don't depend on the number of threads.

use candle_core::WithDType;
use rayon::prelude::*;

use super::conv_sizes::{ColumnBlock, ConvSizes};
use super::gemm::{Matrix, matmul};

/// The range of output columns whose input column `ox * stride + k - before` lies inside.
fn valid(out: usize, k: usize, before: usize, stride: usize, size: usize) -> (usize, usize) {
    let low = before.saturating_sub(k).div_ceil(stride).min(out);
    let high = if size + before > k { (size + before - k).div_ceil(stride).min(out) } else { 0 };
    (low, high.max(low))
}

/// Columns `[taps, block columns]` of the images `x` (of one chunk).
fn im2col<T: WithDType>(g: &ConvSizes, block: &ColumnBlock, x: &[T], columns: &mut [T]) {
    let (each, total) = (block.columns_each(g), block.columns(g));
    for image in 0..block.images {
        let source = &x[(block.first + image) * g.in_size()..][..g.in_size()];
        for (tap, row) in columns.chunks_exact_mut(total).take(g.taps()).enumerate() {
            let (kx, ky) = (tap % g.kernel_w, tap / g.kernel_w % g.kernel_h);
            let plane = &source[tap / (g.kernel_w * g.kernel_h) * g.height * g.width..]
                [..g.height * g.width];
            let row = &mut row[image * each..][..each];
            let (low, high) = valid(g.out_w, kx, g.before, g.stride, g.width);
            for (r, line) in row.chunks_exact_mut(g.out_w).enumerate() {
                let y = (block.row + r) * g.stride + ky;
                if y < g.before || y - g.before >= g.height || low == high {
                    line.fill(T::zero());
                    continue;
                }
                let input = &plane[(y - g.before) * g.width..][..g.width];
                line[..low].fill(T::zero());
                line[high..].fill(T::zero());
                let start = low * g.stride + kx - g.before;
                if g.stride == 1 {
                    line[low..high].copy_from_slice(&input[start..start + high - low]);
                } else if g.stride == 2 {
                    let (pairs, last) = input[start..].as_chunks::<2>();
                    for (to, from) in line[low..high].iter_mut().zip(pairs) {
                        *to = from[0];
                    }
                    if let (true, Some(from)) = (high - low > pairs.len(), last.first()) {
                        line[high - 1] = *from;
                    }
                } else {
                    let from = input[start..].iter().step_by(g.stride);
                    for (to, from) in line[low..high].iter_mut().zip(from) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

/// Adds columns back to where they came from: the adjoint of [`im2col`].
fn col2im<T: WithDType>(g: &ConvSizes, block: &ColumnBlock, columns: &[T], x: &mut [T]) {
    let (each, total) = (block.columns_each(g), block.columns(g));
    for image in 0..block.images {
        let target = &mut x[(block.first + image) * g.in_size()..][..g.in_size()];
        for (tap, row) in columns.chunks_exact(total).take(g.taps()).enumerate() {
            let (kx, ky) = (tap % g.kernel_w, tap / g.kernel_w % g.kernel_h);
            let plane = &mut target[tap / (g.kernel_w * g.kernel_h) * g.height * g.width..]
                [..g.height * g.width];
            let row = &row[image * each..][..each];
            let (low, high) = valid(g.out_w, kx, g.before, g.stride, g.width);
            for (r, line) in row.chunks_exact(g.out_w).enumerate() {
                let y = (block.row + r) * g.stride + ky;
                if y < g.before || y - g.before >= g.height || low == high {
                    continue;
                }
                let output = &mut plane[(y - g.before) * g.width..][..g.width];
                let start = low * g.stride + kx - g.before;
                if g.stride == 1 {
                    for (to, from) in
                        output[start..start + high - low].iter_mut().zip(&line[low..high])
                    {
                        *to += *from;
                    }
                } else if g.stride == 2 {
                    let (pairs, last) = output[start..].as_chunks_mut::<2>();
                    let short = high - low > pairs.len();
                    for (to, from) in pairs.iter_mut().zip(&line[low..high]) {
                        to[0] += *from;
                    }
                    if let (true, Some(to)) = (short, last.first_mut()) {
                        *to += line[high - 1];
                    }
                } else {
                    let to = output[start..].iter_mut().step_by(g.stride);
                    for (to, from) in to.zip(&line[low..high]) {
                        *to += *from;
                    }
                }
            }
        }
    }
}

/// The block's part of an output `[images, O, OH, OW]` as a matrix `[O, block columns]`.
fn pack_block<T: WithDType>(g: &ConvSizes, block: &ColumnBlock, y: &[T], matrix: &mut [T]) {
    let (each, total) = (block.columns_each(g), block.columns(g));
    for (o, row) in matrix.chunks_exact_mut(total).take(g.filters).enumerate() {
        for (image, part) in row.chunks_exact_mut(each).enumerate() {
            let at = (block.first + image) * g.out_size() + o * g.out_plane() + block.row * g.out_w;
            part.copy_from_slice(&y[at..at + each]);
        }
    }
}

/// The reverse of [`pack_block`].
fn unpack_block<T: WithDType>(g: &ConvSizes, block: &ColumnBlock, matrix: &[T], y: &mut [T]) {
    let (each, total) = (block.columns_each(g), block.columns(g));
    for (o, row) in matrix.chunks_exact(total).take(g.filters).enumerate() {
        for (image, part) in row.chunks_exact(each).enumerate() {
            let at = (block.first + image) * g.out_size() + o * g.out_plane() + block.row * g.out_w;
            y[at..at + each].copy_from_slice(part);
        }
    }
}

/// y `[N, O, OH, OW]` of x `[N, C, H, W]`, weight `[O, taps]`, without bias.
pub(super) fn forward<T: WithDType>(g: &ConvSizes, x: &[T], weight: &[T]) -> Vec<T> {
    let mut y = vec![T::zero(); g.batch * g.out_size()];
    let kernel = Matrix::row_major(weight, g.filters, g.taps());
    let chunk = g.chunk();
    y.par_chunks_mut((chunk * g.out_size()).max(1))
        .zip(x.par_chunks((chunk * g.in_size()).max(1)))
        .for_each(|(y, x)| {
            let images = y.len() / g.out_size().max(1);
            if g.is_pointwise() {
                let plane = g.out_plane();
                for (y, x) in y.chunks_exact_mut(g.out_size()).zip(x.chunks_exact(g.in_size())) {
                    matmul(y, plane, false, kernel, Matrix::row_major(x, g.channels, plane));
                }
                return;
            }
            let (mut columns, mut product) = (Vec::new(), Vec::new());
            for block in g.blocks(images) {
                let total = block.columns(g);
                columns.resize(g.taps() * total, T::zero());
                product.resize(g.filters * total, T::zero());
                im2col(g, &block, x, &mut columns);
                let right = Matrix::row_major(&columns, g.taps(), total);
                matmul(&mut product, total, false, kernel, right);
                unpack_block(g, &block, &product, y);
            }
        });
    y
}

/// The gradient of the input `[N, C, H, W]` from that of the output `[N, O, OH, OW]`; also the
/// forward pass of the transposed convolution.
pub(super) fn input_gradient<T: WithDType>(g: &ConvSizes, dy: &[T], weight: &[T]) -> Vec<T> {
    let mut dx = vec![T::zero(); g.batch * g.in_size()];
    let kernel = Matrix::row_major(weight, g.filters, g.taps()).transposed();
    let chunk = g.chunk();
    dx.par_chunks_mut((chunk * g.in_size()).max(1))
        .zip(dy.par_chunks((chunk * g.out_size()).max(1)))
        .for_each(|(dx, dy)| {
            let images = dx.len() / g.in_size().max(1);
            if g.is_pointwise() {
                let plane = g.out_plane();
                for (dx, dy) in dx.chunks_exact_mut(g.in_size()).zip(dy.chunks_exact(g.out_size()))
                {
                    matmul(dx, plane, false, kernel, Matrix::row_major(dy, g.filters, plane));
                }
                return;
            }
            let (mut columns, mut gathered) = (Vec::new(), Vec::new());
            for block in g.blocks(images) {
                let total = block.columns(g);
                columns.resize(g.taps() * total, T::zero());
                gathered.resize(g.filters * total, T::zero());
                pack_block(g, &block, dy, &mut gathered);
                let right = Matrix::row_major(&gathered, g.filters, total);
                matmul(&mut columns, total, false, kernel, right);
                col2im(g, &block, &columns, dx);
            }
        });
    dx
}

/// The gradient of the weight `[O, C, kh, kw]`. Chunks are summed in their order.
pub(super) fn weight_gradient<T: WithDType>(g: &ConvSizes, x: &[T], dy: &[T]) -> Vec<T> {
    let chunk = g.chunk();
    let parts: Vec<Vec<T>> = x
        .par_chunks((chunk * g.in_size()).max(1))
        .zip(dy.par_chunks((chunk * g.out_size()).max(1)))
        .map(|(x, dy)| {
            let images = x.len() / g.in_size().max(1);
            // [taps, O]: this way round the product reads the large matrix of columns in place
            // and rearranges the small one.
            let mut dw = vec![T::zero(); g.weight_size()];
            let (mut columns, mut gathered) = (Vec::new(), Vec::new());
            for block in g.blocks(images) {
                let total = block.columns(g);
                columns.resize(g.taps() * total, T::zero());
                gathered.resize(g.filters * total, T::zero());
                im2col(g, &block, x, &mut columns);
                pack_block(g, &block, dy, &mut gathered);
                let left = Matrix::row_major(&columns, g.taps(), total);
                let right = Matrix::row_major(&gathered, g.filters, total).transposed();
                matmul(&mut dw, g.filters, true, left, right);
            }
            dw
        })
        .collect();
    let mut sum = vec![T::zero(); g.weight_size()];
    for part in parts {
        for (to, from) in sum.iter_mut().zip(part) {
            *to += from;
        }
    }
    let mut weight = vec![T::zero(); g.weight_size()];
    for (o, row) in weight.chunks_exact_mut(g.taps().max(1)).enumerate() {
        for (to, from) in row.iter_mut().zip(sum[o..].iter().step_by(g.filters)) {
            *to = *from;
        }
    }
    weight
}

pub(super) fn add_bias_in_place<T: WithDType>(y: &mut [T], bias: &[T], plane: usize) {
    for (i, part) in y.chunks_exact_mut(plane.max(1)).enumerate() {
        let b = bias[i % bias.len()];
        part.iter_mut().for_each(|v| *v += b);
    }
}

/// Sums of each channel over images and positions; eight running sums so that the loop is as
/// fast as memory and the rounding error small.
pub(super) fn bias_gradient<T: WithDType>(dy: &[T], channels: usize, plane: usize) -> Vec<T> {
    let mut sums = vec![T::zero(); channels];
    for (i, part) in dy.chunks_exact(plane.max(1)).enumerate() {
        let mut lanes = [T::zero(); 8];
        let whole = part.chunks_exact(8);
        let rest = whole.remainder();
        for eight in whole {
            for (lane, v) in lanes.iter_mut().zip(eight) {
                *lane += *v;
            }
        }
        for (lane, v) in lanes.iter_mut().zip(rest) {
            *lane += *v;
        }
        for lane in lanes {
            sums[i % channels] += lane;
        }
    }
    sums
}
