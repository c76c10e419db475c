//! Owns the codes that learn by the gradient of their own loss (van den Oord et al. 2017; with
//! vectors of length one: ViT-VQGAN, LlamaGen).

use std::ops::Range;

use candle_core::{DType, Tensor, Var};

use crate::error::{Error, Result};
use crate::train::network::parameters::{CODEBOOK_NAME, Moved, Named, Parameters, flat, set_flat};
use crate::train::network::random::Draws;
use crate::train::quantizer::kmeans::KMeans;
use crate::train::quantizer::layout::picked;
use crate::train::quantizer::nearest::Nearest;
use crate::train::quantizer::trainable::{Follow, QuantizeOutput, TrainableQuantizer};
use crate::train::settings::codebook::{CodebookSettings, CodebookStart};

/// A codebook among the trained weights, under [`CODEBOOK_NAME`].
pub(super) struct GradientCodes {
    nearest: Nearest,
    /// Those of all residual levels, `[depth * K, D]`.
    codes: Var,
    /// Where this level's begin among them.
    first: usize,
    start: CodebookStart,
    kmeans_steps: usize,
}

impl GradientCodes {
    /// Adds the codebook to `parameters`: of all residual levels one weight, of which this is level
    /// `level` of `depth`.
    pub(super) fn new(
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

impl TrainableQuantizer for GradientCodes {
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput> {
        let own = self.codes.detach().narrow(0, self.first, self.nearest.codes)?;
        let codes = self.nearest.compared_rows(&own.to_dtype(DType::F32)?)?;
        let found = self.nearest.find(z, &codes)?;
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
            CodebookStart::Kmeans => {
                let rows = self.nearest.compared(rows);
                let device = self.codes.device();
                KMeans::of(device, &rows, codes, dim, self.kmeans_steps, draws, follow)?.centres
            }
            CodebookStart::Random => draws.uniform(codes * dim, 1.0 / codes as f32),
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
