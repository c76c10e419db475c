//! Owns the register-blocked product that every convolution and matrix product runs on, and the
//! packing of its right-hand side. Must not know: where rows come from, what becomes of the sums.
//!
//! The block is `PX` rows times two vectors of columns: 6 x 16 with AVX2, 12 x 32 with AVX-512.
//! A sum over depth is taken in order, one rounding a step, whatever the block's size: an output
//! doesn't depend on the rows it is computed with.

use super::buffer::Buffer;
use super::isa::Isa;
use super::simd::{Kernel, Simd};

/// Vectors of columns in a block.
pub(super) const VECTORS: usize = 2;

/// The largest `Simd::ROWS`.
const ROWS_MAX: usize = 12;

/// The sums of a block.
pub(super) type Block<S, const PX: usize> = [[<S as Simd>::V; VECTORS]; PX];

/// What becomes of a block's sums.
pub(super) trait Sink {
    /// Takes the sums of rows `row..row + PX` and of two vectors of columns from `column` on.
    /// Columns after the last real one come too; they are zero.
    ///
    /// # Safety
    /// Memory behind the sink is valid for these rows and the real columns.
    unsafe fn take<S: Simd, const PX: usize>(
        &mut self,
        s: S,
        sums: Block<S, PX>,
        row: usize,
        column: usize,
    );
}

/// The left-hand side: `rows` rows, each the concatenation of `depth` floats at every tap.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// Where each tap's first row starts.
    pub taps: &'a [*const f32],
    /// Floats from a row to the next.
    pub row_stride: usize,
    /// Rows.
    pub rows: usize,
    /// Floats of a row at one tap.
    pub depth: usize,
}

/// The right-hand side, packed: `[panels][taps][depth][panel width]`.
#[derive(Clone, Copy)]
pub(super) struct Right {
    /// The first panel.
    pub start: *const f32,
    /// Number of panels.
    pub panels: usize,
}

/// Left times right, block by block, each into the sink: panels outside, rows inside, ascending.
///
/// # Safety
/// `left` and `right` are valid for their shapes, the sink for `rows` and all panels.
#[inline(always)]
pub(super) unsafe fn product<S: Simd>(s: S, left: Left<'_>, right: Right, sink: &mut impl Sink) {
    let width = VECTORS * S::LANES;
    let panel_len = left.taps.len() * left.depth * width;
    let groups = left.rows.div_ceil(S::ROWS);
    for panel in 0..right.panels {
        // SAFETY: inside the packed panels, and rows below `left.rows`.
        unsafe {
            let b = right.start.add(panel * panel_len);
            // Each block fetches its share of the panel after this one.
            let share = panel_len.div_ceil(groups.max(1));
            let mut row = 0;
            for group in 0..groups {
                // Rows are dealt out evenly: a block of one or two rows can't hide the latency
                // of the multiply-add.
                let end = (group + 1) * left.rows / groups;
                let ahead = (b.wrapping_add(panel_len + group * share), width.div_ceil(groups));
                block(s, left, (b, ahead), (row, end - row), panel * width, sink);
                row = end;
            }
        }
    }
}

/// Weights that are needed later, and how many floats of them a step of depth fetches.
type Ahead = (*const f32, usize);

/// One block of `count` rows, 1 to `ROWS_MAX`.
#[inline(always)]
unsafe fn block<S: Simd>(
    s: S,
    left: Left<'_>,
    b: (*const f32, Ahead),
    (row, count): (usize, usize),
    column: usize,
    sink: &mut impl Sink,
) {
    macro_rules! counts {
        ($($n:literal)*) => {
            match count {
                $($n if $n <= S::ROWS => s.isolate(OneBlock::<_, $n> { left, b, row, column, sink }),)*
                _ => unreachable!("a block has at most {ROWS_MAX} rows"),
            }
        };
    }
    counts!(1 2 3 4 5 6 7 8 9 10 11 12)
}

/// Made only by `block`, whose caller promises that it is valid.
struct OneBlock<'a, K, const PX: usize> {
    left: Left<'a>,
    b: (*const f32, Ahead),
    row: usize,
    column: usize,
    sink: &'a mut K,
}

impl<K: Sink, const PX: usize> Kernel for OneBlock<'_, K, PX> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // SAFETY: the promise that it was made under.
        unsafe {
            let sums = sums::<S, PX>(s, self.left, self.row, self.b);
            self.sink.take(s, sums, self.row, self.column);
        }
    }
}

