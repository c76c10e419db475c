//! Owns the transforms of Winograd's tiles: one-dimensional ones, of rows and columns alike, and those of
//! a whole tile.

use super::simd::Simd;

/// B^T d of F(4, 3), F(4, 2) or F(2, 3).
#[inline(always)]
pub(super) fn input_transform<S: Simd, const WIDE: usize>(s: S, d: [S::V; WIDE]) -> [S::V; WIDE] {
    let two = s.splat(2.0);
    let mut out = d;
    if WIDE == 6 {
        let (four, five) = (s.splat(4.0), s.splat(5.0));
        let even = s.fnma(four, d[2], d[4]);
        let odd = s.fnma(four, d[1], d[3]);
        let even2 = s.sub(d[4], d[2]);
        let odd2 = s.mul(two, s.sub(d[3], d[1]));
        out[0] = s.fma(four, d[0], s.fnma(five, d[2], d[4]));
        out[1] = s.add(even, odd);
        out[2] = s.sub(even, odd);
        out[3] = s.add(even2, odd2);
        out[4] = s.sub(even2, odd2);
        out[5] = s.fma(four, d[1], s.fnma(five, d[3], d[5]));
    } else if WIDE == 5 {
        // Rows 2 -1 -2 1 0; 0 -2 -1 1 0; 0 2 -3 1 0; 0 -1 0 1 0; 0 2 -1 -2 1.
        let outer = s.sub(d[3], d[1]);
        let inner = s.sub(d[0], d[2]);
        out[0] = s.fma(two, inner, outer);
        out[1] = s.sub(s.sub(outer, d[1]), d[2]);
        out[2] = s.fma(two, d[1], s.fnma(s.splat(3.0), d[2], d[3]));
        out[3] = outer;
        out[4] = s.fnma(two, outer, s.sub(d[4], d[2]));
    } else {
        out[0] = s.sub(d[0], d[2]);
        out[1] = s.add(d[1], d[2]);
        out[2] = s.sub(d[2], d[1]);
        out[3] = s.sub(d[1], d[3]);
    }
    out
}

/// A^T m of F(4, 3), F(4, 2) or F(2, 3).
#[inline(always)]
pub(super) fn output_transform<S: Simd, const WIDE: usize, const SIDE: usize>(
    s: S,
    m: [S::V; WIDE],
) -> [S::V; SIDE] {
    let (two, four, eight) = (s.splat(2.0), s.splat(4.0), s.splat(8.0));
    let (sum, difference) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
    let mut out = [sum; SIDE];
    if WIDE == 6 {
        let (sum2, difference2) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        out[0] = s.add(s.add(m[0], sum), sum2);
        out[1] = s.fma(two, difference2, difference);
        out[2] = s.fma(four, sum2, sum);
        out[3] = s.add(s.fma(eight, difference2, difference), m[5]);
    } else if WIDE == 5 {
        out[0] = s.add(s.add(m[0], sum), m[3]);
        out[1] = s.fma(two, m[3], difference);
        out[2] = s.fma(four, m[3], sum);
        out[3] = s.add(s.fma(eight, m[3], difference), m[4]);
    } else {
        out[0] = s.add(m[0], sum);
        out[1] = s.sub(difference, m[3]);
    }
    out
}

/// A m, the adjoint of [`output_transform`].
#[inline(always)]
fn gradient_transform<S: Simd, const WIDE: usize, const SIDE: usize>(
    s: S,
    d: [S::V; SIDE],
) -> [S::V; WIDE] {
    let (two, four) = (s.splat(2.0), s.splat(4.0));
    let mut out = [d[0]; WIDE];
    if SIDE == 4 {
        let (even, odd) = (s.add(d[0], d[2]), s.add(d[1], d[3]));
        let even2 = s.fma(four, d[2], d[0]);
        let odd2 = s.mul(two, s.fma(four, d[3], d[1]));
        out[1] = s.add(even, odd);
        out[2] = s.sub(even, odd);
        out[3] = s.add(even2, odd2);
        if WIDE == 6 {
            out[4] = s.sub(even2, odd2);
        }
        out[WIDE - 1] = d[3];
    } else {
        out[1] = s.add(d[0], d[1]);
        out[2] = s.sub(d[0], d[1]);
        out[3] = s.sub(s.splat(0.0), d[1]);
    }
    out
}

