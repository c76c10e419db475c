//! Owns the codes of a [`Trainer`]: their start, what they learn besides gradients, the revival of
//! dead ones.

use std::collections::BTreeSet;

use crate::error::{Error, Result};
use crate::metrics::CodeCounts;
use crate::train::network::parameters::{Moved, QUANTIZER_PREFIX, flat};
use crate::train::network::random::Draws;
use crate::train::quantizer::trainable::{Follow, QuantizeOutput};
use crate::train::settings::codebook::CodebookMethod;
use crate::train::trainer::trainer::Trainer;

impl Trainer {
    /// K, the number of codes of each residual level.
    pub fn codes(&self) -> usize {
        self.codes.count
    }

    /// How the codes learn.
    pub fn method(&self) -> CodebookMethod {
        self.settings.codebook.method
    }

    /// D, the length of a latent.
    pub fn dim(&self) -> usize {
        self.codes.dim
    }

    /// Latents a code that k-means asks for.
    pub fn kmeans_rows_per_code(&self) -> usize {
        self.settings.codebook.kmeans_rows_per_code
    }

    /// Codes revived so far.
    pub fn revived(&self) -> u64 {
        self.progress.revived
    }

    /// Whether the codes have to be started before the next step.
    pub fn wants_codebook(&self) -> bool {
        !self.codes.usage.started() && self.progress.step >= self.settings.codebook_starts_at()
    }

    /// Uses of the codes since the last call; None, and nothing is taken, where they are of too
    /// few steps to speak for the data set.
    pub fn take_window(&mut self) -> Option<CodeCounts> {
        self.codes.usage.take_window()
    }

    /// Share of the codes used lately.
    pub fn recent_usage(&self) -> f64 {
        self.codes.usage.recent_usage()
    }

    /// Gives the codes their first places, by the latents `rows`; a step has `step_rows` of them.
    ///
    /// # Errors
    /// That of `follow`: then nothing is started, and the next call does the same again.
    pub fn start_codebook(
        &mut self,
        rows: &[f32],
        step_rows: usize,
        follow: &mut Follow<'_>,
    ) -> Result<()> {
        let mut draws = Draws::new(self.settings.seed, "k-means", self.progress.step as u64);
        let moved = self.quantizer.start(rows, step_rows, &mut draws, follow)?;
        self.codes.usage.start(self.progress.step as u64);
        self.reset_optimizer_state(&moved)
    }

    /// Puts all codes on `points`, `[K, D]` for each residual level: the codebook of another model,
    /// or any.
    ///
    /// # Errors
    /// Where they are of another size, or the codes have no places of their own (`simvq`, rules
    /// without codebook).
    pub fn place_codes(&mut self, points: &[f32]) -> Result<()> {
        let codes = self.codes.depth * self.codes.count;
        if points.len() != codes * self.codes.dim {
            return Err(Error::invalid(format!(
                "{} numbers for {codes} codes of length {}",
                points.len(),
                self.codes.dim
            )));
        }
        let moved = self.quantizer.place(&(0..codes).collect::<Vec<_>>(), points)?;
        if !self.codes.usage.started() {
            self.codes.usage.start(self.progress.step as u64);
        }
        self.reset_optimizer_state(&moved)
    }

    /// Values were set, not learned: moments and averages of them begin again.
    fn reset_optimizer_state(&mut self, moved: &[Moved]) -> Result<()> {
        for name in moved.iter().map(|m| m.name).collect::<BTreeSet<_>>() {
            let Some(var) = self.vars.get(name) else { continue };
            for moved in moved.iter().filter(|m| m.name == name) {
                self.optimizer.forget(moved)?;
                if let Some(average) = &mut self.average {
                    average.take_over(moved, var)?;
                }
            }
        }
        Ok(())
    }

    /// What the codes learn, then the revival that is due. Returns how many codes were revived.
    pub(super) fn update_codes(&mut self, quantized: &QuantizeOutput) -> Result<usize> {
        self.quantizer.update(&quantized.rows, &quantized.indices);
        self.codes.usage.note(&quantized.indices);
        if !self.quantizer.places_codes() {
            return Ok(0);
        }
        let now = self.progress.step as u64 + 1;
        let dead = self.codes.usage.due(now);
        if dead.is_empty() {
            return Ok(0);
        }
        let (revived, points) = self.new_places(&dead, quantized, now);
        let moved = self.quantizer.place(&revived, &points)?;
        self.reset_optimizer_state(&moved)?;
        self.codes.usage.revived(&revived);
        self.progress.revived += revived.len() as u64;
        Ok(revived.len())
    }

    /// Which of the dead codes get a new place after step `now`, and where: each on a latent of
    /// its own level. Where a batch has fewer of these than there are dead codes, the rest waits.
    fn new_places(
        &self,
        dead: &[usize],
        quantized: &QuantizeOutput,
        now: u64,
    ) -> (Vec<usize>, Vec<f32>) {
        let mut draws = Draws::new(self.settings.seed, "revival", now);
        let (mut revived, mut points) = (Vec::new(), Vec::new());
        for level in 0..self.codes.depth {
            let own = self.codes.count * level..self.codes.count * (level + 1);
            let dead: Vec<usize> = dead.iter().copied().filter(|k| own.contains(k)).collect();
            let rows: Vec<usize> = (0..quantized.indices.len())
                .filter(|row| own.contains(&(quantized.indices[*row] as usize)))
                .collect();
            let places = draws.distinct(dead.len(), rows.len());
            for (code, place) in dead.into_iter().zip(places) {
                revived.push(code);
                points.extend_from_slice(
                    &quantized.rows[rows[place] * self.codes.dim..][..self.codes.dim],
                );
            }
        }
        (revived, points)
    }

    /// The codes as they are now, `[K, D]` for each residual level, not those of the averaged
    /// weights; None for rules without codebook.
    ///
    /// # Errors
    /// A weight that can't be read as float32.
    pub fn codebook(&self) -> Result<Option<Vec<f32>>> {
        let own = self.vars.iter().filter(|(name, _)| name.starts_with(QUANTIZER_PREFIX));
        let own = own.map(|(name, var)| Ok((name.clone(), flat(var)?)));
        self.quantizer.codebook(&own.collect::<Result<_>>()?)
    }

    /// Root mean square length of the codes as they are now; None for rules without codebook.
    ///
    /// # Errors
    /// As [`Trainer::codebook`].
    pub fn codebook_norm(&self) -> Result<Option<f64>> {
        Ok(self.codebook()?.map(|codes| {
            let sum: f64 = codes.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            (sum / (codes.len() / self.codes.dim).max(1) as f64).sqrt()
        }))
    }
}
