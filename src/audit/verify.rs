//! Owns the proof that an output is whole: every sum, digest and row is computed again from what
//! lies there. Must not know: the writer.
//!
//! What is proven: the plan's digest; that every planned image is in exactly one of shard and
//! failures, under its planned key and uri; that codes are in range and their hashes and counts
//! right; that sidecars and `codebook.parquet` follow from the shards and `dataset.json` from all
//! of them; and every file's sha256. So one flipped bit in any file is found.

use std::path::Path;

use rayon::prelude::*;

use super::dataset::{self, Dataset};
use super::facts::{FileFacts, Part, PartitionFacts, VerifyReport};
use super::partition;
use super::plan::{self, PlanFacts};
use super::strays::{self, Known};
use crate::audit::code_counts::CodeCounts;
use crate::error::{Error, Result};
use crate::storage;
use crate::util::{compute_pool, text};

/// Verifies an output folder. Damage is in the report.
///
/// # Errors
/// What can't be looked at: a folder that isn't there or holds no output, a file that the system
/// doesn't let us read.
pub fn verify(dir: impl AsRef<Path>) -> Result<VerifyReport> {
    let dir = dir.as_ref();
    compute_pool::check_environment()?;
    storage::list(dir).map_err(Error::io(dir))?;
    let mut report = VerifyReport::default();
    let dataset = read_dataset(dir, &mut report);
    let plan = verify_plan(dir, dataset.as_ref(), &mut report)?;
    let partitions = match (&plan, &dataset) {
        (Some(plan), _) => plan.partitions(),
        (None, Some(dataset)) => dataset.partitions(),
        (None, None) => partition::highest(dir).map_or(0, |highest| highest + 1),
    };
    report.partitions = partitions as u64;
    let mut code_counts = CodeCounts::default();
    let mut shards = Vec::new();
    let present = present(dir, partitions, &mut report);
    // In waves, so that memory holds a few partitions' counts; merged in order, so that float
    // sums are those of the definition.
    for wave in present.chunks(rayon::current_num_threads().max(1) * 2) {
        let facts: Vec<_> =
            wave.par_iter().map(|&index| partition::verify(dir, index, plan.as_ref())).collect();
        for (&index, facts) in wave.iter().zip(facts) {
            take_partition(&mut report, &mut code_counts, index, &facts);
            shards.push(facts);
        }
    }
    verify_codebook(dir, &mut report, &code_counts, dataset.as_ref(), plan.as_ref())?;
    if let (Some(dataset), Some(plan)) = (&dataset, &plan) {
        verify_dataset(dir, &mut report, dataset, plan, &code_counts, &shards)?;
    }
    let known = Known {
        partitions,
        files: shards.iter().flat_map(|s| s.files.iter().map(|f| f.path.clone())).collect(),
        bad: report.bad_partitions(),
        finished: report.finished,
    };
    let found = strays::find(dir, &known);
    (report.strays, report.leftovers) = (found.foreign, found.leftovers);
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

/// What `dataset.json` says, without which an output isn't finished.
fn read_dataset(dir: &Path, report: &mut VerifyReport) -> Option<Dataset> {
    match dataset::read(dir) {
        Ok(dataset) => {
            report.finished = dataset.is_some();
            dataset
        }
        Err(problem) => {
            report.finished = true;
            report.find(Part::Dataset, problem);
            None
        }
    }
}

/// The partitions that are there; the others are counted as missing.
fn present(dir: &Path, partitions: usize, report: &mut VerifyReport) -> Vec<usize> {
    let shards = partition::shards(dir);
    let present = (0..partitions).filter(|&index| {
        let there = shards.contains(&index);
        report.missing += u64::from(!there);
        if !there && report.finished {
            report.find(Part::Partition(index), format!("partition {index} is missing"));
        }
        there
    });
    present.collect()
}

fn verify_plan(
    dir: &Path,
    dataset: Option<&Dataset>,
    report: &mut VerifyReport,
) -> Result<Option<PlanFacts>> {
    let there = |name: &str| storage::exists(&dir.join(name)).map_err(Error::io(dir.join(name)));
    if !there(plan::NAME)? {
        if !there("tokens")? && !report.finished {
            return Err(Error::invalid(format!("{}: no output of vqtok", text::path(dir))));
        }
        report.find(Part::Plan, "plan.parquet is missing");
        return Ok(None);
    }
    let facts = match plan::read(dir) {
        Ok(facts) => facts,
        Err(Error::Io { path, source }) => return Err(Error::Io { path, source }),
        Err(error) => {
            report.find(Part::Plan, error.to_string());
            return Ok(None);
        }
    };
    report.bytes += facts.file.bytes;
    if let Some(recorded) = dataset.and_then(|d| d.text("/plan/file/sha256"))
        && recorded != facts.file.sha256
    {
        report.find(Part::Plan, "plan.parquet: its sha256 is not the one in dataset.json");
    }
    Ok(Some(facts))
}

fn take_partition(
    report: &mut VerifyReport,
    code_counts: &mut CodeCounts,
    index: usize,
    facts: &PartitionFacts,
) {
    for problem in &facts.problems {
        report.find(Part::Partition(index), problem.clone());
    }
    report.planned += facts.planned;
    report.written += facts.written;
    report.failed += facts.failed;
    report.rows += facts.rows;
    report.tokens += facts.code_counts.tokens();
    report.bytes += facts.files.iter().map(|file| file.bytes).sum::<u64>();
    code_counts.merge(&facts.code_counts);
}

/// `codebook.parquet` against the sum of the parts. Where a partition is bad or missing, the sum is
/// unknown, and only the file's own digest tells.
fn verify_codebook(
    dir: &Path,
    report: &mut VerifyReport,
    code_counts: &CodeCounts,
    dataset: Option<&Dataset>,
    plan: Option<&PlanFacts>,
) -> Result<()> {
    let name = crate::audit::code_counts::NAME;
    if !storage::exists(&dir.join(name)).map_err(Error::io(dir.join(name)))? {
        if report.finished {
            report.find(Part::Codebook, format!("{name} is missing"));
        }
        return Ok(());
    }
    let file = FileFacts::of(dir, name)?;
    report.bytes += file.bytes;
    if let Some(recorded) = dataset.and_then(|d| d.text("/codebook/file/sha256"))
        && recorded != file.sha256
    {
        report.find(Part::Codebook, format!("{name}: its sha256 is not the one in dataset.json"));
    }
    if report.missing > 0 || !report.bad_partitions().is_empty() {
        return Ok(());
    }
    let codes = plan.map(PlanFacts::codes);
    if let Err(problem) = code_counts.compare(&dir.join(name), codes.as_deref()) {
        report.find(Part::Codebook, format!("{name}: {problem}"));
    }
    Ok(())
}

/// Every value of `dataset.json` against what was computed, unless that is known to be wrong.
fn verify_dataset(
    dir: &Path,
    report: &mut VerifyReport,
    dataset: &Dataset,
    plan: &PlanFacts,
    code_counts: &CodeCounts,
    shards: &[PartitionFacts],
) -> Result<()> {
    for facts in shards {
        if let Some(problem) = dataset.compare_shard(facts) {
            report.find(Part::Partition(facts.index), problem);
        }
    }
    let consistent = report.missing == 0 && report.findings.is_empty();
    if consistent {
        let codebook = FileFacts::of(dir, crate::audit::code_counts::NAME)?;
        let expected = dataset::expected(report, plan, code_counts, shards, &codebook);
        if let Some(problem) = dataset.compare(&expected) {
            report.find(Part::Dataset, format!("dataset.json: {problem}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
