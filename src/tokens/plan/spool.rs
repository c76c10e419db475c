//! Owns sorting a plan's rows by their buckets, through a temporary file. Must not know: where rows
//! come from, what becomes of them.
//!
//! Memory holds a block of rows for each bucket and the places of those written, whatever the
//! number of rows.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::tokens::rows::PlanRow;
use crate::util::{error_text, nameless_file, text};

/// Rows of a bucket that are written at a time, in bytes.
const BLOCK_BYTES: usize = 64 << 10;

/// Rows on their way to being sorted.
pub(super) struct Spool {
    folder: PathBuf,
    file: File,
    end: u64,
    piles: Vec<Pile>,
}

/// The rows of one bucket, one JSON object a line.
struct Pile {
    bucket: (u32, u32),
    /// What isn't written yet.
    rest: Vec<u8>,
    /// Start and length of each block that is.
    blocks: Vec<(u64, usize)>,
}

/// Some rows of a bucket.
enum Block {
    Written((u64, usize)),
    Held(Vec<u8>),
}

impl Spool {
    /// For rows of these buckets.
    ///
    /// # Errors
    /// No room for a temporary file.
    pub(super) fn new(buckets: &[(u32, u32)]) -> Result<Spool> {
        let folder = std::env::temp_dir();
        let file = nameless_file::create(&folder).map_err(|error| unusable(&folder, &error))?;
        let pile = |&bucket| Pile { bucket, rest: Vec::new(), blocks: Vec::new() };
        Ok(Spool { folder, file, end: 0, piles: buckets.iter().map(pile).collect() })
    }

    /// Takes the next row.
    ///
    /// # Errors
    /// One without a bucket, or of another; no room left.
    pub(super) fn push(&mut self, row: &PlanRow) -> Result<()> {
        let size = row.bucket_size();
        let pile = self.piles.iter_mut().find(|pile| Some(pile.bucket) == size);
        let Some(pile) = pile else {
            let (ordinal, key) = (row.ordinal, text::shorten(&row.key));
            return Err(Error::invalid(format!("image {ordinal}, '{key}', is in no bucket")));
        };
        serde_json::to_writer(&mut pile.rest, row)
            .map_err(|error| Error::internal(format!("a row that is no JSON: {error}")))?;
        pile.rest.push(b'\n');
        if pile.rest.len() >= BLOCK_BYTES {
            let written = self.file.write_all_at(&pile.rest, self.end);
            written.map_err(|error| unusable(&self.folder, &error))?;
            pile.blocks.push((self.end, pile.rest.len()));
            self.end += pile.rest.len() as u64;
            pile.rest.clear();
        }
        Ok(())
    }

    /// All rows: bucket after bucket, each in the order they came in.
    ///
    /// # Errors
    /// Rows that can't be read back come as errors of their own.
    pub(super) fn rows(self) -> impl Iterator<Item = Result<PlanRow>> {
        let Spool { folder, file, piles, .. } = self;
        let blocks = piles.into_iter().flat_map(|Pile { rest, blocks, .. }| {
            blocks.into_iter().map(Block::Written).chain([Block::Held(rest)])
        });
        blocks.flat_map(move |block| {
            let read = match block {
                Block::Held(bytes) => Ok(bytes),
                Block::Written((start, length)) => {
                    let mut bytes = vec![0; length];
                    file.read_exact_at(&mut bytes, start).map(|()| bytes)
                }
            };
            match read {
                Ok(bytes) => parsed(&bytes),
                Err(error) => vec![Err(unusable(&folder, &error))],
            }
        })
    }
}

fn parsed(block: &[u8]) -> Vec<Result<PlanRow>> {
    let broken = |error| Error::internal(format!("a row that was written isn't read: {error}"));
    let lines = block.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(broken)).collect()
}

fn unusable(folder: &std::path::Path, error: &io::Error) -> Error {
    Error::invalid(format!(
        "the plan is sorted by its buckets in {}, which can't be used: {}; set TMPDIR to a folder \
         with room",
        text::path(folder),
        error_text::reason(error)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::rows::Bucket;

    #[test]
    fn rows_come_bucket_after_bucket_and_memory_holds_blocks() {
        let buckets = [(16, 32), (32, 16), (16, 16)];
        let row = |position: i64| {
            let (width, height) = buckets[(position * 7 % 3) as usize];
            PlanRow {
                ordinal: position,
                key: format!("a\n\"{position}\u{1}"),
                caption: Some("b".repeat((position % 90) as usize)),
                bucket: Some(Bucket { width, height, position }),
                ..PlanRow::default()
            }
        };
        let mut spool = Spool::new(&buckets).unwrap();
        let all: Vec<_> = (0..20_000).map(row).collect();
        for row in &all {
            spool.push(row).unwrap();
            let waiting: usize = spool.piles.iter().map(|pile| pile.rest.capacity()).sum();
            assert!(waiting <= 3 * 2 * BLOCK_BYTES, "{waiting}");
        }
        assert!(spool.piles.iter().all(|pile| pile.blocks.len() > 5));
        let found: Vec<_> = spool.rows().map(Result::unwrap).collect();
        let due = buckets.iter().flat_map(|size| {
            all.iter().filter(move |row| row.bucket_size() == Some(*size)).cloned()
        });
        assert_eq!(found, due.collect::<Vec<_>>());
        let mut none = Spool::new(&buckets).unwrap();
        let error = none.push(&PlanRow { key: "k".into(), ..PlanRow::default() }).unwrap_err();
        assert_eq!(error.message(), "image 0, 'k', is in no bucket");
    }
}
