//! Owns what the kernels' tests compare with: plain loops in float64, seeded random numbers.

use super::isa::channel_stride;
use super::norm::Moments;
use super::rows::{Activation, Input, Output, Residual};
use crate::util::random::SplitMix64;

/// Seeded numbers.
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(SplitMix64(seed))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0.next()
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// In [-1, 1).
    pub(super) fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    /// `[pixels, channel_stride(channels)]`, zero after the last channel.
    pub(super) fn map(&mut self, pixels: usize, channels: usize) -> Vec<f32> {
        let stride = channel_stride(channels);
        let mut map = vec![0.0; pixels * stride];
        for pixel in map.chunks_mut(stride) {
            pixel[..channels].copy_from_slice(&self.floats(channels));
        }
        map
    }
}

/// Asserts |got - want| <= bound * size, where `size` is the sum of the magnitudes that `want`
/// was added up from.
#[track_caller]
pub(super) fn assert_close(got: f32, want: f64, size: f64, bound: f64, what: &str) {
    let error = (f64::from(got) - want).abs();
    // The smallest float32 keeps a sum of nothing comparable.
    assert!(
        error <= bound * size + 1e-38,
        "{what}: {got} for {want}, {:.2e} of {size}",
        error / size
    );
}

/// A map after its activation, as float64: `[height][width][channels]` without padding.
pub(super) struct Plain {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub data: Vec<f64>,
    /// The magnitudes that each value was added up from.
    pub sizes: Vec<f64>,
}

/// A convolution's definition: the sum and the sum of magnitudes at each output,
/// `[height][width][outputs]`.
fn convolve(input: &Plain, weight: &[f32], case: &Case) -> Vec<(f64, f64)> {
    let (height, width) = case.output_size;
    let mut all = Vec::with_capacity(height * width * case.outputs);
    for y in 0..height {
        for x in 0..width {
            for o in 0..case.outputs {
                all.push(one_output(input, weight, case, y, x, o));
            }
        }
    }
    all
}

fn one_output(
    input: &Plain,
    weight: &[f32],
    case: &Case,
    y: usize,
    x: usize,
    o: usize,
) -> (f64, f64) {
    let (mut sum, mut size) = (0f64, 0f64);
    for ky in 0..case.window.0 {
        for kx in 0..case.window.1 {
            let row = (y * case.stride + ky).wrapping_sub(case.padding);
            let column = (x * case.stride + kx).wrapping_sub(case.padding);
            if row >= input.height || column >= input.width {
                continue;
            }
            for c in 0..input.channels {
                let w =
                    weight[((o * input.channels + c) * case.window.0 + ky) * case.window.1 + kx];
                let at = (row * input.width + column) * input.channels + c;
                sum += input.data[at] * f64::from(w);
                size += input.sizes[at] * f64::from(w.abs());
            }
        }
    }
    (sum, size)
}

/// What a test convolves: random activation, residual and moments around a given shape.
pub(super) struct Case {
    pub height: usize,
    pub width: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub window: (usize, usize),
    pub stride: usize,
    pub padding: usize,
    pub output_size: (usize, usize),
    pub upsample: bool,
}

