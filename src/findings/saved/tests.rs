//! Tests of saved indexes: read again, replaced, refused where a byte has changed.

use super::*;
use serde_json::Value;

#[test]
fn the_schema_says_what_the_file_holds() {
    let told: Value = serde_json::from_str(include_str!("../../../schemas/index.v2.json")).unwrap();
    assert_eq!(told["schema"], SCHEMA);
    assert!(told["metadata"][MODEL_ENTRY].is_string() && told["metadata"][SCHEMA_ENTRY] == SCHEMA);
    let columns = told["columns"].as_array().unwrap();
    assert_eq!(columns.len(), schema().fields().len());
    for (column, field) in columns.iter().zip(schema().fields()) {
        let kind = match field.data_type() {
            DataType::Utf8 => "string".to_string(),
            DataType::UInt32 => "uint32".to_string(),
            DataType::FixedSizeBinary(bytes) => format!("fixed_size_binary[{bytes}]"),
            other => panic!("{other}"),
        };
        assert_eq!(column["name"], field.name().as_str());
        assert_eq!(
            (&column["type"], &column["nullable"]),
            (&kind.into(), &field.is_nullable().into())
        );
        assert!(column["description"].as_str().unwrap().len() > 10);
    }
}

#[test]
fn what_is_saved_is_read_again_and_replaced_without_asking() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.parquet");
    let mut index = Index::new();
    for at in 0..5000u32 {
        let label = ["cat", "dog"].get(at as usize % 3).copied();
        let thumbnail = Thumbnail { luma: [at as u8; 256], colour: [[7; 64], [at as u8 / 2; 64]] };
        let size = ImageSize {
            width: at,
            height: 9,
            shown_width: at,
            shown_height: 9,
            mode: MODES.len() as u32,
            quantization_error: f32::NAN,
        };
        let digests = [[at as u8; 16], [1; 16]];
        index.push(&format!("{at}.png"), label, digests, size, thumbnail).unwrap();
    }
    let images = index.finish().unwrap();
    let some = |at: usize| at.is_multiple_of(2);
    let all = |_: usize| true;
    write(&path, &images, [&some, &all], "abc", Foreign::Keep).unwrap();
    let saved = read(&path).unwrap();
    assert_eq!((saved.len(), model_of(&path).unwrap().as_deref()), (2500, Some("abc")));
    for (row, at) in [(0, 0), (1, 2), (2499, 4998)] {
        assert_eq!(saved.keys.get(row), images.keys.get(at));
        assert_eq!(saved.label(row), images.label(at));
        assert_eq!(saved.thumbnails[row], images.thumbnails[at]);
        assert_eq!((saved.files[row], saved.grids[row]), (images.files[at], images.grids[at]));
        assert_eq!(saved.sizes[row].width, images.sizes[at].width);
    }
    write(&path, &images, [&|_| false, &all], "abd", Foreign::Keep).unwrap();
    assert_eq!(read(&path).unwrap().len(), 0);
    std::fs::write(&path, b"PAR1 mine").unwrap();
    assert!(write(&path, &images, [&some, &all], "abc", Foreign::Keep).is_err());
    assert_eq!(model_of(&path).unwrap(), None);
    assert!(read(&path).is_err());
}

/// An index of a few images, as bytes; others with another `seed`.
fn small(seed: u8) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.parquet");
    let mut index = Index::new();
    for at in 0..3u8 {
        let shade = |by: u8| (0..=255).map(move |point: u8| point.wrapping_mul(seed) ^ by ^ at);
        let luma: Vec<u8> = shade(7).collect();
        let colour = [3, 5].map(|by| shade(by).take(64).collect::<Vec<u8>>().try_into().unwrap());
        let thumbnail = Thumbnail { luma: luma.try_into().unwrap(), colour };
        let size =
            ImageSize { width: 9, height: 9, mode: MODES.len() as u32, ..ImageSize::default() };
        let digests = [[at ^ seed; 16], [at; 16]];
        index.push(&format!("{at}.png"), Some("cat"), digests, size, thumbnail).unwrap();
    }
    write(&path, &index.finish().unwrap(), [&|_| true, &|_| true], "abc", Foreign::Keep).unwrap();
    std::fs::read(&path).unwrap()
}

/// What is said of an index of such bytes, whether it is asked for its model or for its images.
fn refusals(bytes: &[u8]) -> [Option<String>; 2] {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let refusals = [model_of(file.path()).map(|_| ()).err(), read(file.path()).map(|_| ()).err()];
    refusals.map(|error| error.map(|error| error.to_string()))
}

fn is_damage(refusal: &Option<String>) -> bool {
    refusal.as_ref().is_some_and(|words| {
        let told = words.contains("the saved index is damaged") && words.contains("save_index");
        told && !words.contains('\n')
    })
}

#[test]
fn a_flipped_bit_anywhere_is_damage() {
    let whole = small(1);
    assert_eq!(refusals(&whole), [None, None]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        let said = refusals(&bytes);
        assert!(said.iter().all(is_damage), "byte {at} of {}: {said:?}", whole.len());
    }
}

#[test]
fn a_cut_or_longer_file_and_one_with_parts_of_another_are_damage() {
    let (whole, other) = (small(1), small(2));
    for length in (0..whole.len()).step_by(7).chain([whole.len() - 1]) {
        let said = refusals(&whole[..length]);
        assert!(is_damage(&said[1]), "{length}: {said:?}");
    }
    for more in [&b"\0"[..], b"PAR1", &other, &vec![0; 1 << 14]] {
        let said = refusals(&[&whole, more].concat());
        assert!(is_damage(&said[1]), "{}: {said:?}", more.len());
    }
    for part in 0..8 {
        let mut bytes = whole.clone();
        let shorter = whole.len().min(other.len());
        let range = part * shorter / 8..(part + 1) * shorter / 8;
        bytes[range.clone()].copy_from_slice(&other[range.clone()]);
        let said = refusals(&bytes);
        assert_eq!(is_damage(&said[1]), bytes != whole, "{range:?}: {said:?}");
    }
}

#[test]
fn an_index_of_another_version_is_to_be_saved_again() {
    // As earlier builds wrote it: without a seal.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.parquet");
    let entry = KeyValue::new(SCHEMA_ENTRY.to_string(), "index.v1".to_string());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![entry])).build();
    let file = File::create(&path).unwrap();
    ArrowWriter::try_new(file, schema(), Some(properties)).unwrap().close().unwrap();
    let said = model_of(&path).unwrap_err().to_string();
    assert!(said.contains("it is an index.v1, which another version of vqtok wrote"), "{said}");
    assert!(said.ends_with("save it again with save_index"), "{said}");
    assert!(crate::util::overwrite::is_ours(&path));
}
