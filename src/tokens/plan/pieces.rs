//! Owns the files that the rows of a plan lie in, and reading stretches of its partitions: one file,
//! or of a large plan several, of which a few are open at a time. Must not know: what a plan stands
//! upon, what its rows are held against.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::broken::broken;
use super::footer::Footer;
use super::layout::Layout;
use super::partitions::starts;
use super::rows::rows_of;
use crate::error::{Error, Result};
use crate::storage::{self, Chunks};
use crate::tokens::rows::PlanRow;
use crate::tokens::untrusted;

/// Files whose footers are held in memory.
const OPEN_MAX: usize = 2;
/// Partitions whose footer the reader has at a time.
const PARTITIONS: usize = 64;

/// The files of a plan.
pub(super) struct Pieces {
    layout: Layout,
    pieces: Vec<Piece>,
    /// Behind how many of the plan's images each partition begins, and the number of all.
    starts: Vec<u64>,
    /// The last ones that were used, with their numbers.
    open: Mutex<Vec<(usize, Arc<Footer>)>>,
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) path: PathBuf,
    /// The first of its partitions, counted within the plan.
    pub(super) first: usize,
}

impl Pieces {
    /// Of a plan that is one file, whose footer was read.
    ///
    /// # Errors
    /// In a few words: row groups that are no partitions.
    pub(super) fn one(
        path: &Path,
        metadata: &ArrowReaderMetadata,
        shard_rows: u64,
        layout: Layout,
    ) -> Result<Pieces, String> {
        let length = storage::facts(path).map_err(|error| error.to_string())?.bytes;
        let starts = starts(metadata, shard_rows, layout, length)?;
        let footer = Arc::new(Footer::of(path, metadata, layout));
        let pieces = vec![Piece { path: path.to_path_buf(), first: 0 }];
        Ok(Pieces { layout, pieces, starts, open: Mutex::new(vec![(0, footer)]) })
    }

    /// Of a plan in several files; `starts` as its partitions have them.
    pub(super) fn several(layout: Layout, pieces: Vec<Piece>, starts: Vec<u64>) -> Pieces {
        Pieces { layout, pieces, starts, open: Mutex::default() }
    }

    /// Behind how many of the plan's images each partition begins, and the number of all.
    pub(super) fn starts(&self) -> &[u64] {
        &self.starts
    }

    /// Images.
    pub(super) fn count(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Partitions.
    pub(super) fn partitions(&self) -> usize {
        self.starts.len() - 1
    }

    /// The first file.
    pub(super) fn path(&self) -> &Path {
        &self.pieces[0].path
    }

    /// The rows of some partitions, streaming, so many decoded at a time.
    ///
    /// # Errors
    /// The first that can't be read; later ones come as errors of their own, after which nothing comes.
    pub(super) fn rows(
        self: &Arc<Self>,
        partitions: Range<usize>,
        batch: usize,
    ) -> Result<impl Iterator<Item = Result<PlanRow>> + use<>> {
        let pieces = Arc::clone(self);
        let mut left = partitions;
        let mut current = match left.is_empty() {
            true => None,
            false => Some(pieces.some_rows(&mut left, batch)?),
        };
        Ok(std::iter::from_fn(move || {
            loop {
                match current.as_mut()?.next() {
                    Some(Err(error)) => {
                        current = None;
                        return Some(Err(error));
                    }
                    Some(row) => return Some(row),
                    None if left.is_empty() => current = None,
                    None => match pieces.some_rows(&mut left, batch) {
                        Ok(rows) => current = Some(rows),
                        Err(error) => {
                            current = None;
                            return Some(Err(error));
                        }
                    },
                }
            }
        }))
    }

    /// The rows of the first of the partitions that are left, a few of one file.
    fn some_rows(
        &self,
        left: &mut Range<usize>,
        batch: usize,
    ) -> Result<Box<dyn Iterator<Item = Result<PlanRow>> + Send>> {
        let number = self.piece_of(left.start);
        let footer = self.footer(number)?;
        let Range { start: first, end } = self.partitions_of(number);
        let taken = left.start..left.end.min(end).min(left.start + PARTITIONS);
        left.start = taken.end;
        let metadata = footer.of_partitions(taken.start - first..taken.end - first)?;
        Ok(Box::new(rows_of(footer.path(), metadata, batch)?))
    }

    /// The first and the last position that a partition of a plan of buckets holds.
    ///
    /// # Errors
    /// A file that can't be read.
    pub(super) fn positions(&self, partition: usize) -> Result<Option<[i64; 2]>> {
        let number = self.piece_of(partition);
        Ok(self.footer(number)?.positions(partition - self.pieces[number].first))
    }

    fn piece_of(&self, partition: usize) -> usize {
        self.pieces.partition_point(|piece| piece.first <= partition).saturating_sub(1)
    }

    fn partitions_of(&self, number: usize) -> Range<usize> {
        let behind = self.pieces.get(number + 1).map_or(self.partitions(), |next| next.first);
        self.pieces[number].first..behind
    }

    /// The footer of a file, which is kept for a while.
    fn footer(&self, number: usize) -> Result<Arc<Footer>> {
        // A thread that panicked left nothing half done here.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = open.iter().position(|(known, _)| *known == number) {
            let known = open.remove(at);
            let footer = Arc::clone(&known.1);
            open.push(known);
            return Ok(footer);
        }
        let footer = Arc::new(self.open_piece(number)?);
        if open.len() == OPEN_MAX {
            open.remove(0);
        }
        open.push((number, Arc::clone(&footer)));
        Ok(footer)
    }

    /// Opens a file and finds it to hold the partitions that the plan says.
    fn open_piece(&self, number: usize) -> Result<Footer> {
        let path = &self.pieces[number].path;
        let broken = |reason: String| broken(path, &reason);
        let file = match storage::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(broken("it is missing, a file of its plan".into()));
            }
            file => Chunks(file.map_err(Error::of_output(path))?),
        };
        let metadata = untrusted::metadata(&file, "not a readable plan: ").map_err(broken)?;
        if Layout::of(metadata.schema().fields()) != Some(self.layout) {
            return Err(broken("its columns are not those of its plan".into()));
        }
        let length = storage::facts(path).map_err(Error::io(path))?.bytes;
        starts(&metadata, u64::MAX, Layout::Parts, length).map_err(broken)?;
        let footer = Footer::of(path, &metadata, self.layout);
        let partitions = self.partitions_of(number);
        let due = self.starts[partitions.start..=partitions.end].windows(2);
        match due.map(|pair| pair[1] - pair[0]).eq(footer.rows().iter().copied()) {
            true => Ok(footer),
            false => Err(broken("its partitions are not those of its plan".into())),
        }
    }
}
