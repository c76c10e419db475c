//! Owns what undoes: orphans of dead processes, the finished look of an output whose partitions are
//! about to change, bad partitions, a broken plan. Must not know: how badness was found, how
//! partitions are made, how a uri is read.
//!
//! A repair clears here and is then an ordinary run: what is missing is made, then aggregated.
//! `--retry-failed` clears nothing: under the exclusive lock it calls [`reopen`], makes the
//! partitions of [`with_failures`] again with `CommitMode::Replace`, drops the lock and finalizes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};

use super::arrangement::Arrangement;
use super::classes::Classes;
use super::files::{
    CODEBOOK_FILE, DATASET_FILE, PLAN_FOLDER, ShardFolders, Sidecar, TOKENS_FOLDER, all_shards,
};
use super::folder_lock::FolderLock;
use super::identity::Identity;
use super::plan::{self, About, Plan, PlanFile, Today};
use super::rows::PlanRow;
use super::{cleanup, commit, schema, untrusted};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::hex::hex;
use crate::util::settings::APPEND;
use crate::util::text;

/// What an audit found to be bad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Plans, by how many are before them: 0 is `plan.parquet`, 1 `plan-00001.parquet`, ...
    pub plans: BTreeSet<usize>,
    /// `codebook.parquet` or `dataset.json`.
    pub aggregates: bool,
    /// Shards or their sidecars, by partition.
    pub partitions: BTreeSet<usize>,
}

/// Takes the finished look from an output, durably, before any of its partitions changes: without
/// `dataset.json` it is work in progress, whatever happens next.
///
/// # Errors
/// What the system refuses.
pub fn reopen(dir: &Path, _lock: &FolderLock) -> Result<()> {
    commit::remove_durably(&dir.join(DATASET_FILE))?;
    commit::remove_durably(&dir.join(CODEBOOK_FILE)).map(|_| ())
}

/// The committed partitions that hold failures.
///
/// # Errors
/// A shard that can't be read, or doesn't say how many failures it holds.
pub fn with_failures(plan: &Plan) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for partition in plan.committed()?.iter() {
        let path = plan.shard_path(partition);
        if untrusted::entry_of(&path, "vqtok.failed")?.parse::<u64>() != Ok(0) {
            found.push(partition);
        }
    }
    Ok(found)
}

/// Removes what is bad, so that the next run makes just that again; a broken plan is rebuilt from
/// the shards, with `size_of` giving the present size of a uri's file. Kill it anywhere and run it
/// again.
///
/// # Errors
/// [`Error::Busy`] where another job is at work; a plan that can't be rebuilt.
pub fn clear(dir: &Path, damage: &Damage, size_of: &dyn Fn(&str) -> Option<u64>) -> Result<()> {
    let lock = FolderLock::exclusive(dir)?;
    refuse_folders(dir, damage)?;
    // In order: a plan stands upon those before it.
    for &number in &damage.plans {
        rebuild_plan(dir, number, &damage.partitions, size_of)?;
    }
    cleanup::remove_orphans(dir)?;
    if damage.aggregates || !damage.partitions.is_empty() {
        reopen(dir, &lock)?;
    }
    if damage.partitions.is_empty() {
        return Ok(());
    }
    let plan = Plan::open(dir)?;
    for &partition in &damage.partitions {
        // The commit record first: without it the sidecars are unreferenced.
        commit::remove_durably(&plan.shard_path(partition))?;
        let below = plan.folders_of(partition).below(partition);
        cleanup::remove_sidecars(dir, &below, |_, of, _| of == partition)?;
    }
    Ok(())
}

/// Refuses, before anything is removed, a folder in the place of a file that is to be made again.
fn refuse_folders(dir: &Path, damage: &Damage) -> Result<()> {
    let aggregates = damage.aggregates || !damage.partitions.is_empty();
    let own = [(DATASET_FILE, aggregates), (CODEBOOK_FILE, aggregates)];
    let own = own.into_iter().filter(|(_, bad)| *bad).map(|(name, _)| dir.join(name));
    let own = damage.plans.iter().map(|&number| dir.join(plan::name(number))).chain(own);
    let plan = Plan::open(dir).ok();
    let shard = |&partition: &usize| match &plan {
        Some(plan) => plan.shard_path(partition),
        None => ShardFolders::default().shard(dir, partition),
    };
    let shards = damage.partitions.iter().map(shard);
    let is_folder = |path: &PathBuf| storage::facts(path).is_ok_and(|facts| facts.is_folder);
    match own.chain(shards).find(is_folder) {
        Some(path) => Err(Error::corrupt(
            path,
            "it is a folder, where a file of the output belongs; move it away, then repair again",
        )),
        None => Ok(()),
    }
}

