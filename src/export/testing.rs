//! Owns what tests of formats share: the rows that all golden files hold, and comparing with them.

use std::path::Path;

use super::check::Reader;
use super::format::{Facts, Format};
use super::ids::Ids;
use super::journal::{FileRecord, PartRecord};
use super::labels::Labels;
use super::row::{Row, RowDigest};
use super::settings::Settings;
use super::target::Target;
use crate::testing::shared;

/// A golden file's bytes.
pub(super) fn file(name: &str) -> Vec<u8> {
    std::fs::read(shared("formats").unwrap().join(name)).unwrap()
}

/// The rows of the golden files; None where these aren't there.
pub(super) fn golden() -> Option<Vec<Row>> {
    let text = std::fs::read(shared("formats/canonical.json")?).unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
    let text = |value: &serde_json::Value| value.as_str().map(str::to_string);
    let row = |(number, row): (u64, &serde_json::Value)| Row {
        number,
        key: text(&row["key"]).unwrap(),
        label: text(&row["label"]),
        class: row["label_id"].as_i64(),
        caption: text(&row["caption"]),
        meta_json: None,
        codes: serde_json::from_value(row["tokens"].clone()).unwrap(),
        height: 4,
        width: 4,
    };
    Some((0..).zip(&rows).map(row).collect())
}

/// What is known of them, with the settings that `set` makes.
pub(super) fn facts(rows: &[Row], set: impl FnOnce(&mut Settings)) -> Facts {
    let mut settings = Settings::new("in".into(), "out".into(), Target::Megatron);
    set(&mut settings);
    let names = rows.iter().filter_map(|row| Some((row.label.clone()?, None))).collect();
    let labels = Labels::of(&names, None).unwrap();
    let ids = Ids::of(&settings, 65_536, labels.count()).unwrap();
    Facts { ids, labels, captions: true, fields: settings.fields.unwrap_or_default() }
}

/// What the journal says of rows with so many ids in a golden file.
pub(super) fn record(rows: &[Row], ids: u64, golden: &str) -> PartRecord {
    let (path, bytes) = (golden.to_string(), file(golden).len() as u64);
    let files = vec![FileRecord { path, bytes, sha256: String::new() }];
    PartRecord { rows: rows.len() as u64, ids, files }
}

/// The files that a format makes of rows.
pub(super) fn made(format: &dyn Format, number: usize, rows: &[Row]) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let mut part = format.part(dir.path(), number).unwrap();
    rows.iter().for_each(|row| part.push(&format.encode(row)).unwrap());
    let made = part.seal().unwrap();
    made.iter().map(|made| std::fs::read(made.sealed.path()).unwrap()).collect()
}

/// Asserts that a format makes the golden files of rows.
pub(super) fn assert_made(format: &dyn Format, number: usize, rows: &[Row], golden: &[&str]) {
    let made = made(format, number, rows);
    assert_eq!(made.len(), golden.len());
    for (made, golden) in made.iter().zip(golden) {
        assert!(*made == file(golden), "{golden}");
    }
}

/// Asserts that a reader finds the rows in golden files, and sees every change of one byte among those
/// in `tokens`, places in the first file.
pub(super) fn assert_read(target: Target, rows: &[Row], golden: &[&str], tokens: &[usize]) {
    let facts = facts(rows, |_| ());
    let reader = Reader::of(target, &facts);
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..golden.len()).map(|i| dir.path().join(i.to_string())).collect();
    let paths: Vec<&Path> = paths.iter().map(|path| path.as_path()).collect();
    for (path, golden) in paths.iter().zip(golden) {
        std::fs::write(path, file(golden)).unwrap();
    }
    let digest = || {
        let mut digest = RowDigest::default();
        for row in rows {
            let gives = [Target::WebDataset, Target::Jsonl, Target::Mds].contains(&target);
            let class = row.class.filter(|_| gives);
            let sides = target.traits().grids.then_some((row.height, row.width));
            digest.add(class, sides, &row.codes);
        }
        digest
    };
    reader.compare(&paths, 16, digest()).unwrap();
    let whole = std::fs::read(paths[0]).unwrap();
    for at in tokens {
        let mut changed = whole.clone();
        changed[*at] ^= 1;
        std::fs::write(paths[0], changed).unwrap();
        reader.compare(&paths, 16, digest()).unwrap_err();
    }
}
