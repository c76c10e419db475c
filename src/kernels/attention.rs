//! Owns attention over the pixels of a map, one head at a time.

use super::buffer::Buffer;
use super::isa::{CHANNEL_BLOCK, Isa, channel_stride};
use super::micro::{Left, Right, Scale, Store, product};
use super::simd::{Kernel, Simd, exp};

/// Queries worked on at a time: the scores in memory are this many rows, whatever the map's size.
const QUERIES: usize = 48;

/// Softmax sums in this many lanes at every instruction set, so that instruction sets agree on the bits.
const SUM_LANES: usize = 16;

/// Queries, keys and values of a map of `pixels`: at each pixel the three of one head, channel strides
/// side by side, then those of the next, `[pixels, heads, 3 * channel_stride(channels)]`.
#[derive(Clone, Copy)]
pub(crate) struct Attention<'a> {
    /// The floats.
    pub data: &'a [f32],
    /// Height times width.
    pub pixels: usize,
    /// How many heads.
    pub heads: usize,
    /// Which of them.
    pub head: usize,
    /// Channels of each.
    pub channels: usize,
    /// What scores are multiplied by; channels^-0.5.
    pub scale: f32,
}

impl Attention<'_> {
    /// Floats from a pixel to the next.
    fn row(&self) -> usize {
        self.heads * 3 * channel_stride(self.channels)
    }

    /// Where a pixel's queries, keys or values begin.
    fn part(&self, pixel: usize, part: usize) -> usize {
        pixel * self.row() + (3 * self.head + part) * channel_stride(self.channels)
    }
}

/// The keys and values of a map, packed for all of its queries.
pub(crate) struct KeysValues<'a> {
    isa: Isa,
    from: Attention<'a>,
    keys: &'a [f32],
    values: &'a [f32],
}

impl<'a> KeysValues<'a> {
    /// Packs them into the scratch.
    pub(crate) fn pack(isa: Isa, from: Attention<'a>, scratch: &'a mut Buffer) -> KeysValues<'a> {
        let stride = channel_stride(from.channels);
        assert!(from.data.len() >= from.pixels * from.row(), "projections too short");
        assert!(from.head < from.heads, "more heads than there are");
        let width = isa.panel();
        let keys = from.pixels.next_multiple_of(width) * from.channels;
        let values = from.pixels * stride.next_multiple_of(width);
        scratch.reserve(keys + values);
        let (keys, rest) = scratch.split_at_mut(keys);
        let values = &mut rest[..values];
        isa.run(Pack { from, width, keys: &mut *keys, values: &mut *values });
        KeysValues { isa, from, keys, values }
    }
}

struct Pack<'a> {
    from: Attention<'a>,
    width: usize,
    keys: &'a mut [f32],
    values: &'a mut [f32],
}

impl Kernel for Pack<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        pack_keys(&self.from, self.width, self.keys);
        pack_values(&self.from, self.width, self.values);
    }
}

/// softmax(q k^T * scale) v for the queries from pixel `first` on, as many as
/// `[queries, heads, channel_stride(channels)]` has; what other heads have there stays.
pub(crate) fn attention(all: &KeysValues<'_>, first: usize, to: &mut [f32], scratch: &mut Buffer) {
    let queries = to.len() / (all.from.heads * channel_stride(all.from.channels));
    assert!(first + queries <= all.from.pixels, "more queries than pixels");
    scratch.reserve(QUERIES * score_stride(all));
    all.isa.run(Attend { all, first, queries, to, scratch });
}

/// Floats from a query's scores to the next one's: whole panels, and no power of two, whose rows would fall
/// on the same lines of the first-level cache.
fn score_stride(all: &KeysValues<'_>) -> usize {
    all.from.pixels.next_multiple_of(all.isa.panel()) + CHANNEL_BLOCK
}

struct Attend<'a> {
    all: &'a KeysValues<'a>,
    first: usize,
    queries: usize,
    to: &'a mut [f32],
    scratch: &'a mut Buffer,
}

