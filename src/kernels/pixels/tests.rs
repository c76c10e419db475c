use super::super::reference::{Random, assert_close};
use super::super::simd::tanh;
use super::*;

/// What is asked of every number.
#[derive(Debug, Clone, Copy)]
enum Function {
    Elementwise(Elementwise),
    Tanh,
}

impl Function {
    fn run(self, isa: Isa, map: &mut [f32]) {
        match self {
            Function::Elementwise(what) => elementwise(isa, what, map),
            Function::Tanh => isa.run(Tanh(map)),
        }
    }
}

/// tanh in place, which convolutions compute on reading.
struct Tanh<'a>(&'a mut [f32]);

impl Kernel for Tanh<'_> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for part in self.0.chunks_exact_mut(S::LANES) {
            // SAFETY: the chunk has LANES floats.
            unsafe { s.store(part.as_mut_ptr(), tanh(s, s.load(part.as_ptr()))) };
        }
    }
}

/// Each instruction set's result, which those with a fused multiply-add have alike.
fn everywhere(run: impl Fn(Isa) -> Vec<f32>) -> Vec<Vec<f32>> {
    let isas = Isa::available();
    let results: Vec<Vec<f32>> = isas.iter().map(|&isa| run(isa)).collect();
    let bits = |map: &[f32]| map.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let fused = results.iter().zip(&isas).filter(|(_, isa)| **isa != Isa::Portable);
    let mut fused = fused.map(|(map, _)| bits(map));
    if let Some(first) = fused.next() {
        assert!(fused.all(|other| other == first), "instruction sets differ");
    }
    results
}

#[test]
fn layer_norm_equals_its_definition() {
    let mut random = Random::new(31);
    for _ in 0..40 {
        let (pixels, channels) = (random.below(9) + 1, random.below(90) + 1);
        let (weight, bias) = (random.map(1, channels), random.map(1, channels));
        let mut map = random.map(pixels, channels);
        let stride = channel_stride(channels);
        let shift = [0.0, 3.0, -40.0][random.below(3)];
        for pixel in map.chunks_mut(stride) {
            pixel[..channels].iter_mut().for_each(|v| *v += shift);
        }
        let epsilon = [1e-5, 1e-6][random.below(2)];
        let norm = LayerNorm { weight: &weight, bias: &bias, channels, epsilon };
        let found = everywhere(|isa| {
            let mut to = vec![f32::NAN; map.len()];
            layer_norm(isa, norm, &map, &mut to);
            to
        });
        for (got, from) in found.iter().flat_map(|to| to.chunks(stride).zip(map.chunks(stride))) {
            let real = from[..channels].iter().map(|&v| f64::from(v));
            let mean = real.clone().sum::<f64>() / channels as f64;
            let variance = real.map(|v| (v - mean).powi(2)).sum::<f64>() / channels as f64;
            let scale = 1.0 / (variance + epsilon).sqrt();
            for c in 0..channels {
                let (w, b) = (f64::from(weight[c]), f64::from(bias[c]));
                let want = (f64::from(from[c]) - mean) * scale * w + b;
                // The mean is rounded once.
                let size = (f64::from(from[c]).abs() + mean.abs()) * scale * w.abs() + b.abs();
                assert_close(got[c], want, size, 4.0 * f64::from(f32::EPSILON), "layer norm");
            }
            assert!(got[channels..].iter().all(|&v| v == 0.0));
        }
    }
}

