//! Owns how long a training takes, from what its parts take. Must not know: how they are measured.

use std::time::Duration;

use crate::train::losses::schedule::AdversarialSchedule;
use crate::train::settings::{STEPS_MAX, TrainSettings};

/// What the parts of a training take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Timing {
    /// A step without the search for codes and without a discriminator.
    pub step: Duration,
    /// The search for the codes of a step.
    pub search: Duration,
    /// What a discriminator adds to a step.
    pub adversarial: Duration,
    /// The start of the codebook, where there is one.
    pub start: Duration,
    /// An image that is judged.
    pub image: Duration,
    /// Images that the result is judged on.
    pub judged: usize,
    /// Images of the probe.
    pub probed: usize,
}

impl Timing {
    /// Of a training by `settings` that has done `done` steps; `started` says whether its codebook
    /// has begun.
    pub(crate) fn remaining(
        &self,
        settings: &TrainSettings,
        done: usize,
        started: bool,
    ) -> Duration {
        let steps = settings.steps;
        let left = steps.saturating_sub(done);
        let from = |a: &_| AdversarialSchedule::new(a, steps).start;
        let with = settings.adversarial.as_ref().map_or(steps, from).max(done);
        let probes = left / settings.watch.every(steps);
        let mut remaining = (self.step + self.search).mul_f64(left as f64)
            + self.adversarial.mul_f64(steps.saturating_sub(with) as f64)
            + self.image.mul_f64((self.judged + probes * self.probed) as f64);
        if !started {
            remaining += self.start;
        }
        remaining
    }

    /// The most steps that a training by `settings` may have from its beginning on to end within
    /// `time`; 0 where there are none.
    pub(crate) fn steps_within(&self, settings: &TrainSettings, time: Duration) -> usize {
        let fits = |steps: usize| {
            self.remaining(&TrainSettings { steps, ..settings.clone() }, 0, false) <= time
        };
        let (mut low, mut high) = (0, STEPS_MAX + 1);
        while low + 1 < high {
            let middle = usize::midpoint(low, high);
            if fits(middle) { low = middle } else { high = middle }
        }
        low
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::settings::adversarial::AdversarialSettings;

    #[test]
    fn the_steps_fill_the_time_and_no_more() {
        let ms = Duration::from_millis;
        let timing = Timing {
            step: ms(90),
            search: ms(10),
            adversarial: ms(100),
            start: ms(1_000),
            image: ms(10),
            judged: 100,
            probed: 2,
        };
        let mut settings = TrainSettings::default();
        settings.watch.every_share = 0.1;
        // 1 s for the codebook, 1 s for the result, ten times 20 ms for the probe.
        let within =
            |settings: &_, seconds| timing.steps_within(settings, Duration::from_millis(seconds));
        assert_eq!(within(&settings, 12_200), 100);
        assert_eq!(within(&settings, 1_000), 0);
        settings.adversarial = Some(AdversarialSettings { start: 0.5, ..Default::default() });
        assert_eq!(within(&settings, 17_200), 100);
        settings.steps = 100;
        assert_eq!(timing.remaining(&settings, 0, false), ms(17_200));
        // Half of what is left has a discriminator; the codebook is there.
        assert_eq!(timing.remaining(&settings, 80, true), ms(20 * 200 + 1_000 + 40));
    }
}
