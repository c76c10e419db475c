//! Owns which Parquet files a path stands for: a file, the shards that belong to an output of
//! vqtok, or whatever a folder holds. Must not know: what is in them.
//!
//! Of an output only its own shards are read: a copy beside them would count its rows twice. What
//! isn't its own, and what is missing, is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::dataset::Dataset;
use super::folders::{self, Folders};
use super::rows::BadRows;
use super::{dataset, failures, origin, plan, plans, strays};
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, NO_PLAN_OF_OURS, Result};
use crate::storage;
use crate::util::text;

/// The files of a path, in the order of their names.
#[derive(Debug, Default)]
pub struct Sources {
    /// Files with tokens; at least one, or one that is missing.
    pub files: Vec<PathBuf>,
    /// Shards of a finished output that aren't there.
    pub missing: Vec<Missing>,
    /// What lies in the places of its shards and isn't its own: read by nobody.
    pub foreign: Vec<Foreign>,
    /// Files among the shards that aren't the output's, and are passed over.
    pub strays: Vec<String>,
    /// Shards that are there, of so many, where an output isn't finished.
    pub unfinished: Option<(usize, usize)>,
    /// The output that they are of.
    pub output: Option<PathBuf>,
    /// What else is to be said, in one line each.
    pub notes: Vec<String>,
}

impl Sources {
    /// What is missing, unfinished or passed over, in one line each.
    pub fn in_words(&self) -> Vec<String> {
        let output = self.output.as_deref().map(text::path).unwrap_or_default();
        let unfinished = self.unfinished.map(|(there, partitions)| {
            format!("{output}: an unfinished output, {there} of {partitions} shards are there")
        });
        let strays = self.strays.iter().map(|stray| {
            format!("{output}/{}: passed over, it isn't the output's own", text::printable(stray))
        });
        unfinished.into_iter().chain(strays).chain(self.notes.iter().cloned()).collect()
    }

    /// The files with the failures that belong to the shards, and the failures that are lost.
    pub fn failures(&self) -> (Vec<PathBuf>, Vec<BadRows>) {
        let (mut files, mut lost) = (Vec::new(), Vec::new());
        for shard in &self.files {
            let Some(dir) = &self.output else { continue };
            match failures::of_shard(dir, shard) {
                Ok(file) => files.extend(file),
                Err(bad) => lost.push(bad),
            }
        }
        (files, lost)
    }
}

/// A shard that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Where it should be.
    pub path: PathBuf,
    /// As the output's `dataset.json` counts them.
    pub rows: u64,
}

/// A file in a shard's place that isn't the output's, which hides what should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Where it lies.
    pub path: PathBuf,
    /// As its footer counts them.
    pub rows: u64,
    /// What it is, and what to do.
    pub problem: String,
}

/// Finds the files.
///
/// # Errors
/// A path that can't be looked at; a folder with no Parquet file in it; an output with no shard.
pub(crate) fn of(path: &Path) -> Result<Sources> {
    let facts = storage::facts(path).map_err(Error::io(path))?;
    if !facts.is_folder {
        return Ok(Sources { files: vec![path.to_path_buf()], ..Sources::default() });
    }
    match output(path) {
        Some(dir) => of_output(&dir),
        None => of_folder(path),
    }
}

/// The output of vqtok that a folder is, or whose `tokens` it is.
pub(crate) fn output(path: &Path) -> Option<PathBuf> {
    let is_output =
        |dir: &Path| is_file(&dir.join(plan::NAME)) || is_file(&dir.join(dataset::NAME));
    if is_output(path) {
        return Some(path.to_path_buf());
    }
    let path = match storage::is_remote(path) {
        true => path.to_path_buf(),
        false => std::fs::canonicalize(path).ok()?,
    };
    let parent = path.parent().filter(|parent| path.ends_with("tokens") && is_output(parent))?;
    Some(parent.to_path_buf())
}

