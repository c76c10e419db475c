//! Owns repairing outputs: from what the auditor finds to an output that is whole again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::events::{DamageReport, Event, Observer, Pass};
use super::model_copy;
use super::pixels::told;
use super::plan;
use super::same_model;
use super::tokenize::{check_batch_size, tokenize};
use super::tokenize_summary::{Recorded, TokenizeSummary};
use super::tokenizer::Tokenizer;
use super::tokenizer_options::TokenizerOptions;
use crate::audit::{Part, VerifyReport, strays_of_finished, verify};
use crate::data::BucketSizes;
use crate::data::prepare::Preparation;
use crate::data::resize::pillow::PillowVersion;
use crate::data::source::file;
use crate::error::{Error, Result};
use crate::pipeline::{self, OnError, Sizes};
use crate::storage;
use crate::tokens::identity::difference_in_words;
use crate::tokens::repair::{self, Damage};
use crate::tokens::{Commit, CommitMode, Identity, Moved, Plan, displaced};
use crate::util::settings::{MODEL, MOVED};
use crate::util::text;

/// An output on its way to being whole again: what is bad is removed and made again, nothing else.
#[derive(Debug, Clone)]
pub struct Repair {
    dir: PathBuf,
    model: Option<PathBuf>,
    options: TokenizerOptions,
    moved: Option<(PathBuf, PathBuf)>,
    batch_size: Option<usize>,
}

/// What a repair did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairSummary {
    /// What was wrong before.
    pub damage: DamageReport,
    /// What was made, and what the output is now.
    pub tokenized: TokenizeSummary,
    /// What lies in the output now and isn't its own.
    pub strays: Vec<String>,
}

impl RepairSummary {
    /// Whether the output is whole, what it was before, without failures, and alone in its folder.
    pub fn is_clean(&self) -> bool {
        self.tokenized.is_clean() && self.strays.is_empty()
    }
}

impl Repair {
    /// Of an output folder.
    pub fn new(dir: impl Into<PathBuf>) -> Repair {
        Repair {
            dir: dir.into(),
            model: None,
            options: TokenizerOptions::new(),
            moved: None,
            batch_size: None,
        }
    }

    /// The tokenizer that made the output; needed where shards have to be rebuilt. What images
    /// become before it sees them is as the output says, whatever the options do.
    pub fn model(mut self, model: impl Into<PathBuf>, options: TokenizerOptions) -> Repair {
        (self.model, self.options) = (Some(model.into()), options);
        self
    }

    /// The folder that the images were in when they were tokenized, and the one they are in now.
    pub fn moved(mut self, old: impl Into<PathBuf>, new: impl Into<PathBuf>) -> Repair {
        self.moved = Some((old.into(), new.into()));
        self
    }

    /// Images a batch; by default what suits the device.
    pub fn batch_size(mut self, images: impl Into<Option<usize>>) -> Repair {
        self.batch_size = images.into();
        self
    }

