//! Owns repairing outputs: from what the auditor finds to an output that is whole again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::events::{DamageReport, Event, Observer};
use super::made_again::{Maker, find_images};
use super::model_copy;
use super::pixels::told;
use super::same_model;
use super::tokenize::check_batch_size;
use super::tokenize_summary::{Recorded, TokenizeSummary};
use super::tokenizer_options::TokenizerOptions;
use super::verify::verify;
use crate::audit::{Finding, Part, VerifyReport, strays_of_finished};
use crate::data::BucketSizes;
use crate::data::prepare::Preparation;
use crate::data::resize::pillow::PillowVersion;
use crate::data::source::file;
use crate::error::{Error, Result};
use crate::pipeline;
use crate::storage;
use crate::tokens::folder_lock::FolderLock;
use crate::tokens::identity::difference_in_words;
use crate::tokens::repair::{self, Damage};
use crate::tokens::{Identity, Moved, Plan, displaced, recorded};
use crate::util::settings::MODEL;
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
    /// What is wrong all the same.
    pub left: Vec<Finding>,
}

impl RepairSummary {
    /// Whether the output is whole, what it was before, without failures, and alone in its folder.
    pub fn is_clean(&self) -> bool {
        self.tokenized.is_clean() && self.strays.is_empty() && self.left.is_empty()
    }

    /// With what a further pass did.
    fn then(self, next: RepairSummary) -> RepairSummary {
        let tokenized = next.tokenized.after(self.tokenized);
        RepairSummary { damage: self.damage, tokenized, ..next }
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
        // What one look finds hides what it can't look at: it ends with one that finds nothing.
        const PASSES_MAX: usize = 8;
        let mut report = verify(&self.dir)?;
        let mut summary: Option<RepairSummary> = None;
        let mut refused = None;
        for _ in 0..PASSES_MAX {
            let (hides, found) = (hides(&report), report.findings.clone());
            let next = match self.repair(report, observer) {
                // What it brought back before it may be what the rest takes.
                Err(error @ Error::Corrupt { .. }) => {
                    report = verify(&self.dir)?;
                    if report.findings == found {
                        return Err(error);
                    }
                    refused = Some(error);
                    continue;
                }
                next => next?,
            };
            let mut now = match summary {
                None => next,
                Some(before) => before.then(next),
            };
            if !hides {
                return Ok(now);
            }
            report = verify(&self.dir)?;
            now.left = report.findings.clone();
            if now.left.is_empty() || now.left == found {
                return Ok(now);
            }
            summary = Some(now);
        }
        let none = || refused.unwrap_or_else(|| Error::internal("a repair without a pass"));
        summary.ok_or_else(none)
    }

    /// Brings back what a look has found.
    fn repair(&self, report: VerifyReport, observer: &mut dyn Observer) -> Result<RepairSummary> {
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
        let finished = damage.report.finished;
        let done = self.make(bad, (beside, finished), (maker, &moved), observer)?;
        let none = pipeline::Summary::default();
        // What another output's `dataset.json` had was never this one's.
        let plan = Plan::open(&self.dir)?;
        let before = if before.is_of(&plan) { before } else { Recorded::default() };
        let tokenized = TokenizeSummary::of(&self.dir, done, none, 0)?.compared(&self.dir, &before);
        let strays = strays_now(&self.dir, &damage.report.strays);
        Ok(RepairSummary { damage, tokenized, strays, left: Vec::new() })
    }

    /// Makes again what is lost or damaged, those that lack files `beside` their shards too, and removes
    /// what sums them up where that is damaged. What was recorded comes first: while it doesn't come
    /// back, nothing else is touched.
    fn make(
        &self,
        mut bad: Damage,
        (beside, finished): (BTreeSet<usize>, bool),
        (maker, moved): (Option<Maker>, &Moved),
        observer: &mut dyn Observer,
    ) -> Result<pipeline::Summary> {
        let mut done = pipeline::Summary::default();
        let size_of = |uri: &str| file::size(&moved.place_of(0, uri));
        let aggregates = std::mem::take(&mut bad.aggregates);
        if let Some(mut maker) = maker {
            let plan = Plan::open(&self.dir)?.with_moved(moved.clone());
            find_images(&plan, &bad.partitions.union(&beside).copied().collect())?;
            let mut due = recorded::starts(&plan, &bad.partitions, finished)?;
            bad.partitions.retain(|partition| !due.contains_key(partition));
            due.extend(repair::digests(&plan, &beside)?);
            done.add(maker.restore(&plan, (due, &beside), observer)?);
            repair::clear(&self.dir, &bad, &size_of)?;
            done.add(maker.make_missing(&plan, observer)?);
        } else {
            repair::clear(&self.dir, &bad, &size_of)?;
        }
        if aggregates {
            repair::reopen(&self.dir, &FolderLock::exclusive(&self.dir)?)?;
        }
        Ok(done)
    }

    /// The tokenizer that makes shards again and the preparation for it, found to be those that made
    /// the output.
    fn maker(&self, damage: &Damage) -> Result<Maker> {
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
        Ok(Maker { tokenizer, preparation, batch_size: self.batch_size })
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

/// Whether what was found keeps other things from being looked at.
fn hides(report: &VerifyReport) -> bool {
    report.findings.iter().any(|finding| finding.part != Part::Codebook)
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