#[test]
fn functions_of_every_number_are_those_of_their_names() {
    let mut values: Vec<f32> = (-4000..4000).map(|i| i as f32 / 400.0).collect();
    values.extend([0.0, -0.0, 1e-30, -1e-30, 80.0, -80.0, 1e30, -1e30, 5e-4, 0.624_999, 0.625]);
    values.resize(values.len().next_multiple_of(CHANNEL_BLOCK), 0.0);
    let elementwise = [Elementwise::Silu, Elementwise::Gelu].map(Function::Elementwise);
    for what in elementwise.into_iter().chain([Function::Tanh]) {
        let found = everywhere(|isa| {
            let mut map = values.clone();
            what.run(isa, &mut map);
            map
        });
        for (got, &x) in found.iter().flat_map(|map| map.iter().zip(&values)) {
            let v = f64::from(x);
            let (want, size) = match what {
                Function::Elementwise(Elementwise::Silu) => (v / (1.0 + (-v).exp()), v.abs()),
                Function::Tanh => (v.tanh(), v.tanh().abs()),
                Function::Elementwise(Elementwise::Gelu) => {
                    let share = candle_core::cpu::erf::erf_f64(v / 2f64.sqrt());
                    (v * (1.0 + share) / 2.0, v.abs())
                }
            };
            assert_close(
                *got,
                want,
                size,
                4.0 * f64::from(f32::EPSILON),
                &format!("{what:?}({x})"),
            );
        }
        let mut unknown = [f32::NAN; CHANNEL_BLOCK];
        for isa in Isa::available() {
            what.run(isa, &mut unknown);
            assert!(unknown.iter().all(|v| v.is_nan()), "{what:?}");
        }
    }
}

#[test]
fn gates_and_softmax_equal_their_definitions() {
    let mut random = Random::new(33);
    for _ in 0..40 {
        let (pixels, channels) = (random.below(9) + 1, random.below(90) + 1);
        let stride = channel_stride(channels);
        let halves = random.map(2 * pixels, channels);
        let gated = everywhere(|isa| {
            let mut to = vec![f32::NAN; pixels * stride];
            gate(isa, stride, &halves, &mut to);
            to
        });
        for to in &gated {
            for (at, &got) in to.iter().enumerate() {
                let from = &halves[at / stride * 2 * stride + at % stride..];
                let (a, b) = (f64::from(from[0]), f64::from(from[stride]));
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (a + 0.044_715 * a.powi(3));
                let want = 0.5 * a * (1.0 + inner.tanh()) * b;
                assert_close(got, want, (a * b).abs(), 4.0 * f64::from(f32::EPSILON), "gate");
            }
        }
        let logits = random.map(pixels, channels);
        let shares = everywhere(|isa| {
            let mut map = logits.clone();
            softmax_pixels(isa, channels, &mut map);
            map
        });
        for (got, from) in shares.iter().flat_map(|to| to.chunks(stride).zip(logits.chunks(stride)))
        {
            let parts: Vec<f64> = from[..channels].iter().map(|&v| f64::from(v).exp()).collect();
            let total: f64 = parts.iter().sum();
            for (got, part) in got.iter().zip(&parts) {
                let bound = (channels + 16) as f64 * f64::from(f32::EPSILON);
                assert_close(*got, part / total, part / total, bound, "softmax");
            }
            assert!(got[channels..].iter().all(|&v| v == 0.0));
        }
    }
}

#[test]
fn a_window_of_each_channel_equals_its_definition() {
    let mut random = Random::new(34);
    for _ in 0..60 {
        let (height, width) = (random.below(7) + 1, random.below(7) + 1);
        let (channels, stride) = (random.below(40) + 1, random.below(2) + 1);
        let padded = channel_stride(channels);
        let (weight, bias) = (random.map(9, channels), random.map(1, channels));
        let map = random.map(height * width, channels);
        let conv = Depthwise { weight: &weight, bias: &bias, stride };
        let (rows, columns) = (height.div_ceil(stride), width.div_ceil(stride));
        let found = everywhere(|isa| {
            let mut to = vec![f32::NAN; rows * columns * padded];
            for (y, row) in to.chunks_mut(columns * padded).enumerate() {
                depthwise_row(isa, conv, (&map, [height, width]), y, row);
            }
            to
        });
        for (at, got) in found.iter().flat_map(|to| to.iter().enumerate()) {
            let (pixel, c) = (at / padded, at % padded);
            let (y, x) = (pixel / columns * stride, pixel % columns * stride);
            let (mut want, mut size) = (f64::from(bias[c]), f64::from(bias[c]).abs());
            for (ky, kx) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                if (1..=height).contains(&(y + ky)) && (1..=width).contains(&(x + kx)) {
                    let pixel = (y + ky - 1) * width + x + kx - 1;
                    let term = f64::from(map[pixel * padded + c])
                        * f64::from(weight[(3 * ky + kx) * padded + c]);
                    want += term;
                    size += term.abs();
                }
            }
            assert_close(*got, want, size, 10.0 * f64::from(f32::EPSILON), "depthwise");
        }
    }
}
