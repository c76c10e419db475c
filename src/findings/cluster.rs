//! Owns making groups of pairs, so that one image of each group is like all others of it: a chain of
//! images, each like the next, is no group. Must not know: how images are compared.

use std::collections::HashMap;

use super::near::Pair;

/// Members of a group up to which each of the two images of a pair may become what all are like.
const SMALL: usize = 16;

/// Images that are compared once more, at most: where a set is one long chain, groups stay small.
const COMPARED: usize = 200_000;

/// Groups that grow.
struct Clusters<'a> {
    /// The group of each image that has one.
    of: HashMap<u32, usize>,
    groups: Vec<Vec<u32>>,
    /// Whether two images are alike, as far as that is known.
    known: HashMap<(u32, u32), bool>,
    alike: &'a mut dyn FnMut(u32, u32) -> bool,
    /// Comparisons so far.
    compared: usize,
}

/// Groups of pairs, the likest first; in each the first image is like all others. `alike` compares two
/// images that are no pair.
pub(super) fn clusters(
    mut pairs: Vec<Pair>,
    alike: &mut dyn FnMut(u32, u32) -> bool,
) -> Vec<Vec<u32>> {
    pairs.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then((a.first, a.second).cmp(&(b.first, b.second)))
    });
    let known = pairs.iter().map(|pair| ((pair.first, pair.second), true)).collect();
    let mut clusters =
        Clusters { of: HashMap::new(), groups: Vec::new(), known, alike, compared: 0 };
    for pair in &pairs {
        clusters.join(pair.first, pair.second);
    }
    clusters.groups.into_iter().filter(|group| group.len() > 1).collect()
}

impl Clusters<'_> {
    fn join(&mut self, first: u32, second: u32) {
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
        all.iter()
            .all(|&other| other == middle || self.are_alike(middle.min(other), middle.max(other)))
    }

    fn are_alike(&mut self, first: u32, second: u32) -> bool {
        if let Some(known) = self.known.get(&(first, second)) {
            return *known;
        }
        if self.compared == COMPARED {
            return false;
        }
        self.compared += 1;
        let alike = (self.alike)(first, second);
        self.known.insert((first, second), alike);
        alike
    }
}
