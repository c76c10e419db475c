//! Owns how a training watches itself: PSNR on a few fixed images before and behind the
//! discriminator's start with the way back to a snapshot, overfitting, dead codes; and the words in
//! which the user hears of them. Must not know: files, who is told.

use serde::Serialize;

use super::state::{Lengths, WatchState};
use crate::error::Result;
use crate::metrics::{CodeCounts, mse, psnr_of_mse};
use crate::train::network::autoencoder::{decode_plain, encode_plain};
use crate::train::network::parameters::flat;
use crate::train::settings::adversarial::{Phase, WatchSettings};
use crate::train::trainer::Trainer;

/// The fixed images, `[N, H, W, C]` bytes each.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// Of those trained on.
    pub trained: Vec<u8>,
    /// Of those held out; may be empty.
    pub held_out: Vec<u8>,
}

impl Probe {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.trained.is_empty() && self.held_out.is_empty()
    }
}

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Look {
    /// Steps done.
    pub step: usize,
    /// Mean PSNR of the images trained on, dB.
    pub psnr_trained: f64,
    /// Mean PSNR of the images held out, dB; None without any.
    pub psnr_held_out: Option<f64>,
    /// Times that the weights were rolled back so far.
    pub rollbacks: u64,
}

/// What a look asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Advice {
    GoOn,
    /// Good weights: worth going back to.
    Keep,
    /// PSNR before the discriminator.
    RollBack(f64),
}

impl WatchState {
    /// Compares PSNR with that before the discriminator, whose phase is that of the next step.
    fn fall(&mut self, settings: &WatchSettings, phase: Phase, psnr: f64) -> Advice {
        let baseline = match (phase, self.baseline_bits) {
            (Phase::Off, _) => return Advice::GoOn,
            (Phase::Both(_), Some(bits)) => f64::from_bits(bits),
            // Alone: the generator goes on without it, so this is still before.
            _ => {
                self.baseline_bits = Some(psnr.to_bits());
                return Advice::Keep;
            }
        };
        if baseline - psnr > settings.fall_db || !psnr.is_finite() {
            Advice::RollBack(baseline)
        } else if baseline - psnr <= settings.fall_db / 2.0 {
            Advice::Keep
        } else {
            Advice::GoOn
        }
    }

    /// Words, once, where the images trained on have run away from those held out.
    fn overfitting(&mut self, settings: &WatchSettings, look: &Look) -> Option<String> {
        let held_out = look.psnr_held_out?;
        let lead = look.psnr_trained - held_out;
        let first = f64::from_bits(*self.lead_bits.get_or_insert(lead.to_bits()));
        let (bits, at) = *self.best_held_out.get_or_insert((held_out.to_bits(), look.step));
        let best = f64::from_bits(bits);
        if held_out > best {
            self.best_held_out = Some((held_out.to_bits(), look.step));
            return None;
        }
        if self.overfitting || lead - first <= settings.overfitting_db {
            return None;
        }
        self.overfitting = true;
        Some(format!(
            "step {}: overfitting: PSNR {:.2} dB on images trained on, {held_out:.2} dB on held-out \
             ones, whose best was {best:.2} dB at step {at}. More images, augmentation, fewer steps \
             or a smaller network help",
            look.step, look.psnr_trained
        ))
    }

    /// Words where most codes are dead, over the codes `counted` since the last line of the record;
    /// once until usage has recovered. `revives` says whether dead codes are revived.
    pub fn dead_codes(
        &mut self,
        settings: &WatchSettings,
        counted: &CodeCounts,
        step: usize,
        revives: bool,
    ) -> Option<String> {
        /// Tokens a code should have had before it is missed.
        const VISITS: u64 = 8;
        let (total, codes) = (counted.counts.iter().sum::<u64>(), counted.counts.len());
        if total < VISITS * codes as u64 {
            return None;
        }
        let usage = counted.usage();
        if usage >= settings.dead_usage {
            self.dead = false;
            return None;
        }
        if std::mem::replace(&mut self.dead, true) {
            return None;
        }
        let advice = if revives {
            "Fewer codes or a lower dimension of the codes help; so does a lower learning rate"
        } else {
            "Revival is off: set train.codebook.revive_every, to 20 for example"
        };
        Some(format!(
            "step {step}: dead codes: {} of {codes} used in the last {total} tokens, perplexity \
             {:.0}. {advice}",
            counted.used(),
            counted.perplexity()
        ))
    }
}

