//! Holds what is made of weights against their definitions.

use super::*;
use crate::util::random::SplitMix64;

fn random(seed: u64, shape: &[usize]) -> RawTensor {
    let mut random = SplitMix64(seed);
    let count: usize = shape.iter().product();
    let values = (0..count).map(|_| (random.next() >> 40) as f32 / 2f32.powi(23) - 1.0);
    let bytes: Vec<u8> = values.flat_map(|v| v.to_le_bytes()).collect();
    RawTensor::new(Dtype::F32, shape.to_vec(), bytes.into()).unwrap()
}

/// A step of Haar's along both sides: `[channels][height][width]` to four times as many channels of
/// half the size.
fn haar(x: &[f64], channels: usize, size: usize, s: f64) -> Vec<f64> {
    let half = size / 2;
    let mut out = vec![0.0; x.len()];
    for (group, signs) in
        [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]].into_iter().enumerate()
    {
        for at in 0..channels * half * half {
            let (c, y, x_) = (at / (half * half), at / half % half, at % half);
            let pixel = |i: usize| x[(c * size + 2 * y + i / 2) * size + 2 * x_ + i % 2];
            let sum: f64 = (0..4).map(|i| f64::from(signs[i]) * pixel(i)).sum();
            out[group * channels * half * half + at] = s * s * sum / 2.0;
        }
    }
    out
}

#[test]
fn a_convolution_of_wavelets_is_one_of_pixels() {
    let s = f64::from(0.70710677f32);
    let wavelets = RawTensor::new(
        Dtype::F32,
        vec![2],
        [0.70710677f32; 2].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
    )
    .unwrap();
    let (size, outputs, channels) = (8, 2, 3);
    let image: Vec<f64> =
        random(1, &[channels * size * size]).to_f32().into_iter().map(f64::from).collect();
    let once = haar(&image, channels, size, s);
    let twice = haar(&once, 4 * channels, size / 2, s);
    let weight = random(2, &[outputs, 16 * channels, 3, 3]);
    let made = wavelets::of_pixels(&weight, &wavelets, &[outputs, channels, 12, 12]).unwrap();
    let values = weight.to_f32();
    for (output, y, x) in [(0, 0, 0), (1, 0, 1), (0, 1, 0), (1, 1, 1)] {
        let mut want = 0.0;
        for (c, ky, kx) in (0..48).flat_map(|c| (0..9).map(move |k| (c, k / 3, k % 3))) {
            let (row, column) = (y + ky, x + kx);
            if (1..3).contains(&row) && (1..3).contains(&column) {
                let coefficient = twice[(c * 2 + row - 1) * 2 + column - 1];
                want += coefficient * f64::from(values[(output * 48 + c) * 9 + ky * 3 + kx]);
            }
        }
        let mut got = 0.0;
        for (c, ky, kx) in (0..3).flat_map(|c| (0..144).map(move |k| (c, k / 12, k % 12))) {
            let (row, column) = (4 * y + ky, 4 * x + kx);
            if (4..12).contains(&row) && (4..12).contains(&column) {
                let pixel = image[(c * size + row - 4) * size + column - 4];
                got += pixel * f64::from(made[((output * 3 + c) * 12 + ky) * 12 + kx]);
            }
        }
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
    // The unit matrix to coefficients and back: a patch comes back as it was, pixel by pixel.
    let unit: Vec<u8> = (0..48 * 48)
        .flat_map(|at| (if at / 48 == at % 48 { 1f32 } else { 0.0 }).to_le_bytes())
        .collect();
    let unit = RawTensor::new(Dtype::F32, vec![48, 48, 1, 1], unit.into()).unwrap();
    let back = wavelets::to_pixels(&unit, &wavelets).unwrap();
    let patch: Vec<f64> = (0..48).map(|i| image[i / 16 * 64 + i % 16 / 4 * 8 + i % 4]).collect();
    let coefficients = haar(&haar(&patch, 3, 4, s), 12, 2, s);
    for output in 0..48 {
        let (channel, digits) = (output % 3, output / 3);
        let (y, x) = (digits / 8 * 2 + digits / 2 % 2, digits / 4 % 2 * 2 + digits % 2);
        let terms = (0..48).map(|c| f64::from(back[output * 48 + c]) * coefficients[c]);
        let want = patch[channel * 16 + y * 4 + x];
        assert!((terms.sum::<f64>() - want).abs() < 1e-5, "{output}");
    }
}

#[test]
fn frames_that_are_equal_are_one_with_sums_of_the_taps_that_see_them() {
    // One channel, windows of one pixel: taps 1, 10, 100, 1000.
    let bytes: Vec<u8> = [1f32, 10.0, 100.0, 1000.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    let taps = RawTensor::new(Dtype::F32, vec![1, 1, 4, 1, 1], bytes.into()).unwrap();
    assert_eq!(frames::last_tap(&taps).unwrap(), [1000.0]);
    // Four frames: the first output sees two of zeros.
    assert_eq!(frames::unrolled(&taps, 0, 2).unwrap(), [1100.0, 1111.0]);
    assert_eq!(frames::unrolled(&taps, 1, 2).unwrap(), [100.0, 1000.0]);
    assert_eq!(frames::unrolled(&taps, 0, 1).unwrap(), [1100.0]);
    assert_eq!(frames::unrolled(&taps, 0, 3).unwrap(), [1100.0, 1111.0, 1111.0, 1111.0]);
    let second = [[100.0, 1000.0, 0.0, 0.0], [1.0, 10.0, 100.0, 1000.0]].concat();
    assert_eq!(frames::unrolled(&taps, 1, 3).unwrap(), second);
}
