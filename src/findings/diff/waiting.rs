//! Owns rows and failures that wait for the other output's, in columns: who belongs together is found
//! when all are there. Must not know: how rows are compared.

use rayon::slice::ParallelSliceMut;
use sha2::{Digest, Sha256};

use super::side::Compared;
use crate::audit::Grid;
use crate::error::{Error, Result};
use crate::findings::columns::{Column, Growing, GrowingTexts, Texts};

/// One that waits.
#[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Entry {
    /// Of the key.
    hash: [u8; 16],
    file: [u8; 16],
    view: i64,
    /// Where its tokens begin.
    at: u64,
    /// Which output it is of.
    side: u32,
    /// [`ROW`] or [`FAILED`].
    what: u32,
}

/// A row.
const ROW: u32 = 0;
/// An image that was given up.
const FAILED: u32 = 1;
/// Bits by which keys that wait are known again, whatever their number.
const BITS: usize = 1 << 27;

/// What waits so far.
pub(super) struct Waiting {
    entries: Growing<Entry>,
    keys: GrowingTexts,
    /// Of a row its label, of an image that was given up the error.
    told: GrowingTexts,
    /// Of every row the number of its levels and how many words a code takes; of every level height,
    /// width, codes. Numbers in two words, the lower first, but for codes of one word.
    words: Growing<u16>,
    known: Known,
    /// Of the keys that met, those behind each other once.
    met: Growing<[u8; 16]>,
    last_met: Option<[u8; 16]>,
}

/// Which keys wait, as far as some bits of their hashes say: others may be taken for one of them.
struct Known(Vec<u64>);

impl Known {
    fn place(&self, hash: &[u8; 16]) -> (usize, u64) {
        let bit = bytemuck::pod_read_unaligned::<u64>(&hash[..8]) as usize % (64 * self.0.len());
        (bit / 64, 1 << (bit % 64))
    }

    fn take(&mut self, hash: &[u8; 16]) {
        let (at, bit) = self.place(hash);
        self.0[at] |= bit;
    }

    fn has(&self, hash: &[u8; 16]) -> bool {
        let (at, bit) = self.place(hash);
        self.0[at] & bit != 0
    }
}

/// Everything that waited.
pub(super) struct Waited {
    entries: Column<Entry>,
    keys: Texts,
    told: Texts,
    words: Column<u16>,
    /// The entries, those of one key behind each other.
    order: Vec<u32>,
    /// The keys, in the order of their first entries.
    groups: Vec<Key>,
}

/// A key of which something waited.
struct Key {
    /// Its first entry.
    first: u32,
    /// Where in `order` it begins.
    begin: u32,
    /// Whether rows of it met before.
    met: bool,
}

/// What both outputs have of one key; rows by view, then as they came.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) rows: [Vec<u32>; 2],
    pub(super) failures: [Vec<u32>; 2],
    /// Whether both have further rows of it, which met before these came.
    pub(super) met: bool,
}

impl Waiting {
    pub(super) fn new() -> Waiting {
        Waiting::with_bits(BITS)
    }

    /// `bits`: a multiple of 64.
    pub(super) fn with_bits(bits: usize) -> Waiting {
        Waiting {
            known: Known(vec![0; bits / 64]),
            met: Growing::new(),
            last_met: None,
            entries: Growing::new(),
            keys: GrowingTexts::new(),
            told: GrowingTexts::new(),
            words: Growing::new(),
        }
    }

    /// Whether rows of a key that both have next can meet there: not where one of the key waits, since
    /// that was to meet first. So the first row of one meets the first of the other, the second the
    /// second, in whatever order they stand.
    ///
    /// # Errors
    /// A file system that is full.
    pub(super) fn meets(&mut self, key: &str) -> Result<bool> {
        let hash = hash(key);
        if self.known.has(&hash) {
            return Ok(false);
        }
        if self.last_met.replace(hash) != Some(hash) {
            self.met.push(hash)?;
        }
        Ok(true)
    }

    /// A row.
    ///
    /// # Errors
    /// As for `meets`.
    pub(super) fn row(&mut self, side: u32, row: &Compared<'_>) -> Result<()> {
        let at = self.words.len() as u64;
        let wide = row.levels.iter().any(|grid| grid.codes.iter().any(|&c| c > u16::MAX.into()));
        self.words.extend(&[row.levels.len() as u16, if wide { 2 } else { 1 }])?;
        for grid in row.levels {
            self.words.extend(&split(grid.height as u32))?;
            self.words.extend(&split(grid.width as u32))?;
            self.words.extend(&split(grid.values() as u32))?;
            for &code in &grid.codes {
                self.words.extend(&split(code)[..if wide { 2 } else { 1 }])?;
            }
        }
        let (view, what) = (row.view.unwrap_or(0), ROW);
        let entry = Entry { hash: hash(row.key), file: row.file, view, at, side, what };
        self.push(row.key, row.label, entry)
    }

    /// An image that was given up.
    ///
    /// # Errors
    /// As for `meets`.
    pub(super) fn failure(&mut self, side: u32, key: &str, error: &str) -> Result<()> {
        let (hash, file) = (hash(key), [0; 16]);
        self.push(key, error, Entry { hash, file, view: 0, at: 0, side, what: FAILED })
    }

