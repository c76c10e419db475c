//! What stands beside the images of tables made here: keys, labels, captions, further columns; and
//! lists of images in tables.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Float32Array, Int8Array, Int64Array, ListArray,
    ListBuilder, StringArray, StringBuilder, StructBuilder, TimestampMillisecondArray, UInt32Array,
};
use arrow::datatypes::{DataType, Field, Fields as ArrowFields, Int32Type};

use super::super::{TableKind, kind, text_columns, text_rows, why_none};
use super::{listed, open, pixels, plain, write};
use crate::data::source::container::fields::Fields;
use crate::util::settings;

#[test]
fn keys_come_from_a_column_or_from_the_row() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let long = "k".repeat(60_000);
    let keys = StringArray::from(vec![Some("a"), None, Some(""), Some(&long), Some("é")]);
    write(&path, vec![("__key__", Arc::new(keys)), ("img", pixels(5))], 2, None, plain);
    let (images, remarks) = listed(&path, &Fields::default()).unwrap();
    let keys: Vec<_> = images.iter().map(|image| image.key.as_str()).collect();
    assert_eq!(keys, ["a", "d/t/1", "d/t/2", "d/t/3", "é"]);
    assert_eq!(remarks.odd, ["3 rows without a key that can be one, called by their numbers"]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new(UInt32Array::from(vec![u32::MAX, 7]))), ("img", pixels(2))];
    write(&path, columns, 2, None, plain);
    let by_id = Fields { key: Some("id".into()), ..Fields::default() };
    assert_eq!(listed(&path, &by_id).unwrap().0[0].key, "4294967295");
    let missing = Fields { key: Some("ids".into()), ..Fields::default() };
    let line = listed(&path, &missing).unwrap_err();
    assert!(
        line.ends_with("t.parquet: it has no column \"ids\", which key_column names"),
        "{line}"
    );
    let wrong = Fields { caption: Some("id".into()), ..Fields::default() };
    let line = listed(&path, &wrong).unwrap_err();
    assert!(
        line.ends_with("its column \"id\" holds whole numbers, which make no caption_column"),
        "{line}"
    );
}

#[test]
fn labels_are_names_of_classes_or_texts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let classes = r#"{"cls": {"_type": "ClassLabel", "names": ["cat", "dog"]}}"#;
    let column: ArrayRef =
        Arc::new(Int8Array::from(vec![Some(1), Some(-1), None, Some(2), Some(0)]));
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true, true, true]));
    write(&path, vec![("cls", column.clone()), ("img", pixels(5))], 2, Some(classes), plain);
    let (images, remarks) = listed(&path, &Fields::default()).unwrap();
    let labels: Vec<_> = images.iter().map(|image| image.facts.label.as_deref()).collect();
    assert_eq!(labels, [Some("dog"), None, None, None, Some("cat")]);
    assert_eq!(remarks.odd, ["1 row with a label beyond the names of the classes, taken for none"]);
    write(&path, vec![("cls", column), ("labels", flags), ("img", pixels(5))], 2, None, plain);
    let (images, _) = listed(&path, &Fields::default()).unwrap();
    assert_eq!(images[1].facts.label.as_deref(), Some("false"));
    let by_number = Fields { label: Some("cls".into()), ..Fields::default() };
    let (images, _) = listed(&path, &by_number).unwrap();
    let labels: Vec<_> = images.iter().map(|image| image.facts.label.as_deref()).collect();
    assert_eq!(labels, [Some("1"), Some("-1"), None, Some("2"), Some("0")]);
}

