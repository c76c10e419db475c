//! Owns the inner loops of Pillow's resampling: weighted sums of bytes in 22-bit fixed point, as
//! plain Rust and for AVX2, equal bit for bit.

/// Fractional bits of a weight.
pub(crate) const PRECISION: u32 = 22;
/// Added before the shift, so that it rounds.
const HALF: i32 = 1 << (PRECISION - 1);

fn clip(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// For each output position the first source position and the weights from there on.
pub(crate) trait Taps {
    /// (first source position, weights), in order.
    fn taps(&self) -> impl Iterator<Item = (usize, &[i32])>;
}

/// Resizes rows of RGB pixels: each `stride` bytes of `source` become `out_stride` bytes of `out`.
pub(crate) fn across(
    source: &[u8],
    stride: usize,
    columns: &impl Taps,
    out: &mut [u8],
    out_stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    let done = avx2_across(source, stride, columns, out, out_stride);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    let rest = source[done * stride..].chunks_exact(stride);
    for (source, out) in rest.zip(out[done * out_stride..].chunks_exact_mut(out_stride)) {
        row(source, columns, out);
    }
}

/// The rows that AVX2 does, four at a time; returns how many.
#[cfg(target_arch = "x86_64")]
fn avx2_across(
    source: &[u8],
    stride: usize,
    columns: &impl Taps,
    out: &mut [u8],
    out_stride: usize,
) -> usize {
    if !std::is_x86_feature_detected!("avx2") {
        return 0;
    }
    // Loads of four bytes reach one byte into the next row; the last row has none.
    let rows = (source.len() / stride).saturating_sub(1) / avx2::ROWS * avx2::ROWS;
    for done in (0..rows).step_by(avx2::ROWS) {
        let source = &source[done * stride..][..avx2::ROWS * stride + 1];
        let out = &mut out[done * out_stride..][..avx2::ROWS * out_stride];
        // SAFETY: the processor has AVX2.
        unsafe { avx2::rows(source, stride, columns, out, out_stride) };
    }
    rows
}

fn row(row: &[u8], columns: &impl Taps, out: &mut [u8]) {
    for ((low, weights), pixel) in columns.taps().zip(out.as_chunks_mut::<3>().0) {
        let mut sums = [HALF; 3];
        for (tap, &weight) in row[low * 3..].as_chunks::<3>().0.iter().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(tap) {
                *sum += i32::from(value) * weight;
            }
        }
        *pixel = sums.map(clip);
    }
}

/// One output row: the weighted sum of the rows of `source`, each `out.len()` bytes.
pub(crate) fn down(source: &[u8], weights: &[i32], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        unsafe { avx2::down(source, weights, out) };
        return;
    }
    sum_rows(source, weights, out);
}

