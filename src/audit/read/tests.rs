//! Tests of reading: every integer type, shapes given and guessed, broken and lying files.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeListArray, Int64Array, LargeListArray, LargeStringArray, ListArray,
    RecordBatch, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;

use super::*;

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

fn fixed(values: ArrayRef, size: i32) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    Arc::new(FixedSizeListArray::try_new(field, size, values, None).unwrap())
}

fn list(values: ArrayRef, lengths: &[usize]) -> ArrayRef {
    let field = Arc::new(Field::new("item", values.data_type().clone(), true));
    let offsets = OffsetBuffer::from_lengths(lengths.iter().copied());
    Arc::new(ListArray::try_new(field, offsets, values, None).unwrap())
}

fn read(path: &Path) -> Result<Vec<GridRow>> {
    TokenFile::open(path)?.collect()
}

#[test]
fn every_integer_type_and_list_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let codes: ArrayRef = Arc::new(Int64Array::from((0..12).collect::<Vec<i64>>()));
    use DataType::*;
    for kind in [UInt8, UInt16, UInt32, UInt64, Int8, Int16, Int32, Int64] {
        let codes = cast(&codes, &kind).unwrap();
        let field = Arc::new(Field::new("item", kind.clone(), true));
        let offsets = OffsetBuffer::from_lengths([4, 4, 4]);
        let large = LargeListArray::try_new(field, offsets, codes.clone(), None).unwrap();
        for tokens in [fixed(codes.clone(), 4), list(codes, &[4, 4, 4]), Arc::new(large) as _] {
            write(&path, vec![("tokens", tokens)]);
            let rows = read(&path).unwrap();
            let keys: Vec<_> = rows.iter().map(|r| r.key.as_str()).collect();
            assert_eq!(keys, ["0", "1", "2"]);
            let second = Grid { codes: vec![4, 5, 6, 7], height: 2, width: 2 };
            let (view, levels, file) = (None, vec![second], path.as_path().into());
            let key = "1".into();
            let row = GridRow { key, keyed: false, view, levels, guessed: true, file, row: 1 };
            assert_eq!(rows[1], row);
        }
    }
}

#[test]
fn shapes_keys_views_and_levels_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let int = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let keys: ArrayRef = Arc::new(LargeStringArray::from(vec!["a", "b"]));
    let tokens = list(int(vec![1, 2, 3, 4, 5, 6, 7]), &[6, 1]);
    write(
        &path,
        vec![
            ("key", keys),
            ("tokens", tokens),
            ("grid_height", int(vec![2, 1])),
            ("grid_width", int(vec![3, 1])),
            ("tokens_top", fixed(int(vec![8, 9]), 1)),
            ("view", int(vec![0, 4])),
            ("other", int(vec![0, 0])),
        ],
    );
    let rows = read(&path).unwrap();
    assert_eq!(rows[0].levels[0], Grid { codes: vec![1, 2, 3, 4, 5, 6], height: 2, width: 3 });
    assert_eq!(rows[1].levels[1], Grid { codes: vec![9], height: 1, width: 1 });
    assert_eq!((rows[1].key.as_str(), rows[1].view), ("b", Some(4)));
}

#[test]
fn residual_levels_are_taken_up_to_the_first_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let int = |values: Vec<i64>| -> ArrayRef { Arc::new(Int64Array::from(values)) };
    let tokens = |first: i64| fixed(int((first..first + 6).collect()), 6);
    write(
        &path,
        vec![
            ("tokens", tokens(0)),
            ("grid_height", int(vec![2])),
            ("grid_width", int(vec![3])),
            ("tokens_residual_2", tokens(20)),
            ("tokens_residual_1", tokens(10)),
            ("tokens_residual_4", tokens(40)),
        ],
    );
    let rows = read(&path).unwrap();
    let levels =
        [0, 10, 20].map(|first| Grid { codes: (first..first + 6).collect(), height: 2, width: 3 });
    assert_eq!(rows[0].levels, levels);
}

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
        "no column 'tokens' (it has: other); `vqtok decode --col",
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

fn ints(values: Vec<Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from(values))
}

/// What each row gives: its codes, or words of why not.
fn each(file: TokenFile) -> Vec<Result<Vec<u32>, String>> {
    let mut file = file;
    let next = std::iter::from_fn(|| file.next_row());
    next.map(|row| row.map(|row| row.levels[0].codes.clone()).map_err(|bad| bad.in_words()))
        .collect()
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
fn whole_numbers_in_floats_are_codes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let values = arrow::array::Float64Array::from(vec![7.0, 3.5, f64::NAN, f64::INFINITY, 1e300]);
    write(&path, vec![("tokens", list(Arc::new(values), &[1; 5]))]);
    let rows = each(TokenFile::open(&path).unwrap());
    assert_eq!(rows[0], Ok(vec![7]));
    for (row, words) in
        rows[1..].iter().zip(["holds 3.5,", "holds NaN,", "holds inf,", "holds 1e300,"])
    {
        assert!(row.as_ref().unwrap_err().contains(words), "{row:?}");
    }
}