#[test]
fn numbers_are_labels_and_what_can_be_none_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let scores: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.1), None]));
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["", "a"]));
    write(&path, vec![("label", scores), ("text", texts), ("img", pixels(2))], 2, None, plain);
    let (images, remarks) = listed(&path, &Fields::default()).unwrap();
    let facts = images.into_iter().map(|image| (image.facts.label, image.facts.caption));
    assert_eq!(
        Vec::from_iter(facts),
        [(Some("0.1".into()), Some(String::new())), (None, Some("a".into()))]
    );
    assert!(remarks.odd.is_empty(), "{:?}", remarks.odd);
    let several = [Some(vec![Some(1)]), Some(vec![Some(1), Some(2)])];
    let several: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(several));
    // A picture of a usual name is no label, and no remark.
    let columns = vec![("label", several), ("target", pixels(2)), ("img", pixels(2))];
    write(&path, columns, 2, None, plain);
    let image = Fields { image: Some("img".into()), ..Fields::default() };
    let (images, remarks) = listed(&path, &image).unwrap();
    assert!(images.iter().all(|image| image.facts.label.as_deref().is_none_or(str::is_empty)));
    assert_eq!(remarks.odd.len(), 1);
    let line = crate::util::settings::plain(&remarks.odd[0]);
    assert_eq!(
        line,
        "its column \"label\" holds lists of whole numbers, which make no labels; pass takes it along"
    );
    let passed = Fields { pass: vec!["label".into()], ..image };
    let (_, remarks) = listed(&path, &passed).unwrap();
    assert!(remarks.odd.is_empty(), "{:?}", remarks.odd);
}

/// A struct of lists, itself null at times.
fn nested() -> ArrayRef {
    let list = ListBuilder::new(ListBuilder::new(StringBuilder::new()));
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new_list(
            "l",
            Field::new_list("item", Field::new("item", DataType::Utf8, true), true),
            true,
        ),
    ];
    let n = Box::new(arrow::array::Int64Builder::new());
    let mut builder = StructBuilder::new(ArrowFields::from(fields), vec![n, Box::new(list)]);
    for row in 0..5 {
        let number = builder.field_builder::<arrow::array::Int64Builder>(0).unwrap();
        number.append_option((row != 2).then_some(row));
        let list = builder.field_builder::<ListBuilder<ListBuilder<StringBuilder>>>(1).unwrap();
        let inner = list.values();
        for i in 0..row {
            let texts = inner.values();
            (0..i).for_each(|j| texts.append_option((j != 1).then(|| format!("{i}{j}"))));
            inner.append(i != 3);
        }
        list.append(row != 1);
        builder.append(row != 3);
    }
    Arc::new(builder.finish())
}

