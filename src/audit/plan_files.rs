//! Owns the files that a plan's rows lie in, as `schemas/plan.v4.json` describes them. Must not know:
//! the writer, what the rows say.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Int64Type};

use super::facts::FileFacts;
use super::plan;
use crate::audit::parquet_file::ParquetFile;
use crate::error::{Error, FOLDER_IN_THE_WAY, Result};
use crate::storage;

/// Files that are kept open.
const OPEN_MAX: usize = 2;

/// The files of a plan, in order.
pub(super) struct PlanFiles {
    pieces: Vec<Piece>,
    open: Mutex<Vec<(usize, Arc<ParquetFile>)>>,
}

/// A file, with the first of its partitions, counted within the plan.
struct Piece {
    path: PathBuf,
    first: usize,
}

/// A file as a `plan.v4` names it.
#[derive(serde::Deserialize)]
struct Named {
    bytes: u64,
    sha256: String,
    partitions: usize,
}

impl Named {
    /// Where it lies below an output.
    fn name(&self, number: usize, piece: usize) -> Option<String> {
        let start = self.sha256.get(..16)?;
        Some(format!("plan/{number:05}-{piece:05}-{start}.parquet"))
    }
}

impl PlanFiles {
    /// A plan that is one file.
    pub(super) fn one(sheet: ParquetFile) -> PlanFiles {
        let pieces = vec![Piece { path: sheet.path().to_path_buf(), first: 0 }];
        PlanFiles { pieces, open: Mutex::new(vec![(0, Arc::new(sheet))]) }
    }

    /// Those that a root names, with the images of each partition; each is found to be as it says.
    pub(super) fn named(
        dir: &Path,
        number: usize,
        root: &ParquetFile,
    ) -> Result<(PlanFiles, Vec<u64>, Vec<FileFacts>)> {
        let broken = |reason: &str| Error::corrupt(root.path(), reason);
        let name_of_root = plan::name(number);
        let text = root.entries.get("vqtok.files").map(String::as_str).unwrap_or_default();
        let named: Vec<Named> =
            serde_json::from_str(text).map_err(|_| broken("its list of files can't be read"))?;
        let rows = rows(root)?;
        let (mut pieces, mut facts, mut first) = (Vec::new(), Vec::new(), 0_usize);
        for (piece, file) in named.iter().enumerate() {
            let Named { bytes, sha256, partitions } = file;
            let name = file.name(number, piece);
            let name = name.ok_or_else(|| broken("its list of files is wrong"))?;
            let path = dir.join(&name);
            if !storage::exists(&path).map_err(Error::io(&path))? {
                return Err(Error::corrupt(
                    &path,
                    format!("it is missing; {name_of_root} names it"),
                ));
            }
            if storage::facts(&path).is_ok_and(|facts| facts.is_folder) {
                return Err(Error::corrupt(&path, FOLDER_IN_THE_WAY));
            }
            let found = FileFacts::of(dir, &name)?;
            if (found.bytes, &found.sha256) != (*bytes, sha256) {
                return Err(Error::corrupt(
                    &path,
                    format!("it isn't the file that {name_of_root} names"),
                ));
            }
            let behind = first.saturating_add(*partitions);
            let sheet = ParquetFile::open(&path, None)?;
            if rows.get(first..behind) != Some(&*sheet.group_rows()) {
                return Err(broken(&format!("{name} has other partitions than it says")));
            }
            pieces.push(Piece { path, first });
            facts.push(found);
            first = behind;
        }
        match !pieces.is_empty() && first == rows.len() {
            true => Ok((PlanFiles { pieces, open: Mutex::default() }, rows, facts)),
            false => Err(broken("its files have other partitions than it says")),
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// A file.
    pub(super) fn sheet(&self, number: usize) -> Result<Arc<ParquetFile>> {
        // A thread that panicked left nothing half done here.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sheet)) = open.iter().find(|(known, _)| *known == number) {
            return Ok(Arc::clone(sheet));
        }
        let sheet = Arc::new(ParquetFile::open(&self.pieces[number].path, None)?);
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push((number, Arc::clone(&sheet)));
        Ok(sheet)
    }

    /// The file that a partition is in, and its row group there.
    pub(super) fn of(&self, partition: usize) -> Result<(Arc<ParquetFile>, usize)> {
        let number = self.pieces.partition_point(|piece| piece.first <= partition) - 1;
        Ok((self.sheet(number)?, partition - self.pieces[number].first))
    }
}

/// The files that a plan with so many before it names, as it does; none where it is one file.
pub(super) fn names(dir: &Path, number: usize) -> Vec<String> {
    let root = ParquetFile::open(&dir.join(plan::name(number)), None).ok();
    let text = root.and_then(|root| root.entries.get("vqtok.files").cloned()).unwrap_or_default();
    let named: Vec<Named> = serde_json::from_str(&text).unwrap_or_default();
    named.iter().enumerate().filter_map(|(piece, file)| file.name(number, piece)).collect()
}

/// Images of each partition.
fn rows(root: &ParquetFile) -> Result<Vec<u64>> {
    let broken = |reason: &str| Error::corrupt(root.path(), reason);
    let mut rows = Vec::new();
    for batch in root.batches(&["rows"])? {
        let batch = batch?;
        let column = batch
            .columns()
            .first()
            .filter(|column| column.data_type() == &DataType::Int64 && column.null_count() == 0);
        let column = column.ok_or_else(|| broken("its columns are not those of its schema"))?;
        let values = column.as_primitive::<Int64Type>().values();
        rows.extend(values.iter().map(|&rows| u64::try_from(rows).unwrap_or(0)));
    }
    Ok(rows)
}
