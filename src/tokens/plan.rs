//! Owns `plan.parquet`: the ordered input of a data set, written once, one row group to a
//! partition. Must not know: where the rows come from, what becomes of them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::{ColumnChunkMetaData, KeyValue};
use sha2::{Digest, Sha256};

use super::commit::{self, FolderLock, Published, Sealed, TempFile, hex};
use super::identity::{Identity, as_given};
use super::moved::Moved;
use super::rows::PlanRow;
use super::schema;
use crate::error::{Error, Result};
use crate::tokens::{duplicate_keys, occupied};
use crate::util::parquet_errors::{reading, told};
use crate::util::settings::OUT;
use crate::util::text;
use crate::util::text::shorten;
use crate::util::{panics, parquet_guard};

/// The plan's name in an output folder.
pub const FILE: &str = "plan.parquet";

/// The longest key or uri, in bytes: longer than any path that a system takes.
const TEXT_BYTES_MAX: usize = 1 << 16;

/// A plan on disk. Holds its footer in memory, not its rows.
pub struct Plan {
    dir: PathBuf,
    identity: Identity,
    digest: String,
    rows: u64,
    metadata: ArrowReaderMetadata,
    moved: Moved,
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
    /// Errors: [`Error::Mismatch`] naming the first difference; no rows at all; two rows of one key.
    pub fn create_or_open(
        dir: &Path,
        identity: &Identity,
        rows: impl Iterator<Item = Result<PlanRow>>,
        shard_rows: usize,
    ) -> Result<Plan> {
        match Plan::hold(dir, identity, rows, shard_rows, &mut |_, _| Ok(false))? {
            Held::Same(plan) => Ok(plan),
            Held::Other(plan, difference) => Err(Error::Mismatch(format!(
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
        accept: &mut dyn FnMut(&PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        let _at = panics::at("plan", None);
        identity.check()?;
        if identity.shard_rows != shard_rows as u64 {
            return Err(Error::invalid("identity.shard_rows and the plan's differ"));
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
        duplicate_keys::check(ours.rows, || rows_of(&temp, &ours.metadata, None))?;
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
        let load = || ArrowReaderMetadata::load(&file, ArrowReaderOptions::new());
        parquet_guard::check(&file).map_err(broken)?;
        let metadata = reading(|| load().map_err(told))
            .map_err(|reason| broken(format!("not a readable plan: {reason}")))?;
        if metadata.schema().fields() != schema::plan().fields() {
            return Err(broken("its columns are not those of plan.v1".into()));
        }
        let footer = metadata.metadata().file_metadata();
        let entry = |key: &str| {
            let entries = footer.key_value_metadata().into_iter().flatten();
            let mut found = entries.filter(|e| e.key == key).filter_map(|e| e.value.clone());
            found.next().ok_or_else(|| broken(format!("its metadata has no {key}")))
        };
        if entry("vqtok.schema")? != schema::PLAN {
            return Err(broken(format!("not a {}", schema::PLAN)));
        }
        let identity: Identity = serde_json::from_str(&entry("vqtok.identity")?)
            .map_err(|e| broken(format!("its identity can't be read: {e}")))?;
        identity.check()?;
        let digest = entry("vqtok.plan_sha256")?;
        let groups = metadata.metadata().row_groups();
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut rows = 0;
        for (index, group) in groups.iter().enumerate() {
            let count = u64::try_from(group.num_rows()).unwrap_or(0);
            let last = index + 1 == groups.len();
            if count == 0 || count > identity.shard_rows || (!last && count != identity.shard_rows)
            {
                return Err(broken(format!("partition {index} has {} rows", group.num_rows())));
            }
            rows += count;
            if group.columns().iter().any(|column| column.num_values() != group.num_rows()) {
                return Err(broken(format!("partition {index} has columns of other lengths")));
            }
            // The reader panics over places before the file.
            let end = |column: &ColumnChunkMetaData| {
                let (start, bytes) = panics::catch(|| column.byte_range()).ok()?;
                start.checked_add(bytes)
            };
            if !group.columns().iter().all(|c| end(c).is_some_and(|end| end <= length)) {
                return Err(broken(format!("partition {index} lies outside of the file")));
            }
        }
        if rows == 0 || i64::try_from(rows).ok() != Some(footer.num_rows()) {
            return Err(broken(format!("its footer counts {} rows", footer.num_rows())));
        }
        let moved = Moved::default();
        Ok(Plan { dir: dir.to_path_buf(), identity, digest, rows, metadata, moved })
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
        self.rows
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
            return Err(Error::invalid(format!(
                "partition {index} of a plan that has {}",
                self.partitions()
            )));
        }
        let start = index as u64 * self.identity.shard_rows;
        let end = (start + self.identity.shard_rows).min(self.rows);
        Ok(start as i64..end as i64)
    }

    /// The rows of a partition, in order.
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
    pub fn all_rows(&self) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        rows_of(&self.dir.join(FILE), &self.metadata, None)
    }

    /// The lock for adding partitions: any number of workers hold it together.
    pub fn lock_shared(&self) -> Result<FolderLock> {
        FolderLock::shared(&self.dir)
    }

    /// The lock for replacing or removing partitions.
    pub fn lock_exclusive(&self) -> Result<FolderLock> {
        FolderLock::exclusive(&self.dir)
    }

    /// Where the planned files lie today.
    pub fn moved(&self) -> &Moved {
        &self.moved
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
        accept: &mut dyn FnMut(&PlanRow, &PlanRow) -> Result<bool>,
    ) -> Result<Held> {
        if let Some((name, was, now)) = self.identity.difference(identity) {
            return Err(Error::Mismatch(format!(
                "{} was made with {}, this run has {}; use another {OUT}, or the settings it was \
                 made with",
                text::path(&self.dir),
                as_given(&name, &shorten(&was)),
                shorten(&now)
            )));
        }
        let mut moved = Moved::default();
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
            let same = (was.ordinal, &was.key) == (row.ordinal, &row.key);
            if !same || was.bytes != row.bytes && !accept(&was, &row)? {
                return Ok(Held::Other(self, difference(&was, &row)));
            }
            count += 1;
        }
        if let Some(row) = planned.next().transpose()? {
            let difference = format!(
                "image {count}, '{}', is gone (it had {}, now {count})",
                shorten(&row.key),
                self.rows
            );
            return Ok(Held::Other(self, difference));
        }
        self.moved = moved;
        Ok(Held::Same(self))
    }
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
    format!("'{key}' had {} bytes and now has {}", was.bytes, now.bytes)
}

/// The digest of a plan, fed row by row.
struct PlanHasher(Sha256);

impl PlanHasher {
    fn new(identity: &Identity) -> PlanHasher {
        let mut hasher = Sha256::new();
        hasher.update(format!("{}\n{}\n", schema::PLAN, identity.canonical()));
        PlanHasher(hasher)
    }

    fn row(&mut self, row: &PlanRow) {
        self.0.update(row.ordinal.to_le_bytes());
        for text in [&row.key, &row.uri] {
            self.0.update((text.len() as u64).to_le_bytes());
            self.0.update(text);
        }
        self.0.update(row.bytes.to_le_bytes());
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Streams the rows into a sealed temporary file, and gives the digest.
pub(super) fn write(
    path: &Path,
    identity: &Identity,
    rows: impl Iterator<Item = Result<PlanRow>>,
) -> Result<(Sealed, String)> {
    let entries = vec![
        KeyValue::new("vqtok.schema".into(), schema::PLAN.to_string()),
        KeyValue::new("vqtok.identity".into(), identity.canonical()),
    ];
    let temp = TempFile::create(path)?;
    let columns = schema::with_entries(schema::plan(), &entries);
    let properties = schema::properties(Some(entries), None);
    let mut writer = ArrowWriter::try_new(temp, columns, Some(properties))
        .map_err(schema::parquet_error(path))?;
    let mut hasher = PlanHasher::new(identity);
    let mut group: Vec<PlanRow> = Vec::new();
    for (next, row) in rows.enumerate() {
        let row = row?;
        if row.ordinal != next as i64 {
            return Err(Error::invalid(format!(
                "planned image {} where {next} was due",
                row.ordinal
            )));
        }
        if row.key.is_empty() || row.key.len().max(row.uri.len()) > TEXT_BYTES_MAX || row.bytes < 0
        {
            return Err(Error::invalid(format!("image {next} has an impossible name or size")));
        }
        hasher.row(&row);
        group.push(row);
        if group.len() as u64 == identity.shard_rows {
            write_group(&mut writer, &group).map_err(schema::parquet_error(path))?;
            group.clear();
        }
    }
    if !group.is_empty() {
        write_group(&mut writer, &group).map_err(schema::parquet_error(path))?;
    }
    let digest = hasher.finish();
    writer.append_key_value_metadata(KeyValue::new("vqtok.plan_sha256".into(), digest.clone()));
    let temp = schema::finish(writer, path)?;
    Ok((temp.seal()?, digest))
}

fn write_group(
    writer: &mut ArrowWriter<TempFile>,
    rows: &[PlanRow],
) -> parquet::errors::Result<()> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.ordinal))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.key))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.uri))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.bytes))),
    ];
    writer.write(&RecordBatch::try_new(schema::plan(), columns)?)?;
    writer.flush()
}

