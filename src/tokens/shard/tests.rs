//! Tests of partitions: accounting, order, commits, races, byte identity, the merge.

use crate::tokens::files::partition_of;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Int32Type, Int64Type, UInt16Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;

use super::*;
use crate::tokens::finalize::{self, finalize};
use crate::tokens::identity::tests::identity;
use crate::tokens::testing::{
    deep_identity, outcome, plan, plan_with, shard_path, sidecar, token_row, tree, write,
};
use crate::tokens::{Commit, TokenGrid};

fn read(path: &Path) -> (RecordBatch, Vec<(String, String)>) {
    let file = fs::File::open(path).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let schema = builder.schema().clone();
    let footer = builder.metadata().file_metadata();
    let entries = footer.key_value_metadata().unwrap().iter();
    let entries = entries.map(|e| (e.key.clone(), e.value.clone().unwrap_or_default())).collect();
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    (arrow::compute::concat_batches(&schema, &batches).unwrap(), entries)
}

#[test]
fn a_partition_holds_what_was_pushed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 12, 10);
    let receipt = write(&plan, 0);
    assert_eq!((receipt.rows, receipt.written, receipt.failures), (8, 8, 2));
    assert_eq!(receipt.commit, Commit::Committed);
    let (batch, entries) = read(&shard_path(dir.path(), 0));
    assert_eq!(batch.num_rows(), 8);
    let tokens = batch.column_by_name("tokens").unwrap().as_fixed_size_list();
    let row = token_row(4);
    let third = tokens.value(3);
    let expected: Vec<u16> = row.levels[0].codes.iter().map(|&c| c as u16).collect();
    assert_eq!(third.as_primitive::<UInt16Type>().values(), &expected[..]);
    let ordinals = batch.column_by_name("ordinal").unwrap().as_primitive::<Int64Type>();
    assert_eq!(ordinals.values(), &[0, 1, 2, 4, 5, 6, 7, 9]);
    let error = batch.column_by_name("quantization_error").unwrap().as_primitive::<Float32Type>();
    assert_eq!(error.value(3), (4.0 * 6.0 + 15.0) / 6.0 / 8.0);
    let unique = batch.column_by_name("unique_codes").unwrap().as_primitive::<Int32Type>();
    let distinct: std::collections::BTreeSet<_> = expected.iter().collect();
    assert_eq!(unique.value(3), distinct.len() as i32);
    // sha256 over 00000000 01000000 04000000 09000000 10000000 19000000, then 02000000 03000000.
    let hash = batch.column_by_name("grid_hash").unwrap().as_binary::<i32>();
    assert_eq!(hex(hash.value(0)), "ff956c7410175882a974a0499207e283");
    let entry = |key: &str| entries.iter().find(|(k, _)| k == key).unwrap().1.clone();
    assert_eq!(entry("vqtok.planned"), "10");
    assert_eq!(entry("vqtok.grid"), "2x3");
    assert!(entries.iter().any(|(k, _)| k == "ARROW:schema"));
    let (failures, _) = read(&sidecar(dir.path(), Sidecar::Failures, 0, &receipt.sha256));
    assert_eq!(failures.num_rows(), 2);
    let (codebook, _) = read(&sidecar(dir.path(), Sidecar::Codebook, 0, &receipt.sha256));
    let counts = codebook.column(2).as_primitive::<Int64Type>();
    assert_eq!(counts.values().iter().sum::<i64>(), 48);
    let sums = codebook.column(3).as_primitive::<Float64Type>();
    let total: f64 = [0, 1, 2, 4, 5, 6, 7, 9].map(|o| (6 * o + 15) as f64 / 8.0).iter().sum();
    assert_eq!(sums.values().iter().sum::<f64>(), total);
}

