//! Owns the plans of an output: `plan.parquet`, the ordered input of a data set, written once, one
//! row group to a partition, and those that were appended to it. Must not know: where the rows come
//! from, what becomes of them.

mod compare;
mod containers;
mod file;
mod partitions;
mod rows;
mod write;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::compare::Comparison;
pub(crate) use self::compare::difference_of_one;
use self::containers::up_to_an_image;
pub use self::containers::{Container, ContainerFile, Today};
pub(crate) use self::file::{Base, FILE, PlanFile, name};
use self::rows::PlannedRows;
use self::write::Layout;
pub(super) use self::write::{About, write};
use super::commit::{self, Published};
use super::folder_lock::FolderLock;
use super::identity::{Identity, difference_in_words};
use super::moved::Moved;
use super::rows::PlanRow;
use super::{duplicate_keys, occupied};
use crate::error::{Error, Result};
use crate::storage;
use crate::util::settings::OUT;
use crate::util::{panics, text};

/// The plans of an output on disk, one behind the other: one, unless images were appended. Holds
/// their footers in memory, not their rows.
pub struct Plan {
    dir: PathBuf,
    /// At least one.
    files: Vec<PlanFile>,
    moved: Moved,
    /// Today's images with something beside them that the plan has no columns for.
    unplanned_facts: u64,
}

/// What an output folder's plan is to today's input.
pub enum Held {
    /// Made of it now, or the same.
    Same(Plan),
    /// Of another input; the first difference in words.
    Other(Plan, String),
}

impl Plan {
    /// Makes the plan of an output folder, or checks that the one there is the same: same settings,
    /// same rows. Memory holds one partition's rows, whatever the input's size.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first difference; no rows at all; two rows of one key.
    pub fn create_or_open(
        dir: &Path,
        identity: &Identity,
        rows: impl Iterator<Item = Result<PlanRow>>,
        shard_rows: usize,
    ) -> Result<Plan> {
        let rows = rows.map(|row| row.map(Today::Image));
        match Plan::hold(dir, identity, "", rows, shard_rows, &mut |_, _, _| Ok(false))? {
            Held::Same(plan) => Ok(plan),
            Held::Other(plan, difference) => Err(Error::mismatch(format!(
                "the input of {} has changed: {difference}; use another {OUT}, or restore the input",
                text::path(plan.dir())
            ))),
        }
    }

