//! Owns convolutions with their own backward pass: candle's are right but ten times slower on the
//! CPU. Must not know: modules, names of weights.
//!
//! Three kernels carry everything: forward, gradient of the input, gradient of the weight. A
//! transposed convolution is the same three with the roles of input and output exchanged. All are
//! im2col and a matrix product over blocks that fit the cache; the split of the work depends on
//! shapes only, so results don't depend on the number of threads.
//!
//! On devices other than the CPU the calls go to candle's own kernels.

use candle_core::{
    CpuStorage, CustomOp1, CustomOp3, Layout, Result, Shape, Storage, Tensor, WithDType, bail,
};
use rayon::prelude::*;

use super::gemm::{Matrix, matmul};

/// Zeros put around an image, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// Above and on the left.
    pub before: usize,
    /// Below and on the right.
    pub after: usize,
}

impl Padding {
    /// The same on all four sides.
    pub fn same(pixels: usize) -> Padding {
        Padding { before: pixels, after: pixels }
    }
}

/// `conv2d(x, weight) + bias`: x `[B, C, H, W]`, weight `[O, C, k, k]`, bias `[O]`.
/// Differentiable in all three; no gradient is computed for what doesn't want one.
pub fn conv2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: Padding,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let x = if padding.before == padding.after {
            x.clone()
        } else {
            x.pad_with_zeros(2, padding.before, padding.after)?.pad_with_zeros(
                3,
                padding.before,
                padding.after,
            )?
        };
        let inner = if padding.before == padding.after { padding.before } else { 0 };
        let y = x.conv2d(weight, inner, stride, 1, 1)?;
        return add_bias(y, bias);
    }
    let bias = bias_or_zeros(bias, weight.dim(0)?, x)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, Conv2dOp { stride, padding })
}

/// `conv_transpose2d(x, weight) + bias`: x `[B, C, H, W]`, weight `[C, O, k, k]`, bias `[O]`,
/// result `[B, O, (H-1) stride - 2 padding + k, ...]`. Differentiable in all three.
pub fn conv_transpose2d(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    stride: usize,
    padding: usize,
) -> Result<Tensor> {
    if !x.device().is_cpu() {
        let y = x.conv_transpose2d(weight, padding, 0, stride, 1)?;
        return add_bias(y, bias);
    }
    let bias = bias_or_zeros(bias, weight.dim(1)?, x)?;
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias, ConvTranspose2dOp { stride, padding })
}

/// max(x, 0), with the gradient 0 at 0 as PyTorch has it (candle's is 1 there).
pub fn relu(x: &Tensor) -> Result<Tensor> {
    if x.device().is_cpu() { x.contiguous()?.apply_op1(ReluOp) } else { x.maximum(0f64) }
}

fn add_bias(y: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    match bias {
        Some(b) => y.broadcast_add(&b.reshape((1, b.elem_count(), 1, 1))?),
        None => Ok(y),
    }
}

fn bias_or_zeros(bias: Option<&Tensor>, channels: usize, like: &Tensor) -> Result<Tensor> {
    match bias {
        Some(b) if b.dims() == [channels] => b.contiguous(),
        Some(b) => bail!("bias {:?} on a convolution with {channels} channels", b.dims()),
        None => Tensor::zeros(channels, like.dtype(), like.device()),
    }
}

/// The sizes of one convolution from `[N, C, H, W]` to `[N, O, OH, OW]`.
#[derive(Debug, Clone, Copy)]
struct Geometry {
    batch: usize,
    channels: usize,
    height: usize,
    width: usize,
    filters: usize,
    kernel_h: usize,
    kernel_w: usize,
    stride: usize,
    before: usize,
    out_h: usize,
    out_w: usize,
}

/// Elements of a block of columns that should stay in a core's own cache.
const BLOCK_ELEMENTS: usize = 1 << 17;
/// How many parts a batch is split into at most.
const CHUNKS: usize = 8;

