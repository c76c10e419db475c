//! Owns the vector type every kernel is written against, and its portable form.
//! Must not know: what the kernels compute.
//!
//! A value of a `Simd` type is the proof that the processor has its instructions: only
//! [`super::isa::Isa::run`] makes one, after asking the processor. So arithmetic is safe, and only
//! loads and stores are `unsafe`.

/// Work that runs at an instruction set: a struct of arguments whose `run` is generic over the
/// vector type.
pub(crate) trait Kernel {
    /// What it returns.
    type Out;
    /// The work; must be `inline(always)`, as everything hot that it calls, so that it is
    /// compiled with the instruction set's instructions.
    fn run<S: Simd>(self, s: S) -> Self::Out;
}

/// One instruction set. Each algorithm is generic over it and compiled once for each.
///
/// On instruction sets with a fused multiply-add every kernel rounds each output in the same
/// order whatever `LANES` is, so AVX2 and AVX-512 give the same bits.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Floats in a vector.
    const LANES: usize;
    /// Rows of the micro-kernel's register block; with two vectors a row it fills the registers.
    const ROWS: usize;
    /// `LANES` float32.
    type V: Copy;
    /// `LANES` float64.
    type D: Copy;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// 0, 1, 2, ...
    fn iota(self) -> Self::V;
    /// Reads `LANES` floats.
    ///
    /// # Safety
    /// `p` is valid for that many; any alignment.
    unsafe fn load(self, p: *const f32) -> Self::V;
    /// Writes `LANES` floats.
    ///
    /// # Safety
    /// `p` is valid for that many; any alignment.
    unsafe fn store(self, p: *mut f32, v: Self::V);
    /// Begins to fetch the cache line of an address, which may be any, into the second-level cache.
    fn prefetch(self, p: *const f32);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a - b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// a > b ? a : b, so b where one is NaN
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// a < b ? a : b, so b where one is NaN
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c, rounded once where the processor can
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// c - a * b, rounded once where the processor can
    fn fnma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// 2^n for whole n in [-126, 127].
    fn pow2(self, n: Self::V) -> Self::V;
    /// The nearest whole number, half to even; |v| below 2^22.
    fn round(self, v: Self::V) -> Self::V;
    /// a < b ? x : y in each lane; y where a comparison meets NaN.
    fn select_less(self, a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Reads `LANES` float64.
    ///
    /// # Safety
    /// `p` is valid for that many; any alignment.
    unsafe fn load_f64(self, p: *const f64) -> Self::D;
    /// Writes `LANES` float64.
    ///
    /// # Safety
    /// `p` is valid for that many; any alignment.
    unsafe fn store_f64(self, p: *mut f64, d: Self::D);
    /// Writes an 8x8 block with rows and columns exchanged, after `add`, 8 floats, was added to each row.
    /// Rows lie `from.1` floats apart, and `to.1` where they are written.
    ///
    /// # Safety
    /// Both blocks and `add` are valid.
    #[inline(always)]
    unsafe fn transpose8(self, from: (*const f32, usize), to: (*mut f32, usize), add: *const f32) {
        for i in 0..8 {
            for j in 0..8 {
                // SAFETY: the caller's promise.
                unsafe { *to.0.add(j * to.1 + i) = *from.0.add(i * from.1 + j) + *add.add(j) };
            }
        }
    }
    /// d + v, in float64
    fn add_f64(self, d: Self::D, v: Self::V) -> Self::D;
    /// d + v * v, in float64; the product is exact, so fusing changes nothing
    fn add_square_f64(self, d: Self::D, v: Self::V) -> Self::D;
    /// Runs a kernel as a function of its own, compiled for this instruction set: inside it the
    /// registers belong to it alone, where an inlined hot loop would spill its sums.
    fn isolate<K: Kernel>(self, kernel: K) -> K::Out;
}

/// Arrays of eight that the compiler turns into whatever the target has.
#[derive(Clone, Copy)]
pub(super) struct Portable;

/// 1.5 * 2^23: adding it leaves the whole number nearest to a small float in the low bits.
pub(super) const ROUNDER: f32 = 12_582_912.0;

impl Portable {
    #[inline(always)]
    fn zip(a: [f32; 8], b: [f32; 8], f: impl Fn(f32, f32) -> f32) -> [f32; 8] {
        std::array::from_fn(|i| f(a[i], b[i]))
    }
}

