//! Owns the AVX2+FMA and AVX-512 forms of [`Simd`].
//! Must not know: what the kernels compute.
//!
//! Every method is `inline(always)` and ends up inside a function compiled for the instruction
//! set (`super::isa::Isa::run`), where the intrinsics become single instructions.

use super::simd::{Kernel, ROUNDER, Simd};
#[allow(clippy::wildcard_imports, reason = "instructions, each named for itself")]
use std::arch::x86_64::*;

/// AVX2 and FMA. Making one promises that the processor has both.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// # Safety
    /// The processor has AVX2 and FMA.
    #[inline(always)]
    pub(super) unsafe fn new() -> Avx2 {
        Avx2(())
    }
}

/// AVX-512F. Making one promises that the processor has it.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// # Safety
    /// The processor has AVX-512F.
    #[inline(always)]
    pub(super) unsafe fn new() -> Avx512 {
        Avx512(())
    }
}

/// Calls an intrinsic that needs only the instruction set its token stands for.
macro_rules! has {
    ($e:expr) => {
        // SAFETY: the token's maker promised that the processor has the instruction set, and a
        // memory operand, where there is one, is the caller's promise.
        unsafe { $e }
    };
}

/// `Simd::transpose8` with AVX, which processors with either of the two have.
///
/// # Safety
/// The processor has AVX; both blocks and `add` are valid.
#[inline(always)]
unsafe fn transpose8(from: (*const f32, usize), to: (*mut f32, usize), add: *const f32) {
    has!({
        let add = _mm256_loadu_ps(add);
        let mut row = [add; 8];
        for (i, row) in row.iter_mut().enumerate() {
            *row = _mm256_add_ps(_mm256_loadu_ps(from.0.add(i * from.1)), add);
        }
        let mut pair = row;
        for i in 0..4 {
            pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
            pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
        }
        let mut four = pair;
        for i in 0..2 {
            for j in 0..2 {
                let (a, b) = (pair[4 * i + j], pair[4 * i + 2 + j]);
                four[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
                four[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xEE>(a, b);
            }
        }
        for i in 0..4 {
            let (a, b) = (four[i], four[4 + i]);
            _mm256_storeu_ps(to.0.add(i * to.1), _mm256_permute2f128_ps::<0x20>(a, b));
            _mm256_storeu_ps(to.0.add((4 + i) * to.1), _mm256_permute2f128_ps::<0x31>(a, b));
        }
    })
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const ROWS: usize = 6;
    type V = __m256;
    type D = [__m256d; 2];

    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        has!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    fn iota(self) -> __m256 {
        has!(_mm256_setr_ps(0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        has!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        has!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        has!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        has!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        has!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        has!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        has!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        has!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        has!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        has!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        has!(_mm256_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn pow2(self, n: __m256) -> __m256 {
        has!({
            let whole = _mm256_add_ps(n, _mm256_set1_ps(ROUNDER + 127.0));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_castps_si256(whole)))
        })
    }
    #[inline(always)]
    fn round(self, v: __m256) -> __m256 {
        has!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn select_less(self, a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
        has!(_mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> [__m256d; 2] {
        has!([_mm256_loadu_pd(p), _mm256_loadu_pd(p.add(4))])
    }
    #[inline(always)]
    unsafe fn transpose8(self, from: (*const f32, usize), to: (*mut f32, usize), add: *const f32) {
        has!(transpose8(from, to, add))
    }
    #[inline(always)]
    unsafe fn store_f64(self, p: *mut f64, d: [__m256d; 2]) {
        has!({
            _mm256_storeu_pd(p, d[0]);
            _mm256_storeu_pd(p.add(4), d[1]);
        })
    }
    #[inline(always)]
    fn add_f64(self, d: [__m256d; 2], v: __m256) -> [__m256d; 2] {
        has!([
            _mm256_add_pd(d[0], _mm256_cvtps_pd(_mm256_castps256_ps128(v))),
            _mm256_add_pd(d[1], _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v))),
        ])
    }
    #[inline(always)]
    fn add_square_f64(self, d: [__m256d; 2], v: __m256) -> [__m256d; 2] {
        has!({
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v));
            [_mm256_fmadd_pd(low, low, d[0]), _mm256_fmadd_pd(high, high, d[1])]
        })
    }
    #[inline(always)]
    fn isolate<K: Kernel>(self, kernel: K) -> K::Out {
        has!(isolate_avx2(kernel))
    }
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const ROWS: usize = 12;
    type V = __m512;
    type D = [__m512d; 2];

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        has!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn iota(self) -> __m512 {
        has!(_mm512_setr_ps(
            0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0
        ))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        has!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        has!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        has!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        has!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        has!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        has!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        has!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        has!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        has!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        has!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        has!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn pow2(self, n: __m512) -> __m512 {
        has!({
            let whole = _mm512_add_ps(n, _mm512_set1_ps(ROUNDER + 127.0));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_castps_si512(whole)))
        })
    }
    #[inline(always)]
    fn round(self, v: __m512) -> __m512 {
        has!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v))
    }
    #[inline(always)]
    fn select_less(self, a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
        has!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> [__m512d; 2] {
        has!([_mm512_loadu_pd(p), _mm512_loadu_pd(p.add(8))])
    }
    #[inline(always)]
    unsafe fn transpose8(self, from: (*const f32, usize), to: (*mut f32, usize), add: *const f32) {
        has!(transpose8(from, to, add))
    }
    #[inline(always)]
    unsafe fn store_f64(self, p: *mut f64, d: [__m512d; 2]) {
        has!({
            _mm512_storeu_pd(p, d[0]);
            _mm512_storeu_pd(p.add(8), d[1]);
        })
    }
    #[inline(always)]
    fn add_f64(self, d: [__m512d; 2], v: __m512) -> [__m512d; 2] {
        has!({
            let (low, high) = halves(v);
            [_mm512_add_pd(d[0], low), _mm512_add_pd(d[1], high)]
        })
    }
    #[inline(always)]
    fn add_square_f64(self, d: [__m512d; 2], v: __m512) -> [__m512d; 2] {
        has!({
            let (low, high) = halves(v);
            [_mm512_fmadd_pd(low, low, d[0]), _mm512_fmadd_pd(high, high, d[1])]
        })
    }
    #[inline(always)]
    fn isolate<K: Kernel>(self, kernel: K) -> K::Out {
        has!(isolate_avx512(kernel))
    }
}

/// Sixteen float32 as two times eight float64.
///
/// # Safety
/// The processor has AVX-512F.
#[inline(always)]
unsafe fn halves(v: __m512) -> (__m512d, __m512d) {
    has!({
        let high = _mm512_castpd_ps(_mm512_permutexvar_pd(
            _mm512_setr_epi64(4, 5, 6, 7, 4, 5, 6, 7),
            _mm512_castps_pd(v),
        ));
        (_mm512_cvtps_pd(_mm512_castps512_ps256(v)), _mm512_cvtps_pd(_mm512_castps512_ps256(high)))
    })
}

#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn isolate_avx2<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx2(()))
}

#[target_feature(enable = "avx512f")]
#[inline(never)]
fn isolate_avx512<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Avx512(()))
}
