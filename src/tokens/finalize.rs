//! Aggregates committed partitions to a data set: `codebook.parquet`, then `dataset.json`.
//! Must not know: how partitions came about.
//!
//! Of an output whose shards lie in folders, the partitions of each are folded first (`folds`), and what
//! these say is folded then: a tree, whose memory is that of one folder's partitions.

use std::path::Path;

use parquet::file::metadata::KeyValue;
use rayon::prelude::*;

use super::arrangement::must_lie_as_planned;
use super::dataset::{
    AppendedSummary, CodebookSummary, PartSummary, PlanSummary, ShardSummary, Totals, file_summary,
};
use super::files::{CODEBOOK_FILE, DATASET_FILE, PLAN_FOLDER, Sidecar};
use super::folds;
use super::foreign_shards::refuse_foreign;
use super::plan::{Plan, PlanFile};
use super::stats::{LevelStatistics, Statistics};
use super::{cleanup, commit, in_the_way, present, schema, unplanned};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::{compute_pool, panics};

pub(crate) use super::dataset::finished_partitions;
pub use super::dataset::{DatasetSummary, read, render};

/// Aggregates a complete output and writes `dataset.json`, last. Doing it again changes no byte; where
/// `dataset.json` is there already and describes all plans, it is read and returned once every shard
/// is found to be the plan's. Who holds the folder's exclusive lock drops it first.
///
/// # Errors
/// [`Error::Busy`] where partitions are missing, naming how many; a shard or a file of the output's
/// that is damaged or of another plan.
pub fn finalize(dir: impl AsRef<Path>) -> Result<DatasetSummary> {
    let dir = dir.as_ref();
    compute_pool::check_environment()?;
    storage::complete(dir, || finalize_now(dir))
}

fn finalize_now(dir: &Path) -> Result<DatasetSummary> {
    let _at = panics::at("finalize", None);
    in_the_way::refuse_files(dir)?;
    let plan = Plan::open(dir)?;
    unplanned::refuse(&plan)?;
    let mut recorded = None;
    if let Some(summary) = read(dir)?
        && describes_all(&summary, &plan)?
    {
        refuse_foreign(&plan, (0..plan.partitions()).collect())?;
        present::refuse_lost_rows(&plan)?;
        present::refuse_lost(&plan, &summary)?;
        if present::has_sums(dir, &summary)? {
            // A worker that was killed while another one finished leaves temporary files.
            cleanup::remove_orphans(dir)?;
            return Ok(summary);
        }
        recorded = Some(summary);
    }
    let _lock = plan.lock_shared()?;
    must_lie_as_planned(&plan)?;
    plan.must_be_whole()?;
    if recorded.is_none() {
        unplanned::refuse_beside(&plan)?;
    }
    plan.must_be_as_written()?;
    let folded = fold(&plan)?;
    present::refuse_lost_rows(&plan)?;
    remove_unreferenced(&plan, &folded)?;
    if let Some(recorded) = &recorded {
        refuse_changed(&plan, recorded, &folded)?;
    }
    let summary = aggregate(&plan, folded)?;
    commit::replace_durably(&dir.join(DATASET_FILE), render(&summary).as_bytes())?;
    Ok(summary)
}

/// Refuses to sum up anew what isn't as `dataset.json` has it: what was lost are sums alone.
fn refuse_changed(plan: &Plan, recorded: &DatasetSummary, folded: &Folded) -> Result<()> {
    let (first, appended) = plans(plan)?;
    let recorded_plans =
        [&recorded.plan.file].into_iter().chain(recorded.appended.iter().map(|of| &of.file));
    let plans_now = [&first.file].into_iter().chain(appended.iter().map(|of| &of.file));
    let plans = recorded_plans.zip(plans_now).filter(|(was, is)| was != is);
    let plans = plans.map(|(was, _)| &was.path);
    let of_shards = recorded.shards.iter().zip(&folded.shards);
    let shards = of_shards.filter(|(was, is)| was != is).map(|(was, _)| &was.tokens.path);
    let of_parts = recorded.parts.iter().zip(&folded.parts);
    let parts = of_parts.filter(|(was, is)| was != is).map(|(was, _)| &was.shards.path);
    match plans.chain(shards).chain(parts).next() {
        None => Ok(()),
        Some(path) => Err(Error::damaged(plan.dir().join(path), "it isn't as dataset.json has it")),
    }
}

/// Whether a summary describes all plans, rather than what was finished before the last were appended.
///
/// # Errors
/// One of other plans.
fn describes_all(summary: &DatasetSummary, plan: &Plan) -> Result<bool> {
    let appended = summary.appended.iter().map(|appended| &appended.digest);
    let described: Vec<&String> = [&summary.plan.digest].into_iter().chain(appended).collect();
    let mut files = plan.files().iter();
    if !described.iter().all(|&digest| files.next().is_some_and(|file| file.digest() == digest)) {
        return Err(Error::damaged(plan.dir().join(DATASET_FILE), "it belongs to another plan"));
    }
    // One that was lost and made anew may lie in other files, which its length tells.
    let appended = summary.appended.iter().map(|appended| &appended.file);
    let recorded = [&summary.plan.file].into_iter().chain(appended);
    for (recorded, file) in recorded.zip(plan.files()) {
        let path = plan.dir().join(file.base().name());
        if storage::facts(&path).map_err(Error::io(&path))?.bytes != recorded.bytes {
            return Ok(false);
        }
    }
    Ok(files.next().is_none())
}

/// What is known of all partitions: each, or of those of a large output the parts that list them.
#[derive(Default)]
struct Folded {
    shards: Vec<ShardSummary>,
    parts: Vec<PartSummary>,
}