impl Simd for Portable {
    const LANES: usize = 8;
    const ROWS: usize = 3;
    type V = [f32; 8];
    type D = [f64; 8];

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn iota(self) -> [f32; 8] {
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> [f32; 8] {
        // SAFETY: the caller's promise; f32 arrays have the alignment of f32.
        unsafe { p.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: [f32; 8]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |x, y| x + y)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |x, y| x - y)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |x, y| x * y)
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |x, y| x / y)
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |x, y| if x > y { x } else { y })
    }
    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        Self::zip(a, b, |x, y| if x < y { x } else { y })
    }
    #[inline(always)]
    fn fma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        // Without the instruction mul_add is a slow library call, so it is rounded twice there.
        if cfg!(any(target_feature = "fma", target_arch = "aarch64")) {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn fnma(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        self.fma(a.map(|x| -x), b, c)
    }
    #[inline(always)]
    fn pow2(self, n: [f32; 8]) -> [f32; 8] {
        n.map(|x| f32::from_bits((x + (ROUNDER + 127.0)).to_bits() << 23))
    }
    #[inline(always)]
    fn round(self, v: [f32; 8]) -> [f32; 8] {
        v.map(|x| (x + ROUNDER) - ROUNDER)
    }
    #[inline(always)]
    fn select_less(self, a: [f32; 8], b: [f32; 8], x: [f32; 8], y: [f32; 8]) -> [f32; 8] {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn load_f64(self, p: *const f64) -> [f64; 8] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f64; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_f64(self, p: *mut f64, d: [f64; 8]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f64; 8]>().write_unaligned(d) }
    }
    #[inline(always)]
    fn add_f64(self, d: [f64; 8], v: [f32; 8]) -> [f64; 8] {
        std::array::from_fn(|i| d[i] + f64::from(v[i]))
    }
    #[inline(always)]
    fn add_square_f64(self, d: [f64; 8], v: [f32; 8]) -> [f64; 8] {
        std::array::from_fn(|i| d[i] + f64::from(v[i]) * f64::from(v[i]))
    }
    #[inline(always)]
    fn isolate<K: Kernel>(self, kernel: K) -> K::Out {
        isolate_portable(kernel)
    }
}

#[inline(never)]
fn isolate_portable<K: Kernel>(kernel: K) -> K::Out {
    kernel.run(Portable)
}

/// e^z within 2 units of the last place for z in [-87.3, 88], clamped outside; NaN for NaN.
///
/// The polynomial is Cephes' expf.
#[inline(always)]
pub(super) fn exp<S: Simd>(s: S, z: S::V) -> S::V {
    // The bounds come first: both give their second operand where it is NaN.
    let z = s.min(s.splat(88.02), s.max(s.splat(-87.336_54), z));
    let n = s.round(s.mul(z, s.splat(std::f32::consts::LOG2_E)));
    let r = s.fnma(n, s.splat(0.693_359_4), z);
    let r = s.fnma(n, s.splat(-2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_2e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5.000_000_1e-1] {
        p = s.fma(p, r, s.splat(c));
    }
    let e = s.add(s.fma(p, s.mul(r, r), r), s.splat(1.0));
    s.mul(e, s.pow2(n))
}

/// tanh(v) within 2 units of the last place; NaN for NaN.
///
/// Near zero, where the exponential would cancel, the polynomial is Cephes' tanhf.
#[inline(always)]
pub(super) fn tanh<S: Simd>(s: S, v: S::V) -> S::V {
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let negated = s.sub(zero, v);
    let size = s.max(v, negated);
    let above = s.add(exp(s, s.add(size, size)), one);
    let large = s.sub(one, s.div(s.splat(2.0), above));
    // NaN is less than nothing, and comes out of the exponential.
    let large = s.select_less(v, zero, s.sub(zero, large), large);
    let square = s.mul(v, v);
    let mut p = s.splat(-5.704_988_7e-3);
    for c in [2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1] {
        p = s.fma(p, square, s.splat(c));
    }
    let small = s.fma(s.mul(p, square), v, v);
    s.select_less(size, s.splat(0.625), small, large)
}

/// erf(v) within 3 units of the last place of 1; NaN for NaN.
///
/// The quotient of polynomials that XLA and Eigen take.
#[inline(always)]
fn erf<S: Simd>(s: S, v: S::V) -> S::V {
    // The bounds come first: both give their second operand where it is NaN.
    let v = s.min(s.splat(4.0), s.max(s.splat(-4.0), v));
    let square = s.mul(v, v);
    let mut p = s.splat(-2.726_142_3e-10);
    for c in [
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_5e-5,
        -7.349_906_3e-4,
        -2.954_599_8e-3,
        -1.609_603_3e-2,
    ] {
        p = s.fma(p, square, s.splat(c));
    }
    let mut q = s.splat(-1.456_607_2e-5);
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = s.fma(q, square, s.splat(c));
    }
    s.div(s.mul(v, p), q)
}

/// v (1 + erf(v / sqrt 2)) / 2
#[inline(always)]
pub(super) fn gelu<S: Simd>(s: S, v: S::V) -> S::V {
    let share = s.add(s.splat(1.0), erf(s, s.mul(v, s.splat(std::f32::consts::FRAC_1_SQRT_2))));
    s.mul(s.mul(s.splat(0.5), v), share)
}

/// v (1 + tanh(sqrt(2 / pi) (v + 0.044715 v^3))) / 2
#[inline(always)]
pub(super) fn gelu_tanh<S: Simd>(s: S, v: S::V) -> S::V {
    let square = s.mul(v, v);
    let cube = s.fma(s.mul(s.splat(0.044_715), square), v, v);
    let share = tanh(s, s.mul(s.splat(0.797_884_6), cube));
    s.mul(s.mul(s.splat(0.5), v), s.add(s.splat(1.0), share))
}

/// v / (1 + e^-v)
#[inline(always)]
pub(super) fn silu<S: Simd>(s: S, v: S::V) -> S::V {
    s.div(v, s.add(s.splat(1.0), exp(s, s.sub(s.splat(0.0), v))))
}

/// The slope of [`silu`]: s (1 + v (1 - s)) with s = 1 / (1 + e^-v).
#[inline(always)]
pub(super) fn silu_slope<S: Simd>(s: S, v: S::V) -> S::V {
    let one = s.splat(1.0);
    let share = s.div(one, s.add(one, exp(s, s.sub(s.splat(0.0), v))));
    s.mul(share, s.fma(v, s.sub(one, share), one))
}
