//! Tables written here: every way to hold images, nulls at every place, several pages and row groups.

use std::fs;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryArray, BinaryBuilder, BinaryViewArray, DictionaryArray,
    FixedSizeBinaryArray, FixedSizeListBuilder, Int8Array, LargeBinaryArray, LargeListArray,
    LargeStringArray, ListArray, ListBuilder, StringArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields as ArrowFields, Int32Type};
use parquet::basic::Encoding;
use parquet::file::properties::{WriterPropertiesBuilder, WriterVersion};
use proptest::prelude::*;

use super::{listed, open, pixels, plain, read, read_all, reader, write};
use crate::data::formats::raw_image::Limits;
use crate::data::source::container::fields::Fields;
use crate::data::source::container::listing::ReadForward;
use crate::data::source::image::Part;

/// The ways that a writer may lay pages out.
fn layouts() -> Vec<fn(WriterPropertiesBuilder) -> WriterPropertiesBuilder> {
    vec![
        plain,
        |p| p.set_writer_version(WriterVersion::PARQUET_2_0),
        |p| p.set_dictionary_enabled(false),
        |p| p.set_dictionary_enabled(false).set_encoding(Encoding::DELTA_LENGTH_BYTE_ARRAY),
        |p| {
            let p = p.set_dictionary_enabled(false).set_encoding(Encoding::DELTA_BYTE_ARRAY);
            p.set_writer_version(WriterVersion::PARQUET_2_0)
        },
    ]
}

pub(super) type Cell = Option<(Option<Vec<u8>>, Option<String>)>;

/// A struct column of bytes and path, in either order.
fn structs(cells: &[Cell], swapped: bool) -> StructArray {
    let bytes: Vec<_> = cells.iter().map(|c| c.as_ref().and_then(|c| c.0.as_deref())).collect();
    let paths: Vec<_> = cells.iter().map(|c| c.as_ref().and_then(|c| c.1.as_deref())).collect();
    let mut children: Vec<(Field, ArrayRef)> = vec![
        (Field::new("bytes", DataType::Binary, true), Arc::new(BinaryArray::from(bytes))),
        (Field::new("path", DataType::LargeUtf8, true), Arc::new(LargeStringArray::from(paths))),
    ];
    if swapped {
        children.reverse();
    }
    let (fields, arrays): (Vec<_>, Vec<_>) = children.into_iter().unzip();
    let nulls = NullBuffer::from_iter(cells.iter().map(Option::is_some));
    StructArray::new(ArrowFields::from(fields), arrays, Some(nulls))
}

fn image(i: usize) -> Vec<u8> {
    (0..i % 7 * 3).map(|at| (at * 31 + i) as u8).collect()
}

/// What reading a cell gives: bytes, or None where it fails.
fn wanted(cell: &Cell) -> Option<Vec<u8>> {
    match cell {
        Some((Some(bytes), _)) => Some(bytes.clone()),
        Some((None, Some(path))) if path == "there.png" => Some(b"beside".to_vec()),
        _ => None,
    }
}

pub(super) fn cells(count: usize) -> Vec<Cell> {
    (0..count)
        .map(|i| match i % 6 {
            0 | 3 => Some((Some(image(i)), None)),
            1 => Some((None, None)),
            2 => Some((None, Some("there.png".into()))),
            4 => None,
            _ => Some((Some(image(i)), Some("missing.png".into()))),
        })
        .collect()
}

#[test]
fn structs_give_bytes_then_paths_whatever_their_layout() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("there.png"), b"beside").unwrap();
    for (number, layout) in layouts().into_iter().enumerate() {
        for (count, group) in [(1, 9), (13, 2), (23, 100), (12, 5)] {
            let cells = cells(count);
            let column: ArrayRef = Arc::new(structs(&cells, number % 2 == 0));
            let path = dir.path().join(format!("{number}-{count}.parquet"));
            write(&path, vec![("image", column)], group, None, layout);
            let (images, remarks) = listed(&path, &Fields::default()).unwrap();
            assert_eq!((images.len(), remarks.without_image), (count, 0));
            let read = read_all(&path, &images);
            for (i, (cell, read)) in cells.iter().zip(read).enumerate() {
                assert_eq!(wanted(cell), read.ok(), "{number} {i}");
                assert_eq!(images[i].key, format!("d/{number}-{count}/{i}"));
            }
        }
    }
}