/// Writes a plan again from its own rows where they can still be read, else from the shards
/// and failures. The digest that every shard carries proves the result.
fn rebuild_plan(
    dir: &Path,
    number: usize,
    bad: &BTreeSet<usize>,
    size_of: &dyn Fn(&str) -> Option<u64>,
) -> Result<()> {
    let base = plan::base(dir, number)?;
    let path = dir.join(base.name());
    let lost = |reason: String| lost(&path, &reason);
    let mut good = good_shards(dir, bad)?;
    good.retain(|&partition, _| partition >= base.partition);
    let first = first(&path, &good)?;
    let digest = untrusted::entry_of(first, "vqtok.plan_sha256")?;
    let identity = identity_of_shard(dir, first)?;
    let classes = classes_before(dir, number, first)?;
    if identity.buckets()?.is_some() {
        return Err(lost("the order of the inputs, before buckets, stood in it alone".into()));
    }
    let partitions: usize = untrusted::entry_of(first, "vqtok.partitions")?.parse().unwrap_or(0);
    let arrangement = Arrangement::of(dir, &base, base.partition.checked_add(partitions))?;
    let old = PlanFile::open(&path, number).ok();
    let old = old.filter(|old| old.partitions() == partitions && *old.base() == base);
    let mut reason = "its rows are lost".to_string();
    // Sizes stand in the plan alone. What can be read of it comes first; then the files' own.
    for trust_plan in [true, false] {
        let rows = (base.partition..base.partition + partitions).map(|partition| {
            let planned = old.as_ref().and_then(|old| old.partition(partition).ok());
            match (&planned, good.get_key_value(&partition)) {
                (Some(planned), None) => Ok(planned.clone()),
                (_, Some((_, shard))) => {
                    let planned = planned.as_deref().filter(|_| trust_plan);
                    rows_of_partition(partition, shard, planned, size_of)
                }
                (None, None) => Err(neither(partition)),
            }
        });
        let rows = rows.flat_map(|rows| match rows {
            Ok(rows) => rows.into_iter().map(|row| Ok(Today::Image(row))).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        });
        let about = About {
            identity: &identity,
            base: &base,
            taken: "",
            listed_at: None,
            in_buckets: true,
            classes: classes.as_ref(),
            arrangement,
        };
        match plan::write(&path, about, rows) {
            Ok(written) if written.digest == digest => return replace(written, &path, number),
            Ok(_) => reason = "the shards and the files they name don't give it back".into(),
            Err(error) => reason = error.message(),
        }
    }
    Err(lost(reason))
}

fn neither(partition: usize) -> Error {
    let text = format!("the rows of partition {partition} are neither in it nor in a whole shard");
    Error::invalid(text)
}

/// Puts a plan in the place of one that is damaged, and removes the files that only that one named.
fn replace(written: plan::Written, plan: &Path, number: usize) -> Result<()> {
    let dir = plan.parent().unwrap_or(plan);
    written.replace(dir, number)?;
    let file = PlanFile::open(plan, number)?;
    let names = file.named().iter().enumerate();
    let named: BTreeSet<PathBuf> =
        names.map(|(piece, named)| dir.join(named.path(number, piece))).collect();
    let own = format!("{number:05}-");
    let is_own = |path: &Path| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&own))
    };
    cleanup::remove_others(&dir.join(PLAN_FOLDER), |path| named.contains(path) || !is_own(path))
}

/// The class names that a plan of this shard begins with; None where the shard has no ids of classes.
fn classes_before(dir: &Path, number: usize, shard: &Path) -> Result<Option<Classes>> {
    if untrusted::entry_of(shard, "vqtok.schema")? == schema::TOKENS_WITHOUT_IDS {
        return Ok(None);
    }
    let before =
        number.checked_sub(1).map(|last| PlanFile::open(&dir.join(plan::name(last)), last));
    let before = before.transpose()?.and_then(|plan| plan.classes().cloned());
    Ok(Some(before.unwrap_or_else(Classes::none_yet)))
}

/// What made an output: its plan's word, or where that is damaged, that of the first good shard.
///
/// # Errors
/// Neither is left.
pub(crate) fn identity(dir: &Path, damage: &Damage) -> Result<Identity> {
    if damage.plans.is_empty() {
        return Ok(Plan::open(dir)?.identity().clone());
    }
    let good = good_shards(dir, &damage.partitions)?;
    identity_of_shard(dir, first(&dir.join(plan::FILE), &good)?)
}

