//! Owns the proof that an output is whole: every sum, digest and row is computed again from what
//! lies there. Must not know: the writer.
//!
//! What is proven: the plan's digest; that every planned image is in exactly one of shard and
//! failures, under its planned key and uri; that codes are in range and their hashes and counts
//! right; that sidecars and `codebook.parquet` follow from the shards and `dataset.json` from all
//! of them; and every file's sha256. So one flipped bit in any file is found. Where `dataset.json` hasn't
//! recorded a plan's file, whoever can write that file anew tells whether it is as it was written.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::dataset::{self, Dataset, Unread};
use super::facts::{FileFacts, Part, PartitionFacts, VerifyReport};
use super::folders;
use super::looked::Looked;
use super::origin;
use super::plan::PlanFacts;
use super::plans::{self, Plans};
use super::strays::{self, Known};
use crate::audit::code_counts::CodeCounts;
use crate::audit::level_size::LevelSize;
use crate::error::{Error, FOLDER_IN_THE_WAY, Result};
use crate::storage;
use crate::util::compute_pool;

/// Tells of the plan with so many before it which sha256, in hex, its file has when it is written anew from
/// what stands in it; None where that isn't known.
pub(crate) type WrittenAnew = dyn Fn(&Path, usize) -> Option<String>;

/// Verifies an output folder. Damage is in the report.
///
/// # Errors
/// What can't be looked at: a folder that isn't there or holds no output, an output of a later
/// version, a file that the system doesn't let us read.
pub(crate) fn verify(dir: &Path, written_anew: &WrittenAnew) -> Result<VerifyReport> {
    compute_pool::check_environment()?;
    storage::complete(dir, || verify_now(dir, written_anew))
}

fn verify_now(dir: &Path, written_anew: &WrittenAnew) -> Result<VerifyReport> {
    storage::list(dir).map_err(Error::io(dir))?;
    let mut report = VerifyReport::default();
    let dataset = read_dataset(dir, &mut report)?;
    let plans = plans::verify(dir, (dataset.as_ref(), written_anew), &mut report)?;
    // What `dataset.json` describes: all, unless something was appended that isn't finished.
    let described = dataset.as_ref().map(|dataset| (dataset.plans(), dataset.partitions()));
    report.finished &= described.is_none_or(|(described, _)| described >= plans.count);
    let (named, described) = described.unwrap_or_default();
    let partitions = match plans.are_whole() {
        true => plans.partitions(),
        false if named >= plans.count => described.max(plans.partitions()),
        false => folders::highest(dir).map_or(0, |highest| highest + 1).max(plans.partitions()),
    };
    report.partitions = partitions as u64;
    let (present, displaced) = present(dir, partitions, &plans, described, &mut report);
    let mut looked = Looked::new(dir, &plans, dataset.as_ref(), described);
    looked.all(&present, &mut report);
    looked.sums.told(&mut report);
    let then = looked.then.as_ref().unwrap_or(&looked.sums);
    let sums = [then, &looked.sums];
    verify_codebook(dir, &mut report, sums, dataset.as_ref(), plans.first())?;
    if let Some(dataset) = &dataset {
        verify_dataset(dir, &mut report, dataset, then, &looked)?;
    }
    let named = plans.good.iter().flat_map(|plan| &plan.named).map(|file| file.path.clone());
    let parts = dataset.iter().flat_map(Dataset::named);
    let known = Known {
        partitions,
        lie: &|index| plans.folders_of(index),
        plans: plans.count,
        files: named.chain(parts).collect(),
        shards: std::mem::take(&mut looked.starts),
        displaced,
        bad: report.bad_partitions(),
        lost_plans: report.findings.iter().filter_map(|finding| finding.part.plan()).collect(),
        lost_dataset: report.finished && dataset.is_none(),
        finished: report.finished,
    };
    let found = strays::find(dir, &known);
    (report.strays, report.leftovers) = (found.foreign, found.leftovers);
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

/// What `dataset.json` says, without which an output isn't finished.
///
/// # Errors
/// One of a later version, of which nothing here can tell what is right.
fn read_dataset(dir: &Path, report: &mut VerifyReport) -> Result<Option<Dataset>> {
    match dataset::read(dir) {
        Ok(dataset) => {
            report.finished = dataset.is_some();
            let shard = dataset.as_ref().and_then(|dataset| origin::is_foreign(dir, dataset));
            let Some(shard) = shard else { return Ok(dataset) };
            let problem = format!("dataset.json is another output's: {shard} is of another plan");
            report.find(Part::Dataset, problem);
            Ok(None)
        }
        Err(Unread::Later(problem)) => Err(Error::corrupt(dir.join(dataset::NAME), problem)),
        Err(Unread::Damaged(problem)) => {
            report.finished = true;
            report.find(Part::Dataset, problem);
            Ok(None)
        }
    }
}

/// The partitions that are there; the others are counted as missing. Those of a finished output, and
/// the first `described` of one, must be there. And the shards of the others that lie elsewhere.
fn present(
    dir: &Path,
    partitions: usize,
    plans: &Plans,
    described: usize,
    report: &mut VerifyReport,
) -> (Vec<usize>, BTreeSet<String>) {
    let lie = |index| plans.folders_of(index);
    let shards = folders::shards(dir, lie);
    let mut elsewhere = match shards.len() < partitions {
        true => origin::elsewhere(dir, plans, |index| !shards.contains(&index), lie),
        false => BTreeMap::new(),
    };
    let mut displaced = BTreeSet::new();
    let present = (0..partitions).filter(|&index| {
        let there = shards.contains(&index);
        report.missing += u64::from(!there);
        if let Some(path) = elsewhere.remove(&index) {
            let place = lie(index).shard(index);
            let problem = format!("{path} is the shard that belongs at {place}: move it there");
            report.find(Part::Partition(index), problem);
            displaced.insert(path);
        } else if !there && (report.finished || index < described) {
            report.find(Part::Partition(index), format!("partition {index} is missing"));
        }
        there
    });
    (present.collect(), displaced)
}

/// Sums over partitions.
#[derive(Clone, Default)]
pub(super) struct Sums {
    planned: u64,
    written: u64,
    failed: u64,
    rows: u64,
    tokens: u64,
    pub(super) code_counts: CodeCounts,
}

impl Sums {
    /// Takes a partition, but for its counts of codes, which it gives back.
    pub(super) fn take<'a>(
        &mut self,
        report: &mut VerifyReport,
        facts: &'a PartitionFacts,
    ) -> &'a CodeCounts {
        for problem in &facts.problems {
            report.find(Part::Partition(facts.index), problem.clone());
        }
        if facts.shard_is_right {
            report.whole_shards.insert(facts.index);
        }
        self.planned += facts.planned;
        self.written += facts.written;
        self.failed += facts.failed;
        self.rows += facts.rows;
        self.tokens += facts.code_counts.tokens();
        report.bytes += facts.files.iter().map(|file| file.bytes).sum::<u64>();
        &facts.code_counts
    }

    fn told(&self, report: &mut VerifyReport) {
        report.planned = self.planned;
        report.written = self.written;
        report.failed = self.failed;
        report.rows = self.rows;
        report.tokens = self.tokens;
    }
}

