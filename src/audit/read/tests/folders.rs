//! Tests of folders: which files of one are read, in which order, and none of them twice.

use super::*;

#[test]
fn folders_are_read_in_the_order_of_names() {
    let dir = tempfile::tempdir().unwrap();
    let shards = dir.path().join("tokens");
    std::fs::create_dir(&shards).unwrap();
    for (name, code) in [("part-00001.parquet", 7), ("part-00000.parquet", 6), (".x.parquet", 5)] {
        let codes: ArrayRef = Arc::new(Int64Array::from(vec![code]));
        write(&shards.join(name), vec![("tokens", fixed(codes, 1))]);
    }
    let rows = read(dir.path()).unwrap();
    let found: Vec<_> = rows.iter().map(|r| (r.key.as_str(), r.levels[0].codes[0])).collect();
    assert_eq!(found, [("0", 6), ("1", 7)]);
    assert_eq!(read(&shards).unwrap(), rows);
}

/// Copies would count their rows twice; what is missing must not go unseen.
#[test]
fn of_an_output_only_its_own_shards_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let plan = crate::tokens::testing::plan(dir.path(), 25, 10);
    (0..2).for_each(|partition| drop(crate::tokens::testing::write(&plan, partition)));
    let shards = dir.path().join("tokens");
    for copy in [
        "part-00000 (copy).parquet",
        "part-00007.parquet",
        "part-0.parquet",
        "._part-00000.parquet",
    ] {
        std::fs::copy(shards.join("part-00000.parquet"), shards.join(copy)).unwrap();
    }
    std::fs::write(shards.join(".part-00002.parquet.77-0.tmp"), b"at work").unwrap();
    for path in [dir.path(), &shards] {
        let file = TokenFile::open(path).unwrap();
        assert_eq!(file.sources().unfinished, Some((2, 3)));
        assert_eq!(file.sources().strays.len(), 4, "{:?}", file.sources().strays);
        assert_eq!(each(file).iter().flatten().count(), 16);
    }
    crate::tokens::testing::write(&plan, 2);
    crate::tokens::finalize(dir.path()).unwrap();
    std::fs::remove_file(shards.join("part-00001.parquet")).unwrap();
    let file = TokenFile::open(dir.path()).unwrap();
    assert_eq!(file.sources().unfinished, None);
    let rows = each(file);
    assert_eq!(rows.iter().flatten().count(), 12);
    let bad: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
    assert!(
        bad.len() == 1 && bad[0].contains("part-00001.parquet, rows 0 to 7: missing"),
        "{bad:?}"
    );
}

#[test]
fn copies_of_shards_are_not_read_twice() {
    let dir = tempfile::tempdir().unwrap();
    let plan = crate::tokens::testing::plan(&dir.path().join("out"), 25, 10);
    (0..3).for_each(|partition| drop(crate::tokens::testing::write(&plan, partition)));
    crate::tokens::finalize(dir.path().join("out")).unwrap();
    let shard = |n: usize| dir.path().join(format!("out/tokens/part-{n:05}.parquet"));
    // Shards alone, one of them twice and one not at all.
    let alone = dir.path().join("alone");
    std::fs::create_dir(&alone).unwrap();
    for (n, name) in [(0, "a.parquet"), (2, "b.parquet"), (0, "c.parquet")] {
        std::fs::copy(shard(n), alone.join(name)).unwrap();
    }
    let file = TokenFile::open(&alone).unwrap();
    let notes = &file.sources().notes;
    assert_eq!((file.row_count(), notes.len()), (12, 2), "{notes:?}");
    assert!(notes[0].contains("c.parquet: passed over, a copy of"), "{notes:?}");
    assert!(notes[1].contains("2 of the 3 shards"), "{notes:?}");
    assert_eq!(each(file).len(), 12);
    // In another's place, it hides what should be there.
    std::fs::copy(shard(0), shard(1)).unwrap();
    let rows = each(TokenFile::open(&dir.path().join("out")).unwrap());
    let bad: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
    assert_eq!((rows.iter().flatten().count(), bad.len()), (12, 1), "{bad:?}");
    assert!(bad[0].contains("part-00001.parquet") && bad[0].contains("a copy of"), "{bad:?}");
}
