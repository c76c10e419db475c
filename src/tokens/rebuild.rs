//! Owns writing a plan again that was lost: from what is left of its own files, else from the shards and
//! failures. The digest that every shard carries proves the rows, what is recorded or lies in `plan/` how
//! they were cut. Must not know: how its loss was found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Int64Type};

use super::arrangement::Arrangement;
use super::classes::Classes;
use super::files::{PLAN_FOLDER, Sidecar, all_shards, partition_of};
use super::identity::Identity;
use super::lost_plan::{lost, part_lost};
use super::plan::{self, About, Base, PlanFile, Today, Unrooted, Written};
use super::rows::PlanRow;
use super::sidecars::beside;
use super::{cleanup, commit, dataset, schema, untrusted};
use crate::error::{Error, NO_PLAN_OF_OURS, Result};
use crate::util::hex::hex;
use crate::util::text;

/// What is left of a plan.
struct Remains<'a> {
    base: Base,
    /// So many belong to it.
    partitions: usize,
    /// Its shards that are whole, with those behind it.
    good: BTreeMap<usize, PathBuf>,
    /// Other shards that are there; the plan's digest tells what their rows are worth.
    damaged: BTreeMap<usize, PathBuf>,
    /// The plan at its place, where that can be opened and may be the one.
    old: Option<PlanFile>,
    /// The files that its root named.
    parts: Option<Unrooted>,
    size_of: &'a dyn Fn(&str) -> Option<u64>,
}

impl Remains<'_> {
    /// The rows of its partitions. Sizes stand in the plan alone: what can be read of it comes first
    /// (`trust_plan`), else the files' own.
    fn rows(&self, trust_plan: bool) -> impl Iterator<Item = Result<Today>> + '_ {
        let numbers = self.base.partition..self.base.partition + self.partitions;
        let rows = numbers.map(move |partition| self.partition(partition, trust_plan));
        rows.flat_map(|rows| match rows {
            Ok(rows) => rows.into_iter().map(|row| Ok(Today::Image(row))).collect::<Vec<_>>(),
            Err(error) => vec![Err(error)],
        })
    }

    fn partition(&self, partition: usize, trust_plan: bool) -> Result<Vec<PlanRow>> {
        let own = || self.parts.as_ref()?.partition(partition - self.base.partition).ok();
        let planned = self.old.as_ref().and_then(|old| old.partition(partition).ok()).or_else(own);
        match (planned, self.good.get(&partition)) {
            (Some(planned), _) if self.old.is_none() => match planned.iter().any(is_of_container) {
                true => Err(Error::invalid("the containers of its images stood in it alone")),
                false => Ok(planned),
            },
            (Some(planned), None) => Ok(planned),
            (planned, Some(shard)) => {
                let planned = planned.as_deref().filter(|_| trust_plan);
                rows_of_partition(partition, shard, planned, self.size_of)
            }
            (None, None) => self.of_damaged(partition).ok_or_else(|| neither(partition)),
        }
    }

    /// The rows that a damaged shard and any failures of its partition still say.
    fn of_damaged(&self, partition: usize) -> Option<Vec<PlanRow>> {
        let shard = self.damaged.get(&partition)?;
        let folder = beside(shard, Sidecar::Failures, partition, NO_DIGEST).parent()?.to_path_buf();
        let failures = commit::list(&folder).ok()?.into_iter();
        let failures = failures.filter(|path| partition_of(path) == Some(partition));
        let mut rows = names(shard).ok()?;
        failures.for_each(|path| rows.extend(names(&path).unwrap_or_default()));
        planned_rows(rows, None, self.size_of).ok()
    }
}

/// In the place of a digest where only the folder counts.
const NO_DIGEST: &str = "0000000000000000";

/// Writes a plan again from its own rows where they can still be read, else from the shards
/// and failures.
pub(super) fn plan(
    dir: &Path,
    number: usize,
    bad: &BTreeSet<usize>,
    size_of: &dyn Fn(&str) -> Option<u64>,
) -> Result<()> {
    let base = plan::base(dir, number)?;
    refuse_anothers(dir, &base)?;
    let Err(why) = plan_of_shards(dir, base.clone(), bad, size_of) else { return Ok(()) };
    // What stood in it alone, it may still say.
    match whole_anew(dir, &base, bad)? {
        Some(written) => replace(written, &dir.join(base.name()), number),
        None => Err(why),
    }
}

