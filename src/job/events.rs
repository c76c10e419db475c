//! Owns what the jobs report while they run, and who can stop them.

use std::path::Path;

use super::decode_rows::OtherGrid;
use super::plan::Planned;
use super::repair::DamageReport;
use super::same_model::OtherModel;
use super::tokenize::Pass;
use crate::audit::BadRows;
use crate::audit::sources::Sources;
use crate::config::Recipe;
use crate::data::Skipped;
use crate::error::Reject;
use crate::pipeline;
use crate::train::{self, Evaluation, TrainSummary};

/// What happens while a job runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The inputs were listed for training or reconstructing.
    Listed(&'a Skipped),
    /// The inputs are planned, or found to be those of the plan that is there.
    Planned(&'a Planned<'a>),
    /// Work of a known length begins.
    Begin {
        /// `tokenize` or `decode`.
        stage: &'static str,
        /// Images of it.
        images: u64,
    },
    /// Tokenizing goes on.
    Tokenizing(&'a pipeline::Event<'a>),
    /// One pass over images has ended.
    Tokenized(&'a Pass),
    /// What [`Repair`](super::Repair) found and is going to do.
    Damage(&'a DamageReport),
    /// There is nothing to resume: a new training by this recipe begins.
    NothingToResume {
        /// The model's folder.
        model: &'a Path,
        /// What it is trained by.
        recipe: &'a Recipe,
    },
    /// The training asked for was finished before.
    AlreadyTrained {
        /// The model's folder.
        model: &'a Path,
        /// Steps that it was trained for.
        steps: usize,
        /// Its figures.
        evaluation: &'a Evaluation,
    },
    /// A training is about to begin or to go on.
    BeginTraining {
        /// The model's folder.
        model: &'a Path,
        /// What it is trained by.
        recipe: &'a Recipe,
    },
    /// Training goes on.
    Training(&'a train::Event<'a>),
    /// A training has ended, and there is a model.
    Trained {
        /// The model's folder.
        model: &'a Path,
        /// What it was trained by.
        recipe: &'a Recipe,
        /// Its figures.
        summary: &'a TrainSummary,
    },
    /// The files that tokens are read from, with what is missing or foreign among them.
    Sources(&'a Sources),
    /// Tokens of another model are decoded, as was asked for.
    OtherModel(&'a OtherModel),
    /// Rows that don't say their grid are read as another one than the model's own.
    OtherGrid(&'a OtherGrid<'a>),
    /// A row was decoded, or passed over on the way to those on a sheet.
    Decoded,
    /// Rows that can't be decoded.
    BadRows(&'a BadRows),
    /// An image that can't be reconstructed.
    Unreconstructed {
        /// Its key.
        key: &'a str,
        /// Why.
        reject: &'a Reject,
    },
}

/// Who is told, and who can stop a job. `()` hears nothing and stops nothing.
pub trait Observer {
    /// Called from the calling thread.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }

    /// Asked again and again: true ends the job with
    /// [`Error::Interrupted`](crate::Error::Interrupted). What is committed stays, and the same job
    /// goes on from there.
    fn interrupted(&self) -> bool {
        false
    }
}

impl Observer for () {}

/// Passes on what the rooms below report.
pub(super) struct Relay<'a>(pub(super) &'a mut dyn Observer);

impl pipeline::Observer for Relay<'_> {
    fn event(&mut self, event: &pipeline::Event<'_>) {
        self.0.event(&Event::Tokenizing(event));
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

impl train::Observer for Relay<'_> {
    fn event(&mut self, event: &train::Event<'_>) {
        self.0.event(&Event::Training(event));
    }

    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}
