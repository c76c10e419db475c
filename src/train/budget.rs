//! Owns how many steps a time is enough for: a few steps of a training that is thrown away are timed,
//! and the schedule follows from the steps as in any other. Must not know: where the time is asked
//! for.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::train::events::Observer;
use crate::train::input::loader::{Loader, prefetched};
use crate::train::input::train_data::TrainData;
use crate::train::losses::schedule::AdversarialSchedule;
use crate::train::run::opening::{fresh, perceptual_loss};
use crate::train::settings::TrainSettings;
use crate::train::trainer::timing::Timing;
use crate::util::numbers::{self, counted};
use crate::util::settings::BUDGET;

/// Steps under which nothing is learned.
const STEPS_MIN: usize = 20;
/// Steps that are timed at most, after one that is not.
const TIMED_MAX: usize = 40;
const TIMED_MIN: usize = 2;
/// Share of a time that is spent on timing, and at most.
const TIMED_SHARE: f64 = 0.05;
const TIMED_FOR_MAX: Duration = Duration::from_secs(20);
/// Of what is left, for checkpoints, pictures, and a machine that has other work at times.
const MARGIN: f64 = 0.05;

/// What a training takes on this machine.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// What its parts take; its steps as they were timed.
    pub timing: Timing,
    /// Most memory that a step needs.
    pub memory_bytes: u64,
    /// Until its first step.
    pub opening: Duration,
    /// Trainable scalars.
    pub parameters: usize,
}

/// Who is told nothing, and asked whether to stop.
struct Quiet<'a>(&'a dyn Observer);

impl Observer for Quiet<'_> {
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

/// Times a few steps of a training, for about `time`, but two of them at least where `always`; else
/// a rehearsal has to do where steps are long.
///
/// # Errors
/// Those of a training that begins; [`Error::Interrupted`] where the observer says so.
pub(crate) fn pace(
    model: &ModelConfig,
    settings: &TrainSettings,
    data: &dyn TrainData,
    (time, always): (Duration, bool),
    observer: &dyn Observer,
) -> Result<Pace> {
    let (begun, quiet) = (Instant::now(), &mut Quiet(observer));
    settings.check(model)?;
    let loader = Loader::new(data, model, settings)?;
    let (perceptual, _) = perceptual_loss(model, settings, quiet)?;
    let mut trainer = fresh(model, settings, &loader, quiet)?;
    trainer.set_perceptual(perceptual);
    let cost = trainer.cost(model, loader.split.train.len(), loader.split.held_out.len())?;
    let (opening, mut timing) = (begun.elapsed(), cost.timing);
    let mut timed = Vec::new();
    if always || timing.step.mul_f64(1.0 + TIMED_MIN as f64) < time {
        prefetched(&loader, 0, 1 + TIMED_MAX, |batches| {
            let (first, mut last) = (Instant::now(), Instant::now());
            for batch in batches.iter() {
                trainer.step_until(&batch?.pixels, &|| quiet.interrupted())?;
                timed.push(last.elapsed());
                last = Instant::now();
                if timed.len() > TIMED_MIN && first.elapsed() >= time {
                    break;
                }
            }
            Ok(())
        })?;
    }
    if timed.len() > 1 {
        let all: Duration = timed[1..].iter().sum();
        let measured = all.div_f64((timed.len() - 1) as f64);
        let scale = measured.as_secs_f64() / timing.step.as_secs_f64().max(1e-9);
        let from_the_start = settings.adversarial.as_ref();
        let from_the_start =
            from_the_start.is_some_and(|a| AdversarialSchedule::new(a, settings.steps).start == 0);
        timing.step = measured;
        timing.adversarial = match from_the_start {
            // It was in what was timed.
            true => Duration::ZERO,
            false => timing.adversarial.mul_f64(scale),
        };
    }
    let memory_bytes = cost.memory_bytes + loader.memory_bytes(settings.steps);
    let parameters = trainer.parameter_count();
    Ok(Pace { timing, memory_bytes, opening, parameters })
}

/// The steps that a training ends with within `budget`, counted from now on, and in words how that
/// comes.
///
/// # Errors
/// A time that is too short for a training; those of [`pace`].
pub(crate) fn fitted(
    model: &ModelConfig,
    settings: &TrainSettings,
    data: &dyn TrainData,
    budget: Duration,
    observer: &dyn Observer,
) -> Result<(usize, String)> {
    let begun = Instant::now();
    let time = budget.mul_f64(TIMED_SHARE).min(TIMED_FOR_MAX);
    let pace = pace(model, settings, data, (time, true), observer)?;
    let left = budget.saturating_sub(begun.elapsed() + pace.opening).mul_f64(1.0 - MARGIN);
    let steps = pace.timing.steps_within(settings, left);
    let budget = numbers::seconds(budget.as_secs_f64());
    let step = numbers::short_time((pace.timing.step + pace.timing.search).as_secs_f64());
    if steps < STEPS_MIN {
        return Err(Error::setting(
            BUDGET,
            format!(
                "{budget}: that is enough for {} of this training, which takes {step} for one, and \
                 fewer than {STEPS_MIN} teach nothing; give it more time, or a smaller recipe",
                counted(steps, "step")
            ),
        ));
    }
    Ok((steps, format!("in {budget} there is time for {} of {step}", counted(steps, "step"))))
}
