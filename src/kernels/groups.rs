//! Owns normalisation by groups of channels for training, SiLU behind it or not, and its gradients, over
//! one image's group: `[channels, pixels]`. Must not know: threads, how groups lie in a tensor.
//!
//! Wu and He, "Group Normalization" (2018). Sums are taken in float64, of eight or sixteen lanes each; where
//! a group's spread overflows float32 its outputs are NaN, not zero.

use super::isa::Isa;
use super::simd::{Kernel, Simd, silu, silu_slope};

/// The longest vector.
const LANES_MAX: usize = 16;

/// A group's own numbers.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    /// `[channels, pixels]`
    pub x: &'a [f32],
    /// By channel.
    pub weight: &'a [f32],
    /// By channel.
    pub bias: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl Group<'_> {
    fn pixels(&self) -> usize {
        assert!(!self.weight.is_empty() && self.weight.len() == self.bias.len());
        assert!(self.x.len().is_multiple_of(self.weight.len()));
        self.x.len() / self.weight.len()
    }
}

/// `y = (x - mean) / sqrt(variance + eps) * weight + bias`, and `y / (1 + e^-y)` of it where asked for.
pub(crate) fn normalise(isa: Isa, group: Group<'_>, y: &mut [f32]) {
    assert_eq!(y.len(), group.x.len());
    isa.run(Forward { group, y });
}

/// The gradient `dx` of the group from that of its output, and this image's part of those of weight and
/// bias, by channel.
pub(crate) fn normalise_gradient(
    isa: Isa,
    group: Group<'_>,
    dy: &[f32],
    dx: &mut [f32],
    parts: (&mut [f64], &mut [f64]),
) {
    assert!(dy.len() == group.x.len() && dx.len() == group.x.len());
    assert!(parts.0.len() == group.weight.len() && parts.1.len() == group.weight.len());
    isa.run(Backward { group, dy, dx, parts });
}

/// Floats from `at` on, as many as there are; zeros behind them.
#[inline(always)]
fn read<S: Simd>(s: S, from: &[f32], at: usize) -> S::V {
    let rest = &from[at..];
    if rest.len() >= S::LANES {
        // SAFETY: a whole vector is there.
        return unsafe { s.load(rest.as_ptr()) };
    }
    let mut padded = [0f32; LANES_MAX];
    padded[..rest.len()].copy_from_slice(rest);
    // SAFETY: no vector is longer.
    unsafe { s.load(padded.as_ptr()) }
}

/// Writes as many floats from `at` on as there is room for.
#[inline(always)]
fn write<S: Simd>(s: S, to: &mut [f32], at: usize, v: S::V) {
    let rest = &mut to[at..];
    if rest.len() >= S::LANES {
        // SAFETY: there is room for a whole vector.
        return unsafe { s.store(rest.as_mut_ptr(), v) };
    }
    let mut padded = [0f32; LANES_MAX];
    // SAFETY: no vector is longer.
    unsafe { s.store(padded.as_mut_ptr(), v) };
    let count = rest.len();
    rest.copy_from_slice(&padded[..count]);
}

/// A sum in float64, lane by lane.
struct Sum([f64; LANES_MAX]);

impl Sum {
    fn new() -> Sum {
        Sum([0.0; LANES_MAX])
    }

    #[inline(always)]
    fn get<S: Simd>(&self, s: S) -> S::D {
        // SAFETY: no vector is longer.
        unsafe { s.load_f64(self.0.as_ptr()) }
    }

    #[inline(always)]
    fn set<S: Simd>(&mut self, s: S, d: S::D) {
        // SAFETY: likewise.
        unsafe { s.store_f64(self.0.as_mut_ptr(), d) }
    }

    fn total(&self) -> f64 {
        self.0.iter().sum()
    }
}

