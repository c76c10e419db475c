//! Tests of the report: its numbers on an output whose tokens are known, hostile text in the page.

use super::*;
use crate::findings::render_report;
use crate::tokens::identity::tests::identity;
use crate::tokens::testing::{deep_identity, plan, plan_with, token_row, write};
use crate::tokens::{self, CommitMode, FailureRow, Outcome, PartitionWriter, Plan, PlanRow};
use std::sync::Arc;

#[test]
fn the_numbers_are_those_of_the_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 25, 10);
    for partition in 0..3 {
        write(&plan, partition);
    }
    let summary = tokens::finalize(dir.path()).unwrap();
    let report = report(dir.path()).unwrap();
    assert_eq!((report.files, report.rows, report.failed), (3, 20, 5));
    let (level, known) = (&report.levels[0], &summary.codebook.levels[0]);
    assert_eq!((level.codes, level.tokens, level.used), (32, 120, known.used.unwrap()));
    assert!((level.perplexity - known.perplexity.unwrap()).abs() < 1e-6);
    assert_eq!(level.by_uses.iter().sum::<u64>(), 32);
    assert_eq!(level.by_uses[0], 32 - known.used.unwrap());
    assert_eq!(level.rank_frequency[0].1, level.most_used[0].1);
    assert_eq!(level.rank_frequency.last().unwrap().0, known.used.unwrap());
    let mut codes = vec![0_u64; 32];
    let written = (0..25).filter(|ordinal| ordinal % 5 != 3);
    for ordinal in written.clone() {
        token_row(ordinal).levels[0].codes.iter().for_each(|&code| codes[code as usize] += 1);
    }
    let (code, uses) = level.most_used[0];
    assert_eq!((codes[code as usize], uses), (uses, *codes.iter().max().unwrap()));
    let least = codes.iter().copied().filter(|&uses| uses > 0).min().unwrap();
    assert_eq!(level.least_used[0].1, least);
    // Row `ordinal` has the mean distance (6 ordinal + 15) / 48.
    let errors = report.quantization_error.as_ref().unwrap();
    let mean = written.clone().map(|o| (6 * o + 15) as f64 / 48.0).sum::<f64>() / 20.0;
    assert_eq!(
        (errors.rows, errors.min, errors.max),
        (20, 15.0 / 48.0, (6.0 * 24.0 + 15.0) / 48.0)
    );
    assert!((errors.mean - mean).abs() < 1e-6);
    assert_eq!(errors.histogram.iter().map(|bucket| bucket.1).sum::<u64>(), 20);
    assert_eq!(report.labels["c"].rows, 20);
    assert_eq!(report.failed_by_error["decode: no picture"], 5);
    assert_eq!(report.failures[0].key, "c/3.png");
    let page = render_report(&report);
    assert_eq!(page, render_report(&report));
    for words in ["decode: no picture", "83.33", "perplexity", "</html>"] {
        let words = if words == "83.33" {
            &format!("{:.2} %", 100.0 * known.used.unwrap() as f64 / 32.0)
        } else {
            words
        };
        assert!(page.contains(words), "the page lacks {words}");
    }
    // One file alone, and without failures beside it.
    let one = super::report(&dir.path().join("tokens/part-00002.parquet")).unwrap();
    assert_eq!((one.files, one.rows, one.failed), (1, 4, 0));
}

#[test]
fn every_residual_level_has_its_own_numbers_by_its_columns_name() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan_with(dir.path(), 9, &deep_identity(10));
    write(&plan, 0);
    let summary = tokens::finalize(dir.path()).unwrap();
    let report = report(dir.path()).unwrap();
    let columns: Vec<_> = report.levels.iter().map(|level| level.column).collect();
    assert_eq!(columns, ["tokens", "tokens_residual_1", "tokens_residual_2"]);
    for (level, known) in report.levels.iter().zip(&summary.codebook.levels) {
        assert_eq!(
            (level.codes, level.tokens, level.used),
            (32, known.tokens, known.used.unwrap())
        );
    }
    let page = render_report(&report);
    assert!(columns.iter().all(|name| page.contains(&format!("<code>{name}</code>"))));
}