#[test]
fn residual_levels_have_columns_of_their_own_and_the_last_ones_error() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan_with(dir.path(), 3, &deep_identity(10));
    write(&plan, 0);
    let (batch, entries) = read(&shard_path(dir.path(), 0));
    let names: Vec<_> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
    let behind = |n| ["tokens", "grid"].map(|word| format!("{word}_residual_{n}"));
    let [[t1, g1], [t2, g2]] = [behind(1), behind(2)];
    let sizes = |grid: &str| [format!("{grid}_height"), format!("{grid}_width")];
    let expected = [vec!["tokens".into()], sizes("grid").to_vec(), vec![t1.clone()]].concat();
    assert_eq!(names[4..8], expected);
    assert_eq!(names[8..13], [sizes(&g1).to_vec(), vec![t2], sizes(&g2).to_vec()].concat());
    let level = |name: &str| {
        let column = batch.column_by_name(name).unwrap().as_fixed_size_list();
        column.value(2).as_primitive::<UInt16Type>().values().to_vec()
    };
    let shifted = level("tokens").iter().map(|k| (k + 2) % 32).collect::<Vec<_>>();
    assert_eq!(level(&t1), shifted);
    // A quarter of the first level's.
    let error = batch.column_by_name("quantization_error").unwrap().as_primitive::<Float32Type>();
    assert_eq!(error.value(2), (2.0 * 6.0 + 15.0) / 6.0 / 8.0 / 4.0);
    for key in ["vqtok.codes_residual_2", "vqtok.grid_residual_1"] {
        assert!(entries.iter().any(|(k, _)| k == key), "{key}");
    }
}

#[test]
fn ordinals_have_no_holes_and_close_counts() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 12, 10);
    let fresh = || PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    assert!(fresh().push(outcome(1)).is_err(), "a hole");
    assert!(fresh().push(outcome(10)).is_err(), "another partition's");
    let mut writer = fresh();
    writer.push(outcome(0)).unwrap();
    assert!(writer.push(outcome(0)).is_err(), "doubled");
    let error = writer.close().unwrap_err().to_string();
    assert!(error.contains("10 images planned, 1 written, 0 failed"), "{error}");
    assert!(!plan.has(0));
    assert!(commit::list(&dir.path().join("tokens")).unwrap().is_empty());
}

#[test]
fn views_of_an_image_follow_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 2, 10);
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    for (ordinal, view) in [(0, 0), (0, 1), (0, 2), (1, 0)] {
        let row = TokenRow { view, flip: view % 2 == 1, ..token_row(ordinal) };
        writer.push(Outcome::Written(Box::new(row))).unwrap();
    }
    let skipped = TokenRow { view: 2, ..token_row(1) };
    assert!(writer.push(Outcome::Written(Box::new(skipped))).is_err());
    let receipt = writer.close().unwrap();
    assert_eq!((receipt.rows, receipt.written), (4, 2));
    let totals = finalize(dir.path()).unwrap().totals;
    assert_eq!((totals.planned, totals.written, totals.rows, totals.tokens), (2, 2, 4, 24));
}

#[test]
fn impossible_grids_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 2, 10);
    let refused = |change: &dyn Fn(&mut TokenRow), words: &str| {
        let mut row = token_row(0);
        change(&mut row);
        let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
        let error = writer.push(Outcome::Written(Box::new(row))).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(&|r| r.levels[0].codes[2] = 32, "code 32 of a codebook with 32");
    refused(&|r| r.levels[0].codes.truncate(5), "5 codes came for a grid of 2 x 3");
    refused(&|r| (r.levels[0].height, r.levels[0].width) = (3, 2), "3 x 2 is not the data set's");
    refused(&|r| r.levels.clear(), "0 grids came");
    refused(&|r| r.levels[0].distances.truncate(1), "1 distances for 6 codes");
}

#[test]
fn a_partition_of_failures_alone_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 1, 10);
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    let Outcome::Failed(mut failure) = outcome(3) else { unreachable!() };
    failure.ordinal = 0;
    writer.push(Outcome::Failed(failure)).unwrap();
    let receipt = writer.close().unwrap();
    assert_eq!((receipt.rows, receipt.failures), (0, 1));
    let (batch, _) = read(&shard_path(dir.path(), 0));
    assert_eq!(batch.num_rows(), 0);
    let DataType::FixedSizeList(item, 6) = batch.schema().field(4).data_type().clone() else {
        panic!("tokens lost their type");
    };
    assert_eq!(*item.data_type(), DataType::UInt16);
    let summary = finalize(dir.path()).unwrap();
    assert_eq!((summary.totals.failed, summary.totals.tokens), (1, 0));
    assert_eq!(summary.codebook.levels[0].perplexity, Some(1.0));
}