impl Geometry {
    fn of(x: &[usize], weight: &[usize], stride: usize, padding: Padding) -> Result<Geometry> {
        let ([n, c, h, w], [o, wc, kh, kw]) = (x, weight) else {
            bail!("a convolution of {x:?} with {weight:?}: both need four dimensions");
        };
        let pad = padding.before + padding.after;
        if wc != c || h + pad < *kh || w + pad < *kw || stride == 0 {
            bail!("a convolution of {x:?} with {weight:?}, stride {stride}, {padding:?}");
        }
        Ok(Geometry {
            batch: *n,
            channels: *c,
            height: *h,
            width: *w,
            filters: *o,
            kernel_h: *kh,
            kernel_w: *kw,
            stride,
            before: padding.before,
            out_h: (h + pad - kh) / stride + 1,
            out_w: (w + pad - kw) / stride + 1,
        })
    }

    fn in_size(&self) -> usize {
        self.channels * self.height * self.width
    }

    fn out_plane(&self) -> usize {
        self.out_h * self.out_w
    }

    fn out_size(&self) -> usize {
        self.filters * self.out_plane()
    }

    /// Rows of the column matrix: C kh kw.
    fn taps(&self) -> usize {
        self.channels * self.kernel_h * self.kernel_w
    }

    fn weight_size(&self) -> usize {
        self.filters * self.taps()
    }

    /// Images in one of the parts that run in parallel.
    fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    /// The column matrix of a 1x1 convolution with stride 1 is the image itself.
    fn is_pointwise(&self) -> bool {
        self.kernel_h == 1
            && self.kernel_w == 1
            && self.stride == 1
            && self.before == 0
            && (self.out_h, self.out_w) == (self.height, self.width)
    }

    /// Blocks of one chunk of `images`: groups of whole images where those are small, ranges of
    /// rows of one image where it is large.
    fn blocks(&self, images: usize) -> Vec<Block> {
        let columns = (BLOCK_ELEMENTS / self.taps().max(1)).max(1);
        let plane = self.out_plane();
        if plane <= columns {
            let group = columns / plane.max(1);
            (0..images)
                .step_by(group.max(1))
                .map(|first| Block {
                    first,
                    images: group.min(images - first),
                    row: 0,
                    rows: self.out_h,
                })
                .collect()
        } else {
            let rows = (columns / self.out_w).max(1);
            (0..images)
                .flat_map(|first| {
                    (0..self.out_h).step_by(rows).map(move |row| Block {
                        first,
                        images: 1,
                        row,
                        rows: rows.min(self.out_h - row),
                    })
                })
                .collect()
        }
    }
}

/// Whole images of a chunk (`row` 0, all rows), or rows of one.
#[derive(Debug, Clone, Copy)]
struct Block {
    first: usize,
    images: usize,
    row: usize,
    rows: usize,
}

impl Block {
    /// Columns of one image in this block.
    fn columns_each(&self, g: &Geometry) -> usize {
        self.rows * g.out_w
    }

    fn columns(&self, g: &Geometry) -> usize {
        self.images * self.columns_each(g)
    }
}

/// The range of output columns whose input column `ox * stride + k - before` lies inside.
fn valid(out: usize, k: usize, before: usize, stride: usize, size: usize) -> (usize, usize) {
    let low = before.saturating_sub(k).div_ceil(stride).min(out);
    let high = if size + before > k { (size + before - k).div_ceil(stride).min(out) } else { 0 };
    (low, high.max(low))
}

/// Columns `[taps, block columns]` of the images `x` (of one chunk).
fn im2col<T: WithDType>(g: &Geometry, block: &Block, x: &[T], columns: &mut [T]) {
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
fn col2im<T: WithDType>(g: &Geometry, block: &Block, columns: &[T], x: &mut [T]) {
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
fn gather<T: WithDType>(g: &Geometry, block: &Block, y: &[T], matrix: &mut [T]) {
    let (each, total) = (block.columns_each(g), block.columns(g));
    for (o, row) in matrix.chunks_exact_mut(total).take(g.filters).enumerate() {
        for (image, part) in row.chunks_exact_mut(each).enumerate() {
            let at = (block.first + image) * g.out_size() + o * g.out_plane() + block.row * g.out_w;
            part.copy_from_slice(&y[at..at + each]);
        }
    }
}

/// The reverse of [`gather`].
fn spread<T: WithDType>(g: &Geometry, block: &Block, matrix: &[T], y: &mut [T]) {
    let (each, total) = (block.columns_each(g), block.columns(g));
    for (o, row) in matrix.chunks_exact(total).take(g.filters).enumerate() {
        for (image, part) in row.chunks_exact(each).enumerate() {
            let at = (block.first + image) * g.out_size() + o * g.out_plane() + block.row * g.out_w;
            y[at..at + each].copy_from_slice(part);
        }
    }
}

/// y `[N, O, OH, OW]` of x `[N, C, H, W]`, weight `[O, taps]`, without bias.
fn forward<T: WithDType>(g: &Geometry, x: &[T], weight: &[T]) -> Vec<T> {
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
                spread(g, &block, &product, y);
            }
        });
    y
}