/// The hot loop.
#[inline(always)]
unsafe fn sums<S: Simd, const PX: usize>(
    s: S,
    left: Left<'_>,
    row: usize,
    (mut b, (mut ahead, step)): (*const f32, Ahead),
) -> Block<S, PX> {
    let mut sums = [[s.splat(0.0); VECTORS]; PX];
    for &tap in left.taps {
        // SAFETY: the caller's promise: `depth` floats in each row at each tap, and a panel of
        // `taps * depth` steps.
        unsafe {
            let a = tap.add(row * left.row_stride);
            for k in 0..left.depth {
                s.prefetch(ahead);
                ahead = ahead.wrapping_add(step);
                let w = [s.load(b), s.load(b.add(S::LANES))];
                for (p, sum) in sums.iter_mut().enumerate() {
                    let x = s.splat(*a.add(p * left.row_stride + k));
                    sum[0] = s.fma(x, w[0], sum[0]);
                    sum[1] = s.fma(x, w[1], sum[1]);
                }
                b = b.add(VECTORS * S::LANES);
            }
        }
    }
    sums
}

/// What sums are multiplied by.
#[derive(Clone, Copy)]
pub(super) enum Scale<'a> {
    /// One factor.
    All(f32),
    /// One a row.
    Rows(&'a [f32]),
}

/// Writes the sums, times a factor, as rows of a matrix of whole vectors.
pub(super) struct Store<'a> {
    /// Row 0, column 0.
    pub start: *mut f32,
    /// Floats from a row to the next.
    pub stride: usize,
    /// Columns that are written, whole vectors of them; others are dropped.
    pub columns: usize,
    /// The factor.
    pub scale: Scale<'a>,
}

impl Sink for Store<'_> {
    #[inline(always)]
    unsafe fn take<S: Simd, const PX: usize>(
        &mut self,
        s: S,
        sums: Block<S, PX>,
        row: usize,
        column: usize,
    ) {
        let scale = |row: usize| match self.scale {
            Scale::All(scale) => s.splat(scale),
            Scale::Rows(scales) => s.splat(scales[row]),
        };
        for v in 0..VECTORS {
            let column = column + v * S::LANES;
            if column < self.columns {
                for (p, sum) in sums.iter().enumerate() {
                    // SAFETY: the caller's promise for this row; columns are whole vectors.
                    unsafe {
                        let to = self.start.add((row + p) * self.stride + column);
                        s.store(to, s.mul(sum[v], scale(row + p)));
                    }
                }
            }
        }
    }
}

/// Packs `[steps][columns]`, given as a function of (step, column), into panels.
pub(super) fn pack(
    isa: Isa,
    steps: usize,
    columns: usize,
    value: impl Fn(usize, usize) -> f32,
) -> Buffer {
    let width = isa.panel();
    let panels = columns.div_ceil(width);
    let mut packed = Buffer::zeroed(panels * steps * width);
    for panel in 0..panels {
        let real = width.min(columns - panel * width);
        for step in 0..steps {
            let at = (panel * steps + step) * width;
            for (j, slot) in packed[at..at + real].iter_mut().enumerate() {
                *slot = value(step, panel * width + j);
            }
        }
    }
    packed
}

/// Multiply-adds of [`peak`], in floating-point operations.
const PEAK_LOOPS: usize = 1 << 20;

/// Runs nothing but independent multiply-adds in registers and returns how many floating-point
/// operations it did: over its time, the instruction peak that kernels are measured against.
pub fn peak(isa: Isa) -> u64 {
    isa.run(Peak)
}

struct Peak;

impl Kernel for Peak {
    type Out = u64;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> u64 {
        let mut sums = [s.splat(std::hint::black_box(1.0)); 12];
        let factor = s.splat(std::hint::black_box(0.999));
        for _ in 0..PEAK_LOOPS {
            for sum in &mut sums {
                *sum = s.fma(*sum, factor, factor);
            }
        }
        let mut out = [0f32; 16];
        for sum in sums {
            // SAFETY: no vector is longer than 16.
            unsafe { s.store(out.as_mut_ptr(), sum) };
            std::hint::black_box(&out);
        }
        (PEAK_LOOPS * 12 * S::LANES * 2) as u64
    }
}

#[cfg(test)]
mod tests;
