//! Owns the way between bytes and the tensors that training sees. Must not know: what is learned.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::model::config::InputRange;

/// The floats that black and white become.
pub fn limits(range: InputRange) -> (f64, f64) {
    match range {
        InputRange::Unit => (0.0, 1.0),
        InputRange::Dalle => (0.1, 0.9),
        InputRange::Centered => (-0.5, 0.5),
        InputRange::Taming
        | InputRange::Chameleon
        | InputRange::Symmetric
        | InputRange::Diffusers
        | InputRange::ChameleonHf => (-1.0, 1.0),
    }
}

/// `[N, H, W, C]` bytes to `[N, C, H, W]` floats.
pub fn to_tensor(
    pixels: &[u8],
    channels: usize,
    side: usize,
    table: &[f32; 256],
) -> Result<Tensor> {
    let plane = side * side;
    let count = pixels.len() / (plane * channels);
    let mut values = vec![0f32; pixels.len()];
    for (image, to) in
        pixels.chunks_exact(plane * channels).zip(values.chunks_exact_mut(plane * channels))
    {
        for (c, to) in to.chunks_exact_mut(plane).enumerate() {
            for (to, byte) in to.iter_mut().zip(image[c..].iter().step_by(channels)) {
                *to = table[*byte as usize];
            }
        }
    }
    Ok(Tensor::from_vec(values, (count, channels, side, side), &Device::Cpu)?)
}
