//! Owns a split's files from their first row to their names: rows are appended, a part that is full is
//! read back, gets its names and is noted. Must not know: formats.

use std::path::{Path, PathBuf};

use super::check::Reader;
use super::format::{Encoded, Format, Part, Place};
use super::journal::{Journal, PartRecord};
use super::part::{Growing, Made};
use super::row::{Row, RowDigest};
use crate::error::{Error, Result};
use crate::tokens::commit;
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
    /// Of the whole split, and of a part that is full.
    rows: u64,
    rows_of_part: u64,
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
        [rows, rows_of_part]: [u64; 2],
    ) -> SplitWriter<'a> {
        let folder = name.map_or_else(|| root.to_path_buf(), |name| root.join(name));
        SplitWriter { format, reader, root, folder, split, rows, rows_of_part, open: None }
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
                let place = Place { folder: &self.folder, number, rows: self.rows };
                let part = self.format.part(&place)?;
                let (digest, codes) = (RowDigest::default(), row.codes.len());
                self.open.insert(OpenPart { part, digest, rows: 0, ids: 0, codes })
            }
        };
        open.part.push(row, encoded)?;
        open.rows += 1;
        open.ids += encoded.ids as u64;
        let class = row.class.filter(|_| self.format.gives_class());
        let sides = self.format.gives_sides().then_some((row.height, row.width));
        open.digest.add(class, sides, &row.codes);
        match open.rows >= self.rows_of_part {
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
            let files: Vec<Vec<PathBuf>> = made.iter().flat_map(Made::paths).collect();
            reader.compare(&files, codes, digest).map_err(|why| {
                let part = journal.record.splits[self.split].parts.len();
                let folder = text::path(&self.folder);
                Error::internal(format!(
                    "{folder}: part {part} reads back as something else: {why}"
                ))
            })?;
        }
        let publish = |made: Made| made.publish(self.root, &self.folder);
        let files = made.into_iter().map(publish).collect::<Result<Vec<_>>>()?.concat();
        journal.add(self.split, PartRecord { rows, ids, files })
    }

    /// Ends the split: what was begun gets its names, and the list of all parts is written.
    ///
    /// # Errors
    /// As [`SplitWriter::push`].
    pub(super) fn finish(&mut self, journal: &mut Journal) -> Result<()> {
        self.close(journal)?;
        let split = &journal.record.splits[self.split];
        if split.parts.is_empty() {
            return Ok(());
        }
        for (name, bytes) in self.format.index(split) {
            write_whole(self.root, &self.folder, name, bytes)?;
        }
        Ok(())
    }
}

/// Writes a whole file, piece by piece.
///
/// # Errors
/// What the system refuses; a name that is taken.
pub(super) fn write_whole(
    root: &Path,
    folder: &Path,
    name: &str,
    pieces: impl Iterator<Item = Vec<u8>>,
) -> Result<()> {
    let path = folder.join(name);
    if let Some(folder) = path.parent() {
        commit::create_folder(folder)?;
    }
    let mut file = Growing::create(folder, name)?;
    for piece in pieces {
        file.write(&piece)?;
    }
    file.seal()?.publish(root, folder).map(drop)
}
