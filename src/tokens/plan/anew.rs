//! Owns writing a plan's file anew from what stands in it. That gives the same bytes, or the file is damaged
//! where its rows' digest doesn't tell: in an output that isn't finished nothing else has recorded them.
//! Must not know: who asks, what becomes of a damaged one.

use std::io::{self, Write};
use std::path::Path;

use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use sha2::{Digest, Sha256};

use super::columns::columns_of;
use super::file::{PlanFile, metadata_of};
use super::plans::Plan;
use super::rows::BATCH_ROWS;
use super::write::{rows_writer, sealed_as_of};
use super::written::Written;
use super::{name, root};
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::classes::{ClassCollector, Classes};
use crate::tokens::commit::{self, TempFile};
use crate::tokens::{dataset, schema};
use crate::util::hex::hex;
use crate::util::label_level::LabelLevel;

/// Everything that the footer of a plan's file may say. A damaged name says nothing that is known, and would be
/// written anew as it is.
const ENTRIES: [&str; 14] = [
    parquet::arrow::ARROW_SCHEMA_META_KEY,
    "vqtok.after",
    "vqtok.classes",
    "vqtok.containers",
    "vqtok.files",
    "vqtok.first_ordinal",
    "vqtok.first_partition",
    "vqtok.identity",
    "vqtok.plan_sha256",
    "vqtok.rows_schema",
    "vqtok.schema",
    "vqtok.shards_a_folder",
    "vqtok.taken",
    "vqtok.together",
];

/// What is written is hashed, and goes nowhere.
#[derive(Default)]
struct Hashed(Sha256);

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The sha256, in hex, that the file of the plan with so many before it has when it is written anew; of one
/// whose rows lie in several files, its root. None where that tells nothing: another version wrote it, or
/// it can't be read, which whoever reads its rows tells.
pub(crate) fn sha256_anew(dir: &Path, number: usize) -> Option<String> {
    let file = PlanFile::open(&dir.join(name(number)), number).ok()?;
    file.sha256_anew().ok().flatten()
}

impl PlanFile {
    fn sha256_anew(&self) -> Result<Option<String>> {
        let Some(entries) = self.own_entries()? else { return Ok(None) };
        if !are_known(&entries) {
            return Ok(Some(String::new())); // No file's.
        }
        let mut writer = self.write_anew(Hashed::default(), entries)?;
        writer.finish().map_err(schema::parquet_error(self.path()))?;
        let hashed = std::mem::take(&mut writer.inner_mut().0);
        Ok(Some(hex(hashed.finalize())))
    }

    /// The same plan written anew, which must be proven to have its rows; of one whose rows lie in several
    /// files, its root. None where another version wrote it, or its footer says what no plan's does.
    ///
    /// # Errors
    /// What can't be read or written.
    pub(in crate::tokens) fn written_anew(&self) -> Result<Option<Written>> {
        let Some(entries) = self.own_entries()?.filter(are_known) else { return Ok(None) };
        let writer = self.write_anew(TempFile::create(self.path())?, entries)?;
        let temp = schema::finish(writer, self.path())?;
        let root = sealed_as_of(temp, self.listed_at())?;
        Ok(Some(Written { root, pieces: Vec::new(), digest: self.digest().to_string() }))
    }

    /// Whether its class names are those that its rows give, upon those of the plans `before`.
    ///
    /// # Errors
    /// What can't be read.
    pub(in crate::tokens) fn gives_classes(&self, before: &Classes) -> Result<bool> {
        let Some(classes) = self.classes() else { return Ok(true) };
        let labels = LabelLevel::recorded(self.identity.label_level.as_deref())?;
        let mut collector = ClassCollector::new(before);
        for row in self.all_rows()? {
            let row = row?;
            let label = labels.label_beside(row.label.as_deref(), &row.key);
            label.into_iter().for_each(|label| collector.take(label));
        }
        Ok(collector.finish().text() == classes.text())
    }

    /// What its footer says beside rows: before these were known, and then. None of another version's.
    fn own_entries(&self) -> Result<Option<[Vec<KeyValue>; 2]>> {
        let metadata = metadata_of(self.path(), self.base().number)?;
        let footer = metadata.metadata().file_metadata();
        if footer.created_by() != Some(schema::CREATED_BY) {
            return Ok(None);
        }
        let mut first = footer.key_value_metadata().cloned().unwrap_or_default();
        // The writer puts the columns' description between both.
        let columns =
            first.iter().position(|entry| entry.key == parquet::arrow::ARROW_SCHEMA_META_KEY);
        let Some(columns) = columns else { return Ok(Some([first, Vec::new()])) };
        let then = first.split_off(columns + 1);
        first.truncate(columns);
        Ok(Some([first, then]))
    }

    /// Writes its file, but for the footer.
    fn write_anew<W: Write + Send>(
        &self,
        sink: W,
        [first, then]: [Vec<KeyValue>; 2],
    ) -> Result<ArrowWriter<W>> {
        let starts = self.pieces.starts();
        if !self.named().is_empty() {
            let rows: Vec<u64> = starts.windows(2).map(|of| of[1] - of[0]).collect();
            return root::write_rows(sink, self.path(), &rows, first);
        }
        let mut writer = rows_writer(sink, self.path(), first, self.layout)?;
        for partition in 0..self.partitions() {
            let rows = self.pieces.rows(partition..partition + 1, BATCH_ROWS)?;
            let columns = columns_of(&rows.collect::<Result<Vec<_>>>()?, self.layout);
            let write = || -> parquet::errors::Result<()> {
                writer.write(&RecordBatch::try_new(self.layout.columns(), columns)?)?;
                writer.flush()
            };
            write().map_err(schema::parquet_error(self.path()))?;
        }
        then.into_iter().for_each(|entry| writer.append_key_value_metadata(entry));
        Ok(writer)
    }
}

/// Whether a footer says nothing but what a plan's may.
fn are_known(entries: &[Vec<KeyValue>; 2]) -> bool {
    entries.iter().flatten().all(|entry| ENTRIES.contains(&entry.key.as_str()))
}

impl Plan {
    /// Refuses plans whose files or rows aren't as they were written: their digests are about to be recorded,
    /// or others to stand upon them. Those that `dataset.json` has recorded are.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the first; what can't be read.
    pub(in crate::tokens) fn must_be_as_written(&self) -> Result<()> {
        // A store holds what it has against checksums of its own, and each look is a request.
        if storage::is_remote(self.dir()) {
            return Ok(());
        }
        let summary = dataset::read(self.dir()).ok().flatten();
        for (number, file) in self.files().iter().enumerate() {
            let recorded = summary.as_ref().and_then(|summary| summary.plan_of(number));
            let sha256 = hex(commit::digest_file(file.path())?.0);
            if recorded.is_some_and(|(_, recorded)| recorded.sha256 == sha256) {
                continue;
            }
            // Of several files the root has the digests.
            if file.named().is_empty() {
                file.prove()?;
            }
            if file.sha256_anew()?.is_some_and(|anew| anew != sha256) {
                let what = "it isn't as it was written: it is damaged, though its rows can be read; \
                            `vqtok repair` rebuilds it, or restore it";
                return Err(Error::corrupt(file.path(), what));
            }
        }
        Ok(())
    }
}