impl Trainer {
    /// Whether to look behind the step just done.
    pub fn look_is_due(&self) -> bool {
        let s = &self.settings;
        let start = self.adversary.as_ref().map(|a| a.start());
        s.watch.images > 0
            && (self.step.is_multiple_of(s.watch.every(s.steps)) || start == Some(self.step))
    }

    /// Looks at the fixed images and does what follows: keeps a snapshot, or goes back to it.
    /// Returns what was found and what the user should hear.
    pub fn look(&mut self, probe: &Probe) -> Result<(Look, Vec<String>)> {
        let (trained, held_out) = (self.psnr_of(&probe.trained)?, self.psnr_of(&probe.held_out)?);
        let mut look = Look {
            step: self.step,
            psnr_trained: mean(&trained).unwrap_or(f64::NAN),
            psnr_held_out: mean(&held_out),
            rollbacks: self.watch.rollbacks,
        };
        let mut words = Vec::new();
        let settings = self.settings.watch.clone();
        if self.code_use.started() {
            words.extend(self.watch.overfitting(&settings, &look));
        }
        let all: Vec<f64> = trained.into_iter().chain(held_out).collect();
        let psnr = mean(&all).unwrap_or(f64::NAN);
        let phase = self.adversary.as_ref().map_or(Phase::Off, |a| a.phase(self.step));
        match self.watch.fall(&settings, phase, psnr) {
            Advice::GoOn => {}
            Advice::Keep => {
                self.watch.snapshot_step = self.step;
                // The last one goes first: a snapshot has none of its own.
                self.snapshot = None;
                self.snapshot =
                    Some(Box::new(self.state(&serde_json::Value::Null, Lengths::default())?));
            }
            Advice::RollBack(before) => words.extend(self.roll_back(before, psnr, all.len())?),
        }
        look.rollbacks = self.watch.rollbacks;
        Ok((look, words))
    }

    /// Puts the weights of the snapshot back, halves the adversarial weight and begins its ramp
    /// anew. Steps, data and counters go on.
    fn roll_back(&mut self, before: f64, psnr: f64, images: usize) -> Result<Option<String>> {
        let Some(snapshot) = self.snapshot.take() else { return Ok(None) };
        let trust = self.adversary.as_ref().map_or(1.0, |a| a.trust());
        let theirs = self.adversary.as_ref().map_or(0, |a| a.skipped());
        let (step, skipped, revived) = (self.step, self.skipped, self.revived);
        let (watch, code_use) = (self.watch.clone(), self.code_use.clone());
        let recent_skips = self.recent_skips.clone();
        self.restore(&snapshot)?;
        self.snapshot = Some(snapshot);
        (self.step, self.skipped, self.revived) = (step, skipped, revived);
        (self.watch, self.code_use) = (watch, code_use);
        self.recent_skips = recent_skips;
        self.watch.rollbacks += 1;
        let Some(adversary) = &mut self.adversary else { return Ok(None) };
        adversary.lower(trust, theirs, step);
        Ok(Some(format!(
            "step {step}: PSNR on {images} watched images fell from {before:.2} dB before the \
             discriminator to {psnr:.2} dB: back to the weights of step {}, adversarial weight \
             halved to {} of its setting",
            self.watch.snapshot_step,
            adversary.trust()
        )))
    }

    /// PSNR of each image, dB, of reconstructions clamped to the range of pixels.
    pub fn psnr_of(&self, bytes: &[u8]) -> Result<Vec<f64>> {
        let size = self.side * self.side * self.channels;
        let (low, high) = self.limits;
        let mut found = Vec::with_capacity(bytes.len() / size);
        for part in bytes.chunks(size * self.settings.images_at_once()) {
            let x = self.images(part)?;
            let y = self.reconstruct(&x)?;
            let y: Vec<f32> =
                flat(&y)?.into_iter().map(|v| v.clamp(low as f32, high as f32)).collect();
            for (x, y) in flat(&x)?.chunks_exact(size).zip(y.chunks_exact(size)) {
                found.push(psnr_of_mse(mse(x, y).max(1e-12), high - low));
            }
        }
        Ok(found)
    }