/// Sums of a block of columns stay in registers over all rows.
#[inline(always)]
fn sum_rows(source: &[u8], weights: &[i32], out: &mut [u8]) {
    const BLOCK: usize = 64;
    let stride = out.len();
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    let behind = blocks.len() * BLOCK;
    for (index, block) in blocks.iter_mut().enumerate() {
        let mut sums = [HALF; BLOCK];
        for (row, &weight) in source.chunks_exact(stride).zip(weights) {
            let values: &[u8] = &row[index * BLOCK..][..BLOCK];
            for (sum, &value) in sums.iter_mut().zip(values) {
                *sum += i32::from(value) * weight;
            }
        }
        for (out, sum) in block.iter_mut().zip(sums) {
            *out = clip(sum);
        }
    }
    for (column, out) in rest.iter_mut().enumerate() {
        let values = source.chunks_exact(stride).map(|row| i32::from(row[behind + column]));
        *out = clip(values.zip(weights).fold(HALF, |sum, (value, weight)| sum + value * weight));
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! The same sums on eight lanes (down) and on the channels of a pixel (across).

    #[allow(clippy::wildcard_imports, reason = "instructions, each named for itself")]
    use std::arch::x86_64::*;

    use super::{HALF, PRECISION, Taps};

    /// How many rows [`rows`] makes at a time; they share the loads of weights.
    pub(crate) const ROWS: usize = 4;

    /// `source` has one byte more than [`ROWS`] rows.
    #[target_feature(enable = "avx2")]
    pub(crate) fn rows(
        source: &[u8],
        stride: usize,
        columns: &impl Taps,
        out: &mut [u8],
        out_stride: usize,
    ) {
        let length = stride + 1;
        let rows = [
            &source[..length],
            &source[stride..][..length],
            &source[2 * stride..][..length],
            &source[3 * stride..][..length],
        ];
        let half = _mm256_set1_epi32(HALF);
        for (column, (low, weights)) in columns.taps().enumerate() {
            let (start, count) = (low * 3, weights.len() * 3 + 1);
            assert!(start + count <= length);
            let (mut upper, mut lower) = (half, half);
            for (tap, &weight) in weights.iter().enumerate() {
                let weight = _mm256_set1_epi32(weight);
                let at = start + tap * 3;
                // SAFETY: `at + 4 <= start + count`, which lies inside every one of `rows`.
                let pixels = unsafe {
                    [
                        rows[0].as_ptr().add(at).cast::<i32>().read_unaligned(),
                        rows[1].as_ptr().add(at).cast::<i32>().read_unaligned(),
                        rows[2].as_ptr().add(at).cast::<i32>().read_unaligned(),
                        rows[3].as_ptr().add(at).cast::<i32>().read_unaligned(),
                    ]
                };
                let first = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(pixels[0]), pixels[1]);
                let second = _mm_insert_epi32::<1>(_mm_cvtsi32_si128(pixels[2]), pixels[3]);
                let first = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(first), weight);
                let second = _mm256_mullo_epi32(_mm256_cvtepu8_epi32(second), weight);
                upper = _mm256_add_epi32(upper, first);
                lower = _mm256_add_epi32(lower, second);
            }
            let [even, odd] = clipped(upper, lower);
            let pixels = [&even[..3], &odd[..3], &even[4..7], &odd[4..7]];
            for (row, pixel) in pixels.into_iter().enumerate() {
                out[row * out_stride + column * 3..][..3].copy_from_slice(pixel);
            }
        }
    }

    /// The values of sums of rows 0 and 1, and of rows 2 and 3: bytes of rows 0 and 2, of 1 and 3.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn clipped(upper: __m256i, lower: __m256i) -> [[u8; 8]; 2] {
        let upper = _mm256_srai_epi32::<{ PRECISION as i32 }>(upper);
        let lower = _mm256_srai_epi32::<{ PRECISION as i32 }>(lower);
        // Saturating both ways is the clip to 0..=255. Halves: rows 0 and 2, rows 1 and 3.
        let words = _mm256_packs_epi32(upper, lower);
        let bytes = _mm256_packus_epi16(words, words);
        let even = _mm_cvtsi128_si64(_mm256_castsi256_si128(bytes)).to_le_bytes();
        let odd = _mm_cvtsi128_si64(_mm256_extracti128_si256::<1>(bytes)).to_le_bytes();
        [even, odd]
    }

    #[target_feature(enable = "avx2")]
    pub(crate) fn down(source: &[u8], weights: &[i32], out: &mut [u8]) {
        super::sum_rows(source, weights, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions with one to thirteen taps each, weights of both signs.
    struct Ramp(Vec<(usize, Vec<i32>)>);

    impl Taps for Ramp {
        fn taps(&self) -> impl Iterator<Item = (usize, &[i32])> {
            self.0.iter().map(|(low, weights)| (*low, weights.as_slice()))
        }
    }

    #[test]
    fn fast_rows_equal_plain_ones() {
        let ramp = |width: usize| {
            let position = |at: usize| {
                let count = (1 + at % 13).min(width);
                let weight = |tap: usize| (tap as i32 * 977_351 + at as i32 * 31_337) % 2_000_003;
                let low = at.min(width - count);
                (low, (0..count).map(|tap| weight(tap) - 700_000).collect())
            };
            Ramp((0..width + 5).map(position).collect())
        };
        for (width, height) in [(1, 1), (3, 2), (7, 5), (20, 9), (64, 13)] {
            let source: Vec<u8> = (0..width * height * 3).map(|v| (v * v % 251) as u8).collect();
            let columns = ramp(width);
            let (stride, out_stride) = (width * 3, columns.0.len() * 3);
            let mut fast = vec![0; out_stride * height];
            across(&source, stride, &columns, &mut fast, out_stride);
            let mut plain = vec![0; out_stride * height];
            for (source, out) in source.chunks(stride).zip(plain.chunks_mut(out_stride)) {
                row(source, &columns, out);
            }
            assert_eq!(fast, plain, "{width} x {height}");
            let weights: Vec<i32> = (0..height as i32).map(|v| v * 990_001 - 800_000).collect();
            let (mut fast, mut plain) = (vec![0; stride], vec![0; stride]);
            down(&source, &weights, &mut fast);
            sum_rows(&source, &weights, &mut plain);
            assert_eq!(fast, plain, "{width} x {height}");
        }
    }
}
