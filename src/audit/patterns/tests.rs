//! Tests of patterns: places, neighbours, labels, parts, stretches, many codes.

use super::*;

fn row(patterns: &mut Patterns, codes: &[u32], grid: (usize, usize)) {
    patterns.add(codes, grid, Some(0), 3);
}

#[test]
fn every_token_is_counted_where_it_stands() {
    let mut patterns = Patterns::new(Some(5), (2, 3), true);
    patterns.take_label("cat");
    row(&mut patterns, &[0, 1, 2, 3, 4, 0], (2, 3));
    row(&mut patterns, &[0, 1, 2, 3, 4, 1], (2, 3));
    patterns.close("x".into(), 2, BTreeMap::new(), &[3, 3, 2, 2, 2]);
    assert_eq!(
        (patterns.uses(), &patterns.stretches[0].uses[..]),
        (&[3, 3, 2, 2, 2][..], &[3, 3, 2, 2, 2][..])
    );
    let places: Vec<&[u32]> = patterns.places().collect();
    assert_eq!(
        (places.len(), places[0], places[5]),
        (6, &[2, 0, 0, 0, 0][..], &[1, 1, 0, 0, 0][..])
    );
    let pairs: Vec<&[u32]> = patterns.pairs().collect();
    // Beside 0: 1, below it 3; beside 4: 0 and 1.
    assert_eq!((pairs[0], pairs[4]), (&[0, 2, 0, 2, 0][..], &[1, 1, 0, 0, 0][..]));
    assert_eq!(pairs.concat().iter().sum::<u32>(), 2 * (4 + 3));
    assert_eq!(patterns.labels().next(), Some(("cat", &[3, 3, 2, 2, 2][..])));
    assert_eq!((patterns.part_rows[3], patterns.parts().nth(3).unwrap()[4]), (2, 2));
    // A grid of another size lies over the same frame.
    row(&mut patterns, &[4; 24], (4, 6));
    assert!(patterns.places().all(|place| place[4] >= 4));
}

#[test]
fn many_codes_share_columns() {
    let mut patterns = Patterns::new(Some(1 << 18), (1, 2), true);
    row(&mut patterns, &[5, 200_000], (1, 2));
    let mut counted = vec![0; 200_001];
    (counted[5], counted[200_000]) = (1, 1);
    patterns.close("x".into(), 1, BTreeMap::new(), &counted);
    assert_eq!(patterns.parts().nth(3).unwrap()[group(200_000)], 1);
    let uses = patterns.uses();
    assert_eq!((uses.len(), uses[5], uses[group(200_000)]), (GROUPS, 1, 1));
    let groups: std::collections::BTreeSet<usize> = (0..1 << 18).map(group).collect();
    assert_eq!((groups.len(), groups.last()), (GROUPS, Some(&(GROUPS - 1))));
}

#[test]
fn stretches_keep_their_order_and_stay_few() {
    let mut all = Patterns::default();
    for shard in 0..600 {
        let mut patterns = Patterns::new(Some(2), (1, 1), true);
        patterns.take_label(if shard < 300 { "a" } else { "b" });
        row(&mut patterns, &[shard % 2], (1, 1));
        let labels = [(if shard < 300 { "a" } else { "b" }.to_string(), 1)].into();
        patterns.close(
            format!("{shard:03}"),
            1,
            labels,
            &[u64::from(shard % 2 == 0), u64::from(shard % 2 == 1)],
        );
        all.merge(patterns);
    }
    assert!(all.stretches.len() <= STRETCHES_MAX && all.stretches.len() > STRETCHES_MAX / 2 - 1);
    assert_eq!(all.stretches.iter().map(|stretch| stretch.rows).sum::<u64>(), 600);
    assert_eq!(all.stretches[0].names, ["000", "003"]);
    assert_eq!(all.stretches[0].uses, [2, 2]);
    assert_eq!(all.stretches.last().unwrap().names[1], "599");
    assert_eq!(
        all.labels().map(|(label, uses)| (label, uses.iter().sum())).collect::<Vec<_>>(),
        [("a", 300_u32), ("b", 300)]
    );
}

#[test]
fn rare_codes_have_more_bits() {
    let mut patterns = Patterns::new(Some(4), (2, 2), true);
    (0..100).for_each(|_| row(&mut patterns, &[0, 0, 0, 1], (2, 2)));
    patterns.close("x".into(), 100, BTreeMap::new(), &[300, 100]);
    let common = CommonCodes::of(&patterns);
    let bits = |codes: [u32; 4]| common.bits(&Grid { codes: codes.to_vec(), height: 2, width: 2 });
    let (usual, odd) = (bits([0, 0, 0, 1]), bits([2, 3, 3, 2]));
    assert!(usual[0] < 1.0 && odd[0] > 8.0 && usual[1] < 1.1 && odd[1] > 1.5, "{usual:?} {odd:?}");
}

#[test]
fn many_rows_are_sampled() {
    assert_eq!([stride(1, 64), stride(1 << 17, 64), stride(3 << 17, 64)], [1, 1, 3]);
    assert_eq!([stride(0, 64), stride(10_000, 1 << 20), stride(u64::MAX, u64::MAX)][..2], [1, 2]);
}
