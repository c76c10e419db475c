//! Owns leaks: images that two outputs have, exactly or nearly. Must not know: how near ones were
//! found, what is done about them.

use std::collections::{HashMap, HashSet};

use super::groups::Same;
use super::images::{Images, NO_LABEL};
use super::near::Pair;
use super::result::{Kind, Leak};

/// One of two outputs: its images, which of them count, and which stand for others.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub images: &'a Images,
    pub taken: &'a dyn Fn(Kind, usize) -> bool,
    pub same: &'a Same,
}

/// The likest of the other output's images.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Match {
    kind: Kind,
    score: f32,
    other: u32,
}

impl Match {
    /// Whether it says more than another.
    fn before(&self, other: &Match) -> bool {
        let rank = |of: &Match| (of.kind, std::cmp::Reverse(of.score.to_bits()), of.other);
        rank(self) < rank(other)
    }
}

/// What both outputs have: every image of either that the other has, with the likest of the other,
/// the surest first. `pairs` are of images that stand for others.
pub(super) fn leaks(ours: Side<'_>, others: Side<'_>, pairs: &[Pair]) -> Vec<Leak> {
    let here = matches(ours, others, pairs.iter().map(|pair| (pair.first, *pair, pair.second)));
    let there = matches(others, ours, pairs.iter().map(|pair| (pair.second, *pair, pair.first)));
    let mut found: Vec<(u32, Match)> = here.into_iter().collect();
    let told: HashSet<u32> = found.iter().map(|(_, found)| found.other).collect();
    let rest = there.into_iter().filter(|(other, _)| !told.contains(other));
    found.extend(rest.map(|(other, found)| (found.other, Match { other, ..found })));
    found.sort_by_key(|(at, found)| {
        (found.kind, std::cmp::Reverse(found.score.to_bits()), *at, found.other)
    });
    let leak = |(at, found): (u32, Match)| {
        let labels = [(ours.images, at), (others.images, found.other)].map(|(images, at)| {
            let label = images.labels[at as usize];
            (label != NO_LABEL).then(|| images.label_names[label as usize].as_str())
        });
        Leak {
            key: ours.images.keys.get(at as usize).to_string(),
            other_key: others.images.keys.get(found.other as usize).to_string(),
            score: f64::from(found.score),
            kind: found.kind,
            label_conflict: matches!(labels, [Some(a), Some(b)] if a != b),
        }
    };
    found.into_iter().map(leak).collect()
}

/// For each of our images that the others have, the likest of theirs.
fn matches(
    ours: Side<'_>,
    others: Side<'_>,
    pairs: impl Iterator<Item = (u32, Pair, u32)>,
) -> HashMap<u32, Match> {
    let mut found: HashMap<u32, Match> = HashMap::new();
    let mut take = |at: u32, new: Match| {
        let known = found.entry(at).or_insert(new);
        if new.before(known) {
            *known = new;
        }
    };
    let columns = [
        (Kind::ExactFile, &ours.images.files, &others.images.files),
        (Kind::ExactPixels, &ours.images.grids, &others.images.grids),
    ];
    for (kind, here, there) in columns {
        let mut order: Vec<u32> =
            (0..there.len() as u32).filter(|&at| (others.taken)(kind, at as usize)).collect();
        order.sort_unstable_by_key(|&at| (there[at as usize], at));
        for (at, digest) in here.iter().enumerate() {
            let first = order.partition_point(|&other| there[other as usize] < *digest);
            let equal = order.get(first).filter(|other| there[**other as usize] == *digest);
            if let Some(&other) = equal.filter(|_| (ours.taken)(kind, at)) {
                take(at as u32, Match { kind, score: 1.0, other });
            }
        }
    }
    for (first, pair, other) in pairs {
        for at in ours.same.all(first) {
            take(at, Match { kind: Kind::Near, score: pair.score, other });
        }
    }
    found
}
