//! Owns the plans of an output together: which plan an image or a partition is of. Must not know: how
//! they are made.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::containers::Container;
use super::file::{self, Base, FILE, PlanFile};
use super::layout::Layout;
use crate::error::{Error, NO_PLAN_OF_OURS, Result};
use crate::storage;
use crate::tokens::classes::Classes;
use crate::tokens::commit;
use crate::tokens::files::each_shard;
use crate::tokens::folder_lock::FolderLock;
use crate::tokens::identity::Identity;
use crate::tokens::moved::Moved;
use crate::tokens::rows::PlanRow;
use crate::tokens::untrusted;

/// The plans of an output on disk, one behind the other: one, unless images were appended. Holds
/// in memory where their partitions lie, not their rows.
pub struct Plan {
    pub(super) dir: PathBuf,
    /// At least one.
    pub(super) files: Vec<PlanFile>,
    pub(super) moved: Moved,
    /// Today's images with something beside them that the plan has no columns for.
    pub(super) unplanned_facts: u64,
}

impl Plan {
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
                return Err(self.not_of_this(path, &file)?);
            }
            self.files.push(file);
        }
        Ok(self)
    }

    /// What there is to say of a plan that doesn't stand upon those before it: where shards of the last of
    /// these are of the one that it was appended to, that one is another's.
    fn not_of_this(&self, path: PathBuf, file: &PlanFile) -> Result<Error> {
        let numbers = self.last().numbers();
        let (mut before_is_foreign, mut is_used) = (false, false);
        each_shard(&self.dir, |partition, shard| {
            is_used |= partition >= numbers.end;
            let digest = || untrusted::entry_of(&shard, "vqtok.plan_sha256").ok();
            before_is_foreign |= !before_is_foreign
                && numbers.contains(&partition)
                && digest().as_deref() == Some(&*file.base.after);
        })?;
        Ok(match before_is_foreign {
            false => {
                let what = if is_used { "`vqtok repair` rebuilds it" } else { NO_PLAN_OF_OURS };
                let reason = format!("it wasn't appended to the plans beside it; {what}");
                Error::corrupt(path, reason)
            }
            true => Error::corrupt(
                self.dir.join(self.last().base.name()),
                format!(
                    "it is another output's, or was made anew: {} was appended to another, as the shards \
                     say; `vqtok repair` rebuilds it",
                    file.base.name()
                ),
            ),
        })
    }

    /// The plans, in order.
    pub(crate) fn files(&self) -> &[PlanFile] {
        &self.files
    }

    pub(in crate::tokens) fn last(&self) -> &PlanFile {
        // There is at least one.
        &self.files[self.files.len() - 1]
    }

    /// The plan that an image is of; the last one where it is of none.
    pub(in crate::tokens) fn of_ordinal(&self, ordinal: u64) -> &PlanFile {
        let behind = self.files.partition_point(|file| file.base.ordinal <= ordinal);
        &self.files[behind.saturating_sub(1)]
    }

    /// The plan that a partition is of; the last one where it is of none.
    pub(super) fn of(&self, partition: usize) -> &PlanFile {
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

    /// The class names of the plan that a partition is of; None where its shards have no ids of them:
    /// it was written before there were any.
    pub(in crate::tokens) fn classes_of(&self, partition: usize) -> Option<&Classes> {
        self.of(partition).classes()
    }

    /// Whether the last plan has more classes than there can be ids for.
    pub(crate) fn has_too_many_classes(&self) -> bool {
        self.last().classes().is_some_and(|classes| classes.names().is_none())
    }

    /// The class names of all images in the order of their ids; None where they have no ids.
    pub(crate) fn classes(&self) -> Option<&[String]> {
        self.last().classes()?.names()
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
        self.files.iter().all(|file| file.layout != Layout::Files)
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

    /// The same in the order of the inputs: a plan of buckets has another one.
    ///
    /// # Errors
    /// As for [`Plan::all_rows`].
    pub fn listed_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        let files = self.files.iter().map(PlanFile::listed_rows).collect::<Result<Vec<_>>>()?;
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

    /// The same where a lock keeps other jobs out: in a folder of this system's.
    ///
    /// # Errors
    /// Those of [`Plan::lock_exclusive`].
    pub(crate) fn lock_exclusive_where_known(&self) -> Result<Option<FolderLock>> {
        match storage::is_remote(&self.dir) {
            true => Ok(None),
            false => self.lock_exclusive().map(Some),
        }
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

    /// The file that holds an image among others, where it was recorded.
    pub(crate) fn container_of(&self, row: &PlanRow) -> Option<&Container> {
        row.member.as_ref()?;
        let position = row.position().unsigned_abs();
        let containers = &self.of_ordinal(row.ordinal.unsigned_abs()).containers;
        let behind = containers.partition_point(|container| container.first <= position);
        let container = containers.get(behind.checked_sub(1)?)?;
        let holds = position - container.first < container.images && container.file.uri == row.uri;
        holds.then_some(container)
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
}

/// What a plan with so many before it stands upon.
///
/// # Errors
/// One of those before it that isn't there or can't be read.
pub(in crate::tokens) fn base(dir: &Path, number: usize) -> Result<Base> {
    match number {
        0 => Ok(Base::default()),
        number => Ok(Plan::open_first(dir, number)?.last().next()),
    }
}

/// What the first plan that was appended stands upon; None where there is none, or none to be read.
pub(in crate::tokens) fn base_of_second(dir: &Path) -> Option<Base> {
    Some(PlanFile::open(&dir.join(file::name(1)), 1).ok()?.base)
}
