//! Owns residual levels in training (Zeghidour et al. 2021; Lee et al. 2022): each quantizes what
//! the ones before it left over, and has losses of its own.

use candle_core::{Device, Tensor};

use crate::error::{Error, Result};
use crate::train::network::parameters::{Moved, Named};
use crate::train::network::random::Draws;
use crate::train::quantizer::layout::rows_of;
use crate::train::quantizer::nearest::Nearest;
use crate::train::quantizer::trainable::{Follow, Losses, QuantizeOutput, TrainableQuantizer};

/// Levels of codes, concatenated. Code k of level l is `l * K + k`.
pub(super) struct ResidualCodes {
    nearest: Nearest,
    device: Device,
    levels: Vec<Box<dyn TrainableQuantizer>>,
}

impl ResidualCodes {
    /// Of quantizers with `nearest.codes` codes each, whose codes have places.
    pub(super) fn new(
        nearest: Nearest,
        levels: Vec<Box<dyn TrainableQuantizer>>,
        device: &Device,
    ) -> ResidualCodes {
        ResidualCodes { nearest, device: device.clone(), levels }
    }

    /// What each level makes of what the ones before it left over of `z` `[B, D, h, w]`, and what
    /// the last one leaves. Codes count from 0 in each.
    pub(super) fn by_level(&self, z: &Tensor) -> Result<(Vec<QuantizeOutput>, Tensor)> {
        let mut rest = z.clone();
        let mut found = Vec::with_capacity(self.levels.len());
        for level in &self.levels {
            let quantized = level.forward(&rest)?;
            rest = (&rest - &quantized.codes)?;
            found.push(quantized);
        }
        Ok((found, rest))
    }

    /// The codes of a level among `codes` of all levels, as it counts them, with their rows.
    fn of_level(
        &self,
        level: usize,
        codes: impl Iterator<Item = usize>,
        rows: &[f32],
    ) -> (Vec<usize>, Vec<f32>) {
        let (mut own, mut own_rows) = (Vec::new(), Vec::new());
        for (code, row) in codes.zip(rows.chunks_exact(self.nearest.dim)) {
            if code / self.nearest.codes == level {
                own.push(code % self.nearest.codes);
                own_rows.extend_from_slice(row);
            }
        }
        (own, own_rows)
    }
}

impl TrainableQuantizer for ResidualCodes {
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput> {
        let (levels, _) = self.by_level(z)?;
        let (mut rows, mut indices) = (Vec::new(), Vec::new());
        let (mut losses, mut codes) = (Losses::default(), None);
        for (level, first) in levels.into_iter().zip((0..).step_by(self.nearest.codes)) {
            rows.extend(level.rows);
            indices.extend(level.indices.iter().map(|k| first + k));
            losses = losses.plus(level.losses)?;
            codes = Some(match codes {
                Some(sum) => (sum + level.codes)?,
                None => level.codes,
            });
        }
        let codes = codes.ok_or_else(|| Error::invalid("a quantizer without a level"))?;
        let latents = self.nearest.estimator.pass(z, &codes)?;
        Ok(QuantizeOutput { latents, codes, losses, rows, indices })
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
        let dim = self.nearest.dim;
        let mut rest = Tensor::from_slice(rows, (rows.len() / dim, dim, 1, 1), &self.device)?;
        let mut moved = Vec::new();
        for level in &mut self.levels {
            moved.extend(level.start(&rows_of(&rest)?, step_rows, draws, follow)?);
            rest = (&rest - level.forward(&rest)?.codes)?.detach();
        }
        Ok(moved)
    }

    fn update(&mut self, rows: &[f32], indices: &[u32]) {
        for level in 0..self.levels.len() {
            let codes = indices.iter().map(|k| *k as usize);
            let (own, rows) = self.of_level(level, codes, rows);
            let own: Vec<u32> = own.into_iter().map(|k| k as u32).collect();
            self.levels[level].update(&rows, &own);
        }
    }

    fn places_codes(&self) -> bool {
        true
    }

    fn place(&mut self, codes: &[usize], points: &[f32]) -> Result<Vec<Moved>> {
        let mut moved = Vec::new();
        for level in 0..self.levels.len() {
            let (own, points) = self.of_level(level, codes.iter().copied(), points);
            moved.extend(self.levels[level].place(&own, &points)?);
        }
        Ok(moved)
    }

    fn codebook(&self, weights: &Named) -> Result<Option<Vec<f32>>> {
        let books: Option<Vec<_>> =
            self.levels.iter().map(|level| level.codebook(weights)).collect::<Result<_>>()?;
        Ok(books.map(|books| books.concat()))
    }

    fn state(&self) -> Named {
        let states = self.levels.iter().map(|level| level.state()).enumerate();
        let named = |(index, state): (usize, Named)| {
            state.into_iter().map(move |(name, values)| (format!("{index}.{name}"), values))
        };
        states.flat_map(named).collect()
    }

    fn restore(&mut self, state: Named) -> Result<()> {
        for (index, level) in self.levels.iter_mut().enumerate() {
            let prefix = format!("{index}.");
            let own = state.iter().filter_map(|(name, values)| {
                Some((name.strip_prefix(&prefix)?.to_string(), values.clone()))
            });
            level.restore(own.collect())?;
        }
        Ok(())
    }
}