/// Hashes every partition, or takes what was folded of them before.
fn fold(plan: &Plan) -> Result<Folded> {
    let Some(together) = plan.together() else {
        // In parallel, since every byte is hashed; `collect` keeps the order.
        let shards = (0..plan.partitions()).into_par_iter();
        let shards = shards.map(|partition| folds::summarize(plan, partition));
        return Ok(Folded { shards: shards.collect::<Result<_>>()?, ..Folded::default() });
    };
    let parts = folds::groups(plan, together).map(|group| folds::fold(plan, &group));
    Ok(Folded { parts: parts.collect::<Result<_>>()?, ..Folded::default() })
}

/// Folds what is whole of a share of an unfinished output, for whoever finishes it: every `of`-th
/// folder's partitions, from the `index`-th. How many were folded, or had been, and of how many.
///
/// # Errors
/// Those of [`finalize`].
pub(crate) fn fold_share(dir: &Path, has: impl Fn(usize) -> bool) -> Result<(u64, u64)> {
    compute_pool::check_environment()?;
    storage::complete(dir, || {
        let plan = Plan::open(dir)?;
        unplanned::refuse(&plan)?;
        let _lock = plan.lock_shared()?;
        must_lie_as_planned(&plan)?;
        let there = plan.committed()?;
        let Some(together) = plan.together() else { return Ok((0, 0)) };
        let (mut folded, mut ours) = (0, 0);
        for (_, group) in folds::groups(&plan, together).enumerate().filter(|(at, _)| has(*at)) {
            ours += 1;
            if group.partitions.clone().all(|partition| there.has(partition)) {
                folds::fold(&plan, &group)?;
                folded += 1;
            }
        }
        Ok((folded, ours))
    })
}

/// Merges the codebook parts, writes `codebook.parquet`, sums up.
fn aggregate(plan: &Plan, folded: Folded) -> Result<DatasetSummary> {
    let (dir, identity) = (plan.dir(), plan.identity());
    let mut statistics = Statistics::new(identity);
    let mut totals = Totals::default();
    for shard in &folded.shards {
        statistics.merge_file(&dir.join(&shard.codebook.path))?;
        totals.take(shard);
    }
    for part in &folded.parts {
        statistics.merge_file(&dir.join(&part.codebook.path))?;
        totals.add(&part.totals);
    }
    totals.tokens = statistics.tokens();
    if totals.planned != plan.rows() {
        return Err(Error::corrupt(dir, "the shards don't add up to the plan"));
    }
    let path = dir.join(CODEBOOK_FILE);
    let entries = vec![
        KeyValue::new("vqtok.schema".into(), Sidecar::Codebook.schema(identity).to_string()),
        KeyValue::new("vqtok.identity_sha256".into(), identity.digest()),
        KeyValue::new("vqtok.plan_sha256".into(), plan.digest().to_string()),
    ];
    commit::replace_durably(&path, &statistics.encode(&path, true, entries)?)?;
    let levels = statistics.levels.iter().map(LevelStatistics::summary);
    let (first, appended) = plans(plan)?;
    let schema = match (folded.parts.is_empty(), appended.is_empty()) {
        (false, _) => schema::DATASET_OF_PARTS,
        (true, false) => schema::DATASET_OF_PLANS,
        (true, true) => schema::DATASET,
    };
    Ok(DatasetSummary {
        schema: schema.to_string(),
        identity: identity.clone(),
        plan: first,
        appended,
        classes: plan.classes().map(<[String]>::to_vec),
        totals,
        codebook: CodebookSummary { levels: levels.collect(), file: file_summary(dir, &path)? },
        shards: folded.shards,
        parts: folded.parts,
    })
}

/// The first plan, and those that were appended to it.
fn plans(plan: &Plan) -> Result<(PlanSummary, Vec<AppendedSummary>)> {
    let dir = plan.dir();
    let summary = |file: &PlanFile| -> Result<AppendedSummary> {
        Ok(AppendedSummary {
            digest: file.digest().to_string(),
            rows: file.rows(),
            partitions: file.partitions() as u64,
            first_ordinal: file.base().ordinal,
            first_partition: file.base().partition as u64,
            file: file_summary(dir, &dir.join(file.base().name()))?,
            shards_a_folder: file.folders().size().map(|size| size as u64),
        })
    };
    let mut plans = plan.files().iter().map(summary).collect::<Result<Vec<_>>>()?;
    let first = plans.remove(0);
    let AppendedSummary { digest, rows, partitions, file, shards_a_folder, .. } = first;
    Ok((PlanSummary { digest, rows, partitions, file, shards_a_folder }, plans))
}

/// Removes what dead or beaten workers left: orphaned temporary files and unreferenced sidecars and
/// parts. Every partition is committed, so nobody can still come to need them.
fn remove_unreferenced(plan: &Plan, folded: &Folded) -> Result<()> {
    let dir = plan.dir();
    cleanup::remove_orphans(dir)?;
    cleanup::remove_listed(dir)?;
    if !folded.shards.is_empty() {
        folds::remove_unreferenced(plan, 0, &folded.shards)?;
    }
    folds::remove_others(dir, &folded.parts)?;
    let named = |file: &PlanFile| {
        let number = file.base().number;
        let pieces = file.named().iter().enumerate();
        pieces.map(|(piece, named)| dir.join(named.path(number, piece))).collect::<Vec<_>>()
    };
    let known: std::collections::BTreeSet<_> = plan.files().iter().flat_map(named).collect();
    cleanup::remove_others(&dir.join(PLAN_FOLDER), |path| known.contains(path))
}