#[test]
fn wide_codebooks_and_varying_grids_keep_their_types() {
    let dir = tempfile::tempdir().unwrap();
    let mut id = identity(70_000, None, 10);
    id.levels.push(LevelLayout::new(512, Some([1, 1])));
    let plan = plan_with(dir.path(), 2, &id);
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    for ordinal in 0..2 {
        let mut row = token_row(ordinal);
        let width = ordinal as i32 + 1;
        row.levels[0] = TokenGrid {
            codes: vec![69_999; width as usize],
            distances: Vec::new(),
            height: 1,
            width,
        };
        row.levels.push(TokenGrid { codes: vec![511], distances: vec![1.0], height: 1, width: 1 });
        writer.push(Outcome::Written(Box::new(row))).unwrap();
    }
    writer.close().unwrap();
    let (batch, _) = read(&shard_path(dir.path(), 0));
    assert_eq!(batch.schema().fields(), schema::tokens(&id.levels, schema::TOKENS).fields());
    assert!(batch.column_by_name("quantization_error").unwrap().is_null(0));
    let summary = finalize(dir.path()).unwrap();
    let levels = &summary.codebook.levels;
    assert_eq!((levels[0].tokens, levels[1].tokens, summary.totals.tokens), (3, 2, 5));
    let (codebook, _) = read(&dir.path().join("codebook.parquet"));
    assert_eq!(codebook.num_rows(), 70_512);
    assert!(codebook.column(3).is_null(0) && codebook.column(3).is_valid(70_000));
}

#[test]
fn any_order_and_any_race_gives_the_same_bytes() {
    let one = tempfile::tempdir().unwrap();
    let two = tempfile::tempdir().unwrap();
    let (a, b) = (plan(one.path(), 1234, 300), plan(two.path(), 1234, 300));
    for partition in 0..5 {
        assert_eq!(write(&a, partition).commit, Commit::Committed);
    }
    std::thread::scope(|scope| {
        for start in 0..4 {
            let b = &b;
            scope.spawn(move || {
                for i in 0..5 {
                    let receipt = write(b, (start + i * 2) % 5);
                    assert!(matches!(receipt.commit, Commit::Committed | Commit::Already));
                }
            });
        }
    });
    let summary = finalize(one.path()).unwrap();
    assert_eq!(finalize(two.path()).unwrap(), summary);
    assert_eq!(tree(one.path()), tree(two.path()));
    assert_eq!(tree(one.path()).len(), 3 + 3 * 5);
    let totals = summary.totals;
    assert_eq!((totals.planned, totals.failed, totals.tokens), (1234, 247, 987 * 6));
    // Again, from nothing but the shards: the same bytes.
    let before = tree(one.path());
    assert_eq!(finalize(one.path()).unwrap(), summary);
    fs::remove_file(one.path().join("dataset.json")).unwrap();
    fs::remove_file(one.path().join("codebook.parquet")).unwrap();
    assert_eq!(finalize(one.path()).unwrap(), summary);
    assert_eq!(tree(one.path()), before);
}

#[test]
fn the_loser_of_a_race_leaves_the_winner_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 3, 10);
    let first = write(&plan, 0);
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    for ordinal in 0..3 {
        let mut row = token_row(ordinal);
        row.levels[0].codes[0] = 31;
        writer.push(Outcome::Written(Box::new(row))).unwrap();
    }
    let before = tree(dir.path());
    let receipt = writer.close().unwrap();
    let (ours, theirs) = (receipt.sha256.clone(), first.sha256.clone());
    assert_eq!(receipt.commit, Commit::Lost { ours, theirs });
    let after = tree(dir.path());
    let visible = |t: &[(PathBuf, Vec<u8>)]| -> Vec<_> {
        t.iter().filter(|(p, _)| !p.to_string_lossy().contains(".tmp")).cloned().collect()
    };
    assert_eq!(visible(&before), after);
}

#[test]
fn replacing_a_partition_swaps_it_whole() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 10, 10);
    let old = write(&plan, 0);
    finalize(dir.path()).unwrap();
    let lock = plan.lock_exclusive().unwrap();
    crate::tokens::repair::reopen(dir.path(), &lock).unwrap();
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::Replace).unwrap();
    for ordinal in 0..10 {
        writer.push(Outcome::Written(Box::new(token_row(ordinal)))).unwrap();
    }
    let new = writer.close().unwrap();
    assert_ne!(old.sha256, new.sha256);
    assert_eq!(finalize(dir.path()).unwrap_err().exit_code(), 75, "the retry still has the lock");
    drop(lock);
    assert!(!sidecar(dir.path(), Sidecar::Failures, 0, &old.sha256).exists());
    assert_eq!(finalize(dir.path()).unwrap().totals.failed, 0);
    assert_eq!(tree(dir.path()).len(), 6);
}