/// Whether a folder is an output of vqtok, finished or not.
pub(crate) fn is_output(dir: &Path) -> bool {
    // A plan, or where that is lost, what lies beside it.
    is_file(&dir.join(plan::NAME))
        || (is_file(&dir.join(dataset::NAME)) && is_folder(&dir.join("tokens")))
}

/// A shard that shows that an output's `dataset.json` is another output's.
pub(crate) fn foreign_summary(dir: &Path) -> Option<String> {
    let dataset = dataset::read(dir).ok().flatten()?;
    origin::is_foreign(dir, &dataset)
}

/// Whether a path within an output is one that its own files have.
pub(crate) fn is_own(inner: &Path) -> bool {
    let mut parts = inner.components().map(|part| part.as_os_str().to_string_lossy());
    let Some(first) = parts.next() else { return true };
    let plan = first.starts_with("plan-") && first.ends_with(".parquet");
    let folder = strays::FOLDERS.contains(&&*first) || strays::MORE_FOLDERS.contains(&&*first);
    match parts.next() {
        Some(_) => folder,
        None => plan || strays::TOP.contains(&&*first) || folder,
    }
}

/// The files beside the shards of a finished output that aren't there, by their names.
pub(crate) fn lost_beside(dir: &Path) -> Vec<String> {
    let Ok(Some(dataset)) = dataset::read(dir) else { return Vec::new() };
    if origin::is_foreign(dir, &dataset).is_some() {
        return Vec::new();
    }
    let kinds = ["failures", "codebook"].into_iter();
    let there = kinds.flat_map(|kind| folders::entries(dir, kind)).map(|entry| entry.path);
    let there: BTreeSet<String> = there.collect();
    let named = (0..dataset.partitions()).flat_map(|index| dataset.beside(index));
    named.filter(|path| !there.contains(path)).collect()
}

fn is_file(path: &Path) -> bool {
    storage::facts(path).is_ok_and(|facts| facts.is_file)
}

fn is_folder(path: &Path) -> bool {
    storage::facts(path).is_ok_and(|facts| facts.is_folder)
}

fn of_output(dir: &Path) -> Result<Sources> {
    let mut sources = Sources { output: Some(dir.to_path_buf()), ..Sources::default() };
    let read = dataset::read(dir);
    let finished = !matches!(read, Ok(None));
    let dataset = read.unwrap_or_else(|reason| {
        sources.notes.push(match reason {
            dataset::Unread::Damaged(reason) => {
                format!("{reason}; `vqtok verify` tells what is wrong")
            }
            dataset::Unread::Later(reason) => format!("{}: {reason}", dataset::NAME),
        });
        None
    });
    let foreign = dataset.as_ref().and_then(|dataset| origin::is_foreign(dir, dataset));
    let dataset = dataset.filter(|_| foreign.is_none());
    sources.notes.extend(foreign.map(|shard| {
        format!(
            "{} is another output's: {shard} is of another plan; `vqtok repair` makes it anew",
            dataset::NAME
        )
    }));
    let outline = outline(dir, dataset.as_ref(), &mut sources.notes);
    // What `dataset.json` describes: all, unless something was appended that isn't finished.
    let described = dataset.as_ref().map_or(outline.partitions, Dataset::partitions);
    let complete = finished && described >= outline.partitions;
    let mut expected = Vec::new();
    let lie = |index: usize| outline.folders_of(index);
    let there = folders::shards(dir, lie);
    for index in 0..outline.partitions {
        let path = dir.join(lie(index).shard(index));
        if there.contains(&index) {
            expected.push((path, outline.digest_of(index)));
        } else if finished && index < described {
            let rows = dataset.as_ref().map_or(0, |dataset| dataset.shard_rows(index));
            sources.missing.push(Missing { path, rows });
        }
    }
    sources.take(expected);
    outline.refuse_exchanged(dir, &sources)?;
    let (finished, partitions) = (complete, outline.partitions);
    if !finished {
        sources.unfinished = Some((sources.files.len(), partitions));
    }
    if sources.files.is_empty() && sources.missing.is_empty() && sources.foreign.is_empty() {
        return Err(Error::invalid(format!(
            "{}: an unfinished output without a shard yet: run the same `vqtok tokenize` again",
            text::path(dir)
        )));
    }
    sources.strays = strays::among_shards(dir, partitions, &lie);
    Ok(sources)
}