/// The gradient of the input `[N, C, H, W]` from that of the output `[N, O, OH, OW]`; also the
/// forward pass of the transposed convolution.
fn input_gradient<T: WithDType>(g: &Geometry, dy: &[T], weight: &[T]) -> Vec<T> {
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
                gather(g, &block, dy, &mut gathered);
                let right = Matrix::row_major(&gathered, g.filters, total);
                matmul(&mut columns, total, false, kernel, right);
                col2im(g, &block, &columns, dx);
            }
        });
    dx
}

/// The gradient of the weight `[O, C, kh, kw]`. Chunks are summed in their order.
fn weight_gradient<T: WithDType>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let chunk = g.chunk();
    let parts: Vec<Vec<T>> = x
        .par_chunks((chunk * g.in_size()).max(1))
        .zip(dy.par_chunks((chunk * g.out_size()).max(1)))
        .map(|(x, dy)| {
            let images = x.len() / g.in_size().max(1);
            let mut dw = vec![T::zero(); g.weight_size()];
            let (mut columns, mut gathered) = (Vec::new(), Vec::new());
            for block in g.blocks(images) {
                let total = block.columns(g);
                columns.resize(g.taps() * total, T::zero());
                gathered.resize(g.filters * total, T::zero());
                im2col(g, &block, x, &mut columns);
                gather(g, &block, dy, &mut gathered);
                let left = Matrix::row_major(&gathered, g.filters, total);
                let right = Matrix::row_major(&columns, g.taps(), total).transposed();
                matmul(&mut dw, g.taps(), true, left, right);
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
    sum
}

fn add_bias_in_place<T: WithDType>(y: &mut [T], bias: &[T], plane: usize) {
    for (i, part) in y.chunks_exact_mut(plane.max(1)).enumerate() {
        let b = bias[i % bias.len()];
        part.iter_mut().for_each(|v| *v += b);
    }
}

/// Sums of each channel over images and positions; eight running sums so that the loop is as
/// fast as memory and the rounding error small.
fn bias_gradient<T: WithDType>(dy: &[T], channels: usize, plane: usize) -> Vec<T> {
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

/// The elements of a contiguous tensor on the CPU.
fn slice<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let data = storage.as_slice::<T>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => bail!("a convolution got a tensor that is not contiguous"),
    }
}

/// Calls `f` with the elements of contiguous CPU tensors.
fn with_slices<T: WithDType, R, const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[T]; N]) -> R,
) -> Result<R> {
    let tensors = tensors.map(|t| t.contiguous());
    let mut held = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(t) => held.push(t.storage_and_layout()),
            Err(e) => bail!("{e}"),
        }
    }
    let mut slices: [&[T]; N] = [&[]; N];
    for (to, (storage, layout)) in slices.iter_mut().zip(&held) {
        let Storage::Cpu(storage) = &**storage else { bail!("a tensor that is not on the CPU") };
        *to = slice(storage, layout)?;
    }
    Ok(f(slices))
}

type Gradients = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

/// Runs `$body` with the type alias `$t` as the element type of `$dtype`.
macro_rules! for_float {
    ($dtype:expr, $t:ident, $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            other => bail!("convolutions are trained in float32 or float64, not {other:?}"),
        }
    };
}

struct Conv2dOp {
    stride: usize,
    padding: Padding,
}

