//! Owns finding the images that may be like each image, without comparing all with all: tables of
//! signs, asked for an image, its mirror image, its turns and parts of it. Must not know: which of
//! them are one.

use std::ops::Range;

use rayon::prelude::*;

use super::columns::{Column, Growing, Scratch};
use super::frequencies::{LEN, Turn, Window, frequencies};
use super::signature::{Signature, Weights};
use super::thumbnail::Thumbnail;
use crate::error::Result;
use crate::util::random::SplitMix64;

/// Tables, each of another choice of signs.
const TABLES: usize = 32;
/// Signs that tables choose from: those of the strongest values.
const CHOSEN_FROM: usize = 64;
/// Signs that a table knows at most.
const MOST_SIGNS: u32 = 24;
/// A table is asked for an image's signs and for all that differ from them in its weakest so many.
const WEAKEST: usize = 4;
/// Images that are looked at for one question to a table, however many there are.
const BUCKET: usize = 64;
/// Signs of all that may differ.
const DIFFERENT: u32 = 46;
/// Similarity from which an image is worth a closer look.
const WORTH: f32 = 0.6;
/// Closer looks an image.
pub(super) const KEEP: usize = 8;
/// Bytes of tables that are in memory together.
const TOGETHER: usize = 256 << 20;
/// Images of a set, up to which parts of images are looked for too: each takes as long as the image.
const PARTS_UP_TO: usize = 1_000_000;
/// How large the parts are, and where they lie.
const PART: f32 = 0.86;
const PLACES: [(f32, f32); 5] = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5)];
/// Tables that are asked together.
const ROUND: usize = 4;
/// Images that are asked for together.
const BLOCK: usize = 1 << 15;

/// Images that can be found: the signature and signs of each.
#[derive(Debug)]
pub(super) struct Set<'a> {
    pub thumbnails: &'a [Thumbnail],
    pub signatures: Column<Signature>,
    pub bits: Column<u128>,
}

/// An image that may be like another.
#[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Found {
    /// One more than its row; 0 for none.
    row: u32,
    /// How the other is turned to be like it: its place in [`Turn::ALL`].
    turn: u16,
    /// Similarity, in 65535ths.
    score: u16,
}

/// For each image those that it may be like, the likest first.
pub(super) type Lists = Scratch<[Found; KEEP]>;

impl Found {
    pub(super) fn get(self) -> Option<(usize, Turn)> {
        Some((self.row.checked_sub(1)? as usize, Turn::ALL[usize::from(self.turn)]))
    }
}

impl<'a> Set<'a> {
    /// Signatures of the images that `taken` names; the others are never found.
    ///
    /// # Errors
    /// A file system that is full.
    pub(super) fn new(
        thumbnails: &'a [Thumbnail],
        weights: &Weights,
        taken: &(dyn Fn(usize) -> bool + Sync),
    ) -> Result<Set<'a>> {
        let (mut signatures, mut bits) = (Growing::new(), Growing::new());
        let whole = Window::new(0.0, 1.0);
        for (block, thumbnails) in thumbnails.chunks(BLOCK).enumerate() {
            let made: Vec<Signature> = (thumbnails.par_iter().enumerate())
                .map(|(at, thumbnail)| match taken(block * BLOCK + at) {
                    true => {
                        Signature::of(&frequencies(thumbnail, &whole, &whole), &weights.finding)
                    }
                    false => Signature { values: [0; LEN], scale: 0.0 },
                })
                .collect();
            signatures.extend(&made)?;
            let signs: Vec<u128> = made.par_iter().map(|made| weights.bits(&made.values)).collect();
            bits.extend(&signs)?;
        }
        Ok(Set { thumbnails, signatures: signatures.finish()?, bits: bits.finish()? })
    }

    fn taken(&self, at: usize) -> bool {
        self.signatures[at].scale > 0.0
    }
}