/// Which partitions an output has, and the digests of their plans.
#[derive(Default)]
struct Outline {
    partitions: usize,
    /// Plans that `dataset.json` knows.
    recorded: usize,
    /// By plan, behind its last partition.
    digests: Vec<(usize, String)>,
    /// By plan, how the files of its partitions lie.
    folders: Vec<Folders>,
}

impl Outline {
    fn add(&mut self, partitions: usize, digest: Option<&str>, folders: Folders) {
        self.folders.push(folders);
        self.partitions = self.partitions.saturating_add(partitions);
        self.digests.push((self.partitions, digest.unwrap_or_default().to_string()));
    }

    /// How the files of a partition lie.
    fn folders_of(&self, index: usize) -> Folders {
        let number = self.digests.partition_point(|(end, _)| *end <= index);
        let folders = self.folders.get(number).or(self.folders.last());
        folders.copied().unwrap_or_default()
    }

    /// Refuses a plan that isn't known by `dataset.json` and that no shard of its partitions is of, where
    /// there are some: it was exchanged.
    fn refuse_exchanged(&self, dir: &Path, sources: &Sources) -> Result<()> {
        let index = |path: &Path| folders::partition_of(&path.to_string_lossy());
        let files: Vec<usize> = sources.files.iter().filter_map(|path| index(path)).collect();
        let mut start = 0;
        for (number, (end, digest)) in self.digests.iter().enumerate() {
            let numbers = start..*end;
            start = *end;
            let known = number < self.recorded || digest.is_empty() || numbers.is_empty();
            if known || files.iter().any(|index| numbers.contains(index)) {
                continue;
            }
            let ours = |path: &&Path| index(path).is_some_and(|index| numbers.contains(&index));
            let foreign = sources.foreign.iter().map(|foreign| &*foreign.path).find(ours);
            let problem = match foreign {
                Some(path) => format!("it isn't the plan that {} is of", text::path(path)),
                None => match folders::contradiction(dir, numbers, self.folders_of(*end - 1)) {
                    Some(name) => {
                        format!("by it shards lie otherwise than {} does", text::path(name))
                    }
                    None => continue,
                },
            };
            return Err(Error::corrupt(
                dir.join(plan::name(number)),
                format!(
                    "{problem}: it was made anew or is another output's; `vqtok repair` rebuilds it, or \
                     restore it"
                ),
            ));
        }
        Ok(())
    }

    /// None where it isn't known.
    fn digest_of(&self, index: usize) -> Option<&str> {
        let plan = self.digests.iter().find(|(end, _)| index < *end);
        plan.map(|(_, digest)| &**digest).filter(|digest| !digest.is_empty())
    }
}