    /// Makes the plan of an output folder, or holds the one there against today's input. Keys and
    /// sizes must be the same; files may lie elsewhere, which [`Plan::place`] then knows. `accept`
    /// says of a planned row and today's, which differ in size, whether that is as it should be.
    /// `taken` says what is taken of containers: where it was something else when they were planned,
    /// none of them is unchanged.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first setting that differs; no rows at all; two rows of one
    /// key.
    pub fn hold(
        dir: &Path,
        identity: &Identity,
        taken: &str,
        mut items: impl Iterator<Item = Result<Today>>,
        shard_rows: usize,
        accept: &mut dyn FnMut(&Plan, &PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        let _at = panics::at("plan", None);
        identity.check()?;
        if identity.shard_rows != shard_rows as u64 {
            return Err(Error::internal("identity.shard_rows and the plan's differ"));
        }
        let path = dir.join(FILE);
        let there = || storage::exists(&path).map_err(Error::io(&path));
        if there()? {
            return Plan::open(dir)?.held_against(identity, items, accept);
        }
        // The folder appears with the first row, so that an input without images leaves nothing.
        let first = up_to_an_image(&mut items)?;
        let items = first.into_iter().map(Ok).chain(items);
        commit::create_folder(dir)?;
        commit::remove_orphans(dir)?;
        let about = About { identity, base: &Base::default(), taken, listed_at: None };
        let (sealed, digest) = write(&path, about, items)?;
        let temp = sealed.path().to_path_buf();
        let ours = PlanFile::open(&temp, 0)?;
        duplicate_keys::check(ours.rows(), || ours.all_rows())?;
        if !there()? {
            occupied::check(dir, &digest)?;
        }
        match sealed.publish_keeping()? {
            (Published::Created, _) => Ok(Held::Same(Plan::open(dir)?)),
            (Published::Exists, _kept) => {
                // Another job was faster; ours must be the same.
                let plan = Plan::open(dir)?;
                if plan.digest() == digest {
                    return Ok(Held::Same(plan));
                }
                let rows = ours.all_rows()?;
                plan.held_against(identity, rows.map(|row| row.map(Today::Image)), accept)
            }
        }
    }

    /// Opens the plans of an output folder.
    ///
    /// # Errors
    /// A folder without a plan; a plan that can't be read or doesn't hold together; one that is
    /// missing between others, or doesn't stand upon the one before it.
    pub fn open(dir: &Path) -> Result<Plan> {
        let first = Plan::open_first(dir, 1)?;
        let numbers: Vec<usize> =
            commit::list(dir)?.iter().filter_map(|path| file::number_of(path)).collect();
        match numbers.iter().max() {
            Some(last) => first.extended(last + 1),
            None => Ok(first),
        }
    }

    /// The first `count` plans of an output folder, which are at least one.
    ///
    /// # Errors
    /// Those of [`Plan::open`]; fewer plans than that.
    fn open_first(dir: &Path, count: usize) -> Result<Plan> {
        let file = PlanFile::open(&dir.join(FILE), 0)?;
        if file.base != Base::default() {
            let reason = "it is one that was appended to others; `vqtok repair` rebuilds the first";
            return Err(Error::corrupt(dir.join(FILE), reason));
        }
        let (moved, unplanned_facts) = (Moved::default(), 0);
        Plan { dir: dir.to_path_buf(), files: vec![file], moved, unplanned_facts }.extended(count)
    }

    /// The same with the plans behind, up to so many in all.
    fn extended(mut self, count: usize) -> Result<Plan> {
        while self.files.len() < count {
            let base = self.last().next();
            let path = self.dir.join(base.name());
            let file = PlanFile::open(&path, base.number)?;
            if file.base != base || file.identity != self.files[0].identity {
                let reason =
                    "it wasn't appended to the plans beside it; `vqtok repair` rebuilds it";
                return Err(Error::corrupt(path, reason));
            }
            self.files.push(file);
        }
        Ok(self)
    }

    /// The plans, in order.
    pub(crate) fn files(&self) -> &[PlanFile] {
        &self.files
    }

    pub(super) fn last(&self) -> &PlanFile {
        // There is at least one.
        &self.files[self.files.len() - 1]
    }

    /// The plan that an image is of; the last one where it is of none.
    pub(super) fn of_ordinal(&self, ordinal: u64) -> &PlanFile {
        let behind = self.files.partition_point(|file| file.base.ordinal <= ordinal);
        &self.files[behind.saturating_sub(1)]
    }

    /// The plan that a partition is of; the last one where it is of none.
    fn of(&self, partition: usize) -> &PlanFile {
        let behind = self.files.partition_point(|file| file.base.partition <= partition);
        &self.files[behind.saturating_sub(1)]
    }

    /// The output folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What made it.
    pub fn identity(&self) -> &Identity {
        &self.files[0].identity
    }

    /// Hex sha256 over the identity and all rows; see `schemas/plan.v1.json`. Of several plans, that
    /// of the last, which stands upon the others'.
    pub fn digest(&self) -> &str {
        &self.last().digest
    }

    /// The digest of the plan that a partition is of.
    pub(crate) fn digest_of(&self, partition: usize) -> &str {
        &self.of(partition).digest
    }

    /// Images.
    pub fn rows(&self) -> u64 {
        self.last().next().ordinal
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.last().numbers().end
    }

    /// Number of partitions of the plan that a partition is of.
    pub(crate) fn partitions_beside(&self, partition: usize) -> usize {
        self.of(partition).partitions()
    }

    /// The ordinals of a partition.
    ///
    /// # Errors
    /// Where there is no such partition.
    pub fn ordinals(&self, index: usize) -> Result<std::ops::Range<i64>> {
        if index >= self.partitions() {
            return Err(Error::internal(format!(
                "partition {index} of a plan that has {}",
                self.partitions()
            )));
        }
        Ok(self.of(index).ordinals(index))
    }

    /// The partition that holds an image of the plan.
    pub fn partition_of(&self, ordinal: i64) -> usize {
        let ordinal = ordinal.unsigned_abs();
        self.of_ordinal(ordinal).partition_of(ordinal)
    }

    /// The first of the partitions that one worker takes with this one: those of a file that can
    /// only be read from its beginning on.
    pub fn taken_with(&self, index: usize) -> usize {
        self.of(index).taken_with(index)
    }

    /// Whether images may be parts of files, and have something beside them; of several plans, in all
    /// of them.
    pub fn has_parts(&self) -> bool {
        self.files.iter().all(|file| file.layout == Layout::Parts)
    }

    /// The rows of a partition, in order.
    ///
    /// # Errors
    /// No partition of that number; a plan that can't be read any more, or doesn't hold the
    /// partition's ordinals.
    pub fn partition(&self, index: usize) -> Result<Vec<PlanRow>> {
        self.ordinals(index)?;
        self.of(index).partition(index)
    }

    /// All rows, streaming.
    ///
    /// # Errors
    /// A plan that can't be read any more; rows that are broken come as errors of their own.
    pub fn all_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        let files = self.files.iter().map(PlanFile::all_rows).collect::<Result<Vec<_>>>()?;
        Ok(files.into_iter().flatten())
    }

