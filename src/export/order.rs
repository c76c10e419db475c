//! Owns the order of the rows and reading them ahead: a thread of its own, bounded. Must not know:
//! what becomes of them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::settings::RowOrder;
use super::shuffle::Shuffled;
use crate::audit::{BadRows, GridRow, TokenFile};
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

/// Puts all rows in order, until nobody takes any more or `stop` says so. `folder` holds what doesn't
/// fit into memory.
pub(super) fn read(
    mut file: TokenFile,
    order: RowOrder,
    folder: &Path,
    stop: &AtomicBool,
    chunks: &Sender<Chunk>,
) {
    let done = match order {
        RowOrder::Plan => {
            put(&mut std::iter::from_fn(|| file.next_row()), chunks);
            Ok(())
        }
        RowOrder::Shuffle(seed) => {
            Shuffled::of(file, seed, folder, stop, chunks).and_then(|mut shuffled| {
                while let Some(rows) = shuffled.next_bucket()? {
                    if !put(&mut rows.into_iter().map(Ok), chunks) {
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
