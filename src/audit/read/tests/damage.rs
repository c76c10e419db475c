//! Tests of rows, stretches and files that can't be read: each costs itself alone, and is told.

use super::*;

#[test]
fn what_is_no_grid_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let int = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let refused = |columns: Vec<(&str, ArrayRef)>, words: &str| {
        write(&path, columns);
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains(words) && !error.contains('\n'), "{error}");
    };
    refused(
        vec![("other", int(vec![1]))],
        "no column 'tokens' (it has: other); that is where codes are read from",
    );
    refused(vec![("tokens", int(vec![1]))], "is int64, not a list");
    refused(vec![("tokens", fixed(int(vec![1, 2, 3]), 3))], "row 0: has 3 tokens, which is no sq");
    refused(vec![("tokens", fixed(int(vec![-1]), 1))], "row 0: holds -1, which is no code");
    refused(vec![("tokens", fixed(int(vec![1 << 32]), 1))], "holds 4294967296");
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    refused(vec![("tokens", fixed(texts, 1))], "holds text, not integers");
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    refused(vec![("tokens", fixed(nulls, 2))], "missing tokens (null)");
    let zeros: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    refused(vec![("tokens", list(zeros, &[0]))], "no tokens (an empty list)");
    for (height, width, words) in [
        (2, 2, "has 1 tokens for a grid of 2 x 2"),
        (-1, -1, "has a grid with a side of -1"),
        (0, 0, "has 1 tokens for a grid of 0 x 0"),
        (i64::MAX, 2, "has 1 tokens for a grid of"),
    ] {
        let (height, width) = (int(vec![height]), int(vec![width]));
        let columns = vec![
            ("tokens", fixed(int(vec![1]), 1)),
            ("grid_height", height),
            ("grid_width", width),
        ];
        refused(columns, words);
    }
    std::fs::write(&path, b"PAR1 nonsense PAR1").unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("not a readable Parquet file"));
    std::fs::remove_file(&path).unwrap();
    assert!(read(dir.path()).unwrap_err().to_string().contains("no Parquet file"));
}

/// Flipped bytes and cut files: an error or rows, never a panic, and soon.
#[test]
fn broken_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let codes: ArrayRef = Arc::new(Int64Array::from((0..64).collect::<Vec<i64>>()));
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values((0..16).map(|i| i.to_string())));
    write(&path, vec![("key", keys), ("tokens", list(codes, &[4; 16]))]);
    let good = std::fs::read(&path).unwrap();
    let whole = read(&path).unwrap();
    assert_eq!(whole.len(), 16);
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            std::fs::write(&path, &bad).unwrap();
            let _ = read(&path);
        }
    }
    for length in 0..good.len() {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(read(&path).is_err(), "cut to {length} of {}", good.len());
    }
}

/// Found by hand: 160 kB of groups inside groups overflowed the reader's stack, which ends the
/// process whatever guards it.
#[test]
fn a_schema_without_bottom_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    // repetition_type 0, name "tokens", one child; the last has none.
    let group = [&[0x35, 0, 0x18, 6][..], b"tokens", &[0x15, 2, 0]].concat();
    let leaf = [&[0x35, 0, 0x18, 1][..], b"x", &[0]].concat();
    let count = 15_000_u32;
    let mut footer = vec![0x15, 2, 0x19, 0xfc, (count & 127) as u8 | 128, (count >> 7) as u8];
    footer.extend(group.repeat(count as usize - 1));
    footer.extend(leaf);
    footer.extend([0x16, 0, 0x19, 0x0c, 0]);
    let length = (footer.len() as u32).to_le_bytes();
    std::fs::write(&path, [b"PAR1", &footer[..], &length, b"PAR1"].concat()).unwrap();
    let error = read(&path).unwrap_err().to_string();
    assert!(error.contains("its schema nests deeper than 32"), "{error}");
}