/// The rows of one partition or of all, streaming. The file is opened anew: a `File`'s clones
/// share their position, so that two threads could not read at once.
fn rows_of(
    path: &Path,
    metadata: &ArrowReaderMetadata,
    group: Option<usize>,
) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
    let path = path.to_path_buf();
    let file = File::open(&path).map_err(Error::io(&path))?;
    let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone())
        .with_batch_size(4096);
    if let Some(group) = group {
        builder = builder.with_row_groups(vec![group]);
    }
    let broken = move |reason: String| {
        Error::corrupt(&path, format!("{reason}; `vqtok repair` rebuilds a broken plan"))
    };
    let mut reader: ParquetRecordBatchReader =
        reading(|| builder.build().map_err(told)).map_err(&broken)?;
    let mut ended = false;
    let batches = std::iter::from_fn(move || {
        if ended {
            return None;
        }
        let rows = reading(|| reader.next().transpose().map_err(told))
            .and_then(|batch| batch.map(|batch| rows_of_batch(&batch)).transpose());
        ended = !matches!(rows, Ok(Some(_)));
        rows.transpose()
    });
    Ok(batches.flat_map(move |rows: Result<Vec<PlanRow>, String>| match rows {
        Ok(rows) => rows.into_iter().map(Ok).collect::<Vec<_>>(),
        Err(reason) => vec![Err(broken(reason))],
    }))
}

fn rows_of_batch(batch: &RecordBatch) -> Result<Vec<PlanRow>, String> {
    if batch.schema().fields() != schema::plan().fields()
        || batch.columns().iter().any(|c| c.null_count() > 0)
    {
        return Err("its columns are not those of plan.v1".into());
    }
    let ordinals = batch.column(0).as_primitive::<Int64Type>();
    let keys = batch.column(1).as_string::<i32>();
    let uris = batch.column(2).as_string::<i32>();
    let bytes = batch.column(3).as_primitive::<Int64Type>();
    let row = |i: usize| PlanRow {
        ordinal: ordinals.value(i),
        key: keys.value(i).to_string(),
        uri: uris.value(i).to_string(),
        bytes: bytes.value(i),
    };
    Ok((0..batch.num_rows()).map(row).collect())
}

#[cfg(test)]
mod tests;
