//! Tables that the real packages wrote, and what they yield there.

use std::path::Path;

use serde_json::Value;

use super::super::{TableKind, kind};
use super::{listed, open, read_all};
use crate::data::source::container::fields::Fields;
use crate::testing::shared;
use crate::util::hex;

fn kind_of(path: &Path) -> TableKind {
    kind(open(path), "file:///x.parquet", &Fields::default()).unwrap()
}

/// What `datasets` gave of a cell, held against the bytes that were read.
fn agrees(told: &Value, read: &Result<Vec<u8>, String>) -> Result<(), String> {
    let differs = || Err(format!("{told}: {read:?}"));
    let sums = |told: &Value, bytes: &[u8]| {
        let digest = hex::sha256_hex(bytes);
        told["bytes"] == bytes.len() && told["sha256_16"] == digest[..16]
    };
    let path = told["filename"].as_str().or(told["path"].as_str()).unwrap_or_default();
    let inner = if told["bytes"].is_object() { &told["bytes"] } else { told };
    match read {
        Ok(bytes) if told["decoded"].is_array() => {
            let magic: &[u8] = if told["decoded"][2] == "PNG" { b"\x89PNG" } else { b"\xff\xd8" };
            if bytes.starts_with(magic) && !path.starts_with('/') { Ok(()) } else { differs() }
        }
        // An image of no bytes fails when it is decoded.
        Ok(bytes) if told.is_string() => {
            if bytes.is_empty() {
                Ok(())
            } else {
                differs()
            }
        }
        Ok(bytes) if inner["sha256_16"].is_string() => {
            if sums(inner, bytes) {
                Ok(())
            } else {
                differs()
            }
        }
        // A struct's path beside the table.
        Ok(bytes) => {
            if bytes.starts_with(b"\xff\xd8") && path == "files/f1.jpg" {
                Ok(())
            } else {
                differs()
            }
        }
        Err(line) if path.starts_with('/') && line.contains("to_parquet") => Ok(()),
        Err(line) if told.is_null() && line.starts_with("there is no image in the row: ") => Ok(()),
        Err(line) if path.is_empty() && line.ends_with("neither bytes nor a path") => Ok(()),
        Err(_) => differs(),
    }
}

/// What `datasets` yields of a column: row, place in a list and value of each image; and how many rows
/// have none.
fn cells_of(told: &Value, column: &str) -> (Vec<(usize, Option<usize>, Value)>, u64) {
    let (mut cells, mut without) = (Vec::new(), 0);
    for (row, told) in told["rows"].as_array().unwrap().iter().enumerate() {
        let cell = match told.get("row_error") {
            Some(error) if error.as_str().unwrap().starts_with("Value") => Value::Null,
            Some(error) => error.clone(),
            None => told[column].clone(),
        };
        match cell {
            Value::Array(list) => {
                without += u64::from(list.is_empty());
                for (i, cell) in list.into_iter().enumerate() {
                    cells.push((row, Some(i), cell));
                }
            }
            Value::Null if column == "images" => without += 1,
            cell => cells.push((row, None, cell)),
        }
    }
    (cells, without)
}

