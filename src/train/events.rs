//! Owns what a training tells while it runs, and its result.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::train::evaluate::Evaluation;
use crate::train::trainer::monitor::ProbeEvaluation;
use crate::train::trainer::step_report::StepReport;

/// What happens while a training runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// Before the first step: the expected time and memory, from a rehearsal on a few images.
    Estimate {
        /// Until the end of the training.
        remaining: Duration,
        /// Most memory that a step needs, in bytes.
        memory_bytes: u64,
        /// Most of a GPU's memory, in bytes; None where the processor computes.
        device_bytes: Option<u64>,
        /// Steps to do.
        steps: usize,
        /// Images trained on.
        images: usize,
        /// Trainable scalars.
        parameters: usize,
    },
    /// After each step.
    Step {
        /// What it did.
        report: &'a StepReport,
        /// Steps of the whole training.
        steps: usize,
        /// Until the end, from the steps of this run so far.
        remaining: Duration,
        /// Of the time of this run's steps, how much was spent waiting for images.
        waited: Duration,
    },
    /// With each line of the record: use of the codes since the last one.
    Usage {
        /// Steps done.
        step: usize,
        /// Share of codes used, 0 to 1.
        usage: f64,
        /// exp of their entropy; of several levels their mean.
        perplexity: f64,
    },
    /// An evaluation of the probe, a few fixed images.
    Probe(&'a ProbeEvaluation),
    /// Work beside the steps that can take long.
    Work {
        /// `k-means` or `evaluate`.
        stage: &'static str,
        /// What is counted.
        unit: &'static str,
        /// Done by now.
        done: usize,
        /// To be done.
        total: usize,
    },
    /// Images that could not be read and are left out: before the first step those met by then,
    /// at the end all.
    Unreadable {
        /// How many.
        count: u64,
        /// Of how many that are trained on or judged by.
        images: usize,
        /// The first ones, each key with its reason.
        examples: &'a [(String, String)],
    },
    /// A checkpoint is on the disk.
    Checkpoint {
        /// Steps it holds.
        step: usize,
    },
    /// What the user should know, one line.
    Notice(&'a str),
    /// A warning, one line.
    Warning(&'a str),
}

/// Who is told, and who can stop it.
pub trait Observer {
    /// Called between steps, from the calling thread.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Asked before each step and within long ones: true writes a checkpoint and ends with
    /// [`Error::Interrupted`](crate::Error::Interrupted).
    fn interrupted(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// The result of a training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSummary {
    /// Steps done.
    pub steps: usize,
    /// Images trained on.
    pub images: usize,
    /// Trainable scalars.
    pub parameters: usize,
    /// Steps skipped since a loss or gradient was not finite.
    pub skipped_steps: u64,
    /// Updates of the discriminator skipped for the same reason.
    #[serde(default)]
    pub skipped_discriminator_steps: u64,
    /// Times that PSNR fell after the discriminator's start and the weights were rolled back.
    #[serde(default)]
    pub rollbacks: u64,
    /// Codes revived.
    pub revived_codes: u64,
    /// Images that could not be read, in this run.
    #[serde(skip)]
    pub unreadable: u64,
    /// Share of the time of this run's steps that was spent waiting for images, 0 to 1; None where it
    /// did no step.
    #[serde(skip)]
    pub waited_share: Option<f64>,
    /// Whether the evaluation is on images that were not trained on.
    pub held_out: bool,
    /// The saved model's figures.
    pub evaluation: Evaluation,
}
