//! Tests of reading: every integer type, shapes given and guessed, broken and lying files.

use std::sync::Arc;

use arrow::array::{
    FixedSizeListArray, Int64Array, LargeListArray, LargeStringArray, ListArray, StringArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::Field;
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
            assert_eq!(rows[1], GridRow { key: "1".into(), view: None, levels: vec![second] });
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
    refused(vec![("other", int(vec![1]))], "no column 'tokens' (it has: other)");
    refused(vec![("tokens", int(vec![1]))], "is Int64, not a list");
    refused(vec![("tokens", fixed(int(vec![1, 2, 3]), 3))], "row '0' has 3 tokens, which is no");
    refused(vec![("tokens", fixed(int(vec![-1]), 1))], "holds -1, which is no code");
    refused(vec![("tokens", fixed(int(vec![1 << 32]), 1))], "holds 4294967296");
    let floats = cast(&int(vec![1]), &DataType::Float32).unwrap();
    refused(vec![("tokens", fixed(floats, 1))], "holds Float32, not integers");
    let nulls: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    refused(vec![("tokens", fixed(nulls, 2))], "missing codes");
    for (height, width) in [(2, 2), (-1, -1), (0, 0), (i64::MAX, 2)] {
        let (height, width) = (int(vec![height]), int(vec![width]));
        let columns = vec![
            ("tokens", fixed(int(vec![1]), 1)),
            ("grid_height", height),
            ("grid_width", width),
        ];
        refused(columns, "has 1 tokens for a grid of");
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
