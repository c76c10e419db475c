//! Owns what has changed between a planned input and today's: how many images are new, gone or of
//! changed, with examples. Must not know: where either comes from.
//!
//! Memory stays bounded for any number of images: a first reading of both tells which shares of the
//! keys differ at all, a second one looks at these. Where even they are too many, a part of them
//! is counted and stands for all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::plan::difference_of_one;
use super::rows::PlanRow;
use crate::error::Result;

/// Shares of the keys, by their hash.
const SHARES: usize = 1 << 18;

/// Keys that are looked at by themselves: of about 100 MiB.
const KEYS_MAX: u64 = 1 << 21;

/// Planned contents by the hashes of their keys, and whether today's had the key.
type Known = HashMap<u64, (u64, bool)>;

/// Examples of a kind.
const EXAMPLES: usize = 3;

/// Some images.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// How many.
    pub count: u64,
    /// How many of them are of the kind that was asked about.
    pub marked: u64,
    /// The first of them as planned, or as they are today where they weren't.
    pub examples: Vec<PlanRow>,
}

impl Group {
    fn add(&mut self, row: &PlanRow, marked: bool) {
        self.count += 1;
        self.marked += u64::from(marked);
        if self.examples.len() < EXAMPLES {
            self.examples.push(row.clone());
        }
    }
}

/// What has changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Images that were planned.
    pub planned: u64,
    /// Images today.
    pub found: u64,
    /// Keys that were not planned.
    pub new: Group,
    /// Planned keys that aren't there.
    pub gone: Group,
    /// Keys whose images have another size or something else beside them, as they were planned.
    pub changed: Group,
    /// The examples of `changed` as they are today.
    pub today: Vec<PlanRow>,
    /// Images of today with something beside them that the plan, of files alone, has no columns for.
    pub unplanned_facts: u64,
    /// Whether the same images are there in another order.
    pub reordered: bool,
    /// The counts are estimates.
    pub about: bool,
}

impl Changes {
    /// Compares two inputs, each read up to three times; `beside`: by what stands beside their images
    /// too. `marks` says of a key whether it is of the kind that [`Group::marked`] counts; `doubts` of
    /// one of today's images whether it may be another one however it looks, which counts as changed.
    ///
    /// # Errors
    /// The first of either.
    pub(crate) fn between<P, T>(
        planned: impl Fn() -> Result<P>,
        today: impl Fn() -> Result<T>,
        beside: bool,
        marks: impl Fn(&str) -> bool,
        doubts: impl Fn(&PlanRow) -> bool,
    ) -> Result<Changes>
    where
        P: Iterator<Item = Result<PlanRow>>,
        T: Iterator<Item = Result<PlanRow>>,
    {
        Changes::within(KEYS_MAX, planned, today, beside, marks, doubts)
    }

    fn within<P, T>(
        keys_max: u64,
        planned: impl Fn() -> Result<P>,
        today: impl Fn() -> Result<T>,
        beside: bool,
        marks: impl Fn(&str) -> bool,
        doubts: impl Fn(&PlanRow) -> bool,
    ) -> Result<Changes>
    where
        P: Iterator<Item = Result<PlanRow>>,
        T: Iterator<Item = Result<PlanRow>>,
    {
        let planned_content = |row: &PlanRow| named_content(row, beside);
        let content = |row: &PlanRow| named_content(row, beside) ^ u64::from(doubts(row));
        let mut sums = vec![0u64; SHARES];
        let was = Read::all(planned()?, planned_content, |share, sum| {
            sums[share] = sums[share].wrapping_add(sum);
        })?;
        let mut unplanned_facts = 0;
        let today_rows = today()?.inspect(|row| {
            let more = row.as_ref().is_ok_and(PlanRow::is_more_than_a_file);
            unplanned_facts += u64::from(more && !beside);
        });
        let now = Read::all(today_rows, content, |share, sum| {
            sums[share] = sums[share].wrapping_sub(sum);
        })?;
        let differing = sums.iter().filter(|&&sum| sum != 0).count() as u64;
        let (keys, found) = (was.rows, now.rows);
        let mut changes = Changes { planned: keys, found, unplanned_facts, ..Changes::default() };
        if differing == 0 {
            changes.reordered = was.order != now.order;
            return Ok(changes);
        }
        let keys = (u128::from(was.rows) * u128::from(differing) / SHARES as u128) as u64;
        let part = keys.div_ceil(keys_max).max(1);
        let looked_at = |hash: u64| sums[share(hash)] != 0 && (hash >> 20).is_multiple_of(part);
        changes.about = part > 1;
        let mut known = contents_by_hash(planned()?, beside, looked_at)?;
        for row in today()? {
            let row = row?;
            let hash = hash(&row.key);
            if !looked_at(hash) {
                continue;
            }
            match known.get_mut(&hash) {
                Some((was, seen)) if !*seen => {
                    *seen = true;
                    if *was != content(&row) {
                        changes.other(row, &marks);
                    }
                }
                // A key that comes twice is new the second time.
                _ => changes.new.add(&row, marks(&row.key)),
            }
        }
        for row in planned()? {
            changes.was(row?, &known, &marks);
        }
        changes.multiplied(part);
        Ok(changes)
    }

