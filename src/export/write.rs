//! Owns a split's files from their first row to their names: rows are appended, a part that is full is
//! read back, gets its names and is noted. Must not know: formats.

use std::path::{Path, PathBuf};

use super::check::Reader;
use super::format::{Encoded, Format, Part};
use super::journal::{FileRecord, Journal, PartRecord};
use super::part::{Growing, Made};
use super::row::{Row, RowDigest};
use crate::error::{Error, Result};
use crate::tokens::commit::{Published, digest_file};
use crate::util::hex::hex;
use crate::util::text;

/// What writes a split.
pub(super) struct SplitWriter<'a> {
    format: &'a dyn Format,
    /// None where nothing is read back.
    reader: Option<&'a Reader>,
    /// The export's, and the split's own.
    root: &'a Path,
    folder: PathBuf,
    /// Its number.
    split: usize,
    rows_of_file: u64,
    open: Option<OpenPart>,
}

struct OpenPart {
    part: Box<dyn Part>,
    digest: RowDigest,
    rows: u64,
    ids: u64,
    /// Codes of the first row.
    codes: usize,
}

impl<'a> SplitWriter<'a> {
    pub(super) fn new(
        format: &'a dyn Format,
        reader: Option<&'a Reader>,
        root: &'a Path,
        name: Option<&str>,
        split: usize,
        rows_of_file: u64,
    ) -> SplitWriter<'a> {
        let folder = name.map_or_else(|| root.to_path_buf(), |name| root.join(name));
        SplitWriter { format, reader, root, folder, split, rows_of_file, open: None }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Appends a row.
    ///
    /// # Errors
    /// What the system refuses; a file that reads back as something else, or whose name is taken.
    pub(super) fn push(
        &mut self,
        row: &Row,
        encoded: &Encoded,
        journal: &mut Journal,
    ) -> Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let number = journal.record.splits[self.split].parts.len();
                let part = self.format.part(&self.folder, number)?;
                let (digest, codes) = (RowDigest::default(), row.codes.len());
                self.open.insert(OpenPart { part, digest, rows: 0, ids: 0, codes })
            }
        };
        open.part.push(encoded)?;
        open.rows += 1;
        open.ids += encoded.ids as u64;
        let class = row.class.filter(|_| self.format.gives_class());
        let sides = self.format.gives_sides().then_some((row.height, row.width));
        open.digest.add(class, sides, &row.codes);
        match open.rows >= self.rows_of_file {
            true => self.close(journal),
            false => Ok(()),
        }
    }

    /// Gives what was begun its names.
    ///
    /// # Errors
    /// As [`SplitWriter::push`].
    pub(super) fn close(&mut self, journal: &mut Journal) -> Result<()> {
        let Some(OpenPart { part, digest, rows, ids, codes }) = self.open.take() else {
            return Ok(());
        };
        let made = part.seal()?;
        if let Some(reader) = self.reader {
            let files: Vec<&Path> = made.iter().map(|made| made.sealed.path()).collect();
            let name = made.first().map_or(self.root, |made| &made.path);
            reader.compare(&files, codes, digest).map_err(|why| {
                Error::internal(format!("{} reads back as something else: {why}", text::path(name)))
            })?;
        }
        let files = made.into_iter().map(|made| self.publish(made)).collect::<Result<_>>()?;
        journal.add(self.split, PartRecord { rows, ids, files })
    }

    /// Ends the split: what was begun gets its names, and the list of all parts is written.
    ///
    /// # Errors
    /// As [`SplitWriter::push`].
    pub(super) fn finish(&mut self, journal: &mut Journal) -> Result<()> {
        self.close(journal)?;
        let parts = &journal.record.splits[self.split].parts;
        let Some((name, bytes)) = self.format.index(parts).filter(|_| !parts.is_empty()) else {
            return Ok(());
        };
        let mut file = Growing::create(&self.folder, name)?;
        file.write(&bytes)?;
        self.publish(file.seal()?).map(drop)
    }

    /// Gives a file its name. Where the same file has it, a run before this one made it.
    fn publish(&self, made: Made) -> Result<FileRecord> {
        let Made { path, bytes, sealed } = made;
        let sha256 = sealed.sha256;
        if sealed.publish()? == Published::Exists && digest_file(&path)? != (sha256, bytes) {
            return Err(Error::invalid(format!(
                "{} exists and isn't this export's: nothing is overwritten; name another folder",
                text::path(path)
            )));
        }
        let below = path.strip_prefix(self.root).unwrap_or(&path);
        Ok(FileRecord { path: text::lossy(below).into_owned(), bytes, sha256: hex(sha256) })
    }
}