impl Case {
    /// Runs `convolution` on random data, the output whole or a few rows at a time, and compares
    /// every output and the moments. The error of an output may be `bound` times the sum of
    /// magnitudes; times the largest such sum of the map where `spread`, for algorithms that mix
    /// neighbouring outputs.
    pub(super) fn check(
        &self,
        random: &mut Random,
        bound: f64,
        spread: bool,
        convolution: impl Fn(&[f32], Input<'_>, Output<'_>, (usize, usize)),
    ) {
        let taps = self.window.0 * self.window.1;
        let weight = random.floats(self.outputs * self.inputs * taps);
        let data = random.map(self.height * self.width, self.inputs);
        let (scale, shift) = (random.map(1, self.inputs), random.map(1, self.inputs));
        let activation = match random.below(6) {
            0 => Activation::Identity,
            1 => Activation::Relu,
            2 => Activation::Tanh,
            3 => Activation::Gelu,
            4 => Activation::Affine { scale: &scale, shift: &shift },
            _ => Activation::AffineSilu { scale: &scale, shift: &shift },
        };
        let input = Input {
            data: &data,
            height: self.height,
            width: self.width,
            channels: self.inputs,
            stride: channel_stride(self.inputs),
            activation,
            upsample: self.upsample,
        };
        let pixels = self.output_size.0 * self.output_size.1;
        let bias = random.map(1, self.outputs);
        let before = random.map(pixels, self.outputs);
        let (residual, added) = match random.below(2) {
            0 => (Residual::None, None),
            _ => (Residual::Output, Some(&before)),
        };
        let mut got = before.clone();
        let mut moments = Moments::new(self.outputs);
        let (height, width) = self.output_size;
        let rows = if random.below(2) == 0 { height } else { random.below(height) + 1 };
        for (part, data) in got.chunks_mut(rows * width * channel_stride(self.outputs)).enumerate()
        {
            let first_row = part * rows;
            let moments = Some(&mut moments);
            let output = Output { data, first_row, bias: &bias, residual, moments };
            convolution(&weight, input, output, (rows.min(height - first_row), width));
        }
        let mut want = convolve(&Plain::new(&input), &weight, self);
        if spread {
            let largest = want.iter().map(|w| w.1).fold(0.0, f64::max);
            want.iter_mut().for_each(|w| w.1 = largest);
        }
        self.assert_outputs(&got, want, &bias, added, bound);
        moments.assert_equal(&got, self.outputs);
    }

    /// Holds every output against the convolution's sum and size in `want`, to which the bias and
    /// what was `added` come.
    fn assert_outputs(
        &self,
        got: &[f32],
        mut want: Vec<(f64, f64)>,
        bias: &[f32],
        added: Option<&Vec<f32>>,
        bound: f64,
    ) {
        let stride = channel_stride(self.outputs);
        for pixel in 0..self.output_size.0 * self.output_size.1 {
            for c in 0..stride {
                let y = got[pixel * stride + c];
                if c >= self.outputs {
                    assert_eq!(y, 0.0, "channels after the last stay zero");
                    continue;
                }
                let (sum, size) = &mut want[pixel * self.outputs + c];
                for v in [Some(bias[c]), added.map(|a| a[pixel * stride + c])].into_iter().flatten()
                {
                    *sum += f64::from(v);
                    *size += f64::from(v.abs());
                }
                assert_close(y, *sum, *size, bound, "convolution");
            }
        }
    }
}

impl Plain {
    /// What a convolution of this input sees.
    fn new(input: &Input<'_>) -> Plain {
        let (height, width) = input.size();
        let factor = if input.upsample { 2 } else { 1 };
        let (mut data, mut sizes) = (Vec::new(), Vec::new());
        for y in 0..height {
            for x in 0..width {
                for c in 0..input.channels {
                    let at = (y / factor * input.width + x / factor) * input.stride + c;
                    let v = f64::from(input.data[at]);
                    let affine = |scale: &[f32], shift: &[f32]| {
                        let (a, b) = (v * f64::from(scale[c]), f64::from(shift[c]));
                        (a + b, a.abs() + b.abs())
                    };
                    let (v, size) = match input.activation {
                        Activation::Identity => (v, v.abs()),
                        Activation::Relu => (v.max(0.0), v.abs()),
                        Activation::Tanh => (v.tanh(), v.abs()),
                        Activation::Gelu => {
                            let share = candle_core::cpu::erf::erf_f64(v / 2f64.sqrt());
                            (v * (1.0 + share) / 2.0, v.abs())
                        }
                        Activation::Affine { scale, shift } => affine(scale, shift),
                        Activation::AffineSilu { scale, shift } => {
                            let (v, size) = affine(scale, shift);
                            (v / (1.0 + (-v).exp()), size)
                        }
                    };
                    data.push(v);
                    sizes.push(size);
                }
            }
        }
        Plain { height, width, channels: input.channels, data, sizes }
    }
}