/// B^T d B of one tile, whose rows begin at `rows` and whose pixels lie `step` apart there: for each of
/// its positions `stride` floats, `apart` from a position to the next.
///
/// # Safety
/// All of the tile's pixels are valid, as are the positions behind `to`; `stride` is whole vectors.
#[inline(always)]
pub(super) unsafe fn tile_in<S: Simd, const WIDE: usize>(
    s: S,
    rows: [*const f32; WIDE],
    (step, stride): (usize, usize),
    to: *mut f32,
    apart: usize,
) {
    for c in (0..stride).step_by(S::LANES) {
        let mut half = [[s.splat(0.0); WIDE]; WIDE];
        for j in 0..WIDE {
            // Loops, not closures, around vectors: a closure is compiled without the instruction set.
            let mut column = [s.splat(0.0); WIDE];
            for i in 0..WIDE {
                // SAFETY: the caller's promise.
                column[i] = unsafe { s.load(rows[i].add(step * j * stride + c)) };
            }
            let column = input_transform(s, column);
            for i in 0..WIDE {
                half[i][j] = column[i];
            }
        }
        for (i, row) in half.into_iter().enumerate() {
            let row = input_transform(s, row);
            for (j, v) in row.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { s.store(to.add((i * WIDE + j) * apart + c), v) };
            }
        }
    }
}

/// A d A^T of one tile of gradients, whose rows begin at `rows`; likewise.
///
/// # Safety
/// As for [`tile_in`].
#[inline(always)]
pub(super) unsafe fn tile_gradient<S: Simd, const WIDE: usize, const SIDE: usize>(
    s: S,
    rows: [*const f32; SIDE],
    stride: usize,
    to: *mut f32,
    apart: usize,
) {
    for c in (0..stride).step_by(S::LANES) {
        let mut half = [[s.splat(0.0); SIDE]; WIDE];
        for j in 0..SIDE {
            let mut column = [s.splat(0.0); SIDE];
            for i in 0..SIDE {
                // SAFETY: the caller's promise.
                column[i] = unsafe { s.load(rows[i].add(j * stride + c)) };
            }
            let column: [S::V; WIDE] = gradient_transform(s, column);
            for i in 0..WIDE {
                half[i][j] = column[i];
            }
        }
        for (i, row) in half.into_iter().enumerate() {
            let row: [S::V; WIDE] = gradient_transform(s, row);
            for (j, v) in row.into_iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { s.store(to.add((i * WIDE + j) * apart + c), v) };
            }
        }
    }
}

/// A^T m A of one vector of channels, whose positions lie `apart`.
///
/// # Safety
/// A vector at each position.
#[inline(always)]
pub(super) unsafe fn tile_out<S: Simd, const WIDE: usize, const SIDE: usize>(
    s: S,
    from: *const f32,
    apart: usize,
) -> [[S::V; SIDE]; SIDE] {
    let mut half = [[s.splat(0.0); WIDE]; SIDE];
    for j in 0..WIDE {
        let mut column = [s.splat(0.0); WIDE];
        for (i, v) in column.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            *v = unsafe { s.load(from.add((i * WIDE + j) * apart)) };
        }
        let column: [S::V; SIDE] = output_transform(s, column);
        for i in 0..SIDE {
            half[i][j] = column[i];
        }
    }
    let mut values = [[s.splat(0.0); SIDE]; SIDE];
    for i in 0..SIDE {
        values[i] = output_transform(s, half[i]);
    }
    values
}
