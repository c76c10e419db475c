//! Holds the norm's three kernels against its definition.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use half::bf16;

use super::emit::{Emitter, Map};
use super::host::Host;
use super::program::{Program, Result};
use super::weights::DeviceWeights;
use crate::engine::device::Precision;
use crate::model::topology::NormSpec;

const IMAGES: usize = 2;
const SIZE: (usize, usize) = (37, 9);
const EPSILON: f64 = 1e-6;

/// GroupNorm and SiLU of `[images, pixels, channels]`, as defined.
fn defined(x: &[f32], groups: usize, scale: &[f32], shift: &[f32]) -> Vec<f32> {
    let (channels, image) = (scale.len(), x.len() / IMAGES);
    let group = |i: usize| (i / image, i % channels / (channels / groups));
    let mut sums = BTreeMap::<_, [f64; 3]>::new();
    for (i, x) in x.iter().enumerate() {
        let [count, sum, square] = sums.entry(group(i)).or_default();
        *count += 1.0;
        *sum += f64::from(*x);
        *square += f64::from(*x).powi(2);
    }
    let value = |(i, x): (usize, &f32)| {
        let [count, sum, square] = sums[&group(i)];
        let mean = sum / count;
        let deviation = (square / count - mean * mean + EPSILON).sqrt();
        let (scale, shift) = (scale[i % channels], shift[i % channels]);
        let y = (f64::from(*x) - mean) / deviation * f64::from(scale) + f64::from(shift);
        (y / (1.0 + (-y).exp())) as f32
    };
    x.iter().enumerate().map(value).collect()
}

/// The same by the kernels.
fn computed(x: &[f32], groups: usize, packed: &mut DeviceWeights) -> Vec<f32> {
    let element = packed.precision();
    let channels = x.len() / IMAGES / (SIZE.0 * SIZE.1);
    let mut emitter = Emitter::new(packed, IMAGES, IMAGES);
    let input = emitter.acquire(x.len() * element.bytes());
    let from = Map { place: input, height: SIZE.0, width: SIZE.1, channels };
    let norm = NormSpec { groups, eps: EPSILON, by_codes: false };
    let latents = emitter.norm("n", from, norm, true).unwrap().place;
    let program = Program {
        images: IMAGES,
        usual: IMAGES,
        image_bytes: x.len() * element.bytes() / IMAGES,
        grid: SIZE,
        dim: channels,
        commands: emitter.commands,
        maps: emitter.maps,
        input,
        latents,
        result: Result::Latents,
    };
    let bytes: Vec<u8> = match element {
        Precision::F32 => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Precision::Bf16 => x.iter().flat_map(|x| bf16::from_f32(*x).to_le_bytes()).collect(),
    };
    let mut host = Host::new(packed, &program);
    host.run(&program, &bytes);
    host.elements(latents, x.len())
}

#[test]
fn norms_are_as_defined_at_any_width() {
    let drawn = |from: usize, count: usize| -> Vec<f32> {
        (from..from + count).map(|i| (i * 7919 % 129) as f32 / 32.0 - 2.0).collect()
    };
    // One row of threads and many; rows that don't fill a block; more channels than a block has.
    for (channels, groups) in [(8, 4), (72, 8), (128, 32), (512, 32), (2056, 8)] {
        let [scale, shift] = [drawn(5, channels), drawn(90, channels)];
        // Numbers that bfloat16 has, and far from zero, so that sums of squares cancel.
        let count = IMAGES * SIZE.0 * SIZE.1 * channels;
        let x: Vec<f32> = drawn(1, count).iter().map(|x| x + 5.0).collect();
        let want = defined(&x, groups, &scale, &shift);
        let largest = want.iter().fold(0f32, |m, v| m.max(v.abs()));
        for element in [Precision::F32, Precision::Bf16] {
            let tensor =
                |v: &Vec<f32>| Tensor::from_vec(v.clone(), channels, &Device::Cpu).unwrap();
            let weights = [("n.weight", tensor(&scale)), ("n.bias", tensor(&shift))];
            let weights = weights.map(|(name, tensor)| (name.to_owned(), tensor)).into();
            let got = computed(&x, groups, &mut DeviceWeights::new(weights, element));
            // Half a unit in the last place of what is stored.
            let rounding = if element == Precision::F32 { 0.0 } else { 1.0 / 256.0 };
            for (got, want) in got.iter().zip(&want) {
                let most = want.abs() * rounding + largest * 2e-6;
                assert!((got - want).abs() <= most, "{element}, {channels}: {got} for {want}");
            }
        }
    }
}
