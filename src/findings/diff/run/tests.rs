//! Tests of what becomes of rows whatever their keys, views and order, against a comparison in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, FixedSizeListArray, Int32Array, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;

use super::*;
use crate::findings::diff::meeting::Met;

/// A row; of file 0 nothing is said.
#[derive(Debug, Clone)]
struct Row {
    key: &'static str,
    view: i64,
    file: u8,
    code: i32,
}

/// An output: its rows in their order, and the keys that it gave up.
#[derive(Debug, Clone)]
struct Output {
    rows: Vec<Row>,
    failed: Vec<&'static str>,
}

fn output() -> impl Strategy<Value = Output> {
    let key = prop::sample::select(vec!["a", "b", "c", "d", "e", "f"]);
    let view = prop::sample::select(vec![0, 0, 0, 1, 2]);
    let row = (key.clone(), view, 0_u8..3, 0..2).prop_map(|(key, view, file, code)| Row {
        key,
        view,
        file,
        code,
    });
    // As vqtok writes them: rising, then what was appended.
    let sorted =
        (prop::collection::vec(row.clone(), 0..8), prop::collection::vec(row.clone(), 0..4))
            .prop_map(|(mut rows, mut more)| {
                rows.sort_by_key(|row| (row.key, row.view));
                more.sort_by_key(|row| (row.key, row.view));
                [rows, more].concat()
            });
    let rows = prop_oneof![prop::collection::vec(row, 0..10), sorted];
    (rows, prop::collection::vec(key, 0..3)).prop_map(|(rows, failed)| Output { rows, failed })
}

fn write(path: &Path, rows: &[Row]) {
    let codes = Int32Array::from_iter_values(rows.iter().flat_map(|row| [row.code; 4]));
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let digest = |row: &Row| (row.file > 0).then_some([row.file; 32]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("key", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.key)))),
        ("view", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.view)))),
        ("content_sha256", Arc::new(rows.iter().map(digest).collect::<BinaryArray>())),
        ("tokens", Arc::new(FixedSizeListArray::try_new(item, 4, Arc::new(codes), None).unwrap())),
    ];
    let columns = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// Rows, equal ones, those of other files; keys that came, went, were mended, broke; the other counts.
#[derive(Debug, Default, PartialEq)]
struct Said {
    rows: [u64; 3],
    keys: [BTreeSet<String>; 4],
    failed_in_both: u64,
    failed_in_one: [u64; 2],
    further_rows: [u64; 2],
}

/// What is to be said, key by key.
fn expected(outputs: &[Output; 2]) -> Said {
    let mut said = Said::default();
    let keys = outputs
        .iter()
        .flat_map(|of| of.rows.iter().map(|row| row.key).chain(of.failed.iter().copied()));
    for key in keys.collect::<BTreeSet<&str>>() {
        let [a, b] = [0, 1].map(|side: usize| outputs[side].failed.contains(&key));
        let views = [0, 1].map(|side: usize| {
            let mut views: BTreeMap<i64, Vec<&Row>> = BTreeMap::new();
            let rows = outputs[side].rows.iter().filter(|row| row.key == key);
            rows.for_each(|row| views.entry(row.view).or_default().push(row));
            views
        });
        let class = match (views[0].is_empty(), views[1].is_empty()) {
            (true, false) => Some(if a { 2 } else { 0 }),
            (false, true) => Some(if b { 3 } else { 1 }),
            _ => None,
        };
        if let Some(class) = class {
            said.keys[class].insert(key.to_string());
            continue;
        }
        said.failed_in_both += u64::from(a && b);
        said.failed_in_one[0] += u64::from(a && !b);
        said.failed_in_one[1] += u64::from(b && !a);
        said.shared(&views);
    }
    said
}

impl Said {
    /// Counts the rows of a key that both have.
    fn shared(&mut self, views: &[BTreeMap<i64, Vec<&Row>>; 2]) {
        let mut paired = 0;
        for (view, rows) in &views[0] {
            for (a, b) in rows.iter().zip(views[1].get(view).into_iter().flatten()) {
                paired += 1;
                self.rows[1] += u64::from(a.code == b.code);
                let known = a.file > 0 && b.file > 0 && *view == 0;
                self.rows[2] += u64::from(known && a.file != b.file);
            }
        }
        self.rows[0] += paired;
        for side in [0, 1] {
            let rows: usize = views[side].values().map(Vec::len).sum();
            self.further_rows[side] += rows as u64 - paired;
        }
    }
}

/// What is said, where so many bits tell which keys wait.
fn found(outputs: &[Output; 2], bits: usize) -> Said {
    let dir = tempfile::tempdir().unwrap();
    let mut sides = [0, 1].map(|side| {
        let path = dir.path().join(format!("{side}.parquet"));
        write(&path, &outputs[side].rows);
        Side::open(&path, &mut Silent).unwrap()
    });
    let (mut tally, mut waiting) = (Tally::new(&[]), Waiting::with_bits(bits));
    for (side, output) in (0..).zip(outputs) {
        output.failed.iter().for_each(|key| waiting.failure(side, key, "odd").unwrap());
    }
    side_by_side(&mut sides, &mut tally, &mut waiting, &mut Silent).unwrap();
    let met: Met = meet(&waiting.finish().unwrap(), &mut tally, &mut Silent).unwrap();
    let (shared, [changed, relabelled]) = tally.finish();
    let mut difference = Difference { changed, relabelled, shared, ..Difference::default() };
    met.into(&mut difference);
    let d = difference;
    let keys = |images: &Images| images.keys.iter().cloned().collect();
    let named = |images: &[crate::findings::diff::MendedImage]| {
        images.iter().map(|image| image.key.clone()).collect()
    };
    // None is listed twice.
    let counts = [d.added.count, d.gone.count, d.mended_count, d.broken_count];
    let keys: [BTreeSet<String>; 4] =
        [keys(&d.added), keys(&d.gone), named(&d.mended), named(&d.broken)];
    assert_eq!(counts, [0, 1, 2, 3].map(|class| keys[class].len() as u64));
    Said {
        rows: [d.shared.rows, d.shared.equal_rows, d.changed.count],
        keys,
        failed_in_both: d.failed_in_both,
        failed_in_one: d.failed_in_one,
        further_rows: d.further_rows,
    }
}

struct Silent;

impl Observer for Silent {
    fn event(&mut self, _: &Event<'_>) {}

    fn interrupted(&self) -> bool {
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn rows_meet_whatever_their_order_and_however_often_a_key_stands_there(
        a in output(),
        b in output(),
        appended in any::<bool>(),
        bits in prop::sample::select(vec![64, 1 << 16]),
    ) {
        let mut outputs = [a, b];
        if appended {
            // The same rows again, and more behind them.
            outputs[1].rows.splice(0..0, outputs[0].rows.clone());
        }
        prop_assert_eq!(found(&outputs, bits), expected(&outputs), "{:?}", outputs);
    }
}
