//! Owns the language between what is computed and what computes it: commands over numbered buffers.

use serde::{Deserialize, Serialize};

use crate::engine::device::Precision;

/// Our kernels, in CUDA C, which launches name.
pub(crate) const KERNELS: &str = concat!(include_str!("kernels.cu"), include_str!("families.cu"));

/// A buffer on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A packed tensor of the weights, the same for every program.
    Weight(usize),
    /// A buffer of the program.
    Map(usize),
}

/// An argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Arg {
    /// The address of a buffer, so many bytes after its start.
    At(Place, usize),
    /// No address.
    Null,
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f32),
}

/// One of our kernels over a grid of blocks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch {
    /// Its name in `kernels.cu`.
    pub kernel: &'static str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub block: u32,
    /// In the order of its signature.
    pub arguments: Vec<Arg>,
}

/// A row-major matrix, repeated along a batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Matrix {
    /// Its buffer.
    pub place: Place,
    /// Elements in front of it.
    pub offset: usize,
    /// Elements from a row to the next.
    pub row: usize,
    /// Elements from a matrix of the batch to the next.
    pub step: usize,
    /// Its elements.
    pub element: Precision,
}

/// `c = alpha * a * b` or `alpha * a * b^T`, for each matrix of a batch: a `[rows, inner]`, b
/// `[inner, columns]` or `[columns, inner]`, c `[rows, columns]`. Sums are float32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gemm {
    /// Left factor.
    pub a: Matrix,
    /// Right factor, of the elements of `a`.
    pub b: Matrix,
    /// Whether rows of `b` are columns of the product.
    pub b_transposed: bool,
    /// Result.
    pub c: Matrix,
    /// Rows of `c`.
    pub rows: usize,
    /// Columns of `c`.
    pub columns: usize,
    /// Length of the sums.
    pub inner: usize,
    /// Matrices.
    pub batch: usize,
    /// Factor.
    pub alpha: f32,
}

/// A [`Gemm`] as BLAS wants it: column-major, where our rows are its columns, so that the factors
/// change places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ColumnMajor {
    /// Whether its first factor is transposed; the second one never is.
    pub transpose_first: bool,
    /// Rows of its result.
    pub m: usize,
    /// Columns of its result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// Its first factor.
    pub first: Matrix,
    /// Its second factor.
    pub second: Matrix,
}

impl Gemm {
    /// The call that computes it: `c^T = (b or b^T)^T * a^T`.
    pub(crate) fn column_major(&self) -> ColumnMajor {
        ColumnMajor {
            transpose_first: self.b_transposed,
            m: self.columns,
            n: self.rows,
            k: self.inner,
            first: self.b,
            second: self.a,
        }
    }
}

/// Everything that a library chooses a convolution's kernel by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConvShape {
    /// Images.
    pub images: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the input.
    pub inputs: usize,
    /// Channels of the output.
    pub outputs: usize,
    /// Rows and columns of the window.
    pub kernel: usize,
    /// From an output pixel to the next.
    pub stride: usize,
    /// Zeros above and on the left.
    pub before: usize,
    /// Zeros below and on the right.
    pub after: usize,
    /// Whether a map is added.
    pub residual: bool,
}

impl ConvShape {
    /// Rows and columns of the output.
    pub(crate) fn output(&self) -> (usize, usize) {
        let side = |input: usize| {
            (input + self.before + self.after).saturating_sub(self.kernel) / self.stride + 1
        };
        (side(self.height), side(self.width))
    }

    /// Multiplications and additions of the definition.
    pub(crate) fn operations(&self) -> f64 {
        let (height, width) = self.output();
        let sums = self.images * height * width * self.outputs;
        2.0 * sums as f64 * (self.kernel * self.kernel * self.inputs) as f64
    }
}

/// A bfloat16 convolution that is left to cuDNN: input, weights, bias (bfloat16), residual, output.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Convolve {
    /// Its shape.
    pub shape: ConvShape,
    /// Input map.
    pub from: Place,
    /// Weights.
    pub weights: Place,
    /// Bias.
    pub bias: Place,
    /// What is added, where `shape.residual`.
    pub residual: Option<Place>,
    /// Output map; no other place of this command.
    pub to: Place,
}

/// One step of a program.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Work {
    /// Of our kernels.
    Launch(Launch),
    /// Of cuBLAS.
    Gemm(Gemm),
    /// Of cuDNN.
    Convolve(Convolve),
}

/// A step with what it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Command {
    /// The layer, for profiles and messages.
    pub layer: String,
    /// What is done.
    pub work: Work,
}

/// What is read once a program has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Result {
    /// Levels of codes.
    Codes(Vec<Level>),
    /// Latents alone, for rules that the host applies.
    Latents,
}

/// Codes of a level, one for each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level {
    /// Where codes (u32) are.
    pub codes: Place,
    /// Where distances (f32) are.
    pub distances: Place,
    /// Rows and columns of its grid.
    pub grid: (usize, usize),
}

/// An encoder, or as `decoder` says a decoder, for a number of images of one size.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    /// Images a run.
    pub images: usize,
    /// Images of the run that libraries choose their ways for; at least `images`.
    pub usual: usize,
    /// Bytes of an image: `[height, width, channels]`.
    pub image_bytes: usize,
    /// Rows and columns of the latents.
    pub grid: (usize, usize),
    /// Floats of a latent.
    pub dim: usize,
    /// In the order in which they run.
    pub commands: Vec<Command>,
    /// Bytes of each buffer.
    pub maps: Vec<usize>,
    /// Where the images' bytes go.
    pub input: Place,
    /// Where latents stand, float32 `[images, h, w, dim]` (normalised for `l2-normalised`).
    pub latents: Place,
    /// What the quantizer gives.
    pub result: Result,
}

impl Program {
    /// Bytes of all buffers.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.maps.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_sizes_follow_the_padding() {
        let shape = ConvShape {
            images: 2,
            height: 17,
            width: 8,
            inputs: 16,
            outputs: 24,
            kernel: 3,
            stride: 2,
            before: 0,
            after: 1,
            residual: false,
        };
        assert_eq!(shape.output(), (8, 4));
        assert_eq!(ConvShape { stride: 1, before: 1, ..shape }.output(), (17, 8));
        assert_eq!(shape.operations(), 2.0 * 2.0 * 32.0 * 24.0 * 9.0 * 16.0);
    }

    #[test]
    fn rows_become_columns_and_the_factors_change_places() {
        let matrix = |offset: usize, row: usize| Matrix {
            place: Place::Map(0),
            offset,
            row,
            step: 0,
            element: Precision::F32,
        };
        let gemm = Gemm {
            a: matrix(1, 5),
            b: matrix(2, 7),
            b_transposed: true,
            c: matrix(3, 11),
            rows: 2,
            columns: 3,
            inner: 4,
            batch: 1,
            alpha: 1.0,
        };
        let call = gemm.column_major();
        assert_eq!((call.m, call.n, call.k, call.transpose_first), (3, 2, 4, true));
        assert_eq!((call.first.offset, call.second.offset), (2, 1));
    }
}