/// Refuses to rebuild what was appended to other plans and is none of this output's, as no shard is of it.
fn refuse_anothers(dir: &Path, base: &Base) -> Result<()> {
    let path = dir.join(base.name());
    let is_anothers = PlanFile::open(&path, base.number).is_ok_and(|plan| plan.base() != base);
    let mut behind = all_shards(dir)?.into_iter().filter(|(shard, _)| *shard >= base.partition);
    match base.number > 0 && is_anothers && behind.next().is_none() {
        false => Ok(()),
        true => Err(Error::corrupt(
            path,
            format!("it wasn't appended to the plans beside it; {NO_PLAN_OF_OURS}"),
        )),
    }
}

/// A plan written anew of which the rows are whole, and what stands beside them; None of another one.
fn whole_anew(dir: &Path, base: &Base, bad: &BTreeSet<usize>) -> Result<Option<Written>> {
    let path = dir.join(base.name());
    let Ok(old) = PlanFile::open(&path, base.number) else { return Ok(None) };
    let before = base.number.checked_sub(1);
    let before =
        before.map(|last| PlanFile::open(&dir.join(plan::name(last)), last)).transpose()?;
    let before = before.and_then(|plan| plan.classes().cloned());
    let is_whole = *old.base() == *base
        && part_lost(&path, base.number).is_none()
        && old.prove().is_ok()
        && old.gives_classes(&before.unwrap_or_else(Classes::none_yet))?;
    let shards = good_shards(dir, bad)?;
    let of_it = shards.range(old.numbers()).next();
    let digest = of_it.map(|(_, shard)| untrusted::entry_of(shard, "vqtok.plan_sha256"));
    if !is_whole || digest.transpose()?.is_some_and(|digest| digest != old.digest()) {
        return Ok(None);
    }
    let summary = dataset::read(dir).ok().flatten();
    let recorded = summary.as_ref().and_then(|summary| summary.plan_of(base.number));
    let written = old.written_anew()?;
    Ok(written.filter(|written| {
        recorded.is_none_or(|(digest, file)| {
            digest == written.digest && file.sha256 == written.sha256()
        })
    }))
}

/// Writes a plan again from the shards and failures, and its own rows as far as they can be read.
fn plan_of_shards(
    dir: &Path,
    base: Base,
    bad: &BTreeSet<usize>,
    size_of: &dyn Fn(&str) -> Option<u64>,
) -> Result<()> {
    let (number, path) = (base.number, dir.join(base.name()));
    let lost = |reason: String| lost(&path, &reason);
    let mut good = good_shards(dir, bad)?;
    good.retain(|&partition, _| partition >= base.partition);
    let mut damaged = all_shards(dir)?.into_iter().collect::<BTreeMap<_, _>>();
    damaged.retain(|partition, _| bad.contains(partition));
    let first = first(&path, &good)?.to_path_buf();
    let digest = untrusted::entry_of(&first, "vqtok.plan_sha256")?;
    let identity = identity_of_shard(dir, &first)?;
    let classes = classes_before(dir, number, &first)?;
    if identity.buckets()?.is_some() {
        return Err(lost("the order of the inputs, before buckets, stood in it alone".into()));
    }
    let partitions: usize = untrusted::entry_of(&first, "vqtok.partitions")?.parse().unwrap_or(0);
    let end = base.partition.checked_add(partitions);
    let arrangements = Arrangement::all_of(dir, &base, end)?;
    let parts = Unrooted::of(dir, number, partitions)?;
    let old = PlanFile::open(&path, number).ok();
    let old = old.filter(|old| old.partitions() == partitions && *old.base() == base);
    // Where it is another one, what the lost one named tells more.
    let old = old.filter(|old| parts.is_none() || old.digest() == digest);
    let remains = Remains { base, partitions, good, damaged, old, parts, size_of };
    let mut original = Original::of(dir, number, &digest)?;
    let mut reason = "its rows are lost".to_string();
    for trust_plan in [true, false] {
        for &arrangement in &arrangements {
            let about = About {
                identity: &identity,
                base: &remains.base,
                taken: "",
                listed_at: None,
                in_buckets: true,
                classes: classes.as_ref(),
                arrangement,
            };
            match plan::write(&path, about, remains.rows(trust_plan)) {
                Ok(written) if written.digest == digest => original.try_one(written),
                Ok(_) => reason = "the shards and the files they name don't give it back".into(),
                Err(error) => reason = error.message(),
            }
        }
        if original.was_tried() {
            return replace(original.chosen().map_err(lost)?, &path, number);
        }
    }
    Err(lost(reason))
}

