//! Tests of reading: every integer type, shapes given and guessed, columns by name.

mod damage;
mod folders;

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
            let beside = Beside::default();
            let row =
                GridRow { key, keyed: false, view, levels, guessed: true, file, row: 1, beside };
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
        ("sample", "is a struct (sample.codes), not a list of integers"),
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