    /// Runs the job. Nothing is removed before what it takes to make it again is there.
    ///
    /// # Errors
    /// No model where shards have to be rebuilt, or another one than made the output; images that
    /// aren't at their places; [`Error::Interrupted`] where the observer says so.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<RepairSummary> {
        check_batch_size(self.batch_size)?;
        storage::complete(&self.dir, || self.run_now(observer))
    }

    fn run_now(&self, observer: &mut dyn Observer) -> Result<RepairSummary> {
        let report = verify(&self.dir)?;
        let mut bad = damage(&report);
        let partitions = bad.partitions.len() + bad.sidecars.len();
        let damage = DamageReport { dir: self.dir.clone(), report, partitions };
        observer.event(&Event::Damage(&damage));
        repair::refuse_in_the_way(&self.dir, &bad)?;
        if bad.plans.is_empty() {
            let plan = Plan::open(&self.dir)?;
            let there = plan.committed()?;
            displaced::refuse(&plan, |partition| there.has(partition))?;
        }
        let beside = repair::to_make_beside(&self.dir, &bad)?;
        let work = damage.report.missing > 0 || !bad.partitions.is_empty() || !beside.is_empty();
        // Before anything is removed: another model, or none, must not cost what could still be read.
        let moved = self.moved.as_ref().map_or_else(|| Ok(Moved::default()), rule)?;
        let maker = if work { Some(self.maker(&bad)?) } else { None };
        let before = Recorded::before(&self.dir);
        let size_of = |uri: &str| file::size(&moved.place_of(0, uri));
        if !bad.plans.is_empty() {
            repair::rebuild(&self.dir, &bad, &size_of)?;
            bad.plans.clear();
            // What was summed up over other plans goes with them.
            bad.aggregates |= !before.is_of(&Plan::open(&self.dir)?);
        }
        if work {
            let again = bad.partitions.union(&beside).copied().collect();
            find_images(&Plan::open(&self.dir)?.with_moved(moved.clone()), &again)?;
        }
        repair::clear(&self.dir, &bad, &size_of)?;
        let plan = Plan::open(&self.dir)?.with_moved(moved);
        let done = match maker {
            Some(maker) => self.make(&plan, maker, &beside, observer)?,
            None => pipeline::Summary::default(),
        };
        let none = pipeline::Summary::default();
        // What another output's `dataset.json` had was never this one's.
        let before = if before.is_of(&plan) { before } else { Recorded::default() };
        let tokenized = TokenizeSummary::of(&self.dir, done, none, 0)?.compared(&self.dir, &before);
        let strays = strays_now(&self.dir, &damage.report.strays);
        Ok(RepairSummary { damage, tokenized, strays })
    }

    /// Makes the partitions that aren't there, and again those that lack files `beside` their shards,
    /// which stay as they are.
    ///
    /// # Errors
    /// Files beside a shard that don't come back, since another one was made.
    fn make(
        &self,
        plan: &Plan,
        (mut tokenizer, preparation): (Tokenizer, Preparation),
        beside: &BTreeSet<usize>,
        observer: &mut dyn Observer,
    ) -> Result<pipeline::Summary> {
        let mut todo: Vec<usize> =
            plan.committed()?.missing().chain(beside.iter().copied()).collect();
        todo.sort_unstable();
        if todo.is_empty() {
            return Ok(pipeline::Summary::default());
        }
        let suits = tokenizer.images_together(&preparation);
        let settings = pipeline::Settings {
            preparation,
            batch_size: self.batch_size.unwrap_or(suits),
            on_error: OnError::Record,
            mode: CommitMode::New,
            sizes: Sizes::Planned,
            decode_time_max: pipeline::DECODE_TIME_MAX,
        };
        let lock = plan.lock_shared()?;
        let mut kept = Kept { inner: observer, beside, lost: BTreeSet::new() };
        let summary =
            tokenize(&settings, plan, &todo, &mut [tokenizer.engine.as_mut()], &mut kept)?;
        drop(lock);
        match kept.lost.first() {
            None => Ok(summary),
            Some(&partition) => Err(Error::mismatch(format!(
                "{}: a file beside it is lost and can't be made again, since its images, or what the \
                 model computes here, have changed since; it stays as it is: restore the images or that \
                 file, or remove the shard and run the same `vqtok tokenize` again to have it made of what \
                 is there now",
                text::path(plan.shard_path(partition))
            ))),
        }
    }

    /// The tokenizer that makes shards again and the preparation for it, found to be those that made
    /// the output.
    fn maker(&self, damage: &Damage) -> Result<(Tokenizer, Preparation)> {
        let Some(model) = &self.model else {
            return Err(Error::invalid(format!(
                "shards have to be rebuilt: pass {MODEL} with the tokenizer that made them"
            )));
        };
        let identity = repair::identity(&self.dir, damage)?;
        let tokenizer = self.options.open(model)?;
        let engine = tokenizer.engine.as_ref();
        let same_weights = identity.tokenizer.weights_sha256 == engine.digests()?.weights_sha256;
        if let Some(level) = identity.levels.first().filter(|_| same_weights)
            && let Some(scales) = &level.scales
        {
            same_model::require_each(scales, engine, &self.dir)?;
        }
        let preparation = preparation(&identity, tokenizer.config().pixels.channels)?;
        let rows = identity.shard_rows as usize;
        let ours = model_copy::identity(tokenizer.engine.as_ref(), model, &preparation, rows)?;
        same(&self.dir, &identity, ours, "repair")?;
        Ok((tokenizer, preparation))
    }
}

