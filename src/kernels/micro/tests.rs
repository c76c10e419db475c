//! Holds `micro` against what it promises.

use super::super::reference::{Random, assert_close};
use super::*;

struct Multiply<'a> {
    left: &'a [f32],
    rows: usize,
    depth: usize,
    right: &'a Buffer,
    panels: usize,
    out: &'a mut [f32],
    stride: usize,
}

impl Kernel for Multiply<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let left = Left {
            taps: &[self.left.as_ptr()],
            row_stride: self.depth,
            rows: self.rows,
            depth: self.depth,
        };
        let right = Right { start: self.right.as_ptr(), panels: self.panels };
        let mut sink = Store {
            start: self.out.as_mut_ptr(),
            stride: self.stride,
            columns: self.stride,
            scale: Scale::All(0.5),
        };
        // SAFETY: the test below gives slices of these shapes.
        unsafe { product(s, left, right, &mut sink) }
    }
}

/// A product of rows at several taps, sums as they come.
struct Taps<'a> {
    taps: &'a [*const f32],
    sizes: [usize; 3],
    right: &'a Buffer,
    out: &'a mut [f32],
}

impl Kernel for Taps<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [rows, depth, columns] = self.sizes;
        let left = Left { taps: self.taps, row_stride: depth, rows, depth };
        let panels = columns.div_ceil(VECTORS * S::LANES);
        let right = Right { start: self.right.as_ptr(), panels };
        let stride = super::super::channel_stride(columns);
        let scale = Scale::All(1.0);
        let start = self.out.as_mut_ptr();
        let mut sink = Store { start, stride, columns: stride, scale };
        // SAFETY: the test below gives slices of these shapes.
        unsafe { product(s, left, right, &mut sink) }
    }
}

/// Whether the portable vectors round products before they add them.
const PLAIN: bool = !cfg!(any(target_feature = "fma", target_arch = "aarch64"));

#[test]
fn a_deep_product_has_the_bits_of_one_sum() {
    let mut random = Random::new(2);
    for isa in Isa::available() {
        for sizes in [[1, 385, 1], [7, 1100, 40], [300, 400, 33], [513, 90, 16], [5, 60, 64]] {
            let [rows, depth, columns] = sizes;
            for taps in [1, 3, 9] {
                let a = random.floats((rows + taps) * depth);
                let b = random.floats(taps * depth * columns);
                let packed = pack(isa, taps * depth, columns, |k, j| b[k * columns + j]);
                let stride = super::super::channel_stride(columns);
                let mut out = vec![f32::NAN; rows * stride];
                let starts: Vec<_> = (0..taps).map(|tap| a[tap * depth..].as_ptr()).collect();
                isa.run(Taps { taps: &starts, sizes, right: &packed, out: &mut out });
                for (row, out) in out.chunks_exact(stride).enumerate() {
                    for (j, &got) in out[..columns].iter().enumerate() {
                        let terms = b.chunks_exact(columns).map(|b| b[j]);
                        let terms = a[row * depth..].iter().zip(terms);
                        let want = terms.fold(0.0, |sum: f32, (&a, b)| match isa {
                            Isa::Portable if PLAIN => a * b + sum,
                            _ => a.mul_add(b, sum),
                        });
                        assert_eq!(got, want, "{sizes:?} {taps} taps, row {row}, column {j}");
                    }
                }
            }
        }
    }
}

#[test]
fn products_equal_a_plain_loop() {
    let mut random = Random::new(1);
    for isa in Isa::available() {
        for _ in 0..60 {
            let (rows, depth, columns) =
                (random.below(40) + 1, random.below(70), random.below(80) + 1);
            let a = random.floats(rows * depth);
            let b = random.floats(depth * columns);
            let stride = super::super::channel_stride(columns);
            let packed = pack(isa, depth, columns, |k, j| b[k * columns + j]);
            let mut out = vec![f32::NAN; rows * stride];
            let panels = columns.div_ceil(isa.panel());
            isa.run(Multiply {
                left: &a,
                rows,
                depth,
                right: &packed,
                panels,
                out: &mut out,
                stride,
            });
            for i in 0..rows {
                for j in 0..stride {
                    let (mut sum, mut size) = (0f64, 0f64);
                    if j < columns {
                        for k in 0..depth {
                            let x = 0.5
                                * f64::from(a[i * depth + k] * 1.0)
                                * f64::from(b[k * columns + j]);
                            sum += x;
                            size += x.abs();
                        }
                    }
                    let bound = (depth + 2) as f64 * f64::from(f32::EPSILON) / 2.0;
                    assert_close(out[i * stride + j], sum, size, bound, "product");
                }
            }
        }
    }
}

#[test]
fn a_row_does_not_depend_on_the_rows_beside_it() {
    let mut random = Random::new(2);
    let (rows, depth, columns) = (29, 33, 48);
    let a = random.floats(rows * depth);
    let b = random.floats(depth * columns);
    for isa in Isa::available() {
        let packed = pack(isa, depth, columns, |k, j| b[k * columns + j]);
        let panels = columns.div_ceil(isa.panel());
        let run = |first: usize, count: usize| {
            let mut out = vec![0f32; count * columns];
            isa.run(Multiply {
                left: &a[first * depth..],
                rows: count,
                depth,
                right: &packed,
                panels,
                out: &mut out,
                stride: columns,
            });
            out
        };
        let whole = run(0, rows);
        for first in 0..rows {
            for count in 1..=rows - first {
                let at = first * columns;
                assert_eq!(run(first, count), whole[at..at + count * columns]);
            }
        }
    }
}
