//! Owns sums of outer products: what the gradient of weights is, over pixels or tiles. Must not know:
//! which of them.
//!
//! The register block is the product's (`micro`), but depth runs over rows of both sides, so neither is
//! packed. An element's sum is taken in the order of the segments and of their rows, one rounding a step,
//! then added to what is there: it doesn't depend on how rows are dealt out.

use super::isa::{CHANNEL_BLOCK, Isa};
use super::simd::{Kernel, Simd};

/// Vectors of columns in a block.
const VECTORS: usize = 2;

/// Rows of both sides that are multiplied.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    /// `[depth][left_step]`
    pub left: &'a [f32],
    /// Floats from a row of the left side to the next.
    pub left_step: usize,
    /// `[depth][right_step]`
    pub right: &'a [f32],
    /// Floats from a row of the right side to the next.
    pub right_step: usize,
    /// Rows.
    pub depth: usize,
}

/// `to[r][c] += sum over k of left[k][first + r] * right[k][c]` for as many rows as `to`, of `columns`
/// floats each, has.
///
/// # Panics
/// Where segments are shorter than that, or columns are no whole vectors: a bug of the caller.
pub(super) fn outer(
    isa: Isa,
    segments: &[Segment<'_>],
    first: usize,
    columns: usize,
    to: &mut [f32],
) {
    assert!(
        columns.is_multiple_of(CHANNEL_BLOCK) && columns > 0 && to.len().is_multiple_of(columns)
    );
    let rows = to.len() / columns;
    for segment in segments {
        let last = segment.depth.saturating_sub(1);
        let empty = segment.depth == 0;
        assert!(empty || last * segment.left_step + first + rows <= segment.left.len());
        assert!(empty || last * segment.right_step + columns <= segment.right.len());
    }
    isa.run(Outer { segments, first, rows, columns, to });
}

struct Outer<'a> {
    segments: &'a [Segment<'a>],
    first: usize,
    rows: usize,
    columns: usize,
    to: &'a mut [f32],
}

impl Kernel for Outer<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Outer { segments, first, rows, columns, to } = self;
        let groups = rows.div_ceil(S::ROWS);
        for column in (0..columns).step_by(VECTORS * S::LANES) {
            let half = columns - column < VECTORS * S::LANES;
            for group in 0..groups {
                // Dealt out evenly, as in `micro`.
                let (row, end) = (group * rows / groups, (group + 1) * rows / groups);
                let to = &mut to[row * columns + column..];
                let block = Block { segments, row: first + row, column, columns, to };
                // SAFETY: `outer` checked the segments for all rows and columns.
                unsafe { block.run(s, end - row, half) }
            }
        }
    }
}

/// One block of the result, from `row` of the left side and `column` on.
struct Block<'a> {
    segments: &'a [Segment<'a>],
    row: usize,
    column: usize,
    /// Floats from a row of the result to the next.
    columns: usize,
    to: &'a mut [f32],
}

impl Block<'_> {
    /// # Safety
    /// Segments have these rows and columns.
    #[inline(always)]
    unsafe fn run<S: Simd>(self, s: S, count: usize, half: bool) {
        macro_rules! counts {
            ($($n:literal)*) => {
                match (count, half) {
                    $(($n, false) if $n <= S::ROWS => s.isolate(OfSize::<'_, $n, 2>(self)),
                      ($n, true) if $n <= S::ROWS => s.isolate(OfSize::<'_, $n, 1>(self)),)*
                    _ => unreachable!("a block has at most as many rows as registers"),
                }
            };
        }
        counts!(1 2 3 4 5 6 7 8 9 10 11 12)
    }
}

/// A block of `PX` rows and `N` vectors; made only by `Block::run`, whose caller promises that it is valid.
struct OfSize<'a, const PX: usize, const N: usize>(Block<'a>);

impl<const PX: usize, const N: usize> Kernel for OfSize<'_, PX, N> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Block { segments, row, column, columns, to } = self.0;
        let mut sums = [[s.splat(0.0); N]; PX];
        for segment in segments {
            let mut a = segment.left.as_ptr().wrapping_add(row);
            let mut b = segment.right.as_ptr().wrapping_add(column);
            for _ in 0..segment.depth {
                // SAFETY: the promise: every row of the segment has these rows and columns.
                unsafe {
                    let mut w = [s.splat(0.0); N];
                    for (v, w) in w.iter_mut().enumerate() {
                        *w = s.load(b.add(v * S::LANES));
                    }
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let x = s.splat(*a.add(p));
                        for v in 0..N {
                            sum[v] = s.fma(x, w[v], sum[v]);
                        }
                    }
                }
                a = a.wrapping_add(segment.left_step);
                b = b.wrapping_add(segment.right_step);
            }
        }
        for (p, sum) in sums.iter().enumerate() {
            let to = &mut to[p * columns..][..N * S::LANES];
            for (v, sum) in sum.iter().enumerate() {
                // SAFETY: the slice has `N` vectors.
                unsafe {
                    let to = to.as_mut_ptr().add(v * S::LANES);
                    s.store(to, s.add(s.load(to), *sum));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Random, assert_close};
    use super::*;

    #[test]
    fn segments_add_up_to_what_the_definition_says() {
        let mut random = Random::new(5);
        for isa in Isa::available() {
            for _ in 0..60 {
                let (rows, columns) = (random.below(40) + 1, 16 * (random.below(5) + 1));
                let first = random.below(4);
                let depths = [random.below(9), random.below(30), 1];
                let steps = [first + rows + random.below(3), columns + random.below(3)];
                let sides: Vec<_> = depths
                    .iter()
                    .map(|depth| steps.map(|step| random.floats(depth * step)))
                    .collect();
                let segments: Vec<_> = sides
                    .iter()
                    .zip(depths)
                    .map(|([left, right], depth)| Segment {
                        left,
                        left_step: steps[0],
                        right,
                        right_step: steps[1],
                        depth,
                    })
                    .collect();
                let before = random.floats(rows * columns);
                let mut got = before.clone();
                outer(isa, &segments, first, columns, &mut got);
                for (at, got) in got.iter().enumerate() {
                    let (r, c) = (at / columns, at % columns);
                    let mut want = (f64::from(before[at]), f64::from(before[at].abs()));
                    for ([left, right], depth) in sides.iter().zip(depths) {
                        for k in 0..depth {
                            let (a, b) = (left[k * steps[0] + first + r], right[k * steps[1] + c]);
                            want.0 += f64::from(a) * f64::from(b);
                            want.1 += (f64::from(a) * f64::from(b)).abs();
                        }
                    }
                    assert_close(*got, want.0, want.1, 1e-6, "outer product");
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_however_rows_are_dealt_out() {
        let mut random = Random::new(6);
        let (rows, columns, depth) = (37, 48, 90);
        let (left, right) = (random.floats(depth * rows), random.floats(depth * columns));
        let segment =
            Segment { left: &left, left_step: rows, right: &right, right_step: columns, depth };
        for isa in Isa::available() {
            let mut whole = vec![0.0; rows * columns];
            outer(isa, &[segment], 0, columns, &mut whole);
            for first in 0..rows {
                let mut one = vec![0.0; columns];
                outer(isa, &[segment], first, columns, &mut one);
                assert_eq!(one, whole[first * columns..][..columns]);
            }
        }
    }
}
