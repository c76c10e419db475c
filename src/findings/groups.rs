//! Owns groups of images that are one: whom to keep, whether their labels agree, what each is of the
//! keeper. Must not know: how they were found.

use std::collections::HashMap;

use super::images::{Images, NO_LABEL};
use super::near::{Comparer, Pair};
use super::result::{Duplicates, Kind, Member};

/// A group of images that are exactly one.
pub(super) fn exact(images: &Images, group: &[u32], kind: Kind, keep: &[String]) -> Duplicates {
    let members = group.iter().map(|&at| (at, 1.0, "same")).collect();
    made(images, members, kind, keep)
}

/// Images that stand for others that are exactly the same.
#[derive(Debug, Default)]
pub(super) struct Same {
    /// The first of each image's group, for all others.
    first: HashMap<u32, u32>,
    others: HashMap<u32, Vec<u32>>,
}

impl Same {
    /// Of groups, each in rising order. An image may be in several.
    pub(super) fn of(groups: &[Vec<u32>]) -> Same {
        let mut same = Same::default();
        for group in groups {
            let first = same.first(group[0]);
            for &other in &group[1..] {
                if other != first
                    && !same.first.contains_key(&other)
                    && !same.others.contains_key(&other)
                {
                    same.first.insert(other, first);
                    same.others.entry(first).or_default().push(other);
                }
            }
        }
        same
    }

    /// The image that stands for this one.
    pub(super) fn first(&self, image: u32) -> u32 {
        *self.first.get(&image).unwrap_or(&image)
    }

    /// All that an image stands for, itself first.
    pub(super) fn all(&self, image: u32) -> impl Iterator<Item = u32> {
        std::iter::once(image).chain(self.others.get(&image).into_iter().flatten().copied())
    }
}

/// Makes groups of images that are nearly one, and of all that they stand for.
pub(super) struct Near<'a> {
    pub images: &'a Images,
    pub same: &'a Same,
    pub comparer: &'a Comparer<'a>,
    pub keep: &'a [String],
    /// By their images.
    pub pairs: HashMap<(u32, u32), Pair>,
}

impl Near<'_> {
    pub(super) fn group(&self, group: &[u32]) -> Duplicates {
        let all: Vec<u32> = group.iter().flat_map(|&image| self.same.all(image)).collect();
        let keeper = self.same.first(keeper(self.images, &all, self.keep));
        let members = group.iter().flat_map(|&image| {
            let (score, relation) = self.of_keeper(keeper, image);
            self.same.all(image).map(move |at| (at, score, relation))
        });
        made(self.images, members.collect(), Kind::Near, self.keep)
    }

    /// How alike an image and the keeper are, and what it is of it.
    fn of_keeper(&self, keeper: u32, image: u32) -> (f64, &'static str) {
        if keeper == image {
            return (1.0, "same");
        }
        let (first, second) = (keeper.min(image), keeper.max(image));
        let known = self.pairs.get(&(first, second)).copied();
        let pair = known.unwrap_or_else(|| self.comparer.pair(first, second));
        (f64::from(pair.score), self.lit(&pair, keeper))
    }

    /// What a pair says, or that one is brighter than the keeper.
    fn lit(&self, pair: &Pair, keeper: u32) -> &'static str {
        let other = if pair.first == keeper { pair.second } else { pair.first };
        match (pair.relation(), self.comparer.brightness(keeper, other)) {
            ("same", by) if by > 1.08 => "brighter",
            ("same", by) if by < 0.92 => "darker",
            (relation, _) => relation,
        }
    }
}

/// Which of some images to keep: protected ones, the largest, the first.
fn keeper(images: &Images, members: &[u32], keep: &[String]) -> u32 {
    members.iter().copied().min_by_key(|&at| rank(images, at, keep)).unwrap_or_default()
}

fn rank(images: &Images, at: u32, keep: &[String]) -> (usize, std::cmp::Reverse<u64>, u32) {
    let (key, size) = (images.keys.get(at as usize), images.sizes[at as usize]);
    let prefix = keep.iter().position(|prefix| key.starts_with(prefix.as_str()));
    let area = u64::from(size.width) * u64::from(size.height);
    (prefix.unwrap_or(keep.len()), std::cmp::Reverse(area), at)
}

/// A group of members with their scores and relations.
fn made(
    images: &Images,
    mut members: Vec<(u32, f64, &'static str)>,
    kind: Kind,
    keep: &[String],
) -> Duplicates {
    let keeper = keeper(images, &members.iter().map(|member| member.0).collect::<Vec<_>>(), keep);
    members.sort_by(|a, b| {
        let order = |member: &(u32, f64, _)| (member.0 != keeper, member.0);
        let (first, second) = (order(a), order(b));
        first.0.cmp(&second.0).then(b.1.total_cmp(&a.1)).then(first.1.cmp(&second.1))
    });
    let labels = members.iter().map(|member| images.labels[member.0 as usize]);
    let mut labels: Vec<u32> = labels.filter(|&label| label != NO_LABEL).collect();
    labels.sort_unstable();
    labels.dedup();
    let member = |&(at, score, relation): &(u32, f64, &'static str)| Member {
        key: images.keys.get(at as usize).to_string(),
        score,
        relation,
        label: images.label(at as usize).map(str::to_string),
    };
    let members: Vec<Member> = members.iter().map(member).collect();
    let keep = images.keys.get(keeper as usize).to_string();
    Duplicates { kind, members, keep, label_conflict: labels.len() > 1 }
}
