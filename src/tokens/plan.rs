//! Owns `plan.parquet`: the ordered input of a data set, written once, one row group to a
//! partition. Must not know: where the rows come from, what becomes of them.

mod compare;
mod containers;
mod merged;
mod partitions;
mod rows;
mod spool;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use self::compare::Comparison;
pub(crate) use self::compare::difference_of_one;
pub use self::containers::{Container, ContainerFile, Today};
use self::merged::Planned;
use self::partitions::starts;
use self::rows::rows_of;
use self::write::Layout;
pub(super) use self::write::write;
use super::commit::{self, Published};
use super::folder_lock::FolderLock;
use super::identity::{Identity, difference_in_words};
use super::moved::Moved;
use super::rows::PlanRow;
use super::{duplicate_keys, occupied, untrusted};
use crate::error::{Error, Result};
use crate::util::settings::OUT;
use crate::util::{panics, text};

/// The plan's name in an output folder.
pub(crate) const FILE: &str = "plan.parquet";

/// A plan on disk. Holds its footer in memory, not its rows.
pub struct Plan {
    dir: PathBuf,
    identity: Identity,
    digest: String,
    layout: Layout,
    /// The ordinal at which each partition begins, and the number of images behind them.
    starts: Vec<u64>,
    /// Partitions that one worker takes: first and end of each run of them.
    together: Vec<[usize; 2]>,
    metadata: ArrowReaderMetadata,
    /// Files that hold several images, in order.
    containers: Vec<Container>,
    /// What was taken of these.
    taken: String,
    /// When it was written: as old as what it says.
    written: Option<SystemTime>,
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
        if path.exists() {
            return Plan::open(dir)?.held_against(identity, items, accept);
        }
        // The folder appears with the first row, so that an input without images leaves nothing.
        let first = up_to_an_image(&mut items)?;
        let items = first.into_iter().map(Ok).chain(items);
        commit::create_folder(dir)?;
        commit::remove_orphans(dir)?;
        let (sealed, digest) = write(&path, identity, taken, items)?;
        let temp = sealed.path().to_path_buf();
        let ours = Plan::open_file(dir, &temp)?;
        duplicate_keys::check(ours.rows(), || rows_of(&temp, &ours.metadata, None))?;
        if !path.exists() {
            occupied::check(dir, &digest)?;
        }
        match sealed.publish_keeping()? {
            (Published::Created, _) => Ok(Held::Same(Plan::open(dir)?)),
            (Published::Exists, _kept) => {
                // Another job was faster; ours must be the same.
                let plan = Plan::open(dir)?;
                if plan.digest == digest {
                    return Ok(Held::Same(plan));
                }
                let rows = Planned::of(&temp, &ours.metadata, &ours.starts, ours.layout)?.rows();
                plan.held_against(identity, rows.map(|row| row.map(Today::Image)), accept)
            }
        }
    }

    /// Opens the plan of an output folder.
    ///
    /// # Errors
    /// A folder without a plan; a plan that can't be read or doesn't hold together.
    pub fn open(dir: &Path) -> Result<Plan> {
        Plan::open_file(dir, &dir.join(FILE))
    }

    fn open_file(dir: &Path, path: &Path) -> Result<Plan> {
        let broken = |reason: String| {
            Error::corrupt(path, format!("{reason}; `vqtok repair` rebuilds a broken plan"))
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::invalid(format!(
                    "{}: no output of `vqtok tokenize`: there is no {FILE} in it",
                    text::path(dir)
                )));
            }
            file => file.map_err(Error::io(path))?,
        };
        let metadata = untrusted::metadata(&file, "not a readable plan: ").map_err(broken)?;
        let layouts = [Layout::Files, Layout::Parts, Layout::Buckets];
        let fields = metadata.schema().fields();
        let layout = layouts.into_iter().find(|l| l.columns().fields() == fields);
        let layout = layout.ok_or_else(|| broken("its columns are not those of a plan".into()))?;
        let entry = |key: &str| {
            let value = untrusted::entry(&metadata, key).map(str::to_owned);
            value.ok_or_else(|| broken(format!("its metadata has no {key}")))
        };
        if entry("vqtok.schema")? != layout.word() {
            return Err(broken(format!("not a {}", layout.word())));
        }
        let identity: Identity = serde_json::from_str(&entry("vqtok.identity")?)
            .map_err(|e| broken(format!("its identity can't be read: {e}")))?;
        identity.check()?;
        let digest = entry("vqtok.plan_sha256")?;
        let facts = file.metadata().map_err(Error::io(path))?;
        let starts = starts(&metadata, identity.shard_rows, layout, facts.len()).map_err(broken)?;
        let containers = untrusted::entry(&metadata, "vqtok.containers").unwrap_or_default();
        let containers = containers::parse(containers, starts.last().copied().unwrap_or(0));
        let together = untrusted::entry(&metadata, "vqtok.together");
        let together = together.and_then(|text| serde_json::from_str(text).ok());
        let together = together.unwrap_or_default();
        Ok(Plan {
            dir: dir.to_path_buf(),
            identity,
            digest,
            layout,
            starts,
            together,
            containers,
            taken: untrusted::entry(&metadata, "vqtok.taken").unwrap_or_default().to_string(),
            written: facts.modified().ok(),
            metadata,
            moved: Moved::default(),
            unplanned_facts: 0,
        })
    }

    /// The output folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What made it.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Hex sha256 over the identity and all rows; see `schemas/plan.v1.json`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Images.
    pub fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Number of partitions.
    pub fn partitions(&self) -> usize {
        self.metadata.metadata().num_row_groups()
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
        Ok(self.starts[index] as i64..self.starts[index + 1] as i64)
    }

    /// The partition that holds an image of the plan.
    pub fn partition_of(&self, ordinal: i64) -> usize {
        self.starts.partition_point(|&start| start <= ordinal.unsigned_abs()).saturating_sub(1)
    }

    /// The first of the partitions that one worker takes with this one: those of a file that can
    /// only be read from its beginning on.
    pub fn taken_with(&self, index: usize) -> usize {
        let run = self.together.iter().find(|[first, end]| (first..end).contains(&&index));
        run.map_or(index, |[first, _]| *first)
    }

    /// Whether images may be parts of files, and have something beside them.
    pub fn has_parts(&self) -> bool {
        self.layout != Layout::Files
    }

    /// The rows of a partition, in order.
    ///
    /// # Errors
    /// No partition of that number; a plan that can't be read any more, or doesn't hold the
    /// partition's ordinals.
    pub fn partition(&self, index: usize) -> Result<Vec<PlanRow>> {
        let range = self.ordinals(index)?;
        let path = self.dir.join(FILE);
        let rows =
            rows_of(&path, &self.metadata, Some(index..index + 1))?.collect::<Result<Vec<_>>>()?;
        let expected = range.clone().eq(rows.iter().map(|row| row.ordinal));
        if !expected {
            return Err(Error::corrupt(
                path,
                format!("partition {index} does not hold {range:?}; `vqtok repair` rebuilds it"),
            ));
        }
        Ok(rows)
    }

    /// All rows, streaming.
    ///
    /// # Errors
    /// A plan that can't be read any more; rows that are broken come as errors of their own.
    pub fn all_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        rows_of(&self.dir.join(FILE), &self.metadata, None)
    }

    /// The same in the order of the inputs: a plan of buckets has another one.
    ///
    /// # Errors
    /// As for [`Plan::all_rows`].
    pub fn listed_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        let path = self.dir.join(FILE);
        Ok(Planned::of(&path, &self.metadata, &self.starts, self.layout)?.rows())
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

    /// The files that hold several images, in order: those that can be told to be unchanged.
    pub fn containers(&self) -> &[Container] {
        &self.containers
    }

    /// What was taken of [`Plan::containers`], as it was given.
    pub fn taken(&self) -> &str {
        &self.taken
    }

    /// When the input was listed, by the file system's clock: what was written to before then is
    /// what was planned.
    pub fn listed_at(&self) -> Option<SystemTime> {
        self.written
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
        if let Some((was, now)) = difference_in_words(&self.identity, identity) {
            return Err(Error::mismatch(format!(
                "{} was made with {was}, this run has {now}; use another {OUT}, or the settings it \
                 was made with",
                text::path(&self.dir)
            )));
        }
        let path = self.dir.join(FILE);
        let planned = Planned::of(&path, &self.metadata, &self.starts, self.layout)?;
        let mut comparison = Comparison::new(planned, self.layout);
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
}

/// What is found up to the first image, that one included.
fn up_to_an_image(items: &mut impl Iterator<Item = Result<Today>>) -> Result<Vec<Today>> {
    let mut opened = None;
    loop {
        match items.next().transpose()? {
            None => return Err(Error::invalid("no image in the input")),
            Some(Today::Opened(file)) => opened = Some(Today::Opened(file)),
            Some(item) => return Ok(opened.into_iter().chain([item]).collect()),
        }
    }
}

#[cfg(test)]
mod tests;