#[test]
fn what_datasets_yields_is_what_is_read() {
    let Some(dir) = shared("sources/hf_parquet") else { return };
    let expected = std::fs::read_to_string(dir.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let files = expected["results"].as_object().unwrap();
    assert_eq!(files.len(), 14);
    for (name, told) in files {
        let path = dir.join(name);
        let wanted =
            if name.starts_with("string_path") { TableKind::List } else { TableKind::Images };
        assert_eq!(kind_of(&path), wanted, "{name}");
        let found = listed(&path, &Fields::default());
        if name.starts_with("list_uint8") || name.starts_with("string_path") {
            let line = found.unwrap_err();
            let says = ["holds lists of whole numbers, not bytes", "no column of it looks like"];
            assert!(says.iter().any(|said| line.contains(said)), "{line}");
            continue;
        }
        let (images, remarks) = found.unwrap();
        let read = read_all(&path, &images);
        let column = images[0].part.as_ref().unwrap().member.split('[').next().unwrap().to_string();
        let (cells, without) = cells_of(told, &column);
        assert_eq!((images.len(), remarks.without_image), (cells.len(), without), "{name}");
        for ((image, read), (row, element, cell)) in images.iter().zip(&read).zip(&cells) {
            agrees(cell, read).unwrap_or_else(|line| panic!("{name} {row}: {line}"));
            let part = image.part.as_ref().unwrap();
            assert_eq!((part.offset, image.bytes, &image.fault), (*row as u64, 0, &None));
            if !name.starts_with("binary_no") {
                let tail = element.map(|i| format!("/{i}")).unwrap_or_default();
                let stem = name.strip_suffix(".parquet").unwrap();
                assert_eq!(image.key, format!("d/{stem}/{row}{tail}"));
                assert!(image.facts.meta_json.is_none());
            }
        }
    }
}

#[test]
fn labels_and_captions_are_those_of_datasets() {
    let Some(dir) = shared("sources/hf_parquet") else { return };
    let of = |name: &str, fields: &Fields| listed(&dir.join(name), fields).unwrap().0;
    let none = Fields::default();
    let labels = |name| of(name, &none).into_iter().map(|i| i.facts.label).collect::<Vec<_>>();
    let some = |text: &str| Some(text.to_string());
    assert_eq!(
        labels("image_classlabel.parquet"),
        [some("cat"), some("dog"), some("bär"), None, None]
    );
    assert_eq!(labels("rowgroups.parquet")[..3], [some("zero"), some("one"), some("zero")]);
    assert_eq!(labels("large_binary.parquet"), [some("1"), some("0")]);
    let strings = [some("cat"), None, some("dog"), None, some("x"), some("y")];
    assert_eq!(labels("struct_no_metadata.parquet"), strings);
    let captions = of("image_classlabel.parquet", &none);
    let captions: Vec<_> = captions.into_iter().map(|i| i.facts.caption).collect();
    assert_eq!(captions, [some("a"), some("b 猫"), None, some(""), some("e")]);
    let web = of("binary_no_metadata.parquet", &none);
    assert_eq!(
        (web[1].key.as_str(), web[1].facts.meta_json.as_deref()),
        ("k1", Some(r#"{"w":2}"#))
    );
    let passing = Fields { pass: vec!["split".into()], ..Fields::default() };
    let split = of("struct_swapped_order.parquet", &passing);
    assert_eq!(split[0].facts.meta_json.as_deref(), Some(r#"{"split":"train"}"#));
    let lists = Fields { pass: vec!["texts".into()], ..Fields::default() };
    let lists = of("list_images.parquet", &lists);
    let metas: Vec<_> = lists.iter().map(|i| i.facts.meta_json.clone().unwrap()).collect();
    assert_eq!(metas, [r#"{"texts":["x"]}"#, r#"{"texts":["x"]}"#, r#"{"texts":["y"]}"#]);
}

#[test]
fn img2datasets_tables_give_what_was_downloaded() {
    let Some(dir) = shared("sources/img2dataset") else { return };
    let mut keys = Vec::new();
    for (name, rows, failed) in [("00000", 5, 0), ("00001", 1, 2)] {
        let path = dir.join("parquet").join(format!("{name}.parquet"));
        assert_eq!(kind_of(&path), TableKind::Images);
        let (images, remarks) = listed(&path, &Fields::default()).unwrap();
        assert_eq!((images.len(), remarks.without_image), (rows, failed), "{name}");
        assert_eq!(remarks.odd, [""; 0]);
        for (image, bytes) in images.iter().zip(read_all(&path, &images)) {
            let bytes = bytes.unwrap();
            assert!(bytes.starts_with(b"\xff\xd8"), "{}", image.key);
            // The same download, as a file.
            let beside = dir.join("files").join(name).join(format!("{}.jpg", image.key));
            if beside.is_file() {
                assert_eq!(std::fs::metadata(beside).unwrap().len(), bytes.len() as u64);
            }
            keys.push(image.key.clone());
        }
        for folder in ["webdataset", "files"] {
            let account = dir.join(folder).join(format!("{name}.parquet"));
            assert_eq!(kind_of(&account), TableKind::Account);
        }
    }
    assert_eq!(keys.len(), 6);
    assert_eq!(kind_of(&dir.join("urls.parquet")), TableKind::List);
    if let Some(laion) = shared("sources/lists/laion_style.parquet") {
        assert_eq!(kind_of(&laion), TableKind::List);
    }
}