/// `codebook.parquet` against the sum of the parts: `then`, of those that `dataset.json` describes, or
/// `now`, of all, where it is being folded anew. Where a partition is bad or missing, the sum is
/// unknown, and only the file's own digest tells.
fn verify_codebook(
    dir: &Path,
    report: &mut VerifyReport,
    [then, now]: [&Sums; 2],
    dataset: Option<&Dataset>,
    plan: Option<&PlanFacts>,
) -> Result<()> {
    let name = crate::audit::code_counts::NAME;
    if !storage::exists(&dir.join(name)).map_err(Error::io(dir.join(name)))? {
        if report.finished || dataset.is_some() {
            report.find(Part::Codebook, format!("{name} is missing"));
        }
        return Ok(());
    }
    if storage::facts(&dir.join(name)).is_ok_and(|facts| facts.is_folder) {
        report.find(Part::Codebook, format!("{name}: {FOLDER_IN_THE_WAY}"));
        return Ok(());
    }
    let file = match FileFacts::of(dir, name) {
        Err(Error::Corrupt { reason, .. }) => {
            report.find(Part::Codebook, format!("{name}: {reason}"));
            return Ok(());
        }
        file => file?,
    };
    report.bytes += file.bytes;
    let recorded = dataset.and_then(|d| d.text("/codebook/file/sha256"));
    let differs = recorded.is_some_and(|recorded| recorded != file.sha256);
    let anew = differs && !report.finished && report.missing == 0;
    if differs && !anew {
        report.find(Part::Codebook, format!("{name}: its sha256 is not the one in dataset.json"));
    }
    let lost_plan = report.findings.iter().any(|finding| finding.part.is_plan());
    let unknown = (report.missing > 0 || lost_plan) && (report.finished || dataset.is_none());
    if unknown || !report.bad_partitions().is_empty() {
        return Ok(());
    }
    let sums = if anew { now } else { then };
    let counters = |plan: &PlanFacts| plan.sizes().iter().map(LevelSize::counters).collect();
    let counters: Option<Vec<u64>> = plan.map(counters);
    if let Err(problem) = sums.code_counts.compare(&dir.join(name), counters.as_deref()) {
        report.find(Part::Codebook, format!("{name}: {problem}"));
    }
    Ok(())
}

/// Every value of `dataset.json` against what was computed, unless that is known to be wrong.
fn verify_dataset(
    dir: &Path,
    report: &mut VerifyReport,
    dataset: &Dataset,
    sums: &Sums,
    Looked { plans, shards, parts, .. }: &Looked<'_>,
) -> Result<()> {
    let described = dataset.partitions();
    let shards = &shards[..shards.partition_point(|facts| facts.index < described)];
    for facts in shards {
        dataset.compare_shard(facts, report);
    }
    let plans = plans.good.get(..dataset.plans()).and_then(<[PlanFacts]>::split_first);
    let Some(plans) = plans.filter(|_| report.findings.is_empty()) else { return Ok(()) };
    let mut codebook = FileFacts::of(dir, crate::audit::code_counts::NAME)?;
    if let (false, Some(recorded)) = (report.finished, dataset.codebook()) {
        codebook = recorded; // It is being folded anew, or is that.
    }
    let mut told = report.clone();
    sums.told(&mut told);
    let parts = (dataset.parts() > 0).then(|| parts.clone());
    let shards = (shards, parts);
    let expected = dataset::expected(&told, plans, &sums.code_counts, shards, &codebook);
    if let Some(problem) = dataset.compare(&expected) {
        report.find(Part::Dataset, format!("dataset.json: {problem}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