/// What isn't an output's own: of one that isn't finished, what of that `before` is still there.
fn strays_now(dir: &Path, before: &[String]) -> Vec<String> {
    let still = |stray: &&String| storage::facts(&dir.join(stray.trim_end_matches('/'))).is_ok();
    strays_of_finished(dir).unwrap_or_else(|| before.iter().filter(still).cloned().collect())
}

/// Where the images of a folder are found that moved to another one.
fn rule((old, new): &(PathBuf, PathBuf)) -> Result<Moved> {
    let uri = |folder: &Path| file::folder_uri(folder).map_err(Error::io(folder));
    Ok(Moved::everywhere(uri(old)?, uri(new)?))
}

/// Refuses to make shards again whose images are nowhere: all of them would become failures. Of a
/// few images of each shard one must be there.
fn find_images(plan: &Plan, again: &BTreeSet<usize>) -> Result<()> {
    const IMAGES: usize = 16;
    let there = plan.committed()?;
    let bad = |p: &usize| again.contains(p) || !there.has(*p);
    for partition in (0..plan.partitions()).filter(bad) {
        let rows = plan.partition(partition)?;
        let some = rows.iter().step_by(rows.len().div_ceil(IMAGES).max(1));
        if some.clone().all(|row| file::size(&plan.place(row)).is_none()) {
            let first = rows.first().map(|row| plan.place(row)).unwrap_or_default();
            return Err(Error::invalid(format!(
                "{}: the images of shard {partition} aren't at their place ({}); restore them, or \
                 pass {MOVED} with the folder they were in and the one they are in now",
                text::path(plan.dir()),
                text::printable(&first)
            )));
        }
    }
    if !plan.moved().is_empty() { plan::check_contents(plan, again) } else { Ok(()) }
}

fn damage(report: &VerifyReport) -> Damage {
    let any = |part: Part| report.findings.iter().any(|finding| finding.part == part);
    let (sidecars, partitions) = report
        .bad_partitions()
        .into_iter()
        .partition(|partition| report.whole_shards.contains(partition));
    Damage {
        plans: report.findings.iter().filter_map(|finding| finding.part.plan()).collect(),
        aggregates: any(Part::Codebook) || any(Part::Dataset),
        partitions,
        sidecars,
    }
}

/// Passes everything on but that partitions, which are made for the files `beside` their shards alone,
/// came out otherwise: keeps these.
struct Kept<'a> {
    inner: &'a mut dyn Observer,
    beside: &'a BTreeSet<usize>,
    lost: BTreeSet<usize>,
}

impl Observer for Kept<'_> {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Tokenizing(pipeline::Event::Partition(receipt))
                if matches!(receipt.commit, Commit::Lost { .. })
                    && self.beside.contains(&receipt.partition) =>
            {
                self.lost.insert(receipt.partition);
            }
            Event::Tokenized(pass) => {
                let Pass { images, mut summary } = **pass;
                summary.lost -= self.lost.len() as u64;
                self.inner.event(&Event::Tokenized(&Pass { images, summary }));
            }
            event => self.inner.event(event),
        }
    }

    fn interrupted(&self) -> bool {
        self.inner.interrupted()
    }
}

/// The preparation that an output was made with.
pub(super) fn preparation(identity: &Identity, channels: usize) -> Result<Preparation> {
    let made = &identity.preprocessing;
    Ok(Preparation {
        limits: Default::default(),
        alpha: made.alpha.parse()?,
        orientation: told(made.orientation.as_deref())?,
        pillow: made.pillow.map(PillowVersion::try_from).transpose()?.unwrap_or_default(),
        rule: made.rule.parse()?,
        size: made.size,
        channels,
        buckets: made.buckets.as_deref().map(BucketSizes::recorded).transpose()?,
        views: made.views.as_deref().map(str::parse).transpose()?,
    })
}

/// Refuses a model or program that would make other shards; `who` has it. Where labels stand is as the
/// output says.
pub(super) fn same(dir: &Path, made: &Identity, ours: Identity, who: &str) -> Result<()> {
    let ours = Identity { label_level: made.label_level.clone(), ..ours };
    match difference_in_words(made, &ours) {
        None => Ok(()),
        Some((was, now)) => Err(Error::mismatch(format!(
            "{} was made with {was}, this {who} has {now}; use the model and program it was made with",
            text::path(dir)
        ))),
    }
}