#[test]
fn every_kind_of_bytes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let values = [Some(&b"one"[..]), None, Some(b"two"), Some(b"two"), Some(b"six")];
    let keys = arrow::array::Int32Array::from(vec![Some(0), None, Some(1), Some(1), Some(2)]);
    let dictionary = BinaryArray::from(vec![&b"one"[..], b"two", b"six"]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("img", Arc::new(BinaryArray::from(values.to_vec()))),
        ("IMAGE", Arc::new(LargeBinaryArray::from(values.to_vec()))),
        ("jpg", Arc::new(BinaryViewArray::from(values.to_vec()))),
        ("png", Arc::new(DictionaryArray::<Int32Type>::new(keys, Arc::new(dictionary)))),
        (
            "webp",
            Arc::new(
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(values.into_iter(), 3)
                    .unwrap(),
            ),
        ),
        ("image.bytes", Arc::new(BinaryArray::from(values.to_vec()))),
    ];
    for (i, (name, column)) in columns.into_iter().enumerate() {
        for (layout, set) in layouts().into_iter().enumerate() {
            if name == "webp" && layout > 2 {
                continue; // an encoding that fixed sizes don't have
            }
            let path = dir.path().join(format!("{i}.parquet"));
            write(&path, vec![(name, column.clone())], 3, None, set);
            let (images, _) = listed(&path, &Fields::default()).unwrap();
            let read: Vec<_> = read_all(&path, &images);
            for (value, read) in values.iter().zip(read) {
                assert_eq!(value.map(<[u8]>::to_vec), read.clone().ok(), "{name}");
                assert!(read.is_ok_and(|_| true) || value.is_none());
            }
            assert_eq!(images[1].part.as_ref().unwrap().member, name);
        }
    }
}

/// Lists of structs, of the kind that `make` gives of their offsets.
pub(super) fn lists(rows: &[Option<Vec<Cell>>], large: bool) -> ArrayRef {
    let flat: Vec<Cell> = rows.iter().flatten().flatten().cloned().collect();
    let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().map_or(0, Vec::len)).collect();
    let values = Arc::new(structs(&flat, false));
    let item = Arc::new(Field::new("element", values.data_type().clone(), true));
    let nulls = NullBuffer::from_iter(rows.iter().map(Option::is_some));
    match large {
        true => {
            let offsets = OffsetBuffer::<i64>::from_lengths(lengths);
            Arc::new(LargeListArray::new(item, offsets, values, Some(nulls)))
        }
        false => {
            let offsets = OffsetBuffer::<i32>::from_lengths(lengths);
            Arc::new(ListArray::new(item, offsets, values, Some(nulls)))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lists_give_each_of_their_images(
        rows in prop::collection::vec(
            prop::option::weighted(0.8, prop::collection::vec(0_usize..12, 0..6)),
            1..24,
        ),
        group in 1_usize..12,
        layout in 0_usize..5,
        large: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("there.png"), b"beside").unwrap();
        let all = cells(12);
        let rows: Vec<Option<Vec<Cell>>> = rows
            .into_iter()
            .map(|row| row.map(|row| row.into_iter().map(|cell| all[cell].clone()).collect()))
            .collect();
        let path = dir.path().join("t.parquet");
        let count = StringArray::from_iter_values((0..rows.len()).map(|row| row.to_string()));
        let columns: Vec<(&str, ArrayRef)> =
            vec![("key", Arc::new(count)), ("images", lists(&rows, large))];
        write(&path, columns, group, None, layouts()[layout]);
        let (images, remarks) = listed(&path, &Fields::default()).unwrap();
        let mut wanted_keys = Vec::new();
        let mut wanted_bytes = Vec::new();
        let mut without = 0;
        for (row, cells) in rows.iter().enumerate() {
            let cells = cells.as_deref().unwrap_or_default();
            without += u64::from(cells.is_empty());
            for (i, cell) in cells.iter().enumerate() {
                wanted_keys.push(format!("{row}/{i}"));
                wanted_bytes.push(wanted(cell));
            }
        }
        let keys: Vec<_> = images.iter().map(|image| image.key.clone()).collect();
        prop_assert_eq!(keys, wanted_keys);
        prop_assert_eq!(remarks.without_image, without);
        let read: Vec<_> = read_all(&path, &images).into_iter().map(Result::ok).collect();
        prop_assert_eq!(read, wanted_bytes);
    }
}

#[test]
fn lists_of_bytes_and_of_fixed_length_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut builder = ListBuilder::new(BinaryBuilder::new());
    builder.append_value([Some(b"a"), None, Some(b"c")]);
    builder.append_value([] as [Option<&[u8]>; 0]);
    let mut fixed = FixedSizeListBuilder::new(BinaryBuilder::new(), 2);
    for row in [[&b"x"[..], b"y"], [b"z", b""]] {
        row.into_iter().for_each(|bytes| fixed.values().append_value(bytes));
        fixed.append(true);
    }
    let path = dir.path().join("a.parquet");
    write(&path, vec![("images", Arc::new(builder.finish()))], 9, None, plain);
    let (images, remarks) = listed(&path, &Fields::default()).unwrap();
    assert_eq!((images.len(), remarks.without_image), (3, 1));
    let null = Err("there is no image in the row: it is null".to_string());
    assert_eq!(read_all(&path, &images), [Ok(b"a".to_vec()), null, Ok(b"c".to_vec())]);
    write(&path, vec![("images", Arc::new(fixed.finish()))], 9, None, plain);
    let (images, _) = listed(&path, &Fields::default()).unwrap();
    let read: Vec<_> = read_all(&path, &images).into_iter().map(Result::unwrap).collect();
    assert_eq!(read, [&b"x"[..], b"y", b"z", b""]);
    assert_eq!(images[3].part, Some(Part { member: "images[1]".into(), offset: 1 }));
}