impl Kernel for Attend<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let KeysValues { isa, keys, values, .. } = *self.all;
        let from = self.all.from;
        let Attention { data, pixels, heads, head, channels, scale } = from;
        let stride = channel_stride(channels);
        let width = isa.panel();
        let score_stride = score_stride(self.all);
        for done in (0..self.queries).step_by(QUERIES) {
            let rows = QUERIES.min(self.queries - done);
            // SAFETY: `attention` checked that these queries exist and the output holds them; the
            // packed keys and values have whole panels, scores have QUERIES rows.
            unsafe {
                let left = Left {
                    taps: &[data.as_ptr().add(from.part(self.first + done, 0))],
                    row_stride: from.row(),
                    rows,
                    depth: channels,
                };
                let right = Right { start: keys.as_ptr(), panels: pixels.div_ceil(width) };
                let start = self.scratch.as_mut_ptr();
                let columns = pixels.next_multiple_of(width);
                let scale = Scale::All(scale);
                let mut sink = Store { start, stride: score_stride, columns, scale };
                product(s, left, right, &mut sink);
                let mut shares = [0.0; QUERIES];
                for (row, share) in shares.iter_mut().enumerate().take(rows) {
                    *share = exponentials(s, start.add(row * score_stride), pixels);
                }
                let left = Left {
                    taps: &[start.cast_const()],
                    row_stride: score_stride,
                    rows,
                    depth: pixels,
                };
                let right = Right { start: values.as_ptr(), panels: stride.div_ceil(width) };
                let start = self.to.as_mut_ptr().add((done * heads + head) * stride);
                let scale = Scale::Rows(&shares);
                let mut sink = Store { start, stride: heads * stride, columns: stride, scale };
                product(s, left, right, &mut sink);
            }
        }
    }
}

/// `[panels of pixels][channels][panel width]`
#[inline(always)]
fn pack_keys(all: &Attention<'_>, width: usize, keys: &mut [f32]) {
    let Attention { data, pixels, channels, .. } = *all;
    for (panel, to) in keys.chunks_exact_mut(channels * width).enumerate() {
        to.fill(0.0);
        for j in 0..width.min(pixels - panel * width) {
            let from = &data[all.part(panel * width + j, 1)..][..channels];
            for (c, &v) in from.iter().enumerate() {
                to[c * width + j] = v;
            }
        }
    }
}

/// `[panels of channels][pixels][panel width]`
#[inline(always)]
fn pack_values(all: &Attention<'_>, width: usize, values: &mut [f32]) {
    let Attention { data, pixels, channels, .. } = *all;
    let stride = channel_stride(channels);
    for (panel, to) in values.chunks_exact_mut(pixels * width).enumerate() {
        let real = width.min(stride - panel * width);
        for (pixel, to) in to.chunks_exact_mut(width).enumerate() {
            let from = &data[all.part(pixel, 2) + panel * width..][..real];
            to[..real].copy_from_slice(from);
            to[real..].fill(0.0);
        }
    }
}

/// Softmax of `count` floats in place, in a row that is valid up to a multiple of 16.
///
/// # Safety
/// The row is.
#[inline(always)]
pub(super) unsafe fn softmax<S: Simd>(s: S, row: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let share = s.splat(exponentials(s, row, count));
        for i in (0..count.next_multiple_of(CHANNEL_BLOCK)).step_by(S::LANES) {
            s.store(row.add(i), s.mul(s.load(row.add(i)), share));
        }
    }
}

/// e^(x - largest) of `count` floats in place, in a row that is valid up to a multiple of 16, and one over
/// their sum.
///
/// # Safety
/// The row is.
#[inline(always)]
unsafe fn exponentials<S: Simd>(s: S, row: *mut f32, count: usize) -> f32 {
    let padded = count.next_multiple_of(CHANNEL_BLOCK);
    let parts = SUM_LANES / S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        for i in count..padded {
            *row.add(i) = f32::NEG_INFINITY;
        }
        // Several at once, for each comparison waits for the one before it.
        let mut tops = [s.splat(f32::NEG_INFINITY); 4];
        for i in (0..padded).step_by(4 * S::LANES) {
            for (part, top) in tops.iter_mut().enumerate() {
                let at = i + part * S::LANES;
                if at < padded {
                    *top = s.max(s.load(row.add(at)), *top);
                }
            }
        }
        let top = s.max(s.max(tops[0], tops[1]), s.max(tops[2], tops[3]));
        let top = lanes(s, &[top]).into_iter().take(S::LANES).fold(f32::NEG_INFINITY, f32::max);
        let mut sums = [s.splat(0.0); 2];
        for i in (0..padded).step_by(SUM_LANES) {
            for (part, sum) in sums.iter_mut().enumerate().take(parts) {
                let at = row.add(i + part * S::LANES);
                let mut e = exp(s, s.sub(s.load(at), s.splat(top)));
                if i + SUM_LANES > count {
                    // exp clamps: what lies after the end is not quite zero.
                    let lane = s.add(s.iota(), s.splat((i + part * S::LANES) as f32));
                    e = s.select_less(lane, s.splat(count as f32), e, s.splat(0.0));
                }
                s.store(at, e);
                *sum = s.add(*sum, e);
            }
        }
        let mut sums = lanes(s, &sums[..parts]);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                sums[i] += sums[i + half];
            }
        }
        1.0 / sums[0]
    }
}

