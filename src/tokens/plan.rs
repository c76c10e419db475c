//! Owns `plan.parquet`: the ordered input of a data set, written once, one row group to a
//! partition. Must not know: where the rows come from, what becomes of them.

mod rows;
mod write;

use std::fs::File;
use std::path::{Path, PathBuf};

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::ColumnChunkMetaData;

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
use crate::util::text::shorten;
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
        match Plan::hold(dir, identity, rows, shard_rows, &mut |_, _, _| Ok(false))? {
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
    ///
    /// # Errors
    /// [`Error::Mismatch`] naming the first setting that differs; no rows at all; two rows of one
    /// key.
    pub fn hold(
        dir: &Path,
        identity: &Identity,
        rows: impl Iterator<Item = Result<PlanRow>>,
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
            return Plan::open(dir)?.held_against(identity, rows, accept);
        }
        // The folder appears with the first row, so that an input without images leaves nothing.
        let mut rows = rows;
        let first = rows.next().ok_or_else(|| Error::invalid("no image in the input"))??;
        let rows = std::iter::once(Ok(first)).chain(rows);
        commit::create_folder(dir)?;
        commit::remove_orphans(dir)?;
        let (sealed, digest) = write(&path, identity, rows)?;
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
                plan.held_against(identity, rows_of(&temp, &ours.metadata, None)?, accept)
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
        let layouts = [Layout::Files, Layout::Parts];
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
        let length = file.metadata().map_err(Error::io(path))?.len();
        let starts = starts(&metadata, identity.shard_rows, layout, length).map_err(broken)?;
        let together = untrusted::entry(&metadata, "vqtok.together");
        let together = together.and_then(|text| serde_json::from_str(text).ok());
        let together = together.unwrap_or_default();
        let (dir, moved) = (dir.to_path_buf(), Moved::default());
        let unplanned_facts = 0;
        Ok(Plan {
            dir,
            identity,
            digest,
            layout,
            starts,
            together,
            metadata,
            moved,
            unplanned_facts,
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
        self.layout == Layout::Parts
    }

    /// The rows of a partition, in order.
    ///
    /// # Errors
    /// No partition of that number; a plan that can't be read any more, or doesn't hold the
    /// partition's ordinals.
    pub fn partition(&self, index: usize) -> Result<Vec<PlanRow>> {
        let range = self.ordinals(index)?;
        let path = self.dir.join(FILE);
        let rows = rows_of(&path, &self.metadata, Some(index))?.collect::<Result<Vec<_>>>()?;
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
        rows: impl Iterator<Item = Result<PlanRow>>,
        accept: &mut dyn FnMut(&Plan, &PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        if let Some((was, now)) = difference_in_words(&self.identity, identity) {
            return Err(Error::mismatch(format!(
                "{} was made with {was}, this run has {now}; use another {OUT}, or the settings it \
                 was made with",
                text::path(&self.dir)
            )));
        }
        let (mut moved, mut unplanned_facts) = (Moved::default(), 0);
        let mut planned = self.all_rows()?;
        let mut count: i64 = 0;
        for row in rows {
            let row = row?;
            let Some(was) = planned.next().transpose()? else {
                let key = shorten(&row.key);
                let difference = format!("it had {count} images, now '{key}' is one more");
                return Ok(Held::Other(self, difference));
            };
            moved.note(&was, &row);
            // Outputs of files alone were begun without what may stand beside these now.
            let same_beside = match self.layout {
                Layout::Files => {
                    unplanned_facts += u64::from(row.is_more_than_a_file());
                    row.member.is_none()
                }
                Layout::Parts => same_beside(&was, &row),
            };
            let same = (was.ordinal, &was.key) == (row.ordinal, &row.key) && same_beside;
            if !same || was.bytes != row.bytes && !accept(&self, &was, &row)? {
                return Ok(Held::Other(self, difference(&was, &row)));
            }
            count += 1;
        }
        if let Some(row) = planned.next().transpose()? {
            let difference = format!(
                "image {count}, '{}', is gone (it had {}, now {count})",
                shorten(&row.key),
                self.rows()
            );
            return Ok(Held::Other(self, difference));
        }
        self.moved = moved;
        self.unplanned_facts = unplanned_facts;
        Ok(Held::Same(self))
    }
}

/// Checks that the row groups are the partitions and lie within the file's `length` bytes; gives the
/// ordinal at which each begins, and the number of rows behind them.
fn starts(
    metadata: &ArrowReaderMetadata,
    shard_rows: u64,
    layout: Layout,
    length: u64,
) -> Result<Vec<u64>, String> {
    let groups = metadata.metadata().row_groups();
    let (mut rows, mut starts) = (0, vec![0]);
    for (index, group) in groups.iter().enumerate() {
        let count = u64::try_from(group.num_rows()).unwrap_or(0);
        let full = layout == Layout::Files && index + 1 < groups.len();
        if count == 0 || count > shard_rows || (full && count != shard_rows) {
            return Err(format!("partition {index} has {} rows", group.num_rows()));
        }
        rows += count;
        starts.push(rows);
        if group.columns().iter().any(|column| column.num_values() != group.num_rows()) {
            return Err(format!("partition {index} has columns of other lengths"));
        }
        // The reader panics over places before the file.
        let end = |column: &ColumnChunkMetaData| {
            let (start, bytes) = panics::catch(|| column.byte_range()).ok()?;
            start.checked_add(bytes)
        };
        if !group.columns().iter().all(|c| end(c).is_some_and(|end| end <= length)) {
            return Err(format!("partition {index} lies outside of the file"));
        }
    }
    let counted = metadata.metadata().file_metadata().num_rows();
    match rows > 0 && i64::try_from(rows).ok() == Some(counted) {
        true => Ok(starts),
        false => Err(format!("its footer counts {counted} rows")),
    }
}

/// Whether an image has the place in its file, and everything beside it, that it was planned with.
fn same_beside(was: &PlanRow, now: &PlanRow) -> bool {
    let of = |row: &PlanRow| PlanRow {
        ordinal: 0,
        key: String::new(),
        uri: String::new(),
        bytes: 0,
        ..row.clone()
    };
    of(was) == of(now)
}

/// The first difference between a planned row and today's, in words.
fn difference(was: &PlanRow, now: &PlanRow) -> String {
    let (ordinal, key) = (was.ordinal, shorten(&was.key));
    if was.ordinal != now.ordinal {
        return format!("image {ordinal} has become image {}", now.ordinal);
    }
    if was.key != now.key {
        return format!("image {ordinal} was '{key}' and is now '{}'", shorten(&now.key));
    }
    for (what, was, now) in [
        ("label", &was.label, &now.label),
        ("caption", &was.caption, &now.caption),
        ("meta_json", &was.meta_json, &now.meta_json),
        ("member", &was.member, &now.member),
        ("fault", &was.fault, &now.fault),
    ] {
        if was != now {
            let told = |text: &Option<String>| match text {
                Some(text) => format!("'{}'", shorten(text)),
                None => "none".to_string(),
            };
            return format!("the {what} of '{key}' was {} and is now {}", told(was), told(now));
        }
    }
    if was.bytes == now.bytes {
        return format!("'{key}' lies elsewhere in its file");
    }
    format!("'{key}' had {} bytes and now has {}", was.bytes, now.bytes)
}

#[cfg(test)]
mod tests;
