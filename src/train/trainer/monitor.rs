//! Owns what a training notices about itself: falls of PSNR after the discriminator's start,
//! overfitting, dead codes; and the words in which the user hears of them.

use serde::{Deserialize, Serialize};

use crate::metrics::CodeCounts;
use crate::train::losses::schedule::AdversarialPhase;
use crate::train::settings::monitor::MonitorSettings;
use crate::util::float_bits::Bits;

/// The fixed images, `[N, H, W, C]` bytes each.
#[derive(Debug, Clone, Default)]
pub struct Probe {
    /// Of those trained on.
    pub trained: Vec<u8>,
    /// Of those held out; may be empty.
    pub held_out: Vec<u8>,
}

impl Probe {
    /// Whether it has no image.
    pub fn is_empty(&self) -> bool {
        self.trained.is_empty() && self.held_out.is_empty()
    }
}

/// The evaluation of the probe.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ProbeEvaluation {
    /// Steps done.
    pub step: usize,
    /// Mean PSNR of the images trained on, dB.
    pub psnr_trained: f64,
    /// Mean PSNR of the images held out, dB; None without any.
    pub psnr_held_out: Option<f64>,
    /// Times that the weights were rolled back so far.
    pub rollbacks: u64,
}

/// What is remembered between evaluations of the probe, for the checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MonitorState {
    /// PSNR before the discriminator touched the weights.
    #[serde(rename = "baseline_bits")]
    pub baseline: Option<Bits>,
    /// Lead of the images trained on over those held out, at the first evaluation after the start
    /// of the codebook.
    #[serde(rename = "lead_bits")]
    pub lead: Option<Bits>,
    /// The best PSNR of the images held out, and its step.
    pub best_held_out: Option<(Bits, usize)>,
    /// Overfitting was said.
    pub overfitting: bool,
    /// Dead codes were said, and there are still some.
    pub dead: bool,
    /// Times that the weights were rolled back.
    pub rollbacks: u64,
    /// The step of the snapshot.
    pub snapshot_step: usize,
}

/// What an evaluation of the probe asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Advice {
    GoOn,
    /// Good weights: worth going back to.
    Keep,
    /// PSNR before the discriminator.
    RollBack(f64),
}

impl MonitorState {
    /// Compares PSNR with that before the discriminator, whose phase is that of the next step.
    pub(super) fn fall(
        &mut self,
        settings: &MonitorSettings,
        phase: AdversarialPhase,
        psnr: f64,
    ) -> Advice {
        let baseline = match (phase, self.baseline) {
            (AdversarialPhase::Off, _) => return Advice::GoOn,
            (AdversarialPhase::Both(_), Some(Bits(psnr))) => psnr,
            // DiscriminatorWarmup: the generator goes on without it, so this is still before.
            _ => {
                self.baseline = Some(Bits(psnr));
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
    pub(super) fn overfitting(
        &mut self,
        settings: &MonitorSettings,
        found: &ProbeEvaluation,
    ) -> Option<String> {
        let held_out = found.psnr_held_out?;
        let lead = found.psnr_trained - held_out;
        let first = self.lead.get_or_insert(Bits(lead)).0;
        let (Bits(best), at) = *self.best_held_out.get_or_insert((Bits(held_out), found.step));
        if held_out > best {
            self.best_held_out = Some((Bits(held_out), found.step));
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
            found.step, found.psnr_trained
        ))
    }

    /// Words where most codes are dead, over the codes `counted` since the last line of the record;
    /// once until usage has recovered. `revives` says whether dead codes are revived.
    pub fn dead_codes(
        &mut self,
        settings: &MonitorSettings,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_behind_the_discriminators_start_rolls_back() {
        let settings = MonitorSettings::default();
        let mut state = MonitorState::default();
        let mut look = |phase, psnr| state.fall(&settings, phase, psnr);
        assert_eq!(look(AdversarialPhase::Off, 30.0), Advice::GoOn);
        // The generator still learns undisturbed while the discriminator learns alone.
        assert_eq!(look(AdversarialPhase::DiscriminatorWarmup, 20.0), Advice::Keep);
        assert_eq!(look(AdversarialPhase::DiscriminatorWarmup, 24.0), Advice::Keep);
        assert_eq!(look(AdversarialPhase::Both(0.5), 23.6), Advice::Keep);
        assert_eq!(look(AdversarialPhase::Both(1.0), 23.4), Advice::GoOn);
        assert_eq!(look(AdversarialPhase::Both(1.0), 23.0), Advice::GoOn);
        assert_eq!(look(AdversarialPhase::Both(1.0), 22.9), Advice::RollBack(24.0));
        assert_eq!(look(AdversarialPhase::Both(1.0), f64::NAN), Advice::RollBack(24.0));
        // A discriminator from the first step on: the first evaluation is what there is.
        let mut state = MonitorState::default();
        assert_eq!(state.fall(&settings, AdversarialPhase::Both(1.0), 12.0), Advice::Keep);
        assert_eq!(
            state.fall(&settings, AdversarialPhase::Both(1.0), 10.0),
            Advice::RollBack(12.0)
        );
    }

    #[test]
    fn overfitting_is_said_once_and_only_where_held_out_images_get_no_better() {
        let settings = MonitorSettings::default();
        let mut state = MonitorState::default();
        let mut look = |step, psnr_trained, held: Option<f64>| {
            let found = ProbeEvaluation { step, psnr_trained, psnr_held_out: held, rollbacks: 0 };
            state.overfitting(&settings, &found)
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
        let settings = MonitorSettings::default();
        let mut state = MonitorState::default();
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
