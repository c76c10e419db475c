//! Owns YCbCr to RGB as jdcolor.c computes it.

#[allow(clippy::wildcard_imports, reason = "instructions, each named for itself")]
use std::arch::x86_64::*;

/// 16-bit fixed-point factors of jdcolor.c: 1.402, 0.71414, 0.34414, 1.772.
const FACTORS: [i32; 4] = [91881, 46802, 22554, 116130];
const HALF: i32 = 1 << 15;

#[target_feature(enable = "avx2")]
pub(super) fn convert_row(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    let factors = FACTORS.map(|factor| _mm256_set1_epi32(factor));
    let (half, center) = (_mm256_set1_epi32(HALF), _mm256_set1_epi32(128));
    let order = _mm256_setr_epi8(
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, //
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
    );
    let (zero, most) = (_mm256_setzero_si256(), _mm256_set1_epi32(255));
    let (ys, y_rest) = y.as_chunks::<8>();
    let cbs = cb.as_chunks::<8>().0;
    let crs = cr.as_chunks::<8>().0;
    // Each step writes 28 bytes, of which 24 are its own, so the last must leave four.
    let steps = if y_rest.len() >= 2 { ys.len() } else { ys.len().saturating_sub(1) };
    let mut done = 0;
    while done < steps {
        let load = |eight: &[u8; 8]| i64::from_le_bytes(*eight);
        let y = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load(&ys[done])));
        let cb = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load(&cbs[done])));
        let cr = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load(&crs[done])));
        let (cb, cr) = (_mm256_sub_epi32(cb, center), _mm256_sub_epi32(cr, center));
        let red = _mm256_add_epi32(_mm256_mullo_epi32(cr, factors[0]), half);
        let red = _mm256_add_epi32(y, _mm256_srai_epi32::<16>(red));
        let green = _mm256_sub_epi32(half, _mm256_mullo_epi32(cr, factors[1]));
        let green = _mm256_sub_epi32(green, _mm256_mullo_epi32(cb, factors[2]));
        let green = _mm256_add_epi32(y, _mm256_srai_epi32::<16>(green));
        let blue = _mm256_add_epi32(_mm256_mullo_epi32(cb, factors[3]), half);
        let blue = _mm256_add_epi32(y, _mm256_srai_epi32::<16>(blue));
        let red = _mm256_min_epi32(_mm256_max_epi32(red, zero), most);
        let green = _mm256_min_epi32(_mm256_max_epi32(green, zero), most);
        let blue = _mm256_min_epi32(_mm256_max_epi32(blue, zero), most);
        let pixels = _mm256_or_si256(red, _mm256_slli_epi32::<8>(green));
        let pixels = _mm256_or_si256(pixels, _mm256_slli_epi32::<16>(blue));
        let bytes = _mm256_shuffle_epi8(pixels, order);
        let target = &mut out[done * 24..][..28];
        // SAFETY: 16 bytes at 0 and at 12 of a slice of 28.
        unsafe {
            _mm_storeu_si128(target.as_mut_ptr().cast(), _mm256_castsi256_si128(bytes));
            let high = _mm256_extracti128_si256::<1>(bytes);
            _mm_storeu_si128(target.as_mut_ptr().add(12).cast(), high);
        }
        done += 1;
    }
    let start = done * 8;
    let planes = y[start..].iter().zip(&cb[start..]).zip(&cr[start..]);
    for (((&y, &cb), &cr), out) in planes.zip(out[start * 3..].as_chunks_mut::<3>().0) {
        *out = convert_pixel(y, cb, cr);
    }
}

pub(super) fn convert_pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let [to_red, from_cr, from_cb, to_blue] = FACTORS;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((to_red * cr + HALF) >> 16);
    let green = y + ((HALF - from_cr * cr - from_cb * cb) >> 16);
    let blue = y + ((to_blue * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}