    /// The lock for adding partitions: any number of workers hold it together.
    ///
    /// # Errors
    /// [`Error::Busy`] where a repair or retry is at work on the output.
    pub fn lock_shared(&self) -> Result<FolderLock> {
        FolderLock::shared(&self.dir)
    }

    /// The lock for replacing or removing partitions.
    ///
    /// # Errors
    /// [`Error::Busy`] where any other job is at work on the output; what the system refuses.
    pub fn lock_exclusive(&self) -> Result<FolderLock> {
        FolderLock::exclusive(&self.dir)
    }

    /// Where the planned files lie today.
    pub fn moved(&self) -> &Moved {
        &self.moved
    }

    /// The files of the first plan that hold several images, in order: those that can be told to be
    /// unchanged.
    pub fn containers(&self) -> &[Container] {
        &self.files[0].containers
    }

    /// What was taken of [`Plan::containers`], as it was given.
    pub fn taken(&self) -> &str {
        &self.files[0].taken
    }

    /// When the input was listed, by the file system's clock: what was written to before then is
    /// what was planned.
    pub fn listed_at(&self) -> Option<SystemTime> {
        self.files[0].written
    }

    /// How many of today's images have labels, captions or metadata beside them that this plan,
    /// which was made without, doesn't know.
    pub fn unplanned_facts(&self) -> u64 {
        self.unplanned_facts
    }

    /// The same plan, its files lying elsewhere.
    pub fn with_moved(self, moved: Moved) -> Plan {
        Plan { moved, ..self }
    }

    /// Where an image is read from today, as a uri.
    pub fn place(&self, row: &PlanRow) -> String {
        self.moved.place(row)
    }

    /// Errors: [`Error::Mismatch`] where the settings differ.
    fn held_against(
        mut self,
        identity: &Identity,
        items: impl Iterator<Item = Result<Today>>,
        accept: &mut dyn FnMut(&Plan, &PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        self.must_be_of(identity)?;
        let file = &self.files[0];
        let planned = PlannedRows::new(&file.path, &file.metadata, &file.starts);
        let mut comparison = Comparison::new(planned, file.layout);
        for item in items {
            let difference = match item? {
                Today::Image(row) => {
                    comparison.image(&row, &mut |was, now| accept(&self, was, now))?
                }
                Today::Opened(_) => None,
                Today::Unchanged(container, uri) => comparison.unchanged(&container, &uri)?,
            };
            if let Some(difference) = difference {
                return Ok(Held::Other(self, difference));
            }
        }
        if let Some(difference) = comparison.end()? {
            return Ok(Held::Other(self, difference));
        }
        self.moved = comparison.moved;
        self.unplanned_facts = comparison.unplanned_facts;
        Ok(Held::Same(self))
    }

    /// Demands the settings that the output was made with.
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first that differs.
    pub(super) fn must_be_of(&self, identity: &Identity) -> Result<()> {
        match difference_in_words(self.identity(), identity) {
            None => Ok(()),
            Some((was, now)) => Err(Error::mismatch(format!(
                "{} was made with {was}, this run has {now}; use another {OUT}, or the settings it \
                 was made with",
                text::path(&self.dir)
            ))),
        }
    }
}

/// What a plan with so many before it stands upon.
///
/// # Errors
/// One of those before it that isn't there or can't be read.
pub(super) fn base(dir: &Path, number: usize) -> Result<Base> {
    match number {
        0 => Ok(Base::default()),
        number => Ok(Plan::open_first(dir, number)?.last().next()),
    }
}

#[cfg(test)]
mod tests;
