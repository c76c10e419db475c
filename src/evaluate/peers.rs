//! Owns what tests make as `benches/peers/evaluate_torch.py` makes it: weights by their names, pictures.

use candle_core::{Device, Tensor};
use image::RgbImage;

use crate::util::random::{fnv1a64, unit, units};

/// A weight by its name: of a convolution as wide as ReLU wants it, of a norm near one.
pub(crate) fn generated(name: &str, shape: &[usize]) -> Tensor {
    let of_norm = name.ends_with("running_var") || name.ends_with("bn.weight");
    let head = name.starts_with("lin");
    let scaled = |value: f32| match shape.len() {
        _ if of_norm => 1.0 + value * 0.125,
        4 if !head => value * (6.0 / shape[1..].iter().product::<usize>() as f32).sqrt(),
        4 => value.abs() * 0.125,
        _ => value * 0.0625,
    };
    let values = units(fnv1a64(name), shape.iter().product());
    let values: Vec<f32> = values.into_iter().map(scaled).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// `[3, height, width]` of whole numbers up to 255, and the same with noise.
pub(crate) fn pictures(height: usize, width: usize) -> [Vec<f32>; 2] {
    let key = fnv1a64("picture");
    let pixel = |at: usize| ((at % width) * 3 + (at / width % height) * 2) as f32 % 200.0;
    let noise = |at: usize| (unit(key, at as u64) * 25.0).round();
    let plane: Vec<f32> = (0..3 * height * width).map(pixel).collect();
    let noisy = plane.iter().enumerate().map(|(at, v)| (v + noise(at)).clamp(0.0, 255.0));
    let noisy = noisy.collect();
    [plane, noisy]
}

/// Of such planes.
pub(crate) fn picture(planes: &[f32], height: usize, width: usize) -> RgbImage {
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        image::Rgb([0, 1, 2].map(|c| planes[c * height * width + at] as u8))
    })
}