    fn push(&mut self, key: &str, told: &str, entry: Entry) -> Result<()> {
        if self.entries.len() >= u32::MAX as usize {
            return Err(Error::invalid(
                "more than 4,294,967,294 rows have no counterpart: compare parts of the outputs",
            ));
        }
        self.known.take(&entry.hash);
        self.entries.push(entry)?;
        self.keys.push(key)?;
        self.told.push(told)
    }

    /// # Errors
    /// As for `meets`.
    pub(super) fn finish(self) -> Result<Waited> {
        let entries = self.entries.finish()?;
        let entry = |at: u32| &entries[at as usize];
        let mut order: Vec<u32> = (0..entries.len() as u32).collect();
        order.par_sort_unstable_by_key(|&at| (entry(at).hash, entry(at).view, at));
        let mut groups: Vec<Key> = Vec::new();
        let mut begin = 0;
        for group in order.chunk_by(|&a, &b| entry(a).hash == entry(b).hash) {
            // A chunk holds something.
            let first = group.iter().copied().min().unwrap_or_default();
            groups.push(Key { first, begin, met: false });
            begin += group.len() as u32;
        }
        for hash in self.met.finish()?.iter().filter(|hash| self.known.has(hash)) {
            let of = |key: &Key| entry(order[key.begin as usize]).hash;
            if let Ok(at) = groups.binary_search_by_key(hash, of) {
                groups[at].met = true;
            }
        }
        groups.par_sort_unstable_by_key(|key| key.first);
        let (keys, told) = (self.keys.finish()?, self.told.finish()?);
        Ok(Waited { keys, told, words: self.words.finish()?, order, groups, entries })
    }
}

fn hash(key: &str) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(key)[..16]);
    half
}

fn split(number: u32) -> [u16; 2] {
    [number as u16, (number >> 16) as u16]
}

fn joined(words: &[u16]) -> u32 {
    words.iter().rev().fold(0, |sum, &word| sum << 16 | u32::from(word))
}

impl Waited {
    /// What there is of each key.
    pub(super) fn groups(&self) -> impl Iterator<Item = Group> + '_ {
        self.groups.iter().map(|key| {
            let rest = &self.order[key.begin as usize..];
            let hash = |at: u32| self.entries[at as usize].hash;
            let mut group = Group { met: key.met, ..Group::default() };
            for &at in rest.iter().take_while(|&&at| hash(at) == hash(rest[0])) {
                let Entry { side, what, .. } = self.entries[at as usize];
                let of = if what == FAILED { &mut group.failures } else { &mut group.rows };
                of[side as usize & 1].push(at);
            }
            group
        })
    }

    pub(super) fn key(&self, at: u32) -> &str {
        self.keys.get(at as usize)
    }

    pub(super) fn view(&self, at: u32) -> i64 {
        self.entries[at as usize].view
    }

    /// Why an image was given up.
    pub(super) fn error(&self, at: u32) -> &str {
        self.told.get(at as usize)
    }

    /// The tokens of a row.
    pub(super) fn levels(&self, at: u32) -> Vec<Grid> {
        let mut words = self.words[self.entries[at as usize].at as usize..].iter().copied();
        let mut take = |count: usize| joined(&words.by_ref().take(count).collect::<Vec<_>>());
        let (levels, wide) = (take(1), take(1) as usize);
        let mut grid = |_| {
            let (height, width) = (take(2) as usize, take(2) as usize);
            let codes = 0..height * width * take(2) as usize;
            Grid { codes: codes.map(|_| take(wide)).collect(), height, width }
        };
        (0..levels).map(&mut grid).collect()
    }

    /// What is compared of a row with those `levels`.
    pub(super) fn compared<'a>(&'a self, at: u32, levels: &'a [Grid]) -> Compared<'a> {
        let entry = &self.entries[at as usize];
        let label = self.told.get(at as usize);
        Compared { key: self.key(at), view: Some(entry.view), file: entry.file, label, levels }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_found_by_its_key_with_its_tokens() {
        let levels = [
            Grid { codes: vec![1, 70_000, 3, 4, 5, 6], height: 2, width: 3 },
            Grid { codes: vec![65_535; 40], height: 1, width: 1 },
        ];
        let mut waiting = Waiting::new();
        let row = |key, view, levels| Compared { key, view, file: [7; 16], label: key, levels };
        waiting.row(0, &row("b", Some(1), &levels[1..])).unwrap();
        waiting.failure(1, "c", "decode: odd").unwrap();
        waiting.row(1, &row("b", None, &levels)).unwrap();
        waiting.row(0, &row("b", None, &levels[..1])).unwrap();
        let waited = waiting.finish().unwrap();
        let groups: Vec<Group> = waited.groups().collect();
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].rows, [vec![3, 0], vec![2]]);
        assert_eq!(groups[1].failures, [vec![], vec![1]]);
        assert_eq!((waited.key(1), waited.error(1)), ("c", "decode: odd"));
        assert_eq!(waited.levels(2), levels);
        assert_eq!(waited.levels(0), levels[1..]);
        assert_eq!(waited.compared(0, &levels[1..]), row("b", Some(1), &levels[1..]));
    }
}