#[test]
fn a_row_that_cannot_be_used_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let values = ints(
        [1, 2, -100, 3, 1 << 33, 4, 5, 6, 7, 8]
            .map(Some)
            .into_iter()
            .chain([None, Some(9)])
            .collect(),
    );
    let offsets = OffsetBuffer::from_lengths([1, 1, 1, 1, 1, 3, 1, 1, 0, 1, 1]);
    let present = [true, true, true, true, true, true, true, false, true, true, true];
    let field = Arc::new(Field::new("item", DataType::Int64, true));
    let lists = ListArray::try_new(field, offsets, values, Some(present.to_vec().into())).unwrap();
    let keys: Vec<_> = ["a", "", "c", "d", "e", "f", "g", "h", "i", "j", "k"].map(Some).to_vec();
    let mut keys = keys;
    keys[1] = None;
    write(
        &path,
        vec![("key", Arc::new(StringArray::from(keys)) as ArrayRef), ("tokens", Arc::new(lists))],
    );
    let rows = each(TokenFile::open(&path).unwrap());
    let expected: [Result<u32, &str>; 11] = [
        Ok(1),
        Err("row 1: its key is missing (null)"),
        Err("row 2 ('c'): holds -100, which is no code"),
        Ok(3),
        Err("row 4 ('e'): holds 8589934592, which is no code"),
        Err("row 5 ('f'): has 3 tokens, which is no square"),
        Ok(7),
        Err("row 7 ('h'): has no tokens (null)"),
        Err("row 8 ('i'): has no tokens (an empty list)"),
        Err("row 9 ('j'): has missing tokens (null)"),
        Ok(9),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(expected) {
        match (row, expected) {
            (Ok(codes), Ok(code)) => assert_eq!(codes, &[code]),
            (Err(words), Err(expected)) => {
                assert!(
                    words.starts_with(&*path.to_string_lossy()) && words.contains(expected),
                    "{words}"
                );
            }
            _ => panic!("{row:?} where {expected:?} is right"),
        }
    }
}

#[test]
fn keys_that_are_no_utf8_are_read_byte_by_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["a.png", "cafQQQ.png"]));
    write(&path, vec![("key", keys), ("tokens", fixed(ints(vec![Some(1), Some(2)]), 1))]);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|w| w == b"QQQ").unwrap();
    bytes[at..at + 3].copy_from_slice(b"\xe9\xffQ");
    std::fs::write(&path, bytes).unwrap();
    let keys: Vec<_> = read(&path).unwrap().into_iter().map(|row| row.key).collect();
    assert_eq!(keys, ["a.png", "caf%E9%FFQ.png"]);
}

#[test]
fn a_file_that_cannot_be_read_costs_itself_alone() {
    let dir = tempfile::tempdir().unwrap();
    let lists = |code| fixed(ints(vec![Some(code)]), 1);
    write(&dir.path().join("a.parquet"), vec![("tokens", lists(1))]);
    write(&dir.path().join("b.parquet"), vec![("other", lists(2))]);
    std::fs::write(dir.path().join("c.parquet"), b"PAR1 nonsense PAR1").unwrap();
    std::fs::write(dir.path().join("d.parquet"), b"").unwrap();
    std::fs::create_dir(dir.path().join("e.parquet")).unwrap();
    write(&dir.path().join("f.PARQUET"), vec![("tokens", lists(3))]);
    let file = TokenFile::open(dir.path()).unwrap();
    let lost: Vec<_> = file.lost().map(|bad| (bad.count(), bad.in_words())).collect();
    assert_eq!((file.row_count(), lost.len()), (3, 4));
    assert!(
        lost[0].0 == 1 && lost[0].1.contains("b.parquet, row 0: has no column 'tokens'"),
        "{lost:?}"
    );
    for ((_, words), name) in lost[1..].iter().zip(["c.parquet: ", "d.parquet: ", "e.parquet: "]) {
        assert!(words.contains(name) && !words.contains("os error"), "{words}");
    }
    let rows = each(file);
    let good: Vec<_> = rows.iter().flatten().map(|codes| codes[0]).collect();
    assert_eq!((rows.len(), good), (6, vec![1, 3]));
}

#[test]
fn a_stretch_that_cannot_be_read_costs_its_row_group() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let codes = fixed(ints((0..30).map(|i| Some(i * 1001)).collect()), 1);
    let batch = RecordBatch::try_from_iter([("tokens", codes)]).unwrap();
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(10))
        .set_compression(parquet::basic::Compression::ZSTD(Default::default()))
        .set_dictionary_enabled(false)
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.close().unwrap();
    let (start, length) = metadata.row_group(1).column(0).byte_range();
    let good = std::fs::read(&path).unwrap();
    let (start, end) = (start as usize, (start + length) as usize);
    let frame = good[start..end].windows(4).position(|w| w == [0x28, 0xb5, 0x2f, 0xfd]).unwrap();
    // A page's content, then its header.
    for range in [start + frame..end, start..end] {
        let mut bytes = good.clone();
        bytes[range].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let rows = each(TokenFile::open(&path).unwrap());
        let good = rows.iter().flatten().count();
        let bad: Vec<_> = rows.iter().filter_map(|row| row.as_ref().err()).collect();
        assert_eq!((good, bad.len()), (20, 1), "{bad:?}");
        assert!(bad[0].contains("t.parquet, rows 10 to 19: "), "{bad:?}");
    }
}
