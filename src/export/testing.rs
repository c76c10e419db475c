//! Owns what tests of formats share: the rows that all golden files hold, and comparing with them.

use std::path::{Path, PathBuf};

use super::check::Reader;
use super::format::{Facts, Format, Place};
use super::formats;
use super::ids::Ids;
use super::journal::{FileRecord, PartRecord, SplitRecord};
use super::labels::Labels;
use super::part::Made;
use super::row::{Row, RowDigest};
use super::settings::Settings;
use super::target::{Files, Target};
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
        views: 1,
        crops: Vec::new(),
    };
    Some((0..).zip(&rows).map(row).collect())
}

/// What is known of them, with the settings that `set` makes.
pub(super) fn facts(rows: &[Row], set: impl FnOnce(&mut Settings)) -> Facts {
    let mut settings = Settings::new("in".into(), "out".into(), Target::Megatron);
    set(&mut settings);
    let names = rows.iter().filter_map(|row| Some((row.label.clone()?, None))).collect();
    let labels = Labels::of(&names, &[], None).unwrap();
    let ids = Ids::of(&settings, 65_536, labels.count()).unwrap();
    Facts {
        values: 1,
        ids,
        labels,
        captions: true,
        rows_of_part: settings.rows_of_part(),
        fields: settings.fields.unwrap_or_default(),
        views: 1,
        crops: false,
        length: Some(16),
        grid: Some((4, 4)),
        pixels: Some(256),
        header: settings.header,
    }
}

/// What the journal says of rows with so many ids in a golden file.
pub(super) fn record(rows: &[Row], ids: u64, golden: &str) -> PartRecord {
    let (path, bytes) = (golden.to_string(), file(golden).len() as u64);
    let files = vec![FileRecord { path, count: None, bytes, sha256: String::new() }];
    PartRecord { rows: rows.len() as u64, ids, files }
}

/// The first file that lists a split of these parts.
pub(super) fn index(format: &dyn Format, parts: &[PartRecord]) -> Vec<u8> {
    let rows = parts.iter().map(|part| part.rows).sum();
    let ids = parts.iter().map(|part| part.ids).sum();
    let split = SplitRecord { name: None, rows, ids, parts: parts.to_vec() };
    let (_, bytes) = format.index(&split).remove(0);
    bytes.flatten().collect()
}

/// The files that a format makes of rows, series by series.
pub(super) fn made(format: &dyn Format, number: usize, rows: &[Row]) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let place = Place { folder: dir.path(), number, rows: 6 };
    let mut part = format.part(&place).unwrap();
    rows.iter().for_each(|row| part.push(row, &format.encode(row)).unwrap());
    let made = part.seal().unwrap();
    let paths = made.iter().flat_map(Made::paths).flatten();
    paths.map(|path| std::fs::read(path).unwrap()).collect()
}

/// Why rows can't be made into a part.
pub(super) fn error(format: &dyn Format, rows: &[Row]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut part = format.part(&Place { folder: dir.path(), number: 0, rows: 6 }).unwrap();
    let pushed = rows.iter().try_for_each(|row| part.push(row, &format.encode(row)));
    pushed.and_then(|()| part.seal()).map(drop).unwrap_err().to_string()
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
    let files: Vec<Vec<Vec<u8>>> = golden.iter().map(|golden| vec![file(golden)]).collect();
    assert_files_read(target, rows, files, tokens);
}

/// The same for golden files in several series.
pub(super) fn assert_series_read(
    target: Target,
    rows: &[Row],
    golden: &[&[&str]],
    tokens: &[usize],
) {
    let of = |series: &&[&str]| series.iter().map(|golden| file(golden)).collect();
    assert_files_read(target, rows, golden.iter().map(of).collect(), tokens);
}

/// The same for the files that we make ourselves, where there are no golden ones of just these bytes.
pub(super) fn assert_own_read(target: Target, rows: &[Row], tokens: &[usize]) {
    let format = formats::of(target, &facts(rows, |_| ())).unwrap();
    let made = made(format.as_ref(), 0, rows);
    let series = match target.traits().files {
        Files::Each(_) => vec![made],
        _ => made.into_iter().map(|made| vec![made]).collect(),
    };
    assert_files_read(target, rows, series, tokens);
}

/// Asserts that a reader refuses golden files with a reason.
pub(super) fn assert_refused(target: Target, rows: &[Row], golden: &[&str], told: &str) {
    let files: Vec<Vec<Vec<u8>>> = golden.iter().map(|golden| vec![file(golden)]).collect();
    let dir = tempfile::tempdir().unwrap();
    let reader = Reader::of(target, &facts(rows, |_| ()));
    let error = reader.compare(&put(dir.path(), &files), 16, RowDigest::default()).unwrap_err();
    assert!(error.contains(told), "{error}");
}

/// Puts files into a folder.
fn put(dir: &Path, files: &[Vec<Vec<u8>>]) -> Vec<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for (at, series) in files.iter().enumerate() {
        let of = |(number, bytes): (usize, &Vec<u8>)| {
            let path = dir.join(format!("{at}-{number}"));
            std::fs::write(&path, bytes).unwrap();
            path
        };
        paths.push(series.iter().enumerate().map(of).collect::<Vec<_>>());
    }
    paths
}

fn assert_files_read(target: Target, rows: &[Row], files: Vec<Vec<Vec<u8>>>, tokens: &[usize]) {
    let facts = facts(rows, |_| ());
    let reader = Reader::of(target, &facts);
    let format = formats::of(target, &facts).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let paths = put(dir.path(), &files);
    let digest = || {
        let mut digest = RowDigest::default();
        for row in rows {
            let class = row.class.filter(|_| format.gives_class());
            digest.add(class, format.gives_sides().then_some((row.height, row.width)), &row.codes);
        }
        digest
    };
    reader.compare(&paths, 16, digest()).unwrap();
    let whole = &files[0][0];
    for at in tokens {
        let mut changed = whole.clone();
        changed[*at] ^= 1;
        std::fs::write(&paths[0][0], changed).unwrap();
        assert!(reader.compare(&paths, 16, digest()).is_err(), "{target}: byte {at}");
    }
}
