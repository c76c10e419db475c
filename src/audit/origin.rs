//! Owns what shards say of the plans that they are of, held against the plans and the `dataset.json` that
//! lie beside them: which of these is another output's, and what was lost. Must not know: the writer, what
//! is in a shard.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::dataset::Dataset;
use super::facts::FileFacts;
use super::folders::{self, Folders};
use super::partition;
use super::plan::{self, PlanFacts};
use super::plans::Plans;
use crate::audit::hex::hex;
use crate::audit::parquet_file::ParquetFile;
use crate::storage;

/// What a shard says of itself.
struct Said {
    plan: String,
    identity: String,
    partition: Option<usize>,
}

/// None of a file that can't be read.
fn said(dir: &Path, name: &str) -> Option<Said> {
    let sheet = ParquetFile::open_plain(&dir.join(name), Some(&[])).ok()?;
    let entry = |key: &str| sheet.entries.get(key).cloned().unwrap_or_default();
    Some(Said {
        plan: entry("vqtok.plan_sha256"),
        identity: entry("vqtok.identity"),
        partition: entry("vqtok.partition").parse().ok(),
    })
}

/// Whether `dataset.json` is another output's: the first plan whose shards are of another one than it
/// says, where the plan there doesn't say so as well.
pub(super) fn is_foreign(dir: &Path, dataset: &Dataset) -> Option<String> {
    let mut first = 0;
    for number in 0..dataset.plans() {
        let numbers = first..first + dataset.partitions_of(number);
        first = numbers.end;
        let Some(recorded) = dataset.plan_text(number, "digest") else { continue };
        let sheet = ParquetFile::open_plain(&dir.join(plan::name(number)), Some(&[])).ok();
        let there = sheet.and_then(|sheet| sheet.entries.get("vqtok.plan_sha256").cloned());
        if there.as_deref() == Some(recorded) {
            continue;
        }
        let shards = folders::named(dir).into_iter().filter(|(index, _)| numbers.contains(index));
        let mut own = shards.filter_map(|(_, name)| Some((said(dir, &name)?.plan, name)));
        if let Some((plan, name)) = own.next()
            && plan != recorded
            && there.is_none_or(|there| there == plan)
        {
            return Some(name);
        }
    }
    None
}

/// A shard that shows that a plan is another output's than all shards of its partitions, which are of one
/// plan. Where `dataset.json` knows the plan, a single one of them may be what is foreign.
pub(super) fn other_plan(dir: &Path, plan: &PlanFacts, recorded: Option<&str>) -> Option<String> {
    let least = if recorded == Some(&*plan.digest) { 2 } else { 1 };
    let (mut example, mut seen): (Option<(String, String)>, _) = (None, 0);
    for (index, name) in folders::named(dir) {
        if !plan.numbers().contains(&index) || plan.folders.shard(index) != name {
            continue;
        }
        let Some(said) = said(dir, &name) else { continue };
        seen += 1;
        match &example {
            _ if said.plan == plan.digest => return None,
            Some((plan, _)) if *plan != said.plan => return None,
            Some(_) => {}
            None => example = Some((said.plan, name)),
        }
    }
    example.filter(|_| seen >= least).map(|(_, name)| name)
}

/// A file of the same settings that lies beside a shard behind the partitions of all plans: the plan was
/// lost, and that shard. A plan is there before anything is made of it.
pub(super) fn unplanned_beside(dir: &Path, plans: &Plans) -> Option<String> {
    let identity = hex(&Sha256::digest(&plans.first()?.identity_text));
    let ours = |entry: &folders::Entry| {
        let index = partition::sidecar_of(&entry.name).filter(|_| !entry.is_dir);
        let Some(index) = index.filter(|&index| index >= plans.partitions()) else { return false };
        let sheet = ParquetFile::open_plain(&dir.join(&entry.path), Some(&[]));
        sheet.is_ok_and(|sheet| {
            let says = |key: &str, due: &str| sheet.entries.get(key).is_some_and(|is| is == due);
            says("vqtok.identity_sha256", &identity) && says("vqtok.partition", &index.to_string())
        })
    };
    let files = ["failures", "codebook"].into_iter().flat_map(|kind| folders::entries(dir, kind));
    files.filter(ours).map(|entry| entry.path).min()
}

/// A shard of the same settings behind the partitions of all plans: its plan was lost.
pub(super) fn unplanned(dir: &Path, plans: &Plans) -> Option<String> {
    let first = plans.first()?;
    let behind = folders::named(dir).into_iter().filter(|(index, _)| *index >= plans.partitions());
    let ours = |(index, name): &(usize, String)| {
        said(dir, name).is_some_and(|said| {
            said.partition == Some(*index) && said.identity == first.identity_text
        })
    };
    behind.into_iter().find(ours).map(|(_, name)| name)
}

/// Whether shards that lie otherwise than a plan has them were moved, rather than the plan exchanged:
/// `dataset.json` knows it, or what lies beside the first of them lies as planned.
pub(super) fn were_moved(dir: &Path, plan: &PlanFacts, recorded: Option<&str>) -> bool {
    if recorded == Some(&*plan.file.sha256) {
        return true;
    }
    let elsewhere = |(index, name): &(usize, String)| {
        plan.numbers().contains(index) && plan.folders.shard(*index) != *name
    };
    let Some((index, name)) = folders::named(dir).into_iter().find(elsewhere) else { return false };
    let Ok(shard) = FileFacts::of(dir, &name) else { return false };
    let beside =
        ["failures", "codebook"].map(|kind| plan.folders.sidecar(kind, index, &shard.sha256));
    beside.iter().any(|name| storage::exists(&dir.join(name)).unwrap_or(false))
}

/// Where shards lie that aren't in their places, by their partitions.
pub(super) fn elsewhere(
    dir: &Path,
    plans: &Plans,
    missing: impl Fn(usize) -> bool,
    place: impl Fn(usize) -> Folders,
) -> BTreeMap<usize, String> {
    let mut found = BTreeMap::new();
    for (index, name) in folders::named(dir) {
        let Some(plan) = plans.of(index).filter(|_| missing(index)) else { continue };
        let ours = || {
            said(dir, &name)
                .is_some_and(|said| said.partition == Some(index) && said.plan == plan.digest)
        };
        if place(index).shard(index) != name && ours() {
            found.entry(index).or_insert(name);
        }
    }
    found
}