/// Mean and 1 / sqrt(variance + eps) of a group.
#[inline(always)]
fn statistics<S: Simd>(s: S, group: &Group<'_>) -> (f32, f32) {
    let (mut sum, mut squares) = (Sum::new(), Sum::new());
    let (mut a, mut b) = (sum.get(s), squares.get(s));
    for at in (0..group.x.len()).step_by(S::LANES) {
        let v = read(s, group.x, at);
        a = s.add_f64(a, v);
        b = s.add_square_f64(b, v);
    }
    sum.set(s, a);
    squares.set(s, b);
    let count = group.x.len().max(1) as f64;
    let mean = sum.total() / count;
    let variance = (squares.total() / count - mean * mean).max(0.0) + group.eps;
    // What float32 can't hold is no number.
    let held = (variance as f32).is_finite();
    let inverse = if held { (1.0 / variance.sqrt()) as f32 } else { f32::NAN };
    (mean as f32, inverse)
}

struct Forward<'a> {
    group: Group<'a>,
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Forward { group, y } = self;
        let pixels = group.pixels();
        let (mean, inverse) = statistics(s, &group);
        let mean = s.splat(mean);
        for (c, (weight, bias)) in group.weight.iter().zip(group.bias).enumerate() {
            let (from, to) = (&group.x[c * pixels..][..pixels], &mut y[c * pixels..][..pixels]);
            let (scale, shift) = (s.splat(weight * inverse), s.splat(*bias));
            for at in (0..pixels).step_by(S::LANES) {
                let v = s.fma(s.sub(read(s, from, at), mean), scale, shift);
                write(s, to, at, if group.silu { silu(s, v) } else { v });
            }
        }
    }
}

struct Backward<'a> {
    group: Group<'a>,
    dy: &'a [f32],
    dx: &'a mut [f32],
    parts: (&'a mut [f64], &'a mut [f64]),
}

impl Kernel for Backward<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Backward { group, dy, dx, parts } = self;
        let pixels = group.pixels();
        let (mean, inverse) = statistics(s, &group);
        let (mean, inverse_all) = (s.splat(mean), s.splat(inverse));
        // Gradients of what SiLU reads lie in `dx` until the sums over the group are known.
        let (mut weighted, mut weighted_normal) = (0.0, 0.0);
        for (c, (weight, bias)) in group.weight.iter().zip(group.bias).enumerate() {
            let plane = c * pixels..(c + 1) * pixels;
            let (x, dy) = (&group.x[plane.clone()], &dy[plane.clone()]);
            let dx = &mut dx[plane];
            let (mut sum, mut normal_sum) = (Sum::new(), Sum::new());
            let (mut a, mut b) = (sum.get(s), normal_sum.get(s));
            for at in (0..pixels).step_by(S::LANES) {
                let normal = s.mul(s.sub(read(s, x, at), mean), inverse_all);
                let mut d = read(s, dy, at);
                if group.silu {
                    let y = s.fma(normal, s.splat(*weight), s.splat(*bias));
                    d = s.mul(d, silu_slope(s, y));
                }
                a = s.add_f64(a, d);
                b = s.add_f64(b, s.mul(d, normal));
                write(s, dx, at, d);
            }
            sum.set(s, a);
            normal_sum.set(s, b);
            parts.0[c] = normal_sum.total();
            parts.1[c] = sum.total();
            weighted += f64::from(*weight) * parts.1[c];
            weighted_normal += f64::from(*weight) * parts.0[c];
        }
        let count = group.x.len().max(1) as f64;
        let (even, along) = ((weighted / count) as f32, (weighted_normal / count) as f32);
        for (c, weight) in group.weight.iter().enumerate() {
            let plane = c * pixels..(c + 1) * pixels;
            let (x, dx) = (&group.x[plane.clone()], &mut dx[plane]);
            for at in (0..pixels).step_by(S::LANES) {
                let normal = s.mul(s.sub(read(s, x, at), mean), inverse_all);
                let d = s.fma(read(s, dx, at), s.splat(*weight), s.splat(-even));
                let d = s.fnma(normal, s.splat(along), d);
                write(s, dx, at, s.mul(d, inverse_all));
            }
        }
    }
}
