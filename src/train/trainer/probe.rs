//! Owns the evaluation of the probe, a few fixed images, and the way back to a snapshot where it
//! got worse.

use candle_core::Tensor;

use crate::error::Result;
use crate::metrics::{CodeCounts, mse, psnr_of_mse};
use crate::train::losses::schedule::AdversarialPhase;
use crate::train::network::autoencoder::{decode_plain, encode_plain};
use crate::train::network::parameters::flat;
use crate::train::trainer::monitor::{Advice, Probe, ProbeEvaluation};
use crate::train::trainer::state::Lengths;
use crate::train::trainer::trainer::Trainer;

impl Trainer {
    /// Whether the probe is evaluated after the step just done.
    pub fn probe_is_due(&self) -> bool {
        let s = &self.settings;
        let start = self.adversary.as_ref().map(|a| a.start());
        s.watch.images > 0
            && (self.progress.step.is_multiple_of(s.watch.every(s.steps))
                || start == Some(self.progress.step))
    }

    /// Evaluates the probe and does what follows: keeps a snapshot, or goes back to it.
    /// Returns what was found and what the user should hear.
    ///
    /// # Errors
    /// Images that don't have the size and channels of the model; a snapshot that doesn't fit the
    /// network.
    pub fn evaluate_probe(&mut self, probe: &Probe) -> Result<(ProbeEvaluation, Vec<String>)> {
        let (trained, held_out) = (self.psnr_of(&probe.trained)?, self.psnr_of(&probe.held_out)?);
        let mut found = ProbeEvaluation {
            step: self.progress.step,
            psnr_trained: mean(&trained).unwrap_or(f64::NAN),
            psnr_held_out: mean(&held_out),
            rollbacks: self.monitor.rollbacks,
        };
        let mut words = Vec::new();
        let settings = self.settings.watch.clone();
        if self.codes.usage.started() {
            words.extend(self.monitor.overfitting(&settings, &found));
        }
        let all: Vec<f64> = trained.into_iter().chain(held_out).collect();
        let psnr = mean(&all).unwrap_or(f64::NAN);
        let phase =
            self.adversary.as_ref().map_or(AdversarialPhase::Off, |a| a.phase(self.progress.step));
        match self.monitor.fall(&settings, phase, psnr) {
            Advice::GoOn => {}
            Advice::Keep => {
                self.monitor.snapshot_step = self.progress.step;
                // The last one goes first: a snapshot has none of its own.
                self.snapshot = None;
                self.snapshot =
                    Some(Box::new(self.state(&serde_json::Value::Null, Lengths::default())?));
            }
            Advice::RollBack(before) => words.extend(self.roll_back(before, psnr, all.len())?),
        }
        found.rollbacks = self.monitor.rollbacks;
        Ok((found, words))
    }

    /// Puts the weights of the snapshot back, halves the adversarial weight and begins its ramp
    /// again. Steps, data and counters go on.
    fn roll_back(&mut self, before: f64, psnr: f64, images: usize) -> Result<Option<String>> {
        let Some(snapshot) = self.snapshot.take() else { return Ok(None) };
        let scale = self.adversary.as_ref().map_or(1.0, |a| a.weight_scale());
        let skipped = self.adversary.as_ref().map_or(0, |a| a.skipped());
        let (progress, monitor) = (self.progress.clone(), self.monitor.clone());
        let usage = self.codes.usage.clone();
        self.restore(&snapshot)?;
        self.snapshot = Some(snapshot);
        (self.progress, self.monitor, self.codes.usage) = (progress, monitor, usage);
        self.monitor.rollbacks += 1;
        let Some(adversary) = &mut self.adversary else { return Ok(None) };
        let step = self.progress.step;
        adversary.reduce_weight(scale, skipped, step);
        Ok(Some(format!(
            "step {step}: PSNR on {images} watched images fell from {before:.2} dB before the \
             discriminator to {psnr:.2} dB: back to the weights of step {}, adversarial weight \
             halved to {} of its setting",
            self.monitor.snapshot_step,
            adversary.weight_scale()
        )))
    }

    /// PSNR of each image, dB, of reconstructions clamped to the range of pixels.
    ///
    /// # Errors
    /// Bytes that are no images of the model's size and channels.
    pub fn psnr_of(&self, bytes: &[u8]) -> Result<Vec<f64>> {
        let size = self.pixels.image_size();
        let (low, high) = self.pixels.limits;
        let mut psnrs = Vec::with_capacity(bytes.len() / size);
        for part in bytes.chunks(size * self.settings.images_at_once()) {
            let x = self.images(part)?;
            let y = self.reconstruct(&x)?;
            let y: Vec<f32> =
                flat(&y)?.into_iter().map(|v| v.clamp(low as f32, high as f32)).collect();
            for (x, y) in flat(&x)?.chunks_exact(size).zip(y.chunks_exact(size)) {
                psnrs.push(psnr_of_mse(mse(x, y).max(1e-12), self.pixels.peak()));
            }
        }
        Ok(psnrs)
    }

    /// Images `[B, C, H, W]` through network and quantizer, without a graph.
    ///
    /// # Errors
    /// Images of other channels, or of a size that the network can't take.
    pub fn reconstruct(&self, x: &Tensor) -> Result<Tensor> {
        let z = encode_plain(&self.network, x)?;
        let started = self.codes.usage.started();
        let latents = if started { self.quantizer.forward(&z)?.latents } else { z };
        decode_plain(&self.network, &latents)
    }

    /// Words about dead codes, from those counted since the last line of the record.
    pub fn dead_codes(&mut self, counted: &CodeCounts) -> Option<String> {
        let revives = self.settings.codebook.revive_every > 0;
        let settings = self.settings.watch.clone();
        self.monitor.dead_codes(&settings, counted, self.progress.step, revives)
    }

    /// Times that the weights were rolled back.
    pub fn rollbacks(&self) -> u64 {
        self.monitor.rollbacks
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}