/// Up to 16 lanes as an array.
#[inline(always)]
fn lanes<S: Simd>(s: S, vectors: &[S::V]) -> [f32; SUM_LANES] {
    let mut all = [0f32; SUM_LANES];
    for (to, &v) in all.chunks_exact_mut(S::LANES).zip(vectors) {
        // SAFETY: the chunk has LANES floats.
        unsafe { s.store(to.as_mut_ptr(), v) };
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::reference::{Random, assert_close};
    use super::*;

    #[test]
    fn attention_equals_its_definition() {
        let mut random = Random::new(9);
        for isa in Isa::available() {
            for _ in 0..30 {
                let (pixels, channels) = (random.below(130) + 1, random.below(70) + 1);
                let heads = random.below(3) + 1;
                let stride = channel_stride(channels);
                let data = random.map(pixels * heads * 3, channels);
                let scale = [0.1, 1.0, 4.0][random.below(3)];
                let mut got = vec![f32::NAN; pixels * heads * stride];
                let queries = if random.below(2) == 0 { pixels } else { random.below(pixels) + 1 };
                for head in 0..heads {
                    let from = Attention { data: &data, pixels, heads, head, channels, scale };
                    let mut packed = Buffer::default();
                    let all = KeysValues::pack(isa, from, &mut packed);
                    for (part, to) in got.chunks_mut(queries * heads * stride).enumerate() {
                        attention(&all, part * queries, to, &mut Buffer::default());
                    }
                }
                for at in 0..heads * pixels {
                    let from =
                        Attention { data: &data, pixels, heads, head: at % heads, channels, scale };
                    holds(from, at / heads, &got[at * stride..][..stride]);
                }
            }
        }
    }

    /// Holds what one head gives a query against its definition.
    fn holds(from: Attention<'_>, query: usize, got: &[f32]) {
        let Attention { data, pixels, channels, scale, .. } = from;
        let at = |pixel: usize, part: usize, c: usize| f64::from(data[from.part(pixel, part) + c]);
        let score = |key: usize| {
            let dot: f64 = (0..channels).map(|c| at(query, 0, c) * at(key, 1, c)).sum();
            (dot * f64::from(scale)).exp()
        };
        let scores: Vec<f64> = (0..pixels).map(score).collect();
        let total: f64 = scores.iter().sum();
        for (c, got) in got.iter().enumerate() {
            let terms = scores.iter().enumerate().map(|(k, score)| score / total * at(k, 2, c));
            let (want, size) = terms.fold((0.0, 0.0), |(w, s), term| (w + term, s + term.abs()));
            // A score's rounding error, about channels half units, is relative in its exponential.
            let bound = (2.0 * f64::from(scale) + 1.0)
                * (channels + pixels + 16) as f64
                * f64::from(f32::EPSILON);
            assert_close(*got, want, size, bound, "attention");
        }
    }

    #[test]
    fn what_is_not_finite_hides_behind_no_softmax() {
        let mut random = Random::new(12);
        for isa in Isa::available() {
            for (pixels, channels) in [(1, 1), (5, 3), (40, 20)] {
                let stride = channel_stride(channels);
                for part in 0..3 {
                    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                        let mut data = random.map(pixels * 3, channels);
                        data[(random.below(pixels) * 3 + part) * stride] = bad;
                        let mut got = vec![0f32; pixels * stride];
                        let from = Attention {
                            data: &data,
                            pixels,
                            heads: 1,
                            head: 0,
                            channels,
                            scale: 1.0,
                        };
                        let mut packed = Buffer::default();
                        let all = KeysValues::pack(isa, from, &mut packed);
                        attention(&all, 0, &mut got, &mut Buffer::default());
                        let finite = got.iter().all(|v| v.is_finite());
                        // A key far below every other counts nothing, and rightly.
                        let sunk = part == 1 && !bad.is_nan() && pixels > 1;
                        assert!(!finite || sunk, "{bad} in {part} of {pixels}x{channels}");
                    }
                }
            }
        }
    }

    #[test]
    fn scores_far_below_the_largest_count_nothing() {
        for isa in Isa::available() {
            let stride = CHANNEL_BLOCK;
            let mut data = vec![0f32; 2 * 3 * stride];
            data[0] = 1000.0;
            data[stride] = 1.0;
            data[2 * stride] = 5.0;
            data[(3 + 1) * stride] = -1.0;
            data[(3 + 2) * stride] = 7.0;
            let mut got = vec![0f32; 2 * stride];
            let from =
                Attention { data: &data, pixels: 2, heads: 1, head: 0, channels: 1, scale: 1.0 };
            let mut packed = Buffer::default();
            let all = KeysValues::pack(isa, from, &mut packed);
            attention(&all, 0, &mut got, &mut Buffer::default());
            assert_eq!((got[0], got[stride]), (5.0, 6.0));
        }
    }
}