#[test]
fn a_column_is_chosen_by_the_surest_sign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let cell: Vec<Cell> = vec![Some((Some(b"s".to_vec()), None))];
    let of_struct = || -> ArrayRef { Arc::new(structs(&cell, false)) };
    let member = |columns: Vec<(&str, ArrayRef)>, features: Option<&str>, image: Option<&str>| {
        write(&path, columns, 9, features, plain);
        let fields = Fields { image: image.map(String::from), ..Fields::default() };
        listed(&path, &fields).map(|(images, _)| images[0].part.clone().unwrap().member)
    };
    let of = |name: &str| Ok(name.to_string());
    assert_eq!(member(vec![("png", pixels(1)), ("a", of_struct())], None, None), of("a"));
    assert_eq!(member(vec![("png", pixels(1)), ("a", of_struct())], None, Some("png")), of("png"));
    let marked = r#"{"a": {"_type": "Audio"}, "b": {"_type": "Image"}, "x": {"_type": "Value"}}"#;
    let both = || vec![("a", of_struct()), ("b", of_struct())];
    assert_eq!(member(both(), Some(marked), None), of("b"));
    let audio = r#"{"a": {"_type": "Audio"}}"#;
    assert_eq!(member(both(), Some(audio), None), of("b"));
    let line = member(both(), None, None).unwrap_err();
    assert!(
        line.ends_with(
            "its columns \"a\" and \"b\" both hold images; choose one with image_column"
        ),
        "{line}"
    );
    let line = member(both(), None, Some("c")).unwrap_err();
    assert!(line.ends_with("it has no column \"c\"; set another image_column"), "{line}");
    assert_eq!(member(vec![("image.bytes", pixels(1))], None, Some("image")), of("image.bytes"));
    let line =
        member(vec![("n", Arc::new(Int8Array::from(vec![1])))], None, Some("n")).unwrap_err();
    assert!(line.contains("its column \"n\" holds whole numbers, no images"), "{line}");
    let line = member(vec![("x", pixels(1))], None, None).unwrap_err();
    assert!(line.ends_with("no column of it looks like images; set image_column"), "{line}");
}

#[test]
fn a_flattened_struct_has_its_paths_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, input) = (dir.path().join("data"), dir.path());
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.png"), b"near").unwrap();
    fs::write(input.join("a.png"), b"far").unwrap();
    fs::write(input.join("b.png"), b"input").unwrap();
    let absolute = input.join("b.png").to_str().unwrap().to_string();
    let paths = StringArray::from(vec!["a.png", "b.png", "../b.png", &absolute, "ftp://x/b.png"]);
    let bytes = BinaryArray::from(vec![None::<&[u8]>; 5]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("image.bytes", Arc::new(bytes)), ("image.path", Arc::new(paths))];
    let path = write(&folder.join("t.parquet"), columns, 9, None, plain);
    let (images, _) = listed(&path, &Fields::default()).unwrap();
    let uri = crate::data::source::uri::of_path(&path);
    let mut reader = super::TableReader::new(open(&path), &uri, Some(input));
    let read: Vec<_> = images.iter().map(|image| read(&mut reader, image)).collect();
    for (read, wanted) in read.iter().zip([&b"near"[..], b"input", b"input", b"input"]) {
        assert_eq!(read.as_deref(), Ok(wanted));
    }
    let line = read[4].as_ref().unwrap_err();
    assert!(line.contains("\"ftp://x/b.png\"") && line.contains("to_parquet"), "{line}");
}

#[test]
fn places_that_are_no_more_say_so_and_limits_hold() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path, vec![("image", pixels(30))], 9, None, plain);
    let mut reader = reader(&path);
    let limits = Limits { file_bytes_max: 1, ..Limits::default() };
    let mut at = |member: &str, offset| {
        reader.read(&Part { member: member.into(), offset }, 0, &limits).map_err(|r| r.message)
    };
    assert_eq!(at("image", 3), Ok(b"3".to_vec()));
    let line = at("image", 29).unwrap_err();
    assert_eq!(line, "the image has 2 bytes, more than the limit of 1");
    for (member, row) in [("image", 30), ("image", u64::MAX), ("img", 0), ("image[0]", 0), ("", 0)]
    {
        let line = at(member, row).unwrap_err();
        assert!(line.starts_with("the file has changed since it was planned"), "{line}");
    }
    assert_eq!(at("image", 4), Ok(b"4".to_vec()));
}