/// Images by some of their signs: those of key k are `rows[starts[k]..starts[k + 1]]`.
struct Table {
    signs: Vec<usize>,
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Table {
    fn new(number: usize, signs: u32, set: &Set<'_>) -> Table {
        let mut random = SplitMix64(number as u64);
        let mut order: Vec<usize> = (0..CHOSEN_FROM).collect();
        for at in 0..signs as usize {
            order.swap(at, at + random.next() as usize % (CHOSEN_FROM - at));
        }
        order.truncate(signs as usize);
        let mut table = Table { signs: order, starts: vec![0; (1 << signs) + 1], rows: Vec::new() };
        let taken = || (0..set.bits.len()).filter(|&at| set.taken(at));
        for at in taken() {
            let key = table.key(set.bits[at]);
            table.starts[key + 1] += 1;
        }
        for key in 1..table.starts.len() {
            table.starts[key] += table.starts[key - 1];
        }
        table.rows = vec![0; table.starts[table.starts.len() - 1] as usize];
        for at in taken() {
            // Each key's start moves on to its end, which is where the next one starts.
            let key = table.key(set.bits[at]);
            table.rows[table.starts[key] as usize] = at as u32;
            table.starts[key] += 1;
        }
        table.starts.rotate_right(1);
        table.starts[0] = 0;
        table
    }

    fn key(&self, bits: u128) -> usize {
        // All chosen signs are among the first 64.
        let bits = bits as u64;
        let bit = |(at, &sign): (usize, &usize)| ((bits >> sign) as usize & 1) << at;
        self.signs.iter().enumerate().map(bit).fold(0, |key, bit| key | bit)
    }

    /// Where the images of a key are, and those of keys that differ from it in weak signs.
    #[inline(always)]
    fn ask(&self, query: &Query) -> [Range<usize>; 1 << WEAKEST] {
        // Strength, then the sign's place in the key; the smallest first.
        let mut weakest = [u32::MAX; WEAKEST];
        for (at, &sign) in self.signs.iter().enumerate() {
            let mut next = u32::from(query.strengths[sign]) << 8 | at as u32;
            for weak in &mut weakest {
                (*weak, next) = (next.min(*weak), next.max(*weak));
            }
        }
        let key = self.key(query.bits);
        std::array::from_fn(|which| {
            let flipped = |(at, &weak): (usize, &u32)| (which >> at & 1) << (weak & 0xff);
            let flips = weakest.iter().enumerate().map(flipped).fold(0, |flips, flip| flips | flip);
            let (start, end) = (self.starts[key ^ flips] as usize, self.starts[(key ^ flips) + 1]);
            start..(end as usize).min(start + BUCKET)
        })
    }
}

/// What is looked for: an image, or a part of it, turned.
struct Query {
    values: [i8; LEN],
    scale: f32,
    bits: u128,
    /// How far each sign that tables know is from the other one.
    strengths: [u8; CHOSEN_FROM],
    turn: Turn,
}

impl Query {
    fn new(signature: &Signature, turn: Turn, weights: &Weights) -> Query {
        let values = turn.of(&signature.values);
        let strength = |sign: usize| values[weights.strongest[sign]].unsigned_abs();
        Query {
            bits: weights.bits(&values),
            strengths: std::array::from_fn(strength),
            scale: signature.scale,
            values,
            turn,
        }
    }
}

/// What every image is asked for.
struct Asker<'a> {
    queries: &'a Set<'a>,
    targets: &'a Set<'a>,
    /// Whether both are one set, in which no image is looked for itself.
    same: bool,
    weights: &'a Weights,
    parts: Vec<(Window, Window)>,
}

/// For each of `queries` those of `targets` that it, or a part of it, may be like. `interrupted` is
/// asked every now and then.
///
/// # Errors
/// A file system that is full; those of `interrupted`.
pub(super) fn find(
    queries: &Set<'_>,
    targets: &Set<'_>,
    weights: &Weights,
    interrupted: &mut dyn FnMut() -> Result<()>,
) -> Result<Lists> {
    let images = targets.bits.len().max(queries.bits.len());
    let part = |&(x, y): &(f32, f32)| {
        let window = |place: f32| Window::new(place * (1.0 - PART), place * (1.0 - PART) + PART);
        (window(x), window(y))
    };
    let parts = if images <= PARTS_UP_TO { PLACES.iter().map(part).collect() } else { Vec::new() };
    let same = std::ptr::eq(queries, targets);
    let asker = Asker { queries, targets, same, weights, parts };
    let mut lists = Lists::zeroed(queries.bits.len())?;
    let signs = (images.max(2).ilog2() + 2).clamp(8, MOST_SIGNS);
    for numbers in together(signs, targets.bits.len()) {
        let tables: Vec<Table> =
            numbers.into_par_iter().map(|number| Table::new(number, signs, targets)).collect();
        for (block, lists) in lists.chunks_mut(BLOCK).enumerate() {
            interrupted()?;
            lists.par_iter_mut().enumerate().for_each(|(at, best)| {
                asker.ask(block * BLOCK + at, &tables, best);
            });
        }
    }
    Ok(lists)
}

/// The numbers of tables that are in memory together.
fn together(signs: u32, rows: usize) -> Vec<Range<usize>> {
    let bytes = 4 * ((1 << signs) + rows);
    let tables = (TOGETHER / bytes).clamp(1, TABLES);
    (0..TABLES).step_by(tables).map(|first| first..(first + tables).min(TABLES)).collect()
}

