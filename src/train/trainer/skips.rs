//! Owns what follows from steps that are not finite: the words in which they are told, and when a
//! training stops since nearly nothing is learned any more. Must not know: files, who is told.
//!
//! Everything follows from the counters of the trainer, so that a resumed run says and does the
//! same.

use std::collections::BTreeMap;

use crate::train::trainer::step_report::StepReport;
use crate::util::numbers::counted;

/// The steps that were skipped among the last few.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RecentSkips {
    /// Their numbers, ascending.
    steps: Vec<u64>,
}

impl RecentSkips {
    /// From a checkpoint.
    pub(crate) fn of(steps: Vec<u64>) -> RecentSkips {
        RecentSkips { steps }
    }

    /// For a checkpoint.
    pub(crate) fn steps(&self) -> &[u64] {
        &self.steps
    }

    /// Step `step` of a training of `steps` was done, skipped or not.
    pub(crate) fn note(&mut self, step: usize, skipped: bool, steps: usize) {
        let window = window(steps) as u64;
        self.steps.retain(|s| s + window > step as u64);
        if skipped {
            self.steps.push(step as u64);
        }
    }

    /// Why a training of `steps` can't go on after step `step`; None where it can.
    pub(crate) fn stops(&self, step: usize, steps: usize) -> Option<String> {
        let window = window(steps);
        (2 * self.steps.len() > window).then(|| {
            format!(
                "{} of the last {} steps, up to step {step}, were not finite",
                self.steps.len(),
                window.min(step)
            )
        })
    }
}

/// Steps that are looked back upon in a training of `steps`.
fn window(steps: usize) -> usize {
    (steps / 4).clamp(4, 64)
}

/// Why a training that is through has no result: most of all its steps were skipped, or a weight
/// is not finite.
pub(crate) fn no_result(
    skipped: u64,
    steps: usize,
    weights: &BTreeMap<String, Vec<f32>>,
) -> Option<String> {
    if 2 * skipped > steps as u64 {
        let were = if skipped == 1 { "was" } else { "were" };
        return Some(format!("{skipped} of {} {were} not finite", counted(steps, "step")));
    }
    let bad = weights.iter().find(|(_, values)| values.iter().any(|v| !v.is_finite()));
    bad.map(|(name, _)| format!("its weight {name} is not finite"))
}

/// What helps.
pub(crate) const ADVICE: &str = "a lower train.learning_rate helps most often";

/// The warning after a step, with the counts of skipped steps and of skipped updates of the
/// discriminator so far: at the first, the hundredth, the
/// thousandth.
pub(crate) fn warning(report: &StepReport, skipped: u64, theirs: u64) -> Option<String> {
    let step = report.step;
    if report.skipped {
        return match skipped {
            1 => Some(format!(
                "step {step}: the loss or a gradient is not finite; skipped. Further ones are \
                 counted. Often: lower learning_rate"
            )),
            n if is_round(n) => Some(format!(
                "step {step}: {n} steps so far were not finite and skipped. Often: lower \
                 learning_rate"
            )),
            _ => None,
        };
    }
    if report.adversarial.as_ref().is_some_and(|a| a.discriminator_skipped) && is_round(theirs) {
        return Some(format!(
            "step {step}: the discriminator's loss or a gradient is not finite; its update is \
             skipped, {theirs} of them so far. Often: lower train.adversarial.learning_rate"
        ));
    }
    None
}

/// 1, 100, 1000, ...
fn is_round(n: u64) -> bool {
    n > 0 && n != 10 && n == 10u64.pow(n.ilog10())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(skips: impl Fn(usize) -> bool, steps: usize) -> Option<usize> {
        let mut recent = RecentSkips::default();
        (1..=steps).find(|step| {
            recent.note(*step, skips(*step), steps);
            recent.stops(*step, steps).is_some()
        })
    }

    #[test]
    fn a_training_stops_where_most_of_the_last_steps_were_skipped() {
        // The window of 120 steps is 30: more than 15 of them.
        assert_eq!(after(|_| true, 120), Some(16));
        assert_eq!(after(|step| step > 50, 120), Some(66));
        assert_eq!(after(|step| step % 3 != 0, 120), Some(23));
        assert_eq!(after(|step| step % 2 == 0, 120), None);
        assert_eq!(after(|_| true, 1_000_000), Some(33));
        assert_eq!(after(|_| true, 4), Some(3));
        assert_eq!(after(|step| step == 70 || step % 9 == 0, 120), None);
    }

    #[test]
    fn what_is_kept_survives_a_checkpoint() {
        let mut recent = RecentSkips::default();
        (1..=50).for_each(|step| recent.note(step, step % 2 == 0, 120));
        assert_eq!(recent.steps().len(), 15);
        assert_eq!(RecentSkips::of(recent.steps().to_vec()), recent);
    }

    #[test]
    fn a_result_of_mostly_skipped_steps_or_of_infinite_weights_is_none() {
        let weights = |v: f32| BTreeMap::from([("enc.a".to_string(), vec![1.0, v])]);
        assert_eq!(no_result(2, 4, &weights(0.0)), None);
        assert!(no_result(3, 4, &weights(0.0)).unwrap().contains("3 of 4"));
        assert!(no_result(0, 4, &weights(f32::NAN)).unwrap().contains("enc.a"));
    }

    #[test]
    fn only_round_counts_are_told() {
        let told: Vec<u64> = (0..=2000).filter(|n| is_round(*n)).collect();
        assert_eq!(told, [1, 100, 1000]);
    }
}