/// What tells how the files of a lost plan were cut.
struct Original {
    number: usize,
    /// The sha256 of its file as `dataset.json` has it.
    recorded: Option<String>,
    /// The files in `plan/` that have its number, below the output.
    there: BTreeSet<String>,
    /// The plan with these rows that is the one.
    equal: Option<Written>,
    /// Those that lie in files that are there, and others.
    likely: Vec<Written>,
    others: Vec<Written>,
}

impl Original {
    fn of(dir: &Path, number: usize, digest: &str) -> Result<Original> {
        let summary = dataset::read(dir).ok().flatten();
        let recorded = summary.and_then(|summary| {
            let (recorded, file) = summary.plan_of(number)?;
            (recorded == digest).then(|| file.sha256.clone())
        });
        let name = |path: &Path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{PLAN_FOLDER}/{name}")
        };
        let there = plan::parts(dir, number)?.iter().map(|part| name(&part.path)).collect();
        let (equal, likely, others) = (None, Vec::new(), Vec::new());
        Ok(Original { number, recorded, there, equal, likely, others })
    }

    fn try_one(&mut self, written: Written) {
        let there = written.paths(self.number).iter().any(|path| self.there.contains(path));
        match self.recorded.as_ref() == Some(&written.sha256()) {
            true => self.equal = Some(written),
            false if there => self.likely.push(written),
            false => self.others.push(written),
        }
    }

    fn was_tried(&self) -> bool {
        self.equal.is_some() || !self.likely.is_empty() || !self.others.is_empty()
    }

    /// The one that was lost, as far as that can be told. Where nothing says how it was cut, it is any
    /// that was tried.
    ///
    /// # Errors
    /// In a few words.
    fn chosen(mut self) -> Result<Written, String> {
        if let Some(equal) = self.equal {
            return Ok(equal);
        }
        let unknown = self.there.is_empty() || self.recorded.is_none();
        match (self.likely.len(), self.others.is_empty()) {
            (1, _) => Ok(self.likely.remove(0)),
            (0, false) if unknown => Ok(self.others.remove(0)),
            _ => Err(format!(
                "its rows are known, but not how they were cut into files: what lies in {PLAN_FOLDER}/ \
                 is of other cuts"
            )),
        }
    }
}

fn is_of_container(row: &PlanRow) -> bool {
    row.member.is_some()
}

fn neither(partition: usize) -> Error {
    let text = format!("the rows of partition {partition} are neither in it nor in a whole shard");
    Error::invalid(text)
}

/// Puts a plan in the place of one that is damaged, and removes the files that only that one named.
fn replace(written: Written, plan: &Path, number: usize) -> Result<()> {
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

/// What made an output whose plan is damaged: the first good shard's word, or where there is none that of
/// the plan, if its rows are whole; `bad` are others.
///
/// # Errors
/// None is left.
pub(super) fn identity(dir: &Path, bad: &BTreeSet<usize>) -> Result<Identity> {
    let path = dir.join(plan::FILE);
    let good = good_shards(dir, bad)?;
    match first(&path, &good) {
        Ok(first) => identity_of_shard(dir, first),
        Err(none) => match PlanFile::open(&path, 0).ok().filter(|plan| plan.prove().is_ok()) {
            Some(plan) => Ok(plan.identity().clone()),
            None => Err(none),
        },
    }
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
    planned_rows(rows, planned, size_of)
}

/// Rows of a plan by what was made of them; sizes are as `planned`, or else as files are today.
fn planned_rows(
    mut rows: Vec<(i64, String, String)>,
    planned: Option<&[PlanRow]>,
    size_of: &dyn Fn(&str) -> Option<u64>,
) -> Result<Vec<PlanRow>> {
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

/// Ordinal, key and uri of a shard's or failures' rows.
pub(super) fn names(path: &Path) -> Result<Vec<(i64, String, String)>> {
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