/// Columns of every kind that `pass` may name, and one of JSON.
fn of_every_kind() -> Vec<(&'static str, ArrayRef)> {
    let floats = [Some(0.1), None, Some(f32::NAN), Some(1.0), Some(-2.5)];
    let json = [Some(r#"{"b": 1, "a": [ ]}"#), None, Some("[1]"), Some("x"), Some("{}")];
    vec![
        ("png", pixels(5)),
        ("deep", nested()),
        ("f", Arc::new(Float32Array::from(floats.to_vec()))),
        ("day", Arc::new(Date32Array::from(vec![0, 1, -1, 20_000, i32::MAX]))),
        ("at", Arc::new(TimestampMillisecondArray::from(vec![0, 1500, 0, 0, 0]))),
        ("json", Arc::new(StringArray::from(json.to_vec()))),
    ]
}

#[test]
fn passed_columns_become_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write(&path, of_every_kind(), 3, None, plain);
    let pass = ["deep", "f", "day", "at"].map(String::from).to_vec();
    let (images, remarks) = listed(&path, &Fields { pass, ..Fields::default() }).unwrap();
    let metas: Vec<_> = images.iter().map(|i| i.facts.meta_json.as_deref().unwrap()).collect();
    assert_eq!(
        metas[..4],
        [
            r#"{"b":1,"a":[],"deep":{"n":0,"l":[]},"f":0.1,"day":"1970-01-01","at":"1970-01-01 00:00:00"}"#,
            r#"{"deep":{"n":1,"l":null},"f":null,"day":"1970-01-02","at":"1970-01-01 00:00:01.500"}"#,
            r#"{"deep":{"n":null,"l":[[],["10"]]},"f":null,"day":"1969-12-31","at":"1970-01-01 00:00:00"}"#,
            r#"{"deep":null,"f":1.0,"day":"2024-10-04","at":"1970-01-01 00:00:00"}"#,
        ]
    );
    assert!(
        metas[4].starts_with(r#"{"deep":{"n":4,"l":[[],["10"],["20",null],null]},"f":-2.5,"#),
        "{}",
        metas[4]
    );
    assert_eq!(remarks.odd[0], "2 rows without a JSON object in column \"json\"");
    let binary = Fields { pass: vec!["png".into()], ..Fields::default() };
    let line = listed(&path, &binary).unwrap_err();
    assert!(
        line.ends_with(
            "its column \"png\" holds bytes, which have no place in meta_json; leave it out of pass"
        ),
        "{line}"
    );
}

#[test]
fn long_texts_are_left_out_with_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec!["x".repeat(1 << 20), "y".repeat((1 << 20) + 1)]));
    let numbers = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(7); 600_000]),
        Some(vec![Some(7); 3]),
    ]);
    let columns: Vec<(&str, ArrayRef)> =
        vec![("image", pixels(2)), ("text", texts), ("numbers", Arc::new(numbers))];
    write(&path, columns, 3, None, plain);
    let fields = Fields { pass: vec!["numbers".into()], ..Fields::default() };
    let (images, remarks) = listed(&path, &fields).unwrap();
    assert_eq!(images[0].facts.caption.as_ref().map(String::len), Some(1 << 20));
    assert_eq!(images[1].facts.caption, None);
    assert_eq!(images[0].facts.meta_json.as_deref(), Some(r#"{"numbers":null}"#));
    assert_eq!(images[1].facts.meta_json.as_deref(), Some(r#"{"numbers":[7,7,7]}"#));
    assert_eq!(
        remarks.odd,
        [
            "column \"text\": 1 value of more than 1 MiB left out",
            "column \"numbers\": 1 value of more than 1 MiB left out",
        ]
    );
}

#[test]
fn lists_are_read_as_text() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("URL", Arc::new(StringArray::from(vec![Some("a"), None, Some("c")]))),
        ("n", Arc::new(Int8Array::from(vec![Some(-1), Some(2), None]))),
        (
            "deep",
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                Some([Some(1)]),
                None,
                None,
            ])),
        ),
    ];
    write(&path, columns, 2, None, plain);
    assert_eq!(kind(open(&path), "file:///x", &Fields::default()).unwrap(), TableKind::List);
    assert_eq!(text_columns(open(&path), "file:///x").unwrap(), ["URL", "n"]);
    let rows = text_rows(open(&path), "file:///x", &["n", "URL"]).unwrap();
    let rows: Vec<_> = rows.map(Result::unwrap).collect();
    let some = |text: &str| Some(text.to_string());
    assert_eq!(rows, [[some("-1"), some("a")], [some("2"), None], [None, some("c")]]);
    assert!(text_rows(open(&path), "file:///x", &["deep"]).is_err());
}

#[test]
fn a_column_of_texts_that_is_asked_for_names_images() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    let column: ArrayRef = Arc::new(StringArray::from(vec!["a.png"]));
    write(&path, vec![("photo", Arc::clone(&column)), ("memo", column)], 2, None, plain);
    let of = |image: Option<&str>| {
        let fields = Fields { image: image.map(str::to_string), ..Fields::default() };
        kind(open(&path), "file:///x", &fields).unwrap()
    };
    let kinds = (of(None), of(Some("photo")), of(Some("none")));
    assert_eq!(kinds, (TableKind::Other, TableKind::List, TableKind::Images));
    let why = settings::plain(&why_none(open(&path), "file:///x").unwrap());
    assert!(why.ends_with("; image_column says which one does. It has photo, memo"), "{why}");
}

#[test]
fn what_vqtok_wrote_is_known_by_its_metadata_or_its_columns() {
    let dir = tempfile::tempdir().unwrap();
    crate::tokens::testing::plan(dir.path(), 3, 10);
    let plan = dir.path().join("plan.parquet");
    assert_eq!(kind(open(&plan), "file:///x", &Fields::default()).unwrap(), TableKind::Vqtok);
    let path = dir.path().join("t.parquet");
    let number = || -> ArrayRef { Arc::new(Int64Array::from(vec![1])) };
    let columns = ["ordinal", "key", "uri", "bytes"].map(|name| (name, number())).to_vec();
    write(&path, columns, 9, None, plain);
    assert_eq!(kind(open(&path), "file:///x", &Fields::default()).unwrap(), TableKind::Vqtok);
    write(&path, vec![("a", number())], 9, None, plain);
    assert_eq!(kind(open(&path), "file:///x", &Fields::default()).unwrap(), TableKind::Other);
}
