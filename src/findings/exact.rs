//! Owns finding equal facts: which images have the same digest. Must not know: what the digests are of.

use rayon::slice::ParallelSliceMut;

/// The images of each digest that several have, as their places in rising order; the groups by their
/// first image. `taken` says which images take part.
pub(super) fn groups(digests: &[[u8; 16]], taken: impl Fn(usize) -> bool) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..digests.len() as u32).filter(|&at| taken(at as usize)).collect();
    order.par_sort_unstable_by_key(|&at| (digests[at as usize], at));
    let equal = |a: &u32, b: &u32| digests[*a as usize] == digests[*b as usize];
    let several = order.chunk_by(equal).filter(|group| group.len() > 1);
    let mut groups: Vec<Vec<u32>> = several.map(<[u32]>::to_vec).collect();
    groups.sort_unstable_by_key(|group| group[0]);
    groups
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn groups_are_of_equal_digests_alone() {
        let digests = [3, 1, 3, 2, 1, 3, 9, 9].map(|n| [n; 16]);
        assert_eq!(groups(&digests, |at| at < 6), [vec![0, 2, 5], vec![1, 4]]);
        assert!(groups(&digests, |at| at == 3).is_empty());
    }
}
