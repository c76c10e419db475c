//! Owns the codes that are moving averages of the latents that chose them (EMA; van den Oord et al.
//! 2017, appendix): updates with consistent counts.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::train::network::parameters::{Moved, Named};
use crate::train::network::random::Draws;
use crate::train::quantizer::kmeans::KMeans;
use crate::train::quantizer::layout::picked;
use crate::train::quantizer::nearest::Nearest;
use crate::train::quantizer::trainable::{Follow, QuantizeOutput, TrainableQuantizer};
use crate::train::settings::codebook::{CodebookSettings, CodebookStart};

/// Settings of [`EmaCodebook`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averages {
    /// g in N <- g N + (1 - g) n.
    pub decay: f64,
    /// Laplace smoothing of the counts.
    pub epsilon: f64,
}

/// Codes that are the means of the latents they were given (van den Oord et al. 2017, appendix).
#[derive(Debug, Clone, PartialEq)]
pub struct EmaCodebook {
    /// D.
    pub dim: usize,
    /// `[K, D]`.
    pub embedding: Vec<f32>,
    /// N, `[K]`: how many rows a step a code gets.
    pub count: Vec<f32>,
    /// W, `[K, D]`: the sum of these rows; the codes are W / N smoothed.
    pub sum: Vec<f32>,
    /// Decay and smoothing.
    pub averages: Averages,
}

impl EmaCodebook {
    /// Codes of zeros: to be started by [`EmaCodebook::start`].
    pub fn new(codes: usize, dim: usize, averages: Averages) -> EmaCodebook {
        EmaCodebook {
            dim,
            embedding: vec![0.0; codes * dim],
            count: vec![0.0; codes],
            sum: vec![0.0; codes * dim],
            averages,
        }
    }

    /// K.
    pub fn codes(&self) -> usize {
        self.count.len()
    }

    /// Puts the codes on [`KMeans`] centres. Counts are what the clusters would get from `step_rows`
    /// rows a step, one at least, and sums are consistent with them.
    pub fn start(&mut self, means: &KMeans, step_rows: usize) {
        let scale = step_rows as f32 / means.rows.max(1) as f32;
        for (k, centre) in means.centres.chunks_exact(self.dim).enumerate() {
            self.place(k, centre, (means.members[k] as f32 * scale).max(1.0));
        }
    }

    /// Puts code k at `point` with a consistent count and sum.
    pub fn place(&mut self, k: usize, point: &[f32], count: f32) {
        let part = k * self.dim..(k + 1) * self.dim;
        self.embedding[part.clone()].copy_from_slice(point);
        for (sum, v) in self.sum[part].iter_mut().zip(point) {
            *sum = v * count;
        }
        self.count[k] = count;
    }

    /// One moving-average update from the rows of a batch and their codes. Belongs behind the
    /// backward pass. All codes move, used or not.
    pub fn update(&mut self, rows: &[f32], indices: &[u32]) {
        let (dim, codes) = (self.dim, self.codes());
        let mut n = vec![0f32; codes];
        let mut s = vec![0f32; codes * dim];
        for (row, k) in rows.chunks_exact(dim).zip(indices) {
            let k = *k as usize;
            n[k] += 1.0;
            for (s, v) in s[k * dim..][..dim].iter_mut().zip(row) {
                *s += v;
            }
        }
        let (g, rest) = (self.averages.decay as f32, (1.0 - self.averages.decay) as f32);
        for (count, n) in self.count.iter_mut().zip(&n) {
            *count = g * *count + rest * n;
        }
        for (sum, s) in self.sum.iter_mut().zip(&s) {
            *sum = g * *sum + rest * s;
        }
        let total: f64 = self.count.iter().map(|c| f64::from(*c)).sum();
        let epsilon = self.averages.epsilon;
        for k in 0..codes {
            let smoothed =
                (f64::from(self.count[k]) + epsilon) / (total + codes as f64 * epsilon) * total;
            for (e, w) in
                self.embedding[k * dim..][..dim].iter_mut().zip(&self.sum[k * dim..][..dim])
            {
                *e = (f64::from(*w) / smoothed) as f32;
            }
        }
    }
}

/// A [`EmaCodebook`] in training: on the host, which adds the rows of a batch in their order; what is
/// searched is its copy on the device of the latents.
pub(crate) struct EmaCodes {
    nearest: Nearest,
    device: Device,
    codebook: EmaCodebook,
    start: CodebookStart,
    kmeans_steps: usize,
}

impl EmaCodes {
    /// Codes of zeros until they are started.
    pub(crate) fn new(nearest: Nearest, settings: &CodebookSettings, device: &Device) -> EmaCodes {
        let averages = Averages { decay: settings.decay, epsilon: settings.epsilon };
        EmaCodes {
            nearest,
            device: device.clone(),
            codebook: EmaCodebook::new(nearest.codes, nearest.dim, averages),
            start: settings.start,
            kmeans_steps: settings.kmeans_steps,
        }
    }
}

impl TrainableQuantizer for EmaCodes {
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput> {
        let Nearest { codes: count, dim, .. } = self.nearest;
        let codes = self.nearest.compared(&self.codebook.embedding);
        let codes = Tensor::from_slice(&codes, (count, dim), z.device())?;
        let found = self.nearest.find(z, &codes)?;
        let quantized = picked(&codes.to_dtype(z.dtype())?, &found.indices, z)?;
        self.nearest.quantized(found, &quantized, false)
    }

    fn wants_start(&self) -> bool {
        true
    }

    fn start(
        &mut self,
        rows: &[f32],
        step_rows: usize,
        draws: &mut Draws,
        follow: &mut Follow<'_>,
    ) -> Result<Vec<Moved>> {
        let Nearest { codes, dim, .. } = self.nearest;
        match self.start {
            CodebookStart::Kmeans => {
                let rows = self.nearest.compared(rows);
                let means =
                    KMeans::of(&self.device, &rows, codes, dim, self.kmeans_steps, draws, follow)?;
                self.codebook.start(&means, step_rows);
            }
            CodebookStart::Random => {
                let points = draws.uniform(codes * dim, 1.0 / codes as f32);
                self.place(&(0..codes).collect::<Vec<_>>(), &points)?;
            }
        }
        Ok(Vec::new())
    }

    fn update(&mut self, rows: &[f32], indices: &[u32]) {
        self.codebook.update(rows, indices);
    }

    fn places_codes(&self) -> bool {
        true
    }

    fn place(&mut self, codes: &[usize], points: &[f32]) -> Result<Vec<Moved>> {
        for (k, point) in codes.iter().zip(points.chunks_exact(self.nearest.dim)) {
            self.codebook.place(*k, point, 1.0);
        }
        Ok(Vec::new())
    }

    fn codebook(&self, _: &Named) -> Result<Option<Vec<f32>>> {
        Ok(Some(self.codebook.embedding.clone()))
    }

    fn state(&self) -> Named {
        let c = &self.codebook;
        [("embedding", &c.embedding), ("count", &c.count), ("sum", &c.sum)]
            .map(|(name, values)| (name.to_string(), values.clone()))
            .into()
    }

    fn restore(&mut self, mut state: Named) -> Result<()> {
        let c = &mut self.codebook;
        for (name, to) in
            [("embedding", &mut c.embedding), ("count", &mut c.count), ("sum", &mut c.sum)]
        {
            *to = state.remove(name).filter(|v| v.len() == to.len()).ok_or_else(|| {
                Error::invalid("the checkpoint's codebook is of another size or kind")
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
