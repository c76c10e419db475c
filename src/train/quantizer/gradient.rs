//! Owns the codes that learn by the gradient of their own loss (van den Oord et al. 2017; with
//! vectors of length one: ViT-VQGAN, LlamaGen). Must not know: optimizers.

use candle_core::{DType, Tensor, Var};

use super::{Moved, Nearest, Quantized, Quantizer, picked};
use crate::error::{Error, Result};
use crate::train::CODEBOOK_NAME;
use crate::train::codebook::KMeans;
use crate::train::optimizer::Named;
use crate::train::parameters::{Parameters, flat, set_flat};
use crate::train::random::Draws;
use crate::train::settings::{CodebookSettings, Start};

/// A codebook among the trained weights, under [`CODEBOOK_NAME`].
pub struct GradientCodes {
    nearest: Nearest,
    codes: Var,
    start: Start,
    kmeans_steps: usize,
}

impl GradientCodes {
    /// Adds the codebook to `parameters`.
    pub fn new(
        nearest: Nearest,
        settings: &CodebookSettings,
        parameters: &Parameters,
        dtype: DType,
    ) -> Result<GradientCodes> {
        let codes = parameters.variable((nearest.codes, nearest.dim), CODEBOOK_NAME, dtype)?;
        let CodebookSettings { start, kmeans_steps, .. } = *settings;
        Ok(GradientCodes { nearest, codes, start, kmeans_steps })
    }
}

impl Quantizer for GradientCodes {
    fn forward(&self, z: &Tensor) -> Result<Quantized> {
        let plain = flat(&self.codes)?;
        let found = self.nearest.find(z, &self.nearest.compared(&plain))?;
        let quantized = picked(&self.codes, &found.indices, z)?;
        let quantized = self.nearest.compared_tensor(&quantized)?;
        self.nearest.quantized(found, &quantized, true)
    }

    fn wants_start(&self) -> bool {
        true
    }

    fn start(&mut self, rows: &[f32], _: usize, draws: &mut Draws) -> Result<Vec<Moved>> {
        let Nearest { codes, dim, .. } = self.nearest;
        let values = match self.start {
            Start::Kmeans => {
                let rows = self.nearest.compared(rows);
                KMeans::of(&rows, codes, dim, self.kmeans_steps, draws).centres
            }
            Start::Random => draws.uniform(codes * dim, 1.0 / codes as f32),
        };
        set_flat(&self.codes, values)?;
        Ok(vec![Moved { name: CODEBOOK_NAME, range: 0..codes * dim }])
    }

    fn places_codes(&self) -> bool {
        true
    }

    fn place(&mut self, codes: &[usize], points: &[f32]) -> Result<Vec<Moved>> {
        let dim = self.nearest.dim;
        let mut values = flat(&self.codes)?;
        let mut moved = Vec::with_capacity(codes.len());
        for (k, point) in codes.iter().zip(points.chunks_exact(dim)) {
            let range = k * dim..(k + 1) * dim;
            values[range.clone()].copy_from_slice(point);
            moved.push(Moved { name: CODEBOOK_NAME, range });
        }
        set_flat(&self.codes, values)?;
        Ok(moved)
    }

    fn codebook(&self, weights: &Named) -> Result<Option<Vec<f32>>> {
        match weights.get(CODEBOOK_NAME) {
            Some(codes) => Ok(Some(codes.clone())),
            None => Err(Error::invalid(format!("the weights have no {CODEBOOK_NAME}"))),
        }
    }
}