    /// Images `[B, C, H, W]` through network and quantizer, without a graph.
    pub fn reconstruct(&self, x: &candle_core::Tensor) -> Result<candle_core::Tensor> {
        let z = encode_plain(&self.network, x)?;
        let started = self.code_use.started();
        let latents = if started { self.quantizer.forward(&z)?.latents } else { z };
        decode_plain(&self.network, &latents)
    }

    /// Words about dead codes, from those counted since the last line of the record.
    pub fn dead_codes(&mut self, counted: &CodeCounts) -> Option<String> {
        let revives = self.settings.codebook.revive_every > 0;
        let settings = self.settings.watch.clone();
        self.watch.dead_codes(&settings, counted, self.step, revives)
    }

    /// Times that the weights were rolled back.
    pub fn rollbacks(&self) -> u64 {
        self.watch.rollbacks
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_behind_the_discriminators_start_rolls_back() {
        let settings = WatchSettings::default();
        let mut state = WatchState::default();
        let mut look = |phase, psnr| state.fall(&settings, phase, psnr);
        assert_eq!(look(Phase::Off, 30.0), Advice::GoOn);
        // The generator still learns undisturbed while the discriminator learns alone.
        assert_eq!(look(Phase::Alone, 20.0), Advice::Keep);
        assert_eq!(look(Phase::Alone, 24.0), Advice::Keep);
        assert_eq!(look(Phase::Both(0.5), 23.6), Advice::Keep);
        assert_eq!(look(Phase::Both(1.0), 23.4), Advice::GoOn);
        assert_eq!(look(Phase::Both(1.0), 23.0), Advice::GoOn);
        assert_eq!(look(Phase::Both(1.0), 22.9), Advice::RollBack(24.0));
        assert_eq!(look(Phase::Both(1.0), f64::NAN), Advice::RollBack(24.0));
        // A discriminator from the first step on: the first look is what there is.
        let mut state = WatchState::default();
        assert_eq!(state.fall(&settings, Phase::Both(1.0), 12.0), Advice::Keep);
        assert_eq!(state.fall(&settings, Phase::Both(1.0), 10.0), Advice::RollBack(12.0));
    }

    #[test]
    fn overfitting_is_said_once_and_only_where_held_out_images_get_no_better() {
        let settings = WatchSettings::default();
        let mut state = WatchState::default();
        let mut look = |step, psnr_trained, held: Option<f64>| {
            let look = Look { step, psnr_trained, psnr_held_out: held, rollbacks: 0 };
            state.overfitting(&settings, &look)
        };
        assert!(look(1, 20.0, Some(19.5)).is_none());
        // A wide lead of images that still get better is no harm.
        assert!(look(2, 24.0, Some(21.0)).is_none());
        assert!(look(3, 22.0, Some(20.5)).is_none());
        let text = look(4, 24.5, Some(20.9)).unwrap();
        assert!(text.contains("24.50") && text.contains("20.90"), "{text}");
        assert!(text.contains("21.00 dB at step 2") && text.contains("augmentation"), "{text}");
        assert!(look(5, 26.0, Some(20.0)).is_none());
        assert!(look(6, 26.0, None).is_none());
    }

    #[test]
    fn dead_codes_are_said_once_until_they_live_again() {
        let settings = WatchSettings::default();
        let mut state = WatchState::default();
        let counted = |used: usize, each: u64| CodeCounts {
            counts: (0..10).map(|k| if k < used { each } else { 0 }).collect(),
            levels: 1,
        };
        let mut say =
            |used, each, revives| state.dead_codes(&settings, &counted(used, each), 7, revives);
        // Too few tokens to tell.
        assert!(say(4, 10, true).is_none());
        let text = say(4, 100, true).unwrap();
        assert!(text.contains("4 of 10 used in the last 400 tokens"), "{text}");
        assert!(say(3, 100, true).is_none());
        assert!(say(5, 100, true).is_none());
        assert!(say(1, 100, false).unwrap().contains("revive_every"));
    }
}