    /// One of the planned rows, after today's: it may be gone, or what an example was.
    fn was(&mut self, row: PlanRow, known: &Known, marks: &impl Fn(&str) -> bool) {
        if known.get(&hash(&row.key)).is_some_and(|(_, seen)| !seen) {
            self.gone.add(&row, marks(&row.key));
        }
        if let Some(at) = self.today.iter().position(|now| now.key == row.key) {
            self.changed.examples[at] = row;
        }
    }

    /// One more key whose image is another one; what it was comes later.
    fn other(&mut self, now: PlanRow, marks: &impl Fn(&str) -> bool) {
        self.changed.add(&now, marks(&now.key));
        if self.today.len() < EXAMPLES {
            self.today.push(now);
        }
    }

    /// A part of the keys stands for all.
    fn multiplied(&mut self, part: u64) {
        for group in [&mut self.new, &mut self.gone, &mut self.changed] {
            group.count *= part;
            group.marked *= part;
        }
    }

    /// Whether the same images are there, so that only their order can differ.
    pub(crate) fn is_none(&self) -> bool {
        self.new.count + self.gone.count + self.changed.count == 0
    }

    /// The examples of `changed`, in words.
    pub(crate) fn examples(&self) -> Vec<String> {
        let pairs = self.changed.examples.iter().zip(&self.today);
        pairs.map(|(was, now)| difference_of_one(was, now)).collect()
    }
}

/// What a reading of an input gives beside the sums of its shares.
struct Read {
    rows: u64,
    /// A digest of all rows in their order.
    order: u64,
}

impl Read {
    /// Reads `rows`; `add` takes a share of the keys and the hash of a row that belongs to it.
    fn all(
        rows: impl Iterator<Item = Result<PlanRow>>,
        content: impl Fn(&PlanRow) -> u64,
        mut add: impl FnMut(usize, u64),
    ) -> Result<Read> {
        let mut read = Read { rows: 0, order: 0 };
        for row in rows {
            let row = row?;
            let whole = hash(&(&row.key, content(&row)));
            add(share(hash(&row.key)), whole);
            read.rows += 1;
            read.order = read.order.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ whole;
        }
        Ok(read)
    }
}

/// What an image is beside its name, as a hash.
pub(super) fn content(row: &PlanRow, beside: bool) -> u64 {
    let PlanRow { bytes, member, offset, label, caption, meta_json, fault, .. } = row;
    match beside {
        true => hash(&(bytes, member, offset, label, caption, meta_json, fault)),
        false => hash(&(bytes, member)),
    }
}

/// The same with the name of its file: a key may be of a list that names another one today.
fn named_content(row: &PlanRow, beside: bool) -> u64 {
    match beside {
        true => hash(&(content(row, true), row.file_name())),
        false => content(row, false),
    }
}

/// The contents of the rows that are looked at, by the hash of their keys; none is seen yet.
fn contents_by_hash(
    planned: impl Iterator<Item = Result<PlanRow>>,
    beside: bool,
    looked_at: impl Fn(u64) -> bool,
) -> Result<Known> {
    let mut known = HashMap::new();
    for row in planned {
        let row = row?;
        let hash = hash(&row.key);
        if looked_at(hash) {
            known.insert(hash, (named_content(&row, beside), false));
        }
    }
    Ok(known)
}

fn share(hash: u64) -> usize {
    (hash % SHARES as u64) as usize
}