#[test]
fn what_comes_back_is_what_was_there_or_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 10, 10);
    let old = write(&plan, 0);
    let whole = tree(dir.path());
    let shard = shard_path(dir.path(), 0);
    let again = |ordinals: &dyn Fn(i64) -> Outcome, due: &str| {
        let due = Arc::new(BTreeMap::from([(0, due.to_string())]));
        let mut writer = PartitionWriter::create(&plan, 0, CommitMode::Restore(due)).unwrap();
        (0..10).for_each(|ordinal| writer.push(ordinals(ordinal)).unwrap());
        writer.close().unwrap().commit
    };
    let other = |ordinal| match ordinal {
        2 => Outcome::Failed(FailureRow {
            ordinal,
            key: "late".into(),
            uri: "file:///late".into(),
            stage: "decode".into(),
            error: "no picture".into(),
        }),
        ordinal => outcome(ordinal),
    };
    for damaged in [None, Some(b"damaged")] {
        match damaged {
            None => fs::remove_file(&shard).unwrap(),
            Some(bytes) => fs::write(&shard, bytes).unwrap(),
        }
        let before = tree(dir.path());
        for due in [&old.sha256[..], &old.sha256[..16]] {
            let failed = Some(["late".to_string(), "no picture".to_string()]);
            assert_eq!(again(&other, due), Commit::Differs { failed });
            assert_eq!(tree(dir.path()), before);
        }
        assert_eq!(again(&outcome, &old.sha256[..16]), Commit::Committed);
        assert_eq!(tree(dir.path()), whole);
        assert_eq!(again(&outcome, &old.sha256), Commit::Already);
    }
}

#[test]
fn finalize_wants_everything_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 25, 10);
    write(&plan, 1);
    let error = finalize(dir.path()).unwrap_err();
    assert_eq!(error.exit_code(), 75);
    assert!(error.to_string().contains("2 of 3 partitions are not there"), "{error}");
    write(&plan, 0);
    let receipt = write(&plan, 2);
    // Litter of dead workers goes.
    fs::write(dir.path().join("codebook/part-00001-0123456789abcdef.parquet"), b"x").unwrap();
    fs::write(dir.path().join("tokens/.part-00001.parquet.1-1.tmp"), b"x").unwrap();
    let failures = sidecar(dir.path(), Sidecar::Failures, 2, &receipt.sha256);
    let good = fs::read(&failures).unwrap();
    fs::write(&failures, b"x").unwrap();
    let error = finalize(dir.path()).unwrap_err().to_string();
    assert!(error.contains("its failures are damaged"), "{error}");
    fs::write(&failures, good).unwrap();
    finalize(dir.path()).unwrap();
    assert_eq!(tree(dir.path()).len(), 3 + 9);
}

#[test]
fn the_summary_reads_back_and_keeps_its_schema() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 5, 10);
    write(&plan, 0);
    let summary = finalize(dir.path()).unwrap();
    assert_eq!(finalize::read(dir.path()).unwrap().unwrap(), summary);
    let text = fs::read_to_string(dir.path().join("dataset.json")).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let dataset = schema::DESCRIPTIONS.iter().find(|(word, _)| *word == schema::DATASET);
    let description = dataset.unwrap().1;
    let description: serde_json::Value = serde_json::from_str(description).unwrap();
    conforms(&value, &description, &description["$defs"], "dataset");
    let deep = tempfile::tempdir().unwrap();
    write(&plan_with(deep.path(), 5, &deep_identity(10)), 0);
    let value = serde_json::to_value(finalize(deep.path()).unwrap()).unwrap();
    let rule = &description["properties"]["identity"];
    conforms(&value["identity"], rule, &description["$defs"], "identity");
    assert_eq!(value["identity"]["levels"][2]["residual"], true);
    assert_eq!(value["codebook"]["levels"].as_array().unwrap().len(), 3);
    conforms_where_appended();
    conforms_of_bits(&description);
    for flip in 0..text.len() {
        let mut bad = text.clone().into_bytes();
        bad[flip] ^= 1;
        fs::write(dir.path().join("dataset.json"), &bad).unwrap();
        assert!(finalize::read(dir.path()).is_err(), "a flipped bit at {flip} goes unseen");
    }
}

