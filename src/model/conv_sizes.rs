//! Owns the sizes of one convolution, and how its work is cut into blocks by them alone.

use candle_core::{Result, Shape, bail};

use crate::kernels::Window;

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

/// The sizes of one convolution from `[N, C, H, W]` to `[N, O, OH, OW]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConvSizes {
    /// Images.
    pub batch: usize,
    /// Of x.
    pub channels: usize,
    /// Of x.
    pub height: usize,
    /// Of x.
    pub width: usize,
    /// Channels of y.
    pub filters: usize,
    /// Of the window.
    pub kernel_h: usize,
    /// Of the window.
    pub kernel_w: usize,
    /// Of the window, along both sides.
    pub stride: usize,
    /// Zeros above and on the left.
    pub before: usize,
    /// Height of y.
    pub out_h: usize,
    /// Width of y.
    pub out_w: usize,
}

/// Elements of a block of columns that should stay in a core's own cache.
const BLOCK_ELEMENTS: usize = 1 << 17;
/// How many parts a batch is split into at most.
const CHUNKS: usize = 8;

impl ConvSizes {
    /// From the shapes of x and the weight.
    ///
    /// # Errors
    /// Shapes that don't go together.
    pub fn of(x: &[usize], weight: &[usize], stride: usize, padding: Padding) -> Result<ConvSizes> {
        let ([n, c, h, w], [o, wc, kh, kw]) = (x, weight) else {
            bail!("a convolution of {x:?} with {weight:?}: both need four dimensions");
        };
        let pad = padding.before + padding.after;
        if wc != c || h + pad < *kh || w + pad < *kw || stride == 0 {
            bail!("a convolution of {x:?} with {weight:?}, stride {stride}, {padding:?}");
        }
        Ok(ConvSizes {
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

    /// That of x.
    pub(super) fn input_shape(&self) -> Shape {
        Shape::from((self.batch, self.channels, self.height, self.width))
    }

    /// That of y.
    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.batch, self.filters, self.out_h, self.out_w))
    }

    /// That of the weight.
    pub(super) fn weight_shape(&self) -> Shape {
        Shape::from((self.filters, self.channels, self.kernel_h, self.kernel_w))
    }

    /// The window, as kernels have it.
    pub(super) fn window(&self) -> Window {
        let ConvSizes { kernel_h, kernel_w, stride, before, .. } = *self;
        Window { height: kernel_h, width: kernel_w, stride, padding: before }
    }

    pub(super) fn in_size(&self) -> usize {
        self.channels * self.height * self.width
    }

    pub(super) fn out_plane(&self) -> usize {
        self.out_h * self.out_w
    }

    pub(super) fn out_size(&self) -> usize {
        self.filters * self.out_plane()
    }

    /// Rows of the column matrix: C kh kw.
    pub(super) fn taps(&self) -> usize {
        self.channels * self.kernel_h * self.kernel_w
    }

    pub(super) fn weight_size(&self) -> usize {
        self.filters * self.taps()
    }

    /// The convolution of stride 1 that takes gradients of the output to those of the input, through the
    /// flipped window. None where the window's padding is more than it reaches.
    pub(super) fn flipped(&self) -> Option<ConvSizes> {
        let before = (self.kernel_h.checked_sub(1)?).checked_sub(self.before)?;
        (self.stride == 1 && self.kernel_h == self.kernel_w).then_some(ConvSizes {
            channels: self.filters,
            height: self.out_h,
            width: self.out_w,
            filters: self.channels,
            before,
            out_h: self.height,
            out_w: self.width,
            ..*self
        })
    }

    /// The 3x3 convolution of stride 1 that takes gradients of the output of stride 2 to the four phases of
    /// those of the input. None where the window reaches further than that.
    pub(super) fn phases(&self) -> Option<ConvSizes> {
        let square = self.kernel_h == self.kernel_w;
        // Rows `a + before - 2d` for phases a of 0 and 1 and shifts d of -1 to 1 are all of the window.
        let reaches = self.before <= 2 && self.kernel_h <= self.before + 4;
        let (down, across) = (self.height.div_ceil(2), self.width.div_ceil(2));
        let fits = self.out_h <= down + 1 && self.out_w <= across + 1;
        (self.stride == 2 && square && reaches && fits).then_some(ConvSizes {
            channels: self.filters,
            height: self.out_h,
            width: self.out_w,
            filters: 4 * self.channels,
            kernel_h: 3,
            kernel_w: 3,
            stride: 1,
            before: 1,
            out_h: down,
            out_w: across,
            ..*self
        })
    }

    /// Images in one of the parts that run in parallel.
    pub(super) fn chunk(&self) -> usize {
        self.batch.div_ceil(CHUNKS).max(1)
    }

    /// The column matrix of a 1x1 convolution with stride 1 is the image itself.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel_h == 1
            && self.kernel_w == 1
            && self.stride == 1
            && self.before == 0
            && (self.out_h, self.out_w) == (self.height, self.width)
    }

    /// Blocks of one chunk of `images`: groups of whole images where those are small, ranges of
    /// rows of one image where it is large.
    pub(super) fn blocks(&self, images: usize) -> Vec<ColumnBlock> {
        let columns = (BLOCK_ELEMENTS / self.taps().max(1)).max(1);
        let plane = self.out_plane();
        if plane <= columns {
            let group = columns / plane.max(1);
            (0..images)
                .step_by(group.max(1))
                .map(|first| ColumnBlock {
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
                    (0..self.out_h).step_by(rows).map(move |row| ColumnBlock {
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
pub(super) struct ColumnBlock {
    pub first: usize,
    pub images: usize,
    pub row: usize,
    pub rows: usize,
}

impl ColumnBlock {
    /// Columns of one image in this block.
    pub(super) fn columns_each(&self, g: &ConvSizes) -> usize {
        self.rows * g.out_w
    }

    pub(super) fn columns(&self, g: &ConvSizes) -> usize {
        self.images * self.columns_each(g)
    }
}
