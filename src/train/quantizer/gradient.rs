//! Owns the codes that learn by the gradient of their own loss (van den Oord et al. 2017; with
//! vectors of length one: ViT-VQGAN, LlamaGen). Must not know: optimizers.

use std::ops::Range;

use candle_core::{DType, Tensor, Var};

use super::{Moved, Nearest, Quantized, Quantizer, picked};
use crate::error::{Error, Result};
use crate::train::CODEBOOK_NAME;
use crate::train::network::parameters::Named;
use crate::train::network::parameters::{Parameters, flat, set_flat};
use crate::train::network::random::Draws;
use crate::train::quantizer::ema::{Follow, KMeans};
use crate::train::settings::{CodebookSettings, Start};

/// A codebook among the trained weights, under [`CODEBOOK_NAME`].
pub struct GradientCodes {
    nearest: Nearest,
    /// Those of all residual levels, `[depth * K, D]`.
    codes: Var,
    /// Where this level's begin among them.
    first: usize,
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
        GradientCodes::of_level(nearest, (0, 1), settings, parameters, dtype)
    }

    /// The codes of residual level `level` of `depth`, which share one weight.
    pub fn of_level(
        nearest: Nearest,
        (level, depth): (usize, usize),
        settings: &CodebookSettings,
        parameters: &Parameters,
        dtype: DType,
    ) -> Result<GradientCodes> {
        let Nearest { codes, dim, .. } = nearest;
        let all = parameters.variable((depth * codes, dim), CODEBOOK_NAME, dtype)?;
        let CodebookSettings { start, kmeans_steps, .. } = *settings;
        Ok(GradientCodes { nearest, codes: all, first: level * codes, start, kmeans_steps })
    }

    /// The numbers of so many codes from code `k` of this level on, among those of all levels.
    fn values(&self, k: usize, count: usize) -> Range<usize> {
        let dim = self.nearest.dim;
        (self.first + k) * dim..(self.first + k + count) * dim
    }
}

impl Quantizer for GradientCodes {
    fn forward(&self, z: &Tensor) -> Result<Quantized> {
        let plain = &flat(&self.codes)?[self.values(0, self.nearest.codes)];
        let found = self.nearest.find(z, &self.nearest.compared(plain))?;
        let rows: Vec<u32> = found.indices.iter().map(|k| self.first as u32 + k).collect();
        let quantized = picked(&self.codes, &rows, z)?;
        let quantized = self.nearest.compared_tensor(&quantized)?;
        self.nearest.quantized(found, &quantized, true)
    }

    fn wants_start(&self) -> bool {
        true
    }

    fn start(
        &mut self,
        rows: &[f32],
        _: usize,
        draws: &mut Draws,
        follow: &mut Follow<'_>,
    ) -> Result<Vec<Moved>> {
        let Nearest { codes, dim, .. } = self.nearest;
        let points = match self.start {
            Start::Kmeans => {
                let rows = self.nearest.compared(rows);
                KMeans::of(&rows, codes, dim, self.kmeans_steps, draws, follow)?.centres
            }
            Start::Random => draws.uniform(codes * dim, 1.0 / codes as f32),
        };
        self.place(&(0..codes).collect::<Vec<_>>(), &points)
    }

    fn places_codes(&self) -> bool {
        true
    }

    fn place(&mut self, codes: &[usize], points: &[f32]) -> Result<Vec<Moved>> {
        let dim = self.nearest.dim;
        let mut values = flat(&self.codes)?;
        let mut moved = Vec::with_capacity(codes.len());
        for (k, point) in codes.iter().zip(points.chunks_exact(dim)) {
            let range = self.values(*k, 1);
            values[range.clone()].copy_from_slice(point);
            moved.push(Moved { name: CODEBOOK_NAME, range });
        }
        set_flat(&self.codes, values)?;
        Ok(moved)
    }

    fn codebook(&self, weights: &Named) -> Result<Option<Vec<f32>>> {
        match weights.get(CODEBOOK_NAME) {
            Some(codes) => Ok(Some(codes[self.values(0, self.nearest.codes)].to_vec())),
            None => Err(Error::invalid(format!("the weights have no {CODEBOOK_NAME}"))),
        }
    }
}
