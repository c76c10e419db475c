//! Owns the estimate of what a training takes, time and memory, before its first step. Must not
//! know: who is told.

use std::time::{Duration, Instant};

use candle_core::Var;

use super::discriminator::at_image;
use super::tape::{Sums, Tape, graph_bytes};
use super::trainer::Trainer;
use crate::error::Result;

/// What is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Until the end of the training.
    pub remaining: Duration,
    /// Most memory that a step needs, in bytes, without the images read ahead.
    pub memory_bytes: u64,
}

/// What a graph's backward pass needs on top of the graph: the gradients on their way.
const GRADIENTS_IN_FLIGHT: f64 = 0.25;

/// Time and bytes of a rehearsal.
struct Rehearsed {
    plain: Duration,
    adversarial: Duration,
    /// Per image.
    bytes: f64,
}

impl Trainer {
    /// Rehearses on `images` black images, which changes nothing, and says what the rest takes.
    pub fn cost(&mut self, images: usize) -> Result<Cost> {
        let found = self.rehearse(images)?;
        let s = &self.settings;
        let scale = s.batch_size as f64 / images as f64;
        let start = self.adversary.as_ref().map_or(s.steps, |a| a.start()).max(self.step);
        let (all, with) = (s.steps - self.step, s.steps.saturating_sub(start));
        let remaining = found.plain.mul_f64(scale * all as f64)
            + found.adversarial.mul_f64(scale * with as f64);
        let memory = found.bytes * s.images_at_once() as f64 + self.held_bytes() as f64;
        Ok(Cost { remaining, memory_bytes: memory as u64 })
    }

    /// Weights, moments, averages and gradients, a snapshot to roll back to, and a checkpoint on
    /// its way to the disk.
    fn held_bytes(&self) -> u64 {
        let own = 4 * self.parameters.count() as u64;
        let averages = if self.average.is_some() { own } else { 0 };
        let theirs = 4 * self.adversary.as_ref().map_or(0, |a| a.parameter_count()) as u64;
        let codes = self.depth * self.codes;
        let codes = 4 * (2 * codes * self.dim + 3 * codes) as u64;
        let state = 3 * own + averages + 3 * theirs + codes;
        let snapshots = u64::from(self.adversary.is_some());
        let checkpoint = state * (1 + snapshots);
        state * (1 + snapshots) + (own + theirs) + checkpoint
    }

    fn rehearse(&mut self, images: usize) -> Result<Rehearsed> {
        let begun = Instant::now();
        let x = self.images(&vec![0; images * self.side * self.side * self.channels])?;
        let recompute = self.settings.recompute;
        let mut sums = Sums::new(&self.vars);
        let encoder = Tape::record(self.network.encoder_blocks()?, &x, false, recompute)?;
        let blocks = self.network.decoder_blocks()?;
        let decoder = Tape::record(blocks, encoder.output(), true, recompute)?;
        let activation = Var::from_tensor(decoder.output())?;
        let image = self.network.last_layer()?.forward(&activation)?;
        let mut losses = 0;
        let (_, nll) = at_image(&image, |y| {
            let mut loss = self.settings.loss.value(&x, y, 1.0)?;
            if let Some(perceptual) = &self.perceptual {
                loss = (loss + perceptual.distance(&x, y)?)?;
            }
            losses = graph_bytes(&loss);
            Ok(loss)
        })?;
        let mut store = (&image * nll)?.sum_all()?.backward()?;
        let upstream = match store.remove(&activation) {
            Some(gradient) => gradient,
            None => activation.zeros_like()?,
        };
        let z = encoder.output().zeros_like()?;
        let mut held = graph_bytes(&image);
        let mut most = losses;
        // The second run of each block belongs to the question of bytes, not to that of time.
        let pause = Instant::now();
        for tape in [&encoder, &decoder] {
            let (kept, block) = tape.bytes()?;
            held += kept;
            most = most.max(block);
        }
        let paused = pause.elapsed();
        decoder.backward(upstream, &mut sums)?;
        encoder.backward(z, &mut sums)?;
        let plain = begun.elapsed().saturating_sub(paused);

        let begun = Instant::now();
        if let Some(adversary) = &mut self.adversary {
            adversary.begin();
            let last = self.network.last_layer()?;
            let none = image.zeros_like()?;
            adversary.judge(&image, &none, (&activation, last), 1.0)?;
            let own = adversary.own_loss(&x, &image)?;
            most = most.max(graph_bytes(&own));
            own.backward()?;
            adversary.undo();
        }
        let all = held + most;
        let in_flight = if recompute { most } else { all } as f64 * GRADIENTS_IN_FLIGHT;
        let bytes = (all as f64 + in_flight) / images as f64;
        Ok(Rehearsed { plain, adversarial: begun.elapsed(), bytes })
    }
}
