//! Owns what a run is asked for, and its figures.

use std::time::Duration;

use crate::data::Views;
use crate::data::prepare::Preparation;
use crate::error::{Error, Reject, Result};
use crate::tokens::{CommitMode, PlanRow};
use crate::util::settings::ON_ERROR;
use crate::util::text;

/// What one bad image costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum OnError {
    /// A row in `failures`; the run goes on.
    Record,
    /// The run: it stops with that image's error, the current partition unwritten.
    Stop,
}

/// Which size a file must have when it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sizes {
    /// The planned one: a file that changed since is a failure, not tokenized under another's facts.
    Planned,
    /// Any: `--retry-failed` takes files as they are.
    Present,
}

/// What a run needs beside its engine.
#[derive(Clone)]
pub struct Settings {
    /// From bytes to pixels.
    pub preparation: Preparation,
    /// Images a batch; views, where each has several.
    pub batch_size: usize,
    /// What a bad image costs.
    pub on_error: OnError,
    /// Whether partitions are new or take the place of committed ones.
    pub mode: CommitMode,
    /// Which size a file must have.
    pub sizes: Sizes,
    /// After this long a decoder hangs, and its image is given up. Far beyond what any image within
    /// the limits takes, so that a slow machine fails nothing: [`DECODE_TIME_MAX`].
    pub decode_time_max: Duration,
}

/// The largest PNG within the limits (179 million pixels) takes five seconds on one core, all 1,714
/// odd and hostile images of the test corpus together one (`benches/results/2026-11-faults.md`).
pub const DECODE_TIME_MAX: Duration = Duration::from_secs(300);

impl Settings {
    /// What a bad image costs: an error where that is the run. An outage is no fault of an image's.
    pub(super) fn cost_of(&self, plan: &PlanRow, reject: &Reject) -> Result<()> {
        reject.refuse_outage(&plan.key)?;
        match self.on_error {
            OnError::Record => Ok(()),
            OnError::Stop => {
                let key = text::printable(&plan.key);
                Err(Error::invalid(format!("{key}: {reject} ({ON_ERROR} stop)")))
            }
        }
    }

    /// Images read ahead of the engine: two batches, and enough to keep every core decoding; fewer
    /// where each has several views, since they are all in memory.
    pub(super) fn images_in_flight(&self) -> usize {
        let views = (2 * self.batch_size).max(4 * rayon::current_num_threads());
        views.div_ceil(self.views_of_image())
    }

    /// Views of the first batch: a quarter, unless threads would go without.
    pub(super) fn first_batch(&self) -> usize {
        (self.batch_size / 4).max(rayon::current_num_threads()).clamp(1, self.batch_size.max(1))
    }

    /// Images whose outcomes wait for the writer.
    pub(super) fn outcomes_in_flight(&self) -> usize {
        (2 * self.batch_size).div_ceil(self.views_of_image())
    }

    fn views_of_image(&self) -> usize {
        self.preparation.views.map_or(1, Views::count).max(1)
    }
}

/// What a run did; images of partitions that were there already are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Images of the partitions committed by this run: one row each, or one for each of their views.
    pub written: u64,
    /// Images of these that were given up: one row in `failures` each.
    pub failed: u64,
    /// Partitions committed by this run.
    pub partitions: u64,
    /// Partitions that another worker committed first with the same bytes.
    pub already: u64,
    /// Partitions that another worker committed first with other bytes, which stay.
    pub lost: u64,
    /// Partitions that stay as they were, since making them again would have lost tokens.
    pub kept: u64,
}

impl Summary {
    /// Counts another run's figures in.
    pub(crate) fn add(&mut self, other: Summary) {
        let Summary { written, failed, partitions, already, lost, kept } = other;
        self.written += written;
        self.failed += failed;
        self.partitions += partitions;
        self.already += already;
        self.lost += lost;
        self.kept += kept;
    }
}
