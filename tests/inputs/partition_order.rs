//! What must hold for any data set: the order in which partitions come never shows, nothing is lost
//! or doubled, statistics fold the same however they are split.

use crate::support::outputs;

use outputs::{TOKENS, codes, fails, plan, tree, write};
use proptest::prelude::*;
use vqtok::internals::audit::{TokenFile, report, verify};
use vqtok::internals::tokens::{CommitMode, finalize};

/// A number of images, a shard size, and an order of the partitions.
fn data_sets() -> impl Strategy<Value = (i64, u64, Vec<usize>)> {
    (1_i64..600, 1_u64..200).prop_flat_map(|(images, shard_rows)| {
        let shard_rows = shard_rows.max(images as u64 / 12 + 1);
        let partitions = (images as u64).div_ceil(shard_rows) as usize;
        let order = Just((0..partitions).collect::<Vec<_>>()).prop_shuffle();
        (Just(images), Just(shard_rows), order)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn shuffled_completion_gives_identical_outputs((images, shard_rows, order) in data_sets()) {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let a = plan(one.path(), images, shard_rows).unwrap();
        for partition in 0..a.partitions() {
            write(&a, partition, CommitMode::New).unwrap();
        }
        let b = plan(two.path(), images, shard_rows).unwrap();
        for &partition in &order {
            write(&b, partition, CommitMode::New).unwrap();
        }
        prop_assert_eq!(finalize(one.path()).unwrap(), finalize(two.path()).unwrap());
        prop_assert!(tree(one.path()) == tree(two.path()));
    }

    #[test]
    fn everything_planned_is_read_back((images, shard_rows, order) in data_sets()) {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), images, shard_rows).unwrap();
        for &partition in &order {
            write(&plan, partition, CommitMode::New).unwrap();
        }
        let totals = finalize(dir.path()).unwrap().totals;
        let written = (0..images).filter(|&ordinal| !fails(ordinal));
        let rows: Vec<_> = TokenFile::open(dir.path()).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(rows.len(), written.clone().count());
        for (row, ordinal) in rows.iter().zip(written) {
            prop_assert_eq!(&row.key, &format!("class/{ordinal}.png"));
            prop_assert_eq!(&row.levels[0].codes, &codes(ordinal));
            prop_assert_eq!((row.levels[0].height, row.levels[0].width), (2, 3));
        }
        prop_assert_eq!(totals.tokens, rows.len() as u64 * TOKENS as u64);
        let proof = verify(dir.path()).unwrap();
        prop_assert!(proof.clean() && proof.finished, "{:?}", proof.findings);
        prop_assert_eq!(proof.planned, images as u64);
        prop_assert_eq!(proof.tokens, totals.tokens);
    }

    #[test]
    fn statistics_do_not_depend_on_the_split(images in 1_i64..400, shard_rows in 1_u64..100) {
        let shard_rows = shard_rows.max(images as u64 / 8 + 1);
        let uses = |shard_rows| {
            let dir = tempfile::tempdir().unwrap();
            let plan = plan(dir.path(), images, shard_rows).unwrap();
            for partition in 0..plan.partitions() {
                write(&plan, partition, CommitMode::New).unwrap();
            }
            let summary = finalize(dir.path()).unwrap();
            (summary.codebook.levels, report(dir.path()).unwrap().levels)
        };
        prop_assert_eq!(uses(shard_rows), uses(images as u64));
    }
}