fn identity_of_shard(dir: &Path, shard: &Path) -> Result<Identity> {
    let identity: Identity = serde_json::from_str(&untrusted::entry_of(shard, "vqtok.identity")?)
        .map_err(|e| {
        lost(&dir.join(plan::FILE), &format!("a shard's identity can't be read: {e}"))
    })?;
    identity.check()?;
    Ok(identity)
}

fn good_shards(dir: &Path, bad: &BTreeSet<usize>) -> Result<BTreeMap<usize, PathBuf>> {
    let shards = all_shards(dir)?.into_iter();
    Ok(shards.filter(|(partition, _)| !bad.contains(partition)).collect())
}

fn first<'a>(plan: &Path, good: &'a BTreeMap<usize, PathBuf>) -> Result<&'a Path> {
    let first = good.values().next().ok_or_else(|| lost(plan, "no good shard is left"))?;
    Ok(first)
}

fn lost(plan: &Path, reason: &str) -> Error {
    let number = plan::number_of(plan).unwrap_or(0);
    let later = storage::exists(&plan.with_file_name(plan::name(number + 1))).unwrap_or(false);
    let advice = match number {
        0 => format!(
            "restore it, or remove it, and the shards that are damaged with it, and run the same \
             `vqtok tokenize` again, which plans the same images and keeps the shards that are whole; \
             images that came since must be out of the way until then: {APPEND} adds them"
        ),
        _ if later => {
            "restore it from a copy, since later plans stand upon it; the rows of its shards \
                       can be read without it"
                .to_string()
        }
        _ => format!(
            "restore it, or remove it, and the shards that are damaged with it, and give the INPUTs \
             that it was made of again with {APPEND}, which keeps the shards that are whole"
        ),
    };
    Error::corrupt(plan, format!("it can't be rebuilt: {reason}; {advice}"))
}

/// The planned rows of a partition from its shard and failures.
fn rows_of_partition(
    partition: usize,
    shard: &Path,
    planned: Option<&[PlanRow]>,
    size_of: &dyn Fn(&str) -> Option<u64>,
) -> Result<Vec<PlanRow>> {
    let sha256 = hex(commit::digest_file(shard)?.0);
    let mut rows = names(shard)?;
    rows.extend(names(&beside(shard, Sidecar::Failures, partition, &sha256))?);
    rows.sort();
    rows.dedup(); // Views of one image.
    let row = |(ordinal, key, uri): (i64, String, String)| {
        let first = planned.and_then(|rows| rows.first()).map_or(0, |row| row.ordinal);
        let known = usize::try_from(ordinal - first).ok();
        let known = planned.zip(known).and_then(|(rows, i)| rows.get(i)).map(|row| row.bytes);
        let size = || size_of(&uri).and_then(|bytes| i64::try_from(bytes).ok());
        let bytes = known.or_else(size);
        let bytes = bytes.ok_or_else(|| {
            Error::invalid(format!("the size of '{}' is not known", text::printable(&key)))
        })?;
        Ok(PlanRow { ordinal, key, uri, bytes, ..PlanRow::default() })
    };
    rows.into_iter().map(row).collect()
}

/// Where a file beside a shard lies, wherever that one does.
fn beside(shard: &Path, kind: Sidecar, partition: usize, sha256: &str) -> PathBuf {
    let folder = shard.parent().unwrap_or(shard);
    let (dir, folders) = match folder.ends_with(TOKENS_FOLDER) {
        true => (folder.parent().unwrap_or(folder).join(kind.folder()), None),
        false => {
            let dir = folder.parent().and_then(Path::parent).unwrap_or(folder);
            (dir.join(kind.folder()), folder.file_name())
        }
    };
    let folder = folders.map_or(dir.clone(), |below| dir.join(below));
    folder.join(format!("part-{partition:05}-{}.parquet", &sha256[..16]))
}

/// Ordinal, key and uri of a shard's or failures' rows.
fn names(path: &Path) -> Result<Vec<(i64, String, String)>> {
    let mut names = Vec::new();
    let read = untrusted::for_each_batch(path, Some(&["ordinal", "key", "uri"]), |batch| {
        let column = |name: &str, kind: DataType| untrusted::column(batch, name, &kind);
        let ordinals = column("ordinal", DataType::Int64)?.as_primitive::<Int64Type>();
        let keys = column("key", DataType::Utf8)?.as_string::<i32>();
        let uris = column("uri", DataType::Utf8)?.as_string::<i32>();
        let row = |i| (ordinals.value(i), keys.value(i).to_owned(), uris.value(i).to_owned());
        names.extend((0..batch.num_rows()).map(row));
        Ok(())
    });
    read.map(|()| names).map_err(|reason| Error::corrupt(path, reason))
}
