//! Holds `direct` against what it promises.

use super::super::reference::{Case, Random};
use super::*;

/// A sum of n rounded products is within n half units of the sum of magnitudes; bias,
/// residual and the activation's exponential add a few.
fn bound(case: &Case) -> f64 {
    let terms = case.inputs * case.window.0 * case.window.1;
    (terms + 16) as f64 * f64::from(f32::EPSILON) / 2.0
}

#[test]
fn any_window_stride_and_size_equals_the_definition() {
    let mut random = Random::new(4);
    for isa in Isa::available() {
        for _ in 0..150 {
            let window = Window {
                height: random.below(5) + 1,
                width: random.below(5) + 1,
                stride: random.below(3) + 1,
                padding: random.below(3),
            };
            let case = Case {
                height: random.below(12) + 1,
                width: random.below(20) + 1,
                inputs: random.below(40) + 1,
                outputs: random.below(70) + 1,
                window: (window.height, window.width),
                stride: window.stride,
                padding: window.padding,
                output_size: (random.below(9) + 1, random.below(17) + 1),
                upsample: random.below(4) == 0,
            };
            case.check(&mut random, bound(&case), false, |weight, input, output, size| {
                let weights = DirectWeights::new(isa, weight, case.outputs, case.inputs, window);
                let mut scratch = Buffer::default();
                direct(&weights, input, output, size, &mut scratch);
            });
        }
    }
}

#[test]
fn a_1x1_convolution_equals_the_definition() {
    let mut random = Random::new(5);
    let window = Window { height: 1, width: 1, stride: 1, padding: 0 };
    for isa in Isa::available() {
        for _ in 0..40 {
            let (height, width) = (random.below(12) + 1, random.below(12) + 1);
            let case = Case {
                height,
                width,
                inputs: random.below(90) + 1,
                outputs: random.below(90) + 1,
                window: (1, 1),
                stride: 1,
                padding: 0,
                output_size: (height, width),
                upsample: false,
            };
            case.check(&mut random, bound(&case), false, |weight, input, output, (rows, _)| {
                let weights = DirectWeights::new(isa, weight, case.outputs, case.inputs, window);
                let input = input.rows(output.first_row, rows);
                pointwise(&weights, input, output, &mut Buffer::default());
            });
        }
    }
}

#[test]
fn pixels_of_three_floats_need_no_padding() {
    let mut random = Random::new(6);
    let (height, width, outputs) = (7, 9, 32);
    let window = Window { height: 3, width: 3, stride: 1, padding: 1 };
    let weight = random.floats(outputs * 27);
    let tight = random.floats(height * width * 3);
    let mut wide = vec![0f32; height * width * 16];
    for (to, from) in wide.chunks_mut(16).zip(tight.chunks(3)) {
        to[..3].copy_from_slice(from);
    }
    for isa in Isa::available() {
        let weights = DirectWeights::new(isa, &weight, outputs, 3, window);
        let run = |data: &[f32], stride| {
            let mut out = vec![0f32; height * width * outputs];
            let activation = super::super::Activation::Identity;
            let input =
                Input { data, height, width, channels: 3, stride, activation, upsample: false };
            let output = Output {
                data: &mut out,
                first_row: 0,
                bias: &[0.0; 32],
                residual: super::super::Residual::None,
                moments: None,
            };
            direct(&weights, input, output, (height, width), &mut Buffer::default());
            out
        };
        assert_eq!(run(&tight, 3), run(&wide, 16));
    }
}
