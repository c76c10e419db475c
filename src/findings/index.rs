//! Owns finding the images that may be like each image, without comparing all with all: tables of
//! signs, asked for an image, its mirror image, its turns and parts of it. Must not know: which of
//! them are one.

use rayon::prelude::*;

mod tables;

use self::tables::{BUCKET, CHOSEN_FROM, Keys, Table, WEAKEST, fetch, signs_for, together};
use super::columns::{Column, Growing, Scratch};
use super::frequencies::{LEN, Turn, Window, frequencies};
use super::signature::{Signature, Weights};
use super::thumbnail::Thumbnail;
use crate::error::Result;

/// Signs of all that may differ.
const DIFFERENT: u32 = 46;
/// Similarity from which an image is worth a closer look.
const WORTH: f32 = 0.6;
/// Closer looks an image.
pub(super) const KEEP: usize = 8;
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

/// One query to all tables.
struct Question {
    query: Query,
    /// Its keys in each table of this round.
    keys: [Keys; ROUND],
    /// What was looked at before, as far as it wasn't looked at long ago.
    seen: [u32; 256],
}

impl Question {
    fn new(query: Query) -> Question {
        Question { query, keys: [[0; 1 << WEAKEST]; ROUND], seen: [u32::MAX; 256] }
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
    let signs = signs_for(images);
    for numbers in together(signs, targets.bits.len()) {
        let tables: Vec<Table> = numbers
            .into_par_iter()
            .map(|number| Table::new(number, signs, &targets.bits, &|at| targets.taken(at)))
            .collect();
        for (block, lists) in lists.chunks_mut(BLOCK).enumerate() {
            interrupted()?;
            lists.par_iter_mut().enumerate().for_each(|(at, best)| {
                asker.ask(block * BLOCK + at, &tables, best);
            });
        }
    }
    Ok(lists)
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
        let mut questions: Vec<Question> = whole.chain(parts).map(Question::new).collect();
        self.ask_tables(at, &mut questions, tables, best);
    }

    fn ask_tables(
        &self,
        at: usize,
        questions: &mut [Question],
        tables: &[Table],
        best: &mut [Found; KEEP],
    ) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
            // SAFETY: the processor has these instructions.
            return unsafe { self.ask_tables_wide(at, questions, tables, best) };
        }
        self.ask_each(at, questions, tables, best);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,popcnt")]
    fn ask_tables_wide(
        &self,
        at: usize,
        questions: &mut [Question],
        tables: &[Table],
        best: &mut [Found; KEEP],
    ) {
        self.ask_each(at, questions, tables, best);
    }

    /// In rounds of a few tables, and each round in steps, so that the memory that one step reads is
    /// on its way since the step before: of millions of images hardly any is in a cache. Loops, as
    /// closures that go to the standard library lose the processor's instructions.
    #[inline(always)]
    fn ask_each(
        &self,
        at: usize,
        questions: &mut [Question],
        tables: &[Table],
        best: &mut [Found; KEEP],
    ) {
        let mut rows = Vec::with_capacity((ROUND * BUCKET) << WEAKEST);
        for tables in tables.chunks(ROUND) {
            for question in &mut *questions {
                for (keys, table) in question.keys.iter_mut().zip(tables) {
                    *keys = table.keys(question.query.bits, &question.query.strengths);
                    table.fetch(keys);
                }
            }
            for question in &mut *questions {
                rows.clear();
                self.candidates(at, question, tables, &mut rows);
                let mut worth = 0;
                for which in 0..rows.len() {
                    let row = rows[which];
                    rows[worth] = row;
                    worth += usize::from(self.is_worth_it(row, &question.query));
                }
                for &row in &rows[..worth] {
                    self.look(row, &question.query, best);
                }
            }
        }
    }

    /// The images that some tables have for one question, but for those that were looked at lately.
    #[inline(always)]
    fn candidates(
        &self,
        at: usize,
        question: &mut Question,
        tables: &[Table],
        rows: &mut Vec<u32>,
    ) {
        let mut ranges = [const { [const { 0..0 }; 1 << WEAKEST] }; ROUND];
        for ((ranges, keys), table) in ranges.iter_mut().zip(&question.keys).zip(tables) {
            for (range, &key) in ranges.iter_mut().zip(keys) {
                *range = table.range(key);
                fetch(&table.rows, range.start);
            }
        }
        for (ranges, table) in ranges.into_iter().zip(tables) {
            for range in ranges {
                for &row in &table.rows[range] {
                    let known = &mut question.seen[row as usize % 256];
                    if *known != row && !(self.same && row as usize == at) {
                        *known = row;
                        fetch(&self.targets.bits, row as usize);
                        rows.push(row);
                    }
                }
            }
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
