//! Owns what has changed between a planned input and today's: how many images are new, gone or of
//! another size, with examples. Must not know: where either comes from.
//!
//! Memory stays bounded for any number of images: a first reading of both tells which shares of the
//! keys differ at all, a second one looks at these. Where even they are too many, a part of them
//! is counted and stands for all.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::rows::PlanRow;
use crate::error::Result;

/// Shares of the keys, by their hash.
const SHARES: usize = 1 << 18;

/// Keys that are looked at by themselves: of about 100 MiB.
const KEYS_MAX: u64 = 1 << 21;

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
    /// Keys that were not planned.
    pub new: Group,
    /// Planned keys that aren't there.
    pub gone: Group,
    /// Keys whose files have another size, as they were planned.
    pub changed: Group,
    /// The sizes of the examples of `changed` today.
    pub sizes: Vec<i64>,
    /// The counts are estimates.
    pub about: bool,
}

impl Changes {
    /// Compares two inputs, each read up to three times; `marks` says of a key whether it is of the
    /// kind that [`Group::marked`] counts.
    ///
    /// # Errors
    /// The first of either.
    pub(crate) fn between<P, T>(
        planned: impl Fn() -> Result<P>,
        today: impl Fn() -> Result<T>,
        marks: impl Fn(&str) -> bool,
    ) -> Result<Changes>
    where
        P: Iterator<Item = Result<PlanRow>>,
        T: Iterator<Item = Result<PlanRow>>,
    {
        Changes::within(KEYS_MAX, planned, today, marks)
    }

    fn within<P, T>(
        keys_max: u64,
        planned: impl Fn() -> Result<P>,
        today: impl Fn() -> Result<T>,
        marks: impl Fn(&str) -> bool,
    ) -> Result<Changes>
    where
        P: Iterator<Item = Result<PlanRow>>,
        T: Iterator<Item = Result<PlanRow>>,
    {
        let (sums, rows) = sums_of_shares(planned()?, today()?)?;
        let differing = sums.iter().filter(|&&sum| sum != 0).count() as u64;
        let keys = (u128::from(rows) * u128::from(differing) / SHARES as u128) as u64;
        let part = keys.div_ceil(keys_max).max(1);
        let looked_at = |hash: u64| sums[share(hash)] != 0 && (hash >> 20).is_multiple_of(part);

        let mut known = sizes_by_hash(planned()?, looked_at)?;
        let mut changes = Changes { about: part > 1, ..Changes::default() };
        for row in today()? {
            let row = row?;
            let hash = hash(&row.key);
            if !looked_at(hash) {
                continue;
            }
            match known.get_mut(&hash) {
                Some((bytes, seen)) if !*seen => {
                    *seen = true;
                    if *bytes != row.bytes {
                        changes.resized(&row, *bytes, marks(&row.key));
                    }
                }
                // A key that comes twice is new the second time.
                _ => changes.new.add(&row, marks(&row.key)),
            }
        }
        for row in planned()? {
            let row = row?;
            if known.get(&hash(&row.key)).is_some_and(|(_, seen)| !seen) {
                changes.gone.add(&row, marks(&row.key));
            }
        }
        for group in [&mut changes.new, &mut changes.gone, &mut changes.changed] {
            group.count *= part;
            group.marked *= part;
        }
        Ok(changes)
    }

    fn resized(&mut self, now: &PlanRow, planned: i64, marked: bool) {
        self.changed.add(&PlanRow { bytes: planned, ..now.clone() }, marked);
        if self.sizes.len() < EXAMPLES {
            self.sizes.push(now.bytes);
        }
    }

    /// Whether the same images are there, so that only their order can differ.
    pub(crate) fn is_none(&self) -> bool {
        self.new.count + self.gone.count + self.changed.count == 0
    }
}

/// By share, the sums of the hashes of (key, size), zero where both have the same; and how many
/// rows were planned.
fn sums_of_shares(
    planned: impl Iterator<Item = Result<PlanRow>>,
    today: impl Iterator<Item = Result<PlanRow>>,
) -> Result<(Vec<u64>, u64)> {
    let mut sums = vec![0u64; SHARES];
    let mut rows = 0;
    for row in planned {
        let row = row?;
        let sum = &mut sums[share(hash(&row.key))];
        *sum = sum.wrapping_add(hash(&(&row.key, row.bytes)));
        rows += 1;
    }
    for row in today {
        let row = row?;
        let sum = &mut sums[share(hash(&row.key))];
        *sum = sum.wrapping_sub(hash(&(&row.key, row.bytes)));
    }
    Ok((sums, rows))
}

/// The sizes of the rows that are looked at, by the hash of their keys; none is seen yet.
fn sizes_by_hash(
    planned: impl Iterator<Item = Result<PlanRow>>,
    looked_at: impl Fn(u64) -> bool,
) -> Result<HashMap<u64, (i64, bool)>> {
    let mut known = HashMap::new();
    for row in planned {
        let row = row?;
        let hash = hash(&row.key);
        if looked_at(hash) {
            known.insert(hash, (row.bytes, false));
        }
    }
    Ok(known)
}

fn share(hash: u64) -> usize {
    (hash % SHARES as u64) as usize
}

/// The same in every process: a message doesn't depend on chance.
fn hash(what: &impl Hash) -> u64 {
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
        Changes::between(|| stream(planned), || stream(today), marks).unwrap()
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
        assert_eq!((changes.changed.examples[0].bytes, &*changes.sizes), (103, &[1][..]));
    }

    #[test]
    fn another_order_is_no_change_and_a_key_twice_is_one() {
        let a = rows([("a".into(), 1), ("b".into(), 2)]);
        let b = rows([("b".into(), 2), ("a".into(), 1)]);
        assert!(between(&a, &b).is_none());
        let twice = rows([("a".into(), 1), ("b".into(), 2), ("a".into(), 1)]);
        let changes = between(&a, &twice);
        assert_eq!((changes.new.count, changes.gone.count), (1, 0));
        assert_eq!(keys(&changes.new), ["a"]);
    }

    #[test]
    fn where_too_many_differ_a_part_of_them_stands_for_all() {
        let planned = rows((0..40_000).map(|i| (format!("a{i}"), i)));
        let today = rows((0..10_000).map(|i| (format!("b{i}"), i)));
        let changes = between(&planned, &today);
        let counts = (changes.new.count, changes.gone.count);
        assert_eq!((counts, changes.about), ((10_000, 40_000), false));
        let some = Changes::within(500, || stream(&planned), || stream(&today), |_| false).unwrap();
        assert!(some.about);
        for (found, right) in [(some.new.count, 10_000), (some.gone.count, 40_000)] {
            assert!(found.abs_diff(right) < right / 4, "{found} for {right}");
        }
    }
}
