//! Owns a plan that is written and durable, and has no name yet: its file, or its root with the files
//! that this names. Must not know: rows.

use std::path::{Path, PathBuf};

use parquet::arrow::ArrowWriter;

use super::file::PlanFile;
use super::root::Named;
use crate::error::{Error, Result};
use crate::tokens::commit::{self, Published, Sealed, TempFile};
use crate::tokens::files::PLAN_FOLDER;
use crate::tokens::schema;
use crate::util::hex::hex;

/// A plan on its way to its name; gone when dropped.
pub(in crate::tokens) struct Written {
    pub(super) root: Sealed,
    /// Of a plan in several files, each with the name that it is to have.
    pub(super) pieces: Vec<(Named, Sealed)>,
    pub(in crate::tokens) digest: String,
}

impl Written {
    /// Opens the plan, which has so many before it, where it lies now.
    ///
    /// # Errors
    /// What can't be read back.
    pub(in crate::tokens) fn open(&self, number: usize) -> Result<PlanFile> {
        let places: Vec<PathBuf> =
            self.pieces.iter().map(|(_, sealed)| sealed.path().to_path_buf()).collect();
        PlanFile::open_at(self.root.path(), number, &places)
    }

    /// Of its file, or of its root, in hex.
    pub(in crate::tokens) fn sha256(&self) -> String {
        hex(self.root.sha256)
    }

    /// Where the files lie that its root names, below an output; the plan has so many before it.
    pub(in crate::tokens) fn paths(&self, number: usize) -> Vec<String> {
        let pieces = self.pieces.iter().enumerate();
        pieces.map(|(piece, (named, _))| named.path(number, piece)).collect()
    }

    /// Gives the plan, which has so many before it, its name below `dir` unless that is taken; hands back
    /// what is written for a comparison.
    ///
    /// # Errors
    /// What the system refuses.
    pub(in crate::tokens) fn publish(
        self,
        dir: &Path,
        number: usize,
    ) -> Result<(Published, Unnamed)> {
        let Written { root, pieces, .. } = self;
        publish_pieces(dir, number, &pieces)?;
        let (published, root) = root.publish_keeping()?;
        Ok((published, Unnamed { _root: root, _pieces: pieces }))
    }

    /// Gives it its name in place of whatever has it.
    ///
    /// # Errors
    /// What the system refuses.
    pub(in crate::tokens) fn replace(self, dir: &Path, number: usize) -> Result<()> {
        publish_pieces(dir, number, &self.pieces)?;
        self.root.replace()
    }
}

/// Files of a plan that have all the partitions they hold.
#[derive(Default)]
pub(super) struct WholePieces {
    pub(super) pieces: Vec<(Named, Sealed)>,
    /// Partitions of all of them.
    pub(super) partitions: usize,
}

impl WholePieces {
    /// Makes a file durable with which the plan has so many partitions.
    ///
    /// # Errors
    /// What the system refuses.
    pub(super) fn push(
        &mut self,
        writer: ArrowWriter<TempFile>,
        path: &Path,
        partitions: usize,
    ) -> Result<()> {
        let sealed = schema::finish(writer, path)?.seal()?;
        let bytes = std::fs::metadata(sealed.path()).map_err(Error::io(sealed.path()))?.len();
        let sha256 = hex(sealed.sha256);
        let partitions_of_it = partitions - self.partitions;
        self.pieces.push((Named { bytes, sha256, partitions: partitions_of_it }, sealed));
        self.partitions = partitions;
        Ok(())
    }
}

/// What keeps the temporary files of a plan whose name was taken.
pub(in crate::tokens) struct Unnamed {
    _root: Sealed,
    _pieces: Vec<(Named, Sealed)>,
}

fn publish_pieces(dir: &Path, number: usize, pieces: &[(Named, Sealed)]) -> Result<()> {
    if pieces.is_empty() {
        return Ok(());
    }
    commit::create_folder(&dir.join(PLAN_FOLDER))?;
    for (piece, (named, sealed)) in pieces.iter().enumerate() {
        let path = dir.join(named.path(number, piece));
        // One that is broken can't be another job's: the content gives the name.
        if sealed.publish_as(&path)? == Published::Exists
            && commit::digest_file(&path).ok() != Some((sealed.sha256, named.bytes))
        {
            sealed.replace_as(&path)?;
        }
    }
    Ok(())
}
