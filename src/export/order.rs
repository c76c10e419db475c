//! Owns the order of the rows and reading them ahead: a thread of its own, bounded. Must not know:
//! what becomes of them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::settings::RowOrder;
use super::shuffle::Shuffled;
use crate::audit::{BadRows, Grid, GridRow, TokenFile};
use crate::error::Result;

/// Rows handed over at once.
const CHUNK_ROWS: usize = 256;
/// Chunks that wait at most.
const CHUNKS_AHEAD: usize = 4;

/// A row, or rows that can't be used.
pub(super) type Item = Result<GridRow, BadRows>;
/// Some of them; the last thing is an error where there is one.
pub(super) type Chunk = Result<Vec<Item>>;

/// Where chunks are put and taken.
pub(super) fn channel() -> (Sender<Chunk>, Receiver<Chunk>) {
    bounded(CHUNKS_AHEAD)
}

/// How rows are put.
pub(super) struct Way<'a> {
    pub order: RowOrder,
    /// Whether the views of an image become one row, with a grid each.
    pub stacked: bool,
    /// For what doesn't fit into memory.
    pub folder: &'a Path,
}

/// Puts all rows in order, until nobody takes any more or `stop` says so.
pub(super) fn read(mut file: TokenFile, way: &Way<'_>, stop: &AtomicBool, chunks: &Sender<Chunk>) {
    let put = |rows: &mut dyn Iterator<Item = Item>| match way.stacked {
        true => put(&mut stacked(rows), chunks),
        false => put(rows, chunks),
    };
    let done = match way.order {
        RowOrder::Plan => {
            put(&mut std::iter::from_fn(|| file.next_row()));
            Ok(())
        }
        RowOrder::Shuffle(seed) => {
            Shuffled::of(file, seed, way, stop, chunks).and_then(|mut shuffled| {
                while let Some(rows) = shuffled.next_bucket()? {
                    if !put(&mut rows.into_iter().map(Ok)) {
                        break;
                    }
                }
                Ok(())
            })
        }
    };
    if let Err(error) = done {
        // Nobody listens where the other side has ended first.
        let _ = chunks.send(Err(error));
    }
}

/// Rows of which those of one image, one behind the other, are one: its first, with the first grid of
/// each view.
pub(super) fn stacked(rows: &mut dyn Iterator<Item = Item>) -> impl Iterator<Item = Item> {
    let mut rows = rows.peekable();
    std::iter::from_fn(move || {
        let mut first = match rows.next()? {
            Ok(row) => row,
            bad => return Some(bad),
        };
        first.levels = vec![first_of(first.levels)];
        while let Some(Ok(view)) = rows.next_if(|next| is_view_of(&first, next)) {
            first.levels.push(first_of(view.levels));
            first.beside.crops.extend(view.beside.crops);
        }
        Some(Ok(first))
    })
}

/// The first grid; an empty one where no tokens were read.
fn first_of(levels: Vec<Grid>) -> Grid {
    let empty = || Grid { codes: Vec::new(), height: 0, width: 0 };
    levels.into_iter().next().unwrap_or_else(empty)
}

/// Whether a row is a further view of the image of the one before.
fn is_view_of(first: &GridRow, next: &Item) -> bool {
    let Ok(next) = next else { return false };
    first.keyed
        && next.keyed
        && first.key == next.key
        && first.view.is_some()
        && next.view.is_some()
}

/// Puts rows in chunks. Says whether they were taken.
fn put(rows: &mut dyn Iterator<Item = Item>, chunks: &Sender<Chunk>) -> bool {
    loop {
        let chunk: Vec<Item> = rows.take(CHUNK_ROWS).collect();
        match chunk.is_empty() {
            true => return true,
            false if chunks.send(Ok(chunk)).is_err() => return false,
            false => {}
        }
    }
}