impl CustomOp3 for Conv2dOp {
    fn name(&self) -> &'static str {
        "vqtok-conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let g = Geometry::of(xl.dims(), wl.dims(), self.stride, self.padding)?;
        let shape = Shape::from((g.batch, g.filters, g.out_h, g.out_w));
        for_float!(x.dtype(), T, {
            let mut y = forward::<T>(&g, slice(x, xl)?, slice(w, wl)?);
            add_bias_in_place(&mut y, slice(b, bl)?, g.out_plane());
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let g = Geometry::of(x.dims(), w.dims(), self.stride, self.padding)?;
        for_float!(x.dtype(), T, {
            with_slices::<T, _, 3>([x, w, dy], |[xs, ws, dys]| {
                let device = x.device();
                let dx = x
                    .track_op()
                    .then(|| Tensor::from_vec(input_gradient(&g, dys, ws), x.shape(), device));
                let dw = w
                    .track_op()
                    .then(|| Tensor::from_vec(weight_gradient(&g, xs, dys), w.shape(), device));
                let db = b.track_op().then(|| {
                    Tensor::from_vec(
                        bias_gradient(dys, g.filters, g.out_plane()),
                        b.shape(),
                        device,
                    )
                });
                Ok((dx.transpose()?, dw.transpose()?, db.transpose()?))
            })?
        })
    }
}

struct ConvTranspose2dOp {
    stride: usize,
    padding: usize,
}

impl ConvTranspose2dOp {
    /// The convolution whose adjoint this is: from our output to our input.
    fn adjoint(&self, x: &[usize], w: &[usize]) -> Result<Geometry> {
        let ([n, c, h, wd], [wc, o, kh, kw]) = (x, w) else {
            bail!("a transposed convolution of {x:?} with {w:?}: both need four dimensions");
        };
        let full = |size: usize, k: usize| (size.max(1) - 1) * self.stride + k;
        if c != wc || full(*h, *kh) <= 2 * self.padding || full(*wd, *kw) <= 2 * self.padding {
            bail!("a transposed convolution of {x:?} with {w:?}, padding {}", self.padding);
        }
        let out = [*n, *o, full(*h, *kh) - 2 * self.padding, full(*wd, *kw) - 2 * self.padding];
        Geometry::of(&out, w, self.stride, Padding::same(self.padding))
    }
}

impl CustomOp3 for ConvTranspose2dOp {
    fn name(&self) -> &'static str {
        "vqtok-conv-transpose2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        xl: &Layout,
        w: &CpuStorage,
        wl: &Layout,
        b: &CpuStorage,
        bl: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        let g = self.adjoint(xl.dims(), wl.dims())?;
        let shape = Shape::from((g.batch, g.channels, g.height, g.width));
        for_float!(x.dtype(), T, {
            let mut y = input_gradient::<T>(&g, slice(x, xl)?, slice(w, wl)?);
            add_bias_in_place(&mut y, slice(b, bl)?, g.height * g.width);
            Ok((T::to_cpu_storage_owned(y), shape))
        })
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<Gradients> {
        let g = self.adjoint(x.dims(), w.dims())?;
        for_float!(x.dtype(), T, {
            with_slices::<T, _, 3>([x, w, dy], |[xs, ws, dys]| {
                let device = x.device();
                let dx =
                    x.track_op().then(|| Tensor::from_vec(forward(&g, dys, ws), x.shape(), device));
                let dw = w
                    .track_op()
                    .then(|| Tensor::from_vec(weight_gradient(&g, dys, xs), w.shape(), device));
                let db = b.track_op().then(|| {
                    let sums = bias_gradient(dys, g.channels, g.height * g.width);
                    Tensor::from_vec(sums, b.shape(), device)
                });
                Ok((dx.transpose()?, dw.transpose()?, db.transpose()?))
            })?
        })
    }
}

struct ReluOp;

impl CustomOp1 for ReluOp {
    fn name(&self) -> &'static str {
        "vqtok-relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage;
        for_float!(x.dtype(), T, {
            let y: Vec<T> =
                slice::<T>(x, layout)?.iter().map(|v| if *v > 0.0 { *v } else { 0.0 }).collect();
            Ok((T::to_cpu_storage_owned(y), layout.shape().clone()))
        })
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        for_float!(x.dtype(), T, {
            with_slices::<T, _, 2>([y, dy], |[y, dy]| {
                let dx: Vec<T> =
                    y.iter().zip(dy).map(|(y, d)| if *y > 0.0 { *d } else { 0.0 }).collect();
                Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
            })?
        })
    }
}