/// As `dataset.json` says, and of the plans that it doesn't name as they say.
fn outline(dir: &Path, dataset: Option<&Dataset>, notes: &mut Vec<String>) -> Outline {
    let named = dataset.map_or(0, Dataset::plans);
    let mut outline = Outline { recorded: named, ..Outline::default() };
    for number in 0..named {
        let digest = dataset.and_then(|dataset| dataset.plan_text(number, "digest"));
        let folders = dataset.map_or_else(Folders::default, |dataset| dataset.folders_of(number));
        outline.add(dataset.map_or(0, |dataset| dataset.partitions_of(number)), digest, folders);
    }
    for number in named..plans::count(dir).max(usize::from(named == 0)) {
        match ParquetFile::open(&dir.join(plan::name(number)), None) {
            Ok(plan) if !stands_upon(&plan, number, &outline) => {
                let name = plan::name(number);
                let what = "it wasn't appended to the plans beside it";
                notes.push(format!("{name}: {what}; {NO_PLAN_OF_OURS}"));
                break;
            }
            Ok(plan) => {
                let digest = plan.entries.get("vqtok.plan_sha256").map(String::as_str);
                let size = plan.entries.get("vqtok.shards_a_folder");
                let folders = Folders::of(size.and_then(|text| text.parse().ok()));
                let partitions = match plan.entries.get("vqtok.schema").map(String::as_str) {
                    // A row a partition.
                    Some("plan.v4") => usize::try_from(plan.rows).unwrap_or(usize::MAX),
                    _ => plan.group_rows().len(),
                };
                outline.add(partitions, digest, folders);
            }
            Err(error) => {
                notes.push(format!("{error}; `vqtok verify` tells what is wrong"));
                let highest = folders::highest(dir).map_or(0, |highest| highest + 1);
                outline.partitions = outline.partitions.max(highest);
                for (end, folders) in folders::as_they_lie(dir) {
                    outline.digests.push((end, String::new()));
                    outline.folders.push(folders);
                }
                break;
            }
        }
    }
    outline
}

/// Whether a plan was appended to those before it, as far as these are known.
fn stands_upon(plan: &ParquetFile, number: usize, before: &Outline) -> bool {
    let last = before.digests.last().map(|(_, digest)| digest).filter(|digest| !digest.is_empty());
    number == 0 || last.is_none_or(|last| plan.entries.get("vqtok.after") == Some(last))
}

impl Sources {
    /// Takes shards with the digests of their plans, and parts those of other plans from the output's
    /// own.
    fn take(&mut self, shards: Vec<(PathBuf, Option<&str>)>) {
        let of = |(path, digest): &(PathBuf, Option<&str>)| {
            digest.and_then(|digest| foreign(path, digest))
        };
        let found: Vec<Option<Foreign>> = shards.par_iter().map(of).collect();
        for ((path, _), foreign) in shards.into_iter().zip(found) {
            match foreign {
                Some(foreign) => self.foreign.push(foreign),
                None => self.files.push(path),
            }
        }
    }
}

/// What a shard is that was made by another plan than that with `digest`; None of the output's own,
/// and where it can't be read, which whoever reads it tells.
fn foreign(path: &Path, digest: &str) -> Option<Foreign> {
    let sheet = ParquetFile::open_plain(path, Some(&[])).ok()?;
    let problem = match sheet.entries.get("vqtok.plan_sha256") {
        Some(plan) if plan == digest => return None,
        Some(_) => "it belongs to another output; `vqtok repair` rebuilds this one's",
        None => "it isn't the output's own; `vqtok repair` rebuilds its shard",
    };
    Some(Foreign { path: path.into(), rows: sheet.rows, problem: problem.into() })
}

fn of_folder(path: &Path) -> Result<Sources> {
    let shards = path.join("tokens");
    let folder = if is_folder(&shards) { shards.as_path() } else { path };
    let mut sources = Sources::default();
    let mut folders = 0;
    for entry in storage::list(folder).map_err(Error::io(folder))? {
        let path = folder.join(entry.name);
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".parquet") && !name.starts_with('.') {
            sources.files.push(path);
        } else if folders::is_number(&name) && is_folder(&path) {
            let shards = folders::list(&path, "").into_iter().map(|entry| path.join(entry.name));
            sources
                .files
                .extend(shards.filter(|path| path.extension().is_some_and(|e| e == "parquet")));
        } else if is_folder(&path) {
            folders += 1;
        }
    }
    sources.files.sort();
    if sources.files.is_empty() {
        let deeper = match folders {
            0 => String::new(),
            _ => "; folders in it are not searched: name one of them".to_string(),
        };
        let folder = text::path(folder);
        return Err(Error::invalid(format!("{folder}: no Parquet file in it{deeper}")));
    }
    Ok(sources)
}