#[test]
fn text_of_an_attacker_stays_text() {
    let dir = tempfile::tempdir().unwrap();
    let bad = "<script>alert('1')</script>\u{202e}\n&";
    let planned = plan(&dir.path().join("planned"), 2, 10).all_rows().unwrap();
    let rows = planned.map(|row| row.map(|row| PlanRow { label: Some(bad.into()), ..row }));
    let identity = identity(tokens::testing::CODES, Some([2, 3]), 10);
    let plan = Plan::create_or_open(dir.path(), &identity, rows, 10).unwrap();
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    let row = tokens::TokenRow { label: Some(bad.into()), ..token_row(0) };
    writer.push(Outcome::Written(Box::new(row))).unwrap();
    let (key, uri) = (bad.to_string(), bad.to_string());
    let (stage, error) = (bad.to_string(), bad.to_string());
    writer.push(Outcome::Failed(FailureRow { ordinal: 1, key, uri, stage, error })).unwrap();
    writer.close().unwrap();
    let page = render_report(&report(dir.path()).unwrap());
    assert!(!page.contains("<script") && !page.contains('\u{202e}'));
    assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\\u{202e}\\n&amp;"));
}

#[test]
fn codes_without_metadata_are_counted_up_to_the_largest() {
    let mut uses = vec![0, 0, 0, 5];
    uses[1] = 3;
    let level = level("tokens", uses, None);
    assert_eq!((level.codes, level.tokens, level.used), (4, 8, 2));
    assert_eq!(level.by_uses, [2, 0, 1, 1]);
    assert_eq!((level.most_used, level.least_used), (vec![(3, 5), (1, 3)], vec![(1, 3), (3, 5)]));
    let none = super::level("tokens", Vec::new(), Some(8));
    assert_eq!((none.codes, none.tokens, none.entropy_bits), (8, 0, 0.0));
}

#[test]
fn rows_that_are_no_grids_are_in_no_number_and_a_column_that_is_missing_is_told() {
    use arrow::array::{ArrayRef, Int32Array, ListArray, RecordBatch};
    use arrow::datatypes::UInt32Type;
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::KeyValue;

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.parquet");
    let counted = |rows: &[Vec<u32>]| {
        let lists = rows.iter().map(|row| Some(row.iter().copied().map(Some)));
        let lists = ListArray::from_iter_primitive::<UInt32Type, _, _>(lists);
        let side = || Arc::new(Int32Array::from(vec![2; rows.len()])) as ArrayRef;
        let columns = [
            ("tokens", Arc::new(lists) as ArrayRef),
            ("grid_height", side()),
            ("grid_width", side()),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let open = std::fs::File::create(&file).unwrap();
        let mut writer = ArrowWriter::try_new(open, batch.schema(), None).unwrap();
        for name in ["vqtok.codes", "vqtok.codes_book_1", "vqtok.codes_book_2"] {
            writer.append_key_value_metadata(KeyValue::new(name.into(), "32".to_string()));
        }
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        report(&file).unwrap()
    };
    let (whole, short, long) = (vec![1, 2, 3, 4], vec![5, 6, 7], vec![8, 9, 10, 11, 12]);
    // One too short and one too long have as many as two whole ones.
    for rows in [[&whole, &short, &whole], [&short, &long, &whole], [&whole, &whole, &long]] {
        let report = counted(&rows.map(Clone::clone));
        let wrong = rows.iter().filter(|row| row.len() != 4).count() as u64;
        assert_eq!((report.rows, report.unusable), (3 - wrong, wrong), "{rows:?}");
        assert_eq!(report.levels[0].tokens, 4 * (3 - wrong), "{rows:?}");
        assert!(report.problems[0].contains("tokens for a grid of 2 x 2"), "{:?}", report.problems);
    }
    let report = counted(&[whole]);
    assert_eq!((report.unusable, report.levels[0].tokens), (0, 4));
    assert!(report.notes[0].contains("tokens_book_1, and 1 more"), "{:?}", report.notes);
}