impl Asker<'_> {
    fn ask(&self, at: usize, tables: &[Table], best: &mut [Found; KEEP]) {
        if !self.queries.taken(at) {
            return;
        }
        let parts = self.parts.iter().map(|(across, down)| {
            let seen = frequencies(&self.queries.thumbnails[at], across, down);
            Signature::of(&seen, &self.weights.finding)
        });
        let whole = self.queries.signatures[at];
        let whole = Turn::ALL.iter().map(|&turn| Query::new(&whole, turn, self.weights));
        let parts = parts.flat_map(|part| {
            // What is cropped is seldom turned as well.
            [Turn::None, Turn::Mirrored].map(|turn| Query::new(&part, turn, self.weights))
        });
        for query in whole.chain(parts) {
            self.ask_tables(at, &query, tables, best);
        }
    }

    fn ask_tables(&self, at: usize, query: &Query, tables: &[Table], best: &mut [Found; KEEP]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has these instructions.
            return unsafe { self.ask_tables_wide(at, query, tables, best) };
        }
        self.ask_each(at, query, tables, best);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,popcnt")]
    fn ask_tables_wide(
        &self,
        at: usize,
        query: &Query,
        tables: &[Table],
        best: &mut [Found; KEEP],
    ) {
        self.ask_each(at, query, tables, best);
    }

    /// In rounds, so that the memory of one round's images is on its way while that of others is looked for:
    /// of millions of images hardly any is in a cache.
    #[inline(always)]
    fn ask_each(&self, at: usize, query: &Query, tables: &[Table], best: &mut [Found; KEEP]) {
        // What was looked at before, as far as it wasn't looked at long ago.
        let mut seen = [u32::MAX; 256];
        let mut rows = Vec::with_capacity((ROUND * BUCKET) << WEAKEST);
        for tables in tables.chunks(ROUND) {
            rows.clear();
            let mut ranges = [const { [const { 0..0 }; 1 << WEAKEST] }; ROUND];
            for (ranges, table) in ranges.iter_mut().zip(tables) {
                *ranges = table.ask(query);
                ranges.iter().for_each(|range| fetch(&table.rows, range.start));
            }
            for (ranges, table) in ranges.into_iter().zip(tables) {
                for &row in ranges.into_iter().flat_map(|range| &table.rows[range]) {
                    let known = &mut seen[row as usize % 256];
                    if *known != row && !(self.same && row as usize == at) {
                        *known = row;
                        fetch(&self.targets.bits, row as usize);
                        rows.push(row);
                    }
                }
            }
            rows.retain(|&row| self.is_worth_it(row, query));
            rows.iter().for_each(|&row| self.look(row, query, best));
        }
    }

    /// Whether enough signs are those of the query.
    #[inline(always)]
    fn is_worth_it(&self, row: u32, query: &Query) -> bool {
        let different = self.targets.bits[row as usize] ^ query.bits;
        let ones = (different as u64).count_ones() + ((different >> 64) as u64).count_ones();
        if ones <= DIFFERENT {
            fetch(&self.targets.signatures, row as usize);
        }
        ones <= DIFFERENT
    }

    #[inline(always)]
    fn look(&self, row: u32, query: &Query, best: &mut [Found; KEEP]) {
        let score = self.targets.signatures[row as usize].like(&query.values, query.scale);
        if score >= WORTH {
            let score = (score.min(1.0) * 65_535.0) as u16;
            offer(best, Found { row: row + 1, turn: query.turn as u16, score });
        }
    }
}

/// Begins to load what is read soon, if it is there.
#[inline(always)]
fn fetch<T>(all: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(one) = all.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(one).cast::<i8>();
        for line in (0..size_of::<T>()).step_by(64) {
            // SAFETY: loading ahead reads nothing that the program sees, and the address is within `one`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.add(line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (all, at);
}

/// Takes an image among the best, in whatever order they come.
fn offer(best: &mut [Found; KEEP], found: Found) {
    let rank = |found: &Found| (std::cmp::Reverse(found.score), found.row, found.turn);
    let known = best.iter().position(|other| other.row == found.row);
    let last = known.unwrap_or(KEEP - 1);
    if best[last].row != 0 && rank(&best[last]) <= rank(&found) {
        return;
    }
    let before = |other: &&Found| other.row != 0 && rank(other) < rank(&found);
    let place = best[..last].iter().take_while(before).count();
    best[place..=last].rotate_right(1);
    best[place] = found;
}
