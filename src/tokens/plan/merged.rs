//! Owns the planned rows in the order of the inputs, whatever the plan's own is: those of a plan of
//! buckets are merged from the buckets. Must not know: what they are compared with.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

use super::broken::broken;
use super::layout::Layout;
use super::pieces::Pieces;
use super::rows::PlannedRows;
use crate::error::{Error, Result};
use crate::tokens::rows::PlanRow;

/// Buckets of a plan at most: each has an open file while they are merged.
const RUNS_MAX: usize = 128;
/// Rows of each bucket that are decoded at a time.
const BATCH_ROWS: usize = 256;

/// Planned rows in the order of the inputs, of which stretches may be skipped.
pub(super) enum Planned {
    /// The plan's order.
    Same(PlannedRows),
    /// That of buckets.
    Merged(Merged),
}

impl Planned {
    /// From the first row on, which is at position `first`.
    ///
    /// # Errors
    /// A plan of buckets whose partitions don't say which images they hold.
    pub(super) fn of(pieces: &Arc<Pieces>, first: u64, layout: Layout) -> Result<Planned> {
        if layout != Layout::Buckets {
            return Ok(Planned::Same(PlannedRows::new(Arc::clone(pieces))));
        }
        Merged::new(Arc::clone(pieces), first).map(Planned::Merged)
    }

    /// All of them.
    pub(super) fn rows(mut self) -> impl Iterator<Item = Result<PlanRow>> + use<> {
        std::iter::from_fn(move || self.next().transpose())
    }

    /// How many the plan has.
    pub(super) fn count(&self) -> u64 {
        match self {
            Planned::Same(rows) => rows.count(),
            Planned::Merged(rows) => rows.count,
        }
    }

    /// The next row; None at the end.
    ///
    /// # Errors
    /// A plan that can't be read any more.
    pub(super) fn next(&mut self) -> Result<Option<PlanRow>> {
        match self {
            Planned::Same(rows) => rows.next(),
            Planned::Merged(rows) => rows.next(),
        }
    }

    /// Passes over so many rows.
    pub(super) fn skip(&mut self, rows: u64) {
        match self {
            Planned::Same(planned) => planned.skip(rows),
            Planned::Merged(planned) => planned.skip(rows),
        }
    }
}

/// The rows of a plan of buckets by their positions.
pub(super) struct Merged {
    pieces: Arc<Pieces>,
    count: u64,
    /// The position behind the last one.
    end: u64,
    /// The position of each partition's first row.
    firsts: Vec<i64>,
    /// Partitions over which positions ascend: those of a bucket, or of several.
    runs: Vec<Range<usize>>,
    /// Of the next row.
    position: u64,
    /// None before the first row and after a skip.
    ways: Option<Ways>,
}

/// The ways through all runs.
struct Ways {
    rows: Vec<Box<dyn Iterator<Item = Result<PlanRow>>>>,
    /// The next row of each.
    next: Vec<Option<PlanRow>>,
    /// Their positions, with the numbers of their runs.
    order: BinaryHeap<Reverse<(i64, usize)>>,
}

impl Merged {
    fn new(pieces: Arc<Pieces>, first: u64) -> Result<Merged> {
        let broken = |reason: &str| broken(pieces.path(), reason);
        let (mut firsts, mut runs) = (Vec::new(), Vec::<Range<usize>>::new());
        let mut last = i64::MAX;
        for partition in 0..pieces.partitions() {
            let Some([first, end]) = pieces.positions(partition)? else {
                return Err(broken("its partitions don't say which images they hold"));
            };
            match runs.last_mut() {
                Some(run) if first > last => run.end += 1,
                _ => runs.push(partition..partition + 1),
            }
            firsts.push(first);
            last = end;
        }
        if runs.len() > RUNS_MAX {
            return Err(broken("its images aren't sorted by buckets"));
        }
        let count = pieces.count();
        let end = first.saturating_add(count);
        Ok(Merged { pieces, count, end, firsts, runs, position: first, ways: None })
    }

    fn next(&mut self) -> Result<Option<PlanRow>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let mut ways = match self.ways.take() {
            Some(ways) => ways,
            None => self.ways_from(self.position as i64)?,
        };
        let row = ways.next()?;
        if row.as_ref().map(PlanRow::position) != Some(self.position as i64) {
            let reason = format!("it has no image {}, or two of them", self.position);
            return Err(Error::corrupt(self.pieces.path(), reason));
        }
        self.ways = Some(ways);
        self.position += 1;
        Ok(row)
    }

    fn skip(&mut self, rows: u64) {
        self.position = self.position.saturating_add(rows);
        self.ways = None;
    }

    /// The ways from `position` on: of each run from the partition that may hold it.
    fn ways_from(&self, position: i64) -> Result<Ways> {
        let mut ways = Ways { rows: Vec::new(), next: Vec::new(), order: BinaryHeap::new() };
        for run in &self.runs {
            let before = self.firsts[run.clone()].partition_point(|&first| first <= position);
            let begin = run.start + before.saturating_sub(1);
            let rows = self.pieces.rows(begin..run.end, BATCH_ROWS)?;
            let passed =
                move |row: &Result<PlanRow>| row.as_ref().is_ok_and(|r| r.position() < position);
            ways.rows.push(Box::new(rows.skip_while(passed)));
            ways.next.push(None);
            ways.advance(ways.rows.len() - 1)?;
        }
        Ok(ways)
    }
}

impl Ways {
    fn next(&mut self) -> Result<Option<PlanRow>> {
        let Some(Reverse((_, run))) = self.order.pop() else { return Ok(None) };
        let row = self.next[run].take();
        self.advance(run)?;
        Ok(row)
    }

    fn advance(&mut self, run: usize) -> Result<()> {
        let row = self.rows[run].next().transpose()?;
        if let Some(row) = &row {
            self.order.push(Reverse((row.position(), run)));
        }
        self.next[run] = row;
        Ok(())
    }
}
