//! Owns how today's images stand to those that an output has: which are new, which are there, what
//! else differs. Must not know: where either comes from, how files are looked at.
//!
//! Images are known by their keys, in any order. Memory stays bounded: what is found is first written
//! to a hidden file, then held against shares of the planned keys, so many at a time as
//! [`KEYS_MAX`] says; beyond that there is one bit an image. Keys are compared by 128 bits of their
//! sha256, as contents are elsewhere: no two keys have met in these.

mod planned;

use planned::{Bits, Planned};

use super::arrangement::Arrangement;
use super::changes::{content, hash};
use super::duplicate_keys;
use super::plan::{
    About, Base, ChangedContainers, ContainerFile, Plan, PlanFile, Today, Written,
    difference_of_one, write,
};
use super::rows::PlanRow;
use crate::error::{Error, Result};

/// Keys that are held at a time: 96 MiB of them.
const KEYS_MAX: u64 = 1 << 21;
/// Images that are looked at together, since they aren't as planned.
const DOUBTS_MAX: usize = 1 << 12;
/// Examples of what has changed.
const EXAMPLES: usize = 3;
/// Names of containers that are recorded, in bytes: those of more aren't.
const NAMES_MAX: usize = 16 << 20;

/// What a planned image and today's of the same key are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// One image.
    Same,
    /// One image, which has changed.
    Changed,
    /// Two images that would have one key.
    Another,
}

/// A planned image and today's of the same key, of which something isn't as planned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Doubt<'a> {
    /// As planned.
    pub was: &'a PlanRow,
    /// Today's.
    pub now: &'a PlanRow,
    /// Whether more differs than its place.
    pub differs: bool,
}

