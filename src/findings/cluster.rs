//! Owns making groups of pairs, so that one image of each group is like all others of it: a chain of
//! images, each like the next, is no group. Must not know: how images are compared.

use std::collections::HashMap;

use super::near::Pair;

/// Members of a group up to which each of the two images of a pair may become what all are like.
const SMALL: usize = 16;

/// Similarity below which a pair is doubtful: it doesn't join images of which two are clearly unlike, less
/// than this, or too unlike for their different labels.
const SURE: f32 = 0.85;
const UNLIKE: f32 = 0.5;

/// Images that are compared once more, at most: where a set is one long chain, groups stay small.
const COMPARED: usize = 200_000;

/// How alike two images are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alike {
    pub score: f32,
    /// Whether they count as one.
    pub enough: bool,
    /// Whether their labels differ.
    pub conflict: bool,
}

/// Groups that grow.
struct Clusters<'a> {
    /// The group of each image that has one.
    of: HashMap<u32, usize>,
    groups: Vec<Vec<u32>>,
    /// How alike two images are, as far as that is known.
    known: HashMap<(u32, u32), Alike>,
    alike: &'a mut dyn FnMut(u32, u32) -> Alike,
    /// Comparisons so far.
    compared: usize,
}

/// Groups of pairs, the likest first; in each the first image is like all others. `alike` compares two
/// images that are no pair.
pub(super) fn clusters(
    mut pairs: Vec<Pair>,
    alike: &mut dyn FnMut(u32, u32) -> Alike,
) -> Vec<Vec<u32>> {
    pairs.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then((a.first, a.second).cmp(&(b.first, b.second)))
    });
    let alike_by = |pair: &Pair| Alike { score: pair.score, enough: true, conflict: false };
    let known = pairs.iter().map(|pair| ((pair.first, pair.second), alike_by(pair))).collect();
    let mut clusters =
        Clusters { of: HashMap::new(), groups: Vec::new(), known, alike, compared: 0 };
    for pair in &pairs {
        clusters.join(pair);
    }
    clusters.groups.into_iter().filter(|group| group.len() > 1).collect()
}

impl Clusters<'_> {
    fn join(&mut self, pair: &Pair) {
        let (first, second) = (pair.first, pair.second);
        let [a, b] = [first, second].map(|image| self.group_of(image));
        if a == b {
            return;
        }
        let (large, small) =
            if self.groups[a].len() >= self.groups[b].len() { (a, b) } else { (b, a) };
        let both: Vec<u32> = [&self.groups[large][..], &self.groups[small]].concat();
        let mut middles = vec![both[0]];
        if both.len() <= SMALL {
            middles.extend([self.groups[small][0], first, second]);
        }
        let Some(middle) = middles.into_iter().find(|&middle| self.is_like_all(middle, &both))
        else {
            return;
        };
        if pair.score < SURE && both.len() <= SMALL && self.are_unlike(a, b) {
            return;
        }
        for &image in &both {
            self.of.insert(image, large);
        }
        self.groups[small].clear();
        self.groups[large] = both;
        let at = self.groups[large].iter().position(|&image| image == middle).unwrap_or(0);
        self.groups[large].swap(0, at);
    }

    fn group_of(&mut self, image: u32) -> usize {
        let next = self.groups.len();
        let group = *self.of.entry(image).or_insert(next);
        if group == next {
            self.groups.push(vec![image]);
        }
        group
    }

    fn is_like_all(&mut self, middle: u32, all: &[u32]) -> bool {
        all.iter().all(|&other| {
            other == middle || self.compared(middle, other).is_some_and(|alike| alike.enough)
        })
    }

    /// Whether two images of two groups are clearly unlike.
    fn are_unlike(&mut self, a: usize, b: usize) -> bool {
        let [a, b] = [a, b].map(|group| self.groups[group].clone());
        let mut pairs = a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b)));
        pairs.any(|(a, b)| {
            let alike = self.compared(a, b);
            alike.is_some_and(|alike| alike.score < UNLIKE || alike.conflict && !alike.enough)
        })
    }

    /// How alike two images are; None where that isn't known and enough are compared.
    fn compared(&mut self, one: u32, other: u32) -> Option<Alike> {
        let (first, second) = (one.min(other), one.max(other));
        if let Some(known) = self.known.get(&(first, second)) {
            return Some(*known);
        }
        if self.compared == COMPARED {
            return None;
        }
        self.compared += 1;
        let alike = (self.alike)(first, second);
        self.known.insert((first, second), alike);
        Some(alike)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Groups of pairs and their scores, where those pairs alone are alike and `more`.
    fn groups(pairs: &[(u32, u32, f32)], more: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let pairs = pairs.iter().map(|&(a, b, score)| Pair::of(a, b, score)).collect();
        let mut groups = clusters(pairs, &mut |a, b| {
            let enough = more.contains(&(a, b));
            let unlike = a / 100 != b / 100;
            let conflict = a / 1000 != b / 1000;
            Alike { score: if unlike && !conflict { 0.4 } else { 0.7 }, enough, conflict }
        });
        groups.iter_mut().for_each(|group| group[1..].sort_unstable());
        groups
    }

    #[test]
    fn copies_of_one_original_are_a_group_around_it() {
        let star = [(0, 7, 0.99), (3, 7, 0.9), (5, 7, 0.85)];
        assert_eq!(groups(&star, &[]), [vec![7, 0, 3, 5]]);
    }

    #[test]
    fn a_doubtful_pair_doesnt_join_two_groups_and_a_chain_is_cut() {
        let two = [(0, 1, 0.99), (2, 3, 0.98), (1, 2, 0.8)];
        assert_eq!(groups(&two, &[]), [vec![0, 1], vec![2, 3]]);
        assert_eq!(groups(&two, &[(1, 3)]), [vec![1, 0, 2, 3]]);
        let chain: Vec<_> = (0..9).map(|at| (at, at + 1, 0.9)).collect();
        assert_eq!(groups(&chain, &[]), [vec![1, 0, 2], vec![4, 3, 5], vec![7, 6, 8]]);
        assert!(groups(&[], &[]).is_empty());
    }

    #[test]
    fn a_doubtful_pair_joins_no_images_that_are_clearly_unlike() {
        // 101 is like 7, and unlike what is like 7 as well.
        let unlike = |score| [(0, 7, 0.99), (7, 101, score)];
        assert_eq!(groups(&unlike(0.84), &[]), [vec![0, 7]]);
        assert_eq!(groups(&unlike(0.86), &[]), [vec![7, 0, 101]]);
        assert_eq!(groups(&[(0, 7, 0.99), (7, 11, 0.84)], &[]), [vec![7, 0, 11]]);
        // 1007 stands under another label, for which what is like it isn't like 0 enough.
        assert_eq!(groups(&[(0, 7, 0.99), (7, 1007, 0.84)], &[]), [vec![0, 7]]);
        assert_eq!(groups(&[(0, 7, 0.99), (7, 1007, 0.84)], &[(0, 1007)]), [vec![0, 7, 1007]]);
    }
}
