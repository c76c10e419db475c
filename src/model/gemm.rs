//! Owns the binding to the `gemm` crate: one safe, checked, single-threaded matrix product.
//! Must not know: tensors, convolutions. The only `unsafe` of the training path is here.
//!
//! Single-threaded on purpose: callers split their work by shape, never by the number of threads,
//! so that a result is the same bits on one thread and on sixty-four.

use candle_core::WithDType;

/// A matrix inside a slice: element (r, c) lies at `r * row_stride + c * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    /// The elements, more or fewer than `rows * cols` as the strides want.
    pub data: &'a [T],
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Elements from one row to the next.
    pub row_stride: usize,
    /// Elements from one column to the next.
    pub col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `rows` x `cols`, rows one after the other.
    pub(crate) fn row_major(data: &'a [T], rows: usize, cols: usize) -> Self {
        Matrix { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The number of elements that the last one's place asks for.
    fn extent(&self) -> usize {
        if self.rows == 0 || self.cols == 0 {
            return 0;
        }
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride + 1
    }
}

/// `out = a b`, or `out += a b` where `accumulate`; `out` is `[a.rows, b.cols]` with rows
/// `out_stride` elements apart. float32 and float64.
///
/// # Panics
/// Where shapes and slices do not fit each other: a defect of the caller.
pub(crate) fn matmul<T: WithDType>(
    out: &mut [T],
    out_stride: usize,
    accumulate: bool,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
) {
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    assert!(a.extent() <= a.data.len() && b.extent() <= b.data.len(), "matrix outside its slice");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    assert!(out_stride >= b.cols, "rows of the result overlap");
    assert!((a.rows - 1) * out_stride + b.cols <= out.len(), "result outside its slice");
    // SAFETY: the three extents were checked against their slices above; `out` is borrowed
    // mutably, so it overlaps neither input; its rows don't overlap each other; T is f32 or f64,
    // the plain types that `gemm` dispatches on (it panics on others).
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::one(),
            T::one(),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_strides_and_accumulation_equal_the_plain_loop() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (17, 4, 33), (64, 31, 2)] {
            let a: Vec<f64> = (0..m * k).map(|i| ((i * 7919) % 13) as f64 - 6.0).collect();
            let b: Vec<f64> = (0..k * n).map(|i| ((i * 104729) % 11) as f64 - 5.0).collect();
            for transpose_a in [false, true] {
                for accumulate in [false, true] {
                    let stride = n + 3;
                    let mut out = vec![2.0; m * stride];
                    let at = |r: usize, c: usize| {
                        if transpose_a { a[c * m + r] } else { a[r * k + c] }
                    };
                    let left = if transpose_a {
                        Matrix::row_major(&a, k, m).transposed()
                    } else {
                        Matrix::row_major(&a, m, k)
                    };
                    matmul(&mut out, stride, accumulate, left, Matrix::row_major(&b, k, n));
                    for r in 0..m {
                        for c in 0..stride {
                            // Small integers: float64 is exact, so is the comparison.
                            let sum: f64 = if c < n {
                                (0..k).map(|i| at(r, i) * b[i * n + c]).sum::<f64>()
                                    + if accumulate { 2.0 } else { 0.0 }
                            } else {
                                2.0
                            };
                            assert_eq!(out[r * stride + c], sum, "({m},{k},{n}) at {r},{c}");
                        }
                    }
                }
            }
        }
    }
}