#[test]
fn nesting_says_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let plain = || ints((0..24).map(Some).collect());
    let shape = |path: &Path| {
        let row = read(path).map(|rows| rows[0].clone()).map_err(|error| error.to_string())?;
        assert_eq!(row.levels[0].codes, (0..row.levels[0].codes.len() as u32).collect::<Vec<_>>());
        Ok::<_, String>((row.levels[0].height, row.levels[0].width, row.guessed))
    };
    // 4 x 6; 24 = 1 x 4 x 6 = 4 x 6 x 1 = 1 x 1 x 4 x 6.
    let grid = |inner: i32, outer: i32| fixed(fixed(plain(), inner), outer);
    write(&path, vec![("tokens", grid(6, 4))]);
    assert_eq!(shape(&path), Ok((4, 6, false)));
    write(&path, vec![("tokens", fixed(grid(6, 4), 1))]);
    assert_eq!(shape(&path), Ok((4, 6, false)));
    write(&path, vec![("tokens", fixed(fixed(fixed(plain(), 1), 6), 4))]);
    assert_eq!(shape(&path), Ok((4, 6, false)));
    write(&path, vec![("tokens", fixed(grid(3, 4), 2))]);
    assert!(
        shape(&path).unwrap_err().contains("is nested as 2 x 4 x 3, where a grid has two sides")
    );
    // A batch axis around a plain list says nothing.
    let sixteen = || ints((0..16).map(Some).collect());
    write(&path, vec![("tokens", fixed(fixed(sixteen(), 16), 1))]);
    assert_eq!(shape(&path), Ok((4, 4, true)));
    write(&path, vec![("tokens", fixed(fixed(plain(), 24), 1))]);
    assert_eq!(shape(&path), Ok((1, 24, true)));
    // Ragged and missing lists cost their row.
    write(&path, vec![("tokens", list(list(plain(), &[6, 6, 5, 7]), &[2, 2]))]);
    let rows = each(TokenFile::open(&path).unwrap());
    assert!(
        rows[0].is_ok() && rows[1].as_ref().unwrap_err().contains("lists of 5 and of 7 tokens")
    );
    let one = || ints(vec![Some(1)]);
    let contradicting = vec![
        ("tokens", grid(6, 4)),
        ("grid_height", ints(vec![Some(6)])),
        ("grid_width", ints(vec![Some(4)])),
    ];
    write(&path, contradicting);
    assert!(shape(&path).unwrap_err().contains("is nested as 4 x 6 where its columns say 6 x 4"));
    write(
        &path,
        vec![("tokens", grid(6, 4)), ("grid_height", ints(vec![None])), ("grid_width", one())],
    );
    assert!(shape(&path).unwrap_err().contains("one side is missing"));
}

#[test]
fn columns_are_found_by_name_and_inside_structs() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let lists = |code: i64| fixed(ints(vec![Some(code), Some(code)]), 1);
    let field = Arc::new(Field::new("codes", lists(0).data_type().clone(), true));
    let inner = arrow::array::StructArray::try_new(
        vec![field].into(),
        vec![lists(7)],
        Some(vec![true, false].into()),
    );
    let columns: Vec<(&str, ArrayRef)> =
        vec![("sample", Arc::new(inner.unwrap())), ("a.b", lists(8)), ("tokens", lists(9))];
    write(&path, columns);
    let read = |columns: &[&str]| {
        let columns = columns.iter().map(|name| name.to_string()).collect();
        let asked = Asked { columns, ..Asked::default() };
        TokenFile::open_as(&path, asked).map(each).map_err(|error| error.to_string())
    };
    assert_eq!(read(&[]).unwrap(), [Ok(vec![9]), Ok(vec![9])]);
    assert_eq!(read(&["a.b"]).unwrap(), [Ok(vec![8]), Ok(vec![8])]);
    let rows = read(&["sample.codes"]).unwrap();
    assert!(rows[0] == Ok(vec![7]) && rows[1].as_ref().unwrap_err().contains("no tokens (null)"));
    for (name, words) in [
        ("b", "has no column 'b' (it has: sample, a.b, tokens)"),
        ("sample", "is a struct: name one of its fields with --column (sample.codes)"),
        ("sample.other", "has no column 'sample.other'"),
    ] {
        let error = read(&[name]).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let levels = TokenFile::open_as(
        &path,
        Asked { columns: vec!["tokens".into(), "a.b".into()], ..Asked::default() },
    );
    let row = levels.unwrap().next().unwrap().unwrap();
    assert_eq!((row.levels[0].codes[0], row.levels[1].codes[0]), (9, 8));
}

#[test]
fn known_grids_are_taken_before_squares() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let lengths = [16, 17, 9, 18];
    let values = ints((0..60).map(Some).collect());
    write(&path, vec![("tokens", list(values, &lengths))]);
    let read = |strict| {
        let asked = Asked { grids: vec![(2, 8)], strict, ..Asked::default() };
        let mut file = TokenFile::open_as(&path, asked).unwrap();
        let next = std::iter::from_fn(|| file.next_row());
        next.map(|row| match row {
            Ok(row) => Ok((row.levels[0].height, row.levels[0].width, row.guessed)),
            Err(bad) => Err(bad.problem),
        })
        .collect::<Vec<_>>()
    };
    let told = |count, hint: &str| {
        Err(format!("has {count} tokens where 16 are expected (a grid of 2 x 8){hint}"))
    };
    let start = told(17, "; is one of them a start or class token?");
    let both = told(18, "; are two of them start and end tokens?");
    assert_eq!(read(false), [Ok((2, 8, false)), start.clone(), Ok((3, 3, true)), both.clone()]);
    assert_eq!(read(true), [Ok((2, 8, false)), start, told(9, ""), both]);
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