/// Says what a [`Doubt`] comes to.
pub(crate) type Judge<'a> = &'a mut dyn FnMut(&Plan, Doubt<'_>) -> Result<Verdict>;

/// How today's images stand to the planned ones.
pub(crate) struct Arrivals {
    /// Images that no plan has.
    pub new: u64,
    /// Images that are planned.
    pub known: u64,
    /// How many of these have changed.
    pub changed: u64,
    /// The first of them, in words.
    pub examples: Vec<String>,
    /// How many of them have something beside them that their plan, of files alone, has no columns
    /// for.
    pub unplanned_facts: u64,
    /// How many of the new ones are planned under another key, at the same place.
    pub twice: u64,
    /// Which planned images there are today, by ordinal.
    seen: Bits,
    /// Those of today that had to be listed.
    pub(super) listed: Option<Listed>,
}

/// Today's images in a file of their own, gone when dropped.
pub(super) struct Listed {
    /// Ordinals count from 0.
    pub(super) file: PlanFile,
    /// Which of them are planned.
    known: Bits,
    /// Which of them are at the places of planned ones.
    placed: Bits,
    containers: Containers,
    _written: Written,
}

/// The containers among them.
struct Containers {
    opened: Vec<Opened>,
    /// Bytes of their names so far.
    names: usize,
    /// Those that aren't the planned ones.
    changed: ChangedContainers,
}

/// A container, with its place among the images that were listed.
struct Opened {
    file: ContainerFile,
    first: u64,
    images: u64,
}

impl Arrivals {
    /// Holds `items` against the images of `plan`.
    ///
    /// # Errors
    /// The first of `items`; two images that would have one key; what `judge` refuses.
    pub(super) fn of(
        plan: &Plan,
        items: &mut dyn Iterator<Item = Result<Today>>,
        judge: Judge<'_>,
    ) -> Result<Arrivals> {
        Arrivals::within(KEYS_MAX, plan, items, judge)
    }

    fn within(
        keys_max: u64,
        plan: &Plan,
        items: &mut dyn Iterator<Item = Result<Today>>,
        judge: Judge<'_>,
    ) -> Result<Arrivals> {
        let mut arrivals = Arrivals {
            new: 0,
            known: 0,
            changed: 0,
            examples: Vec::new(),
            twice: 0,
            unplanned_facts: 0,
            seen: Bits::default(),
            listed: None,
        };
        if let Some(mut listed) = arrivals.list(plan, items)? {
            arrivals.new = listed.file.rows();
            let shares = u128::from(plan.rows().div_ceil(keys_max).max(1));
            for share in 0..shares {
                arrivals.hold(plan, &mut listed, [share, shares], &mut *judge)?;
            }
            let new = (0..listed.file.rows()).filter(|&at| !listed.known.has(at));
            arrivals.twice = new.filter(|&at| listed.placed.has(at)).count() as u64;
            arrivals.listed = Some(listed);
        }
        Ok(arrivals)
    }

    /// Of a plan, how many images aren't there today, with the keys of the first.
    ///
    /// # Errors
    /// A plan that can't be read any more.
    pub(crate) fn gone(&self, file: &PlanFile) -> Result<(u64, Vec<String>)> {
        let base = file.base().ordinal;
        let there = (base..base + file.rows()).filter(|&ordinal| self.seen.has(ordinal)).count();
        let gone = file.rows() - there as u64;
        let mut keys = Vec::new();
        if gone > 0 {
            for row in file.all_rows()? {
                let row = row?;
                if !self.seen.has(row.ordinal.unsigned_abs()) {
                    keys.push(row.key);
                }
                if keys.len() == EXAMPLES {
                    break;
                }
            }
        }
        Ok((gone, keys))
    }

    /// Of the new images that are planned under another key, the first: as planned, and today's.
    ///
    /// # Errors
    /// What was listed or a plan can't be read any more.
    pub(crate) fn first_twice(&self, plan: &Plan) -> Result<Option<(PlanRow, PlanRow)>> {
        let Some(listed) = self.listed.as_ref().filter(|_| self.twice > 0) else {
            return Ok(None);
        };
        let placed = |at: u64| listed.placed.has(at) && !listed.known.has(at);
        for now in listed.file.all_rows()? {
            let now = now?;
            if !placed(now.ordinal.unsigned_abs()) {
                continue;
            }
            let place = |row: &PlanRow| (row.uri.clone(), row.member.clone(), row.offset);
            for was in plan.all_rows()? {
                let was = was?;
                if place(&was) == place(&now) {
                    return Ok(Some((was, now)));
                }
            }
            // Its hash alone was that of a planned place, which no second one's is.
            return Ok(None);
        }
        Ok(None)
    }

    /// Writes what is found to a file; None where every image is in a container that looks as it
    /// did.
    fn list(
        &mut self,
        plan: &Plan,
        items: &mut dyn Iterator<Item = Result<Today>>,
    ) -> Result<Option<Listed>> {
        let mut next = 0;
        let changed = ChangedContainers::of(plan);
        let mut containers = Containers { opened: Vec::new(), names: 0, changed };
        let images = items.filter_map(|item| match item {
            Ok(Today::Unchanged(container, _)) => {
                self.known += container.images;
                let ordinals = container.first..container.first + container.images;
                for ordinal in ordinals {
                    self.seen.set(ordinal);
                }
                None
            }
            Ok(Today::Opened(file)) => {
                containers.open(file, next);
                None
            }
            Ok(Today::Ended(digest)) => {
                containers.end(digest);
                None
            }
            Ok(Today::Image(mut row)) => {
                row.ordinal = next as i64;
                next += 1;
                containers.image(&row);
                Some(Ok(Today::Image(row)))
            }
            Err(error) => Some(Err(error)),
        });
        let mut images = images.peekable();
        if images.peek().is_none() {
            return Ok(None);
        }
        let path = plan.dir().join(plan.last().next().name());
        let about = About {
            identity: plan.identity(),
            base: &Base::default(),
            taken: "",
            listed_at: None,
            in_buckets: false,
            classes: None,
            arrangement: Arrangement::usual(),
        };
        let written = write(&path, about, images)?;
        Ok(Some(Listed {
            file: written.open(0)?,
            known: Bits::default(),
            placed: Bits::default(),
            containers,
            _written: written,
        }))
    }

    /// Holds what was listed against one of so many shares of the planned keys.
    fn hold(
        &mut self,
        plan: &Plan,
        listed: &mut Listed,
        share: [u128; 2],
        judge: Judge<'_>,
    ) -> Result<()> {
        let planned = Planned::share(plan, share)?;
        let mut doubts = Vec::new();
        for row in listed.file.all_rows()? {
            let row = row?;
            let Some(known) = planned.find(&row.key) else {
                if planned.is_place_of(&row) {
                    listed.placed.set(row.ordinal.unsigned_abs());
                }
                continue;
            };
            listed.known.set(row.ordinal.unsigned_abs());
            (self.known, self.new) = (self.known + 1, self.new - 1);
            let again = self.seen.set(known.ordinal);
            let beside = plan.of_ordinal(known.ordinal).has_parts();
            self.unplanned_facts += u64::from(!beside && row.is_more_than_a_file());
            let differs =
                known.content != content(&row, beside) || listed.containers.changed.doubts(&row);
            if again || differs || known.place != hash(&row.uri) {
                doubts.push((known.ordinal, again, differs, row));
            }
            if doubts.len() == DOUBTS_MAX {
                self.judge(plan, &mut doubts, &mut *judge)?;
            }
        }
        self.judge(plan, &mut doubts, judge)
    }

    /// Looks at images of today that aren't as planned: each with the ordinal of the planned one,
    /// whether that was there today before, and whether more differs than the place.
    fn judge(
        &mut self,
        plan: &Plan,
        doubts: &mut Vec<(u64, bool, bool, PlanRow)>,
        judge: Judge<'_>,
    ) -> Result<()> {
        doubts.sort_by_key(|(ordinal, ..)| *ordinal);
        let mut partition: Option<(usize, Vec<PlanRow>)> = None;
        for (ordinal, again, differs, now) in doubts.drain(..) {
            let of = plan.partition_of(ordinal as i64);
            let rows = match partition.take() {
                Some((known, rows)) if known == of => rows,
                _ => plan.partition(of)?,
            };
            let was = rows.iter().find(|row| row.ordinal == ordinal as i64);
            let was = was
                .filter(|was| was.key == now.key)
                .ok_or_else(|| Error::internal("a planned image isn't where its key was found"))?;
            let verdict = match again {
                true => Verdict::Another,
                false => judge(plan, Doubt { was, now: &now, differs })?,
            };
            match verdict {
                Verdict::Same => {}
                Verdict::Changed => {
                    self.changed += 1;
                    if self.examples.len() < EXAMPLES {
                        self.examples.push(difference_of_one(was, &now));
                    }
                }
                Verdict::Another => return Err(duplicate_keys::refusal(was, &now)),
            }
            partition = Some((of, rows));
        }
        Ok(())
    }
}

impl Containers {
    fn open(&mut self, file: ContainerFile, first: u64) {
        self.changed.opened(&file);
        self.names += file.uri.len() + file.key.len();
        if self.names <= NAMES_MAX {
            self.opened.push(Opened { file, first, images: 0 });
        }
    }

    fn end(&mut self, digest: String) {
        self.changed.ended(&digest);
        if let Some(open) = self.opened.last_mut().filter(|_| self.names <= NAMES_MAX) {
            open.file.digest = Some(digest);
        }
    }

    fn image(&mut self, row: &PlanRow) {
        self.changed.image(row);
        if let Some(open) = self.opened.last_mut().filter(|open| open.file.uri == row.uri) {
            open.images += 1;
        }
    }
}

impl Listed {
    /// The images that aren't planned, numbered from `ordinal` on, and the containers all of whose
    /// images aren't.
    pub(super) fn arrived(
        &self,
        mut ordinal: i64,
    ) -> Result<impl Iterator<Item = Result<Today>> + use<'_>> {
        let mut opened = self.containers.opened.iter().peekable();
        let rows = self.file.all_rows()?;
        Ok(rows.flat_map(move |row| {
            let mut row = match row {
                Ok(row) if self.known.has(row.ordinal.unsigned_abs()) => return Vec::new(),
                Ok(row) => row,
                Err(error) => return vec![Err(error)],
            };
            let at = row.ordinal.unsigned_abs();
            while opened.next_if(|open| open.first < at || open.images == 0).is_some() {}
            let whole = opened.next_if(|open| open.first == at && self.is_new(open));
            row.ordinal = ordinal;
            ordinal += 1;
            let container = whole.map(|open| Ok(Today::Opened(open.file.clone())));
            container.into_iter().chain([Ok(Today::Image(row))]).collect()
        }))
    }

    fn is_new(&self, open: &Opened) -> bool {
        (open.first..open.first + open.images).all(|at| !self.known.has(at))
    }
}

#[cfg(test)]
mod tests;