/// The summary of an output that images were appended to keeps a schema of its own.
fn conforms_where_appended() {
    let description =
        schema::DESCRIPTIONS.iter().find(|(word, _)| *word == "dataset.v2").unwrap().1;
    let description: serde_json::Value = serde_json::from_str(description).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(&plan(dir.path(), 5, 10), 0);
    let mut summary = finalize(dir.path()).unwrap();
    let first = &summary.plan;
    summary.appended.push(crate::tokens::dataset::AppendedSummary {
        digest: first.digest.clone(),
        rows: 5,
        partitions: 1,
        first_ordinal: 5,
        first_partition: 1,
        file: first.file.clone(),
        shards_a_folder: None,
    });
    summary.schema = schema::DATASET_OF_PLANS.to_string();
    let value: serde_json::Value = serde_json::from_str(&finalize::render(&summary)).unwrap();
    conforms(&value, &description, &description["$defs"], "dataset");
}

/// Where bits are counted, these are said in place of codes.
fn conforms_of_bits(description: &serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    let mut many = identity(1 << 26, Some([2, 3]), 10);
    many.tokenizer.codes = 1 << 26;
    write(&plan_with(dir.path(), 5, &many), 0);
    let value = serde_json::to_value(finalize(dir.path()).unwrap()).unwrap();
    for name in ["identity", "codebook"] {
        conforms(&value[name], &description["properties"][name], &description["$defs"], name);
    }
    let level = &value["codebook"]["levels"][0];
    assert_eq!((&level["bits"], level.get("used")), (&json!(26), None));
    let path = dir.path().join("codebook.parquet");
    let (codebook, _) = read(&path);
    assert_eq!(codebook.schema().fields(), schema::codebook_of_bits().fields());
    assert_eq!(codebook.num_rows(), 52);
}

/// The part of JSON Schema that `dataset.v1.json` uses.
fn conforms(
    value: &serde_json::Value,
    rule: &serde_json::Value,
    defs: &serde_json::Value,
    place: &str,
) {
    if let Some(name) = rule["$ref"].as_str() {
        return conforms(value, &defs[name.rsplit('/').next().unwrap()], defs, place);
    }
    if let Some(word) = rule.get("const") {
        return assert_eq!(value, word, "{place}");
    }
    let kind = match value {
        serde_json::Value::Object(_) => "object",
        serde_json::Value::Array(_) => "array",
        serde_json::Value::String(_) => "string",
        serde_json::Value::Null => "null",
        serde_json::Value::Number(n) if n.is_u64() => "integer",
        serde_json::Value::Number(_) => "number",
        serde_json::Value::Bool(_) => "boolean",
    };
    let allowed = match &rule["type"] {
        serde_json::Value::String(one) => vec![one.as_str()],
        many => many.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect(),
    };
    assert!(allowed.contains(&kind), "{place} is {kind}, not {allowed:?}");
    if let Some(object) = value.as_object() {
        let rules = rule["properties"].as_object().unwrap();
        let required = rule["required"].as_array().unwrap();
        let due = |name: &&String| required.contains(&json!(name)) || object.contains_key(*name);
        let names: Vec<_> = object.keys().collect();
        assert_eq!(names, rules.keys().filter(due).collect::<Vec<_>>(), "{place}");
        for (name, value) in object {
            conforms(value, &rules[name], defs, &format!("{place}.{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(item, &rule["items"], defs, &format!("{place}[]"));
    }
}

#[test]
fn only_the_writers_own_names_are_of_a_partition() {
    let of = |name: &str| partition_of(Path::new(name));
    assert_eq!(of("tokens/part-00012.parquet"), Some(12));
    assert_eq!(of("part-123456.parquet"), Some(123_456));
    assert_eq!(of("failures/part-00012-0123456789abcdef.parquet"), Some(12));
    for name in [
        "part-12.parquet",
        "part-00012 (copy).parquet",
        "part-00012-copy.parquet",
        "part-00012-0123456789ABCDEF.parquet",
        "part-000012.parquet",
        "part-.parquet",
        "._part-00012.parquet",
        "part-00012.parquet.tmp",
    ] {
        assert_eq!(of(name), None, "{name}");
    }
}
