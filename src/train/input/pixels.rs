//! Owns the way between bytes and the tensors that training sees.

use candle_core::{Device, Tensor};

use crate::error::Result;
use crate::model::config::{InputRange, ModelConfig};
use crate::train::settings::training::side;

/// The floats that black and white become.
pub(crate) fn limits(range: InputRange) -> (f64, f64) {
    match range {
        InputRange::Unit => (0.0, 1.0),
        InputRange::Dalle => (0.1, 0.9),
        InputRange::Centered => (-0.5, 0.5),
        // Of models that ONNX Runtime runs, none of which is trained.
        InputRange::Stated => (0.0, 255.0),
        InputRange::Taming
        | InputRange::Chameleon
        | InputRange::Symmetric
        | InputRange::Diffusers
        | InputRange::ChameleonHf => (-1.0, 1.0),
    }
}

/// How images become what a network sees.
pub(crate) struct Pixels {
    /// Where it sees them.
    device: Device,
    /// The float of each byte.
    table: [f32; 256],
    /// The floats of black and white.
    pub limits: (f64, f64),
    /// C, 1 or 3.
    pub channels: usize,
    /// H and W.
    pub side: usize,
}

impl Pixels {
    /// Those of a model on `device`.
    ///
    /// # Errors
    /// Where it doesn't say their size.
    pub(crate) fn of(model: &ModelConfig, device: &Device) -> Result<Pixels> {
        let (channels, input) = (model.pixels.channels, model.pixels.input);
        let (table, limits) = (input.table(), limits(input));
        Ok(Pixels { device: device.clone(), table, limits, channels, side: side(model)? })
    }

    /// Numbers of one image, H W C.
    pub(crate) fn image_size(&self) -> usize {
        self.side * self.side * self.channels
    }

    /// Difference of white and black.
    pub(crate) fn peak(&self) -> f64 {
        self.limits.1 - self.limits.0
    }

    /// `[N, H, W, C]` bytes to `[N, C, H, W]` floats.
    pub(crate) fn to_tensor(&self, bytes: &[u8]) -> Result<Tensor> {
        let (channels, side) = (self.channels, self.side);
        let plane = side * side;
        let count = bytes.len() / (plane * channels);
        let mut values = vec![0f32; bytes.len()];
        for (image, to) in
            bytes.chunks_exact(plane * channels).zip(values.chunks_exact_mut(plane * channels))
        {
            for (c, to) in to.chunks_exact_mut(plane).enumerate() {
                for (to, byte) in to.iter_mut().zip(image[c..].iter().step_by(channels)) {
                    *to = self.table[*byte as usize];
                }
            }
        }
        Ok(Tensor::from_vec(values, (count, channels, side, side), &self.device)?)
    }
}
