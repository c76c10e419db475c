//! Owns the rows of a plan whose root is lost, in the files that it named. Must not know: what the root
//! said beside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::Layout;
use super::pieces::{Piece, Pieces};
use super::rows::BATCH_ROWS;
use crate::error::Result;
use crate::storage::{self, Chunks};
use crate::tokens::files::PLAN_FOLDER;
use crate::tokens::rows::PlanRow;
use crate::tokens::{commit, untrusted};
use crate::util::hex::hex;

/// A file in the folder of plans that a root named, by its name.
pub(in crate::tokens) struct Part {
    /// Which of its plan's.
    piece: usize,
    /// The start of its sha256.
    start: String,
    pub(in crate::tokens) path: PathBuf,
}

/// The files of the plan with so many before it, by their names, of whatever root.
///
/// # Errors
/// A folder that can't be listed.
pub(in crate::tokens) fn parts(dir: &Path, number: usize) -> Result<Vec<Part>> {
    let own = format!("{number:05}-");
    let part = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.strip_prefix(&own)?.strip_suffix(".parquet")?;
        let (piece, start) = name.split_once('-')?;
        let (piece, start) = (piece.parse().ok()?, start.to_string());
        (start.len() == 16).then_some(Part { piece, start, path })
    };
    Ok(commit::list(&dir.join(PLAN_FOLDER))?.into_iter().filter_map(part).collect())
}

impl Part {
    /// The images of each of its partitions, and how its rows are laid out; None where it can't be read.
    fn content(&self) -> Option<(Vec<u64>, Layout)> {
        let file = Chunks(storage::open(&self.path).ok()?);
        let metadata = untrusted::metadata(&file, "").ok()?;
        let groups = metadata.metadata().row_groups().iter();
        let rows = groups.map(|group| group.num_rows().unsigned_abs()).collect();
        Some((rows, Layout::of(metadata.schema().fields())?))
    }

    /// Partitions that it has.
    pub(in crate::tokens) fn partitions(&self) -> Option<usize> {
        Some(self.content()?.0.len()).filter(|&partitions| partitions > 0)
    }

    /// How many partitions each file of its plan may have but for the last, where that has so many in all: by
    /// its own, and by how many are before it.
    pub(in crate::tokens) fn cuts(&self, partitions: Option<usize>) -> Vec<usize> {
        let Some(own) = self.partitions() else { return Vec::new() };
        let before = partitions.and_then(|all| all.checked_sub(own));
        let even = before.filter(|before| self.piece > 0 && before % self.piece == 0);
        let cut = even.map(|before| before / self.piece).filter(|&cut| cut >= own);
        std::iter::once(own).chain(cut).collect()
    }

    /// Whether it is what its name says.
    fn is_whole(&self) -> bool {
        commit::digest_file(&self.path)
            .is_ok_and(|(sha256, _)| hex(sha256).starts_with(&self.start))
    }
}

/// The rows of a plan without its root.
pub(in crate::tokens) struct Unrooted(Arc<Pieces>);

impl Unrooted {
    /// Those of the plan with so many before it and so many partitions; None where they aren't all there,
    /// or there are files of several roots.
    ///
    /// # Errors
    /// A folder that can't be listed.
    pub(in crate::tokens) fn of(
        dir: &Path,
        number: usize,
        partitions: usize,
    ) -> Result<Option<Unrooted>> {
        let mut whole = BTreeMap::new();
        for part in parts(dir, number)?.into_iter().filter(Part::is_whole) {
            if whole.insert(part.piece, part).is_some() {
                return Ok(None);
            }
        }
        Ok(joined(whole, partitions))
    }

    /// The rows of a partition, counted within the plan.
    ///
    /// # Errors
    /// One that can't be read.
    pub(in crate::tokens) fn partition(&self, own: usize) -> Result<Vec<PlanRow>> {
        self.0.rows(own..own + 1, BATCH_ROWS)?.collect()
    }
}

fn joined(parts: BTreeMap<usize, Part>, partitions: usize) -> Option<Unrooted> {
    let (mut pieces, mut starts, mut layouts) = (Vec::new(), vec![0], Vec::new());
    for (index, (piece, part)) in parts.into_iter().enumerate() {
        let (rows, layout) = part.content()?;
        if piece != index {
            return None;
        }
        layouts.push(layout);
        pieces.push(Piece { path: part.path, first: starts.len() - 1 });
        for rows in rows {
            starts.push(starts.last()? + rows);
        }
    }
    let layout = *layouts.first()?;
    let fits = starts.len() == partitions + 1 && layouts.iter().all(|other| *other == layout);
    fits.then(|| Unrooted(Arc::new(Pieces::several(layout, pieces, starts))))
}
