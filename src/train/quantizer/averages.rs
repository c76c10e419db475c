//! Owns the codes that are moving averages of their latents (EMA). Must not know: gradients beyond
//! the commitment.

use candle_core::Tensor;

use super::{Moved, Nearest, Quantized, Quantizer, laid_out};
use crate::error::{Error, Result};
use crate::train::network::parameters::Named;
use crate::train::network::random::Draws;
use crate::train::quantizer::ema::{Averages, Codebook, Follow, KMeans};
use crate::train::settings::{CodebookSettings, Start};

/// A [`Codebook`] in training.
pub struct EmaCodes {
    nearest: Nearest,
    codebook: Codebook,
    start: Start,
    kmeans_steps: usize,
}

impl EmaCodes {
    /// Codes of zeros until they are started.
    pub fn new(nearest: Nearest, settings: &CodebookSettings) -> EmaCodes {
        let averages = Averages { decay: settings.decay, epsilon: settings.epsilon };
        EmaCodes {
            nearest,
            codebook: Codebook::new(nearest.codes, nearest.dim, averages),
            start: settings.start,
            kmeans_steps: settings.kmeans_steps,
        }
    }
}

impl Quantizer for EmaCodes {
    fn forward(&self, z: &Tensor) -> Result<Quantized> {
        let codes = self.nearest.compared(&self.codebook.embedding);
        let found = self.nearest.find(z, &codes)?;
        let dim = self.nearest.dim;
        let vectors = found.indices.iter().flat_map(|k| &codes[*k as usize * dim..][..dim]);
        let quantized = laid_out(vectors.copied().collect(), z)?;
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
            Start::Kmeans => {
                let rows = self.nearest.compared(rows);
                let means = KMeans::of(&rows, codes, dim, self.kmeans_steps, draws, follow)?;
                self.codebook.start(&means, step_rows);
            }
            Start::Random => {
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
