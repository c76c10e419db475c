//! Owns when the discriminator starts, when its loss reaches the generator, and with what share of
//! its weight.

use crate::train::settings::adversarial::AdversarialSettings;

/// What a step does about the discriminator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum AdversarialPhase {
    /// It has not started.
    Off,
    /// It learns; its loss isn't applied to the generator.
    DiscriminatorWarmup,
    /// Both learn; the share of its full weight that the generator's loss has, above 0 up to 1.
    Both(f64),
}

/// When what happens, in steps counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AdversarialSchedule {
    /// The first step with a discriminator.
    pub start: usize,
    /// Steps in which it learns alone.
    pub alone: usize,
    /// Steps over which the generator's loss gains weight.
    pub ramp: usize,
}

impl AdversarialSchedule {
    /// Of a training of `steps`.
    pub(crate) fn new(settings: &AdversarialSettings, steps: usize) -> AdversarialSchedule {
        let share = |share: f64| (share * steps as f64).round() as usize;
        AdversarialSchedule {
            start: share(settings.start),
            alone: share(settings.alone_share),
            ramp: share(settings.ramp_share),
        }
    }

    /// What step `step` does where the ramp begins at `ramp_from` (later than planned where the
    /// weights were rolled back).
    pub(crate) fn phase(&self, step: usize, ramp_from: usize) -> AdversarialPhase {
        if step < self.start {
            return AdversarialPhase::Off;
        }
        if step < ramp_from {
            return AdversarialPhase::DiscriminatorWarmup;
        }
        AdversarialPhase::Both(((step - ramp_from + 1) as f64 / self.ramp.max(1) as f64).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_discriminator_learns_alone_then_the_ramp_rises() {
        let settings = AdversarialSettings {
            start: 0.5,
            alone_share: 0.02,
            ramp_share: 0.04,
            ..AdversarialSettings::default()
        };
        let schedule = AdversarialSchedule::new(&settings, 100);
        assert_eq!(schedule, AdversarialSchedule { start: 50, alone: 2, ramp: 4 });
        let phases: Vec<AdversarialPhase> = (48..58).map(|s| schedule.phase(s, 52)).collect();
        let both = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0].map(AdversarialPhase::Both);
        assert_eq!(
            phases[..4],
            [
                AdversarialPhase::Off,
                AdversarialPhase::Off,
                AdversarialPhase::DiscriminatorWarmup,
                AdversarialPhase::DiscriminatorWarmup
            ]
        );
        assert_eq!(phases[4..], both);
        // No ramp is the full weight at once.
        let schedule = AdversarialSchedule { start: 0, alone: 0, ramp: 0 };
        assert_eq!(schedule.phase(0, 0), AdversarialPhase::Both(1.0));
    }
}