/// The same in every process: a message doesn't depend on chance.
pub(super) fn hash(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(keys: impl IntoIterator<Item = (String, i64)>) -> Vec<PlanRow> {
        let row = |((key, bytes), ordinal)| PlanRow {
            ordinal,
            key,
            uri: String::new(),
            bytes,
            ..PlanRow::default()
        };
        keys.into_iter().zip(0..).map(row).collect()
    }

    fn stream(rows: &[PlanRow]) -> Result<impl Iterator<Item = Result<PlanRow>>> {
        Ok(rows.iter().cloned().map(Ok))
    }

    fn between(planned: &[PlanRow], today: &[PlanRow]) -> Changes {
        let marks = |key: &str| key.starts_with('.');
        Changes::between(|| stream(planned), || stream(today), true, marks, |_| false).unwrap()
    }

    fn keys(group: &Group) -> Vec<&str> {
        group.examples.iter().map(|row| row.key.as_str()).collect()
    }

    #[test]
    fn what_is_new_gone_and_changed_is_counted_with_examples() {
        let name = |i: i64| (format!("class/{i:05}.png"), 100 + i);
        let planned = rows((0..5000).map(name));
        let mut today = (0..5000).filter(|i| i % 1000 != 7).map(name).collect::<Vec<_>>();
        today.extend([(".x".to_string(), 1), ("z.png".to_string(), 2)]);
        today[3].1 = 1;
        let changes = between(&planned, &rows(today));
        let counts = (changes.new.count, changes.gone.count, changes.changed.count);
        assert_eq!((counts, changes.about), ((2, 5, 1), false));
        assert_eq!((changes.new.marked, changes.gone.marked), (1, 0));
        assert_eq!(keys(&changes.new), [".x", "z.png"]);
        assert_eq!(keys(&changes.gone), ["class/00007.png", "class/01007.png", "class/02007.png"]);
        assert_eq!(keys(&changes.changed), ["class/00003.png"]);
        assert_eq!((changes.changed.examples[0].bytes, changes.today[0].bytes), (103, 1));
        assert_eq!((changes.planned, changes.found), (5000, 4997));
        assert_eq!(changes.examples(), ["'class/00003.png' had 103 bytes and now has 1"]);
    }

    #[test]
    fn a_key_of_another_file_is_changed_and_a_moved_one_is_not() {
        let at = |uri: &str| PlanRow { uri: uri.into(), ..rows([("a".into(), 1)]).remove(0) };
        let changes = between(&[at("file:///x/1.png")], &[at("file:///x/2.png")]);
        assert_eq!(changes.examples(), ["'a' was 1.png and is now 2.png, of the same size"]);
        assert!(between(&[at("file:///x/1.png")], &[at("s3://b/y/1.png")]).is_none());
        let signed = [at("https://h/1.png?sig=a"), at("https://h/1.png?sig=b#c")];
        assert!(between(&signed[..1], &signed[1..]).is_none());
        let within = |uri: &str| PlanRow { member: Some("m".into()), ..at(uri) };
        assert!(between(&[within("file:///a.tar")], &[within("file:///b.tar")]).is_none());
    }

    #[test]
    fn another_order_is_no_change_and_a_key_twice_is_one() {
        let a = rows([("a".into(), 1), ("b".into(), 2)]);
        let b = rows([("b".into(), 2), ("a".into(), 1)]);
        let changes = between(&a, &b);
        assert!(changes.is_none() && changes.reordered);
        assert!(!between(&a, &a).reordered);
        let twice = rows([("a".into(), 1), ("b".into(), 2), ("a".into(), 1)]);
        let changes = between(&a, &twice);
        assert_eq!((changes.new.count, changes.gone.count), (1, 0));
        assert_eq!(keys(&changes.new), ["a"]);
    }

    #[test]
    fn what_stands_beside_an_image_counts_where_it_was_planned() {
        let was = rows([("a".into(), 1), ("b".into(), 2)]);
        let mut now = was.clone();
        now[1].caption = Some("a dog".into());
        let changes = between(&was, &now);
        assert_eq!((changes.changed.count, changes.reordered), (1, false));
        assert_eq!(changes.examples(), ["the caption of 'b' was none and is now 'a dog'"]);
        let (was, now) = (|| stream(&was), || stream(&now));
        assert!(Changes::between(was, now, false, |_| false, |_| false).unwrap().is_none());
    }

    #[test]
    fn where_too_many_differ_a_part_of_them_stands_for_all() {
        let planned = rows((0..40_000).map(|i| (format!("a{i}"), i)));
        let today = rows((0..10_000).map(|i| (format!("b{i}"), i)));
        let changes = between(&planned, &today);
        let counts = (changes.new.count, changes.gone.count);
        assert_eq!((counts, changes.about), ((10_000, 40_000), false));
        let (was, now) = (|| stream(&planned), || stream(&today));
        let some = Changes::within(500, was, now, true, |_| false, |_| false).unwrap();
        assert!(some.about);
        for (found, right) in [(some.new.count, 10_000), (some.gone.count, 40_000)] {
            assert!(found.abs_diff(right) < right / 4, "{found} for {right}");
        }
    }
}
