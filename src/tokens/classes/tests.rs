//! Tests of class names: their ids, in plans and shards, and outputs from before there were any.

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::audit::Part;
use crate::job::verify;
use crate::tokens::arrangement::Arrangement;
use crate::tokens::identity::tests::identity;
use crate::tokens::plan::{About, Base, write as write_plan};
use crate::tokens::testing::{CODES, outcome, shard_path, tree};
use crate::tokens::{
    CommitMode, Outcome, PartitionWriter, Plan, PlanRow, Today, TokenRow, contents, finalize,
    repair,
};

fn collected(before: &Classes, labels: impl IntoIterator<Item = String>) -> Classes {
    let mut collector = ClassCollector::new(before);
    labels.into_iter().for_each(|label| collector.take(&label));
    collector.finish()
}

fn of(before: &Classes, labels: &[&str]) -> Classes {
    collected(before, labels.iter().map(|label| label.to_string()))
}

#[test]
fn ids_are_places_among_sorted_names_and_stay_when_classes_come() {
    let first = of(&Classes::none_yet(), &["owl", "cat", "Dog", "cat", "\u{e9}"]);
    assert_eq!(first.text(), r#"["Dog","cat","owl","é"]"#);
    assert_eq!((first.id("owl"), first.id("Dog")), (Ok(Some(2)), Ok(Some(0))));
    assert!(first.id("fox").unwrap_err().contains("'fox'"));
    let more = of(&first, &["owl", "fox", "ant"]);
    assert_eq!(more.text(), r#"["Dog","cat","owl","é","ant","fox"]"#);
    assert_eq!(of(&first, &["cat"]), first);
    assert_eq!(Classes::none_yet().text(), "[]");
    for classes in [&first, &more, &Classes::none_yet(), &Classes::too_many()] {
        assert_eq!(Classes::parse(&classes.text()).as_ref(), Ok(classes));
    }
    for text in ["", "{}", "[1]", r#"["a","a"]"#, "[\"a\"", "nul"] {
        assert!(Classes::parse(text).is_err(), "{text}");
    }
}

#[test]
fn beyond_the_bounds_no_class_has_an_id() {
    let names = |count: usize| (0..count).map(|i| format!("{i:05}"));
    let most = collected(&Classes::none_yet(), names(CLASSES_MAX));
    assert_eq!(most.names().map(<[_]>::len), Some(CLASSES_MAX));
    assert_eq!(collected(&most, names(CLASSES_MAX)), most);
    for over in [collected(&Classes::none_yet(), names(CLASSES_MAX + 1)), of(&most, &["one"])] {
        assert_eq!((over.names(), over.text().as_str()), (None, "null"));
        assert_eq!((over.id("00001"), of(&over, &["a"])), (Ok(None), Classes::too_many()));
    }
    // Of as many bytes as fit, and one more: `["` and `"]` stand around a name.
    let long = |bytes: usize| of(&Classes::none_yet(), &["x".repeat(bytes).as_str()]);
    assert_eq!(long(TEXT_BYTES_MAX - 4).text().len(), TEXT_BYTES_MAX);
    assert!(long(TEXT_BYTES_MAX - 3).names().is_none());
    // A name counts as it is written.
    let escaped = "\u{1}".repeat(TEXT_BYTES_MAX / 6 + 1);
    assert!(of(&Classes::none_yet(), &[&escaped]).names().is_none());
    let two = of(&Classes::none_yet(), &["a", "b"]);
    assert_eq!(ClassCollector::new(&two).bytes, two.text().len());
}

/// Images of three classes and of none; every fifth of ten fails.
const LABELS: [Option<&str>; 5] = [Some("owl"), None, Some("cat"), Some("ant"), Some("cat")];

fn row(ordinal: i64) -> PlanRow {
    let folder = LABELS[ordinal as usize % 5].map_or(String::new(), |label| format!("{label}/"));
    let key = format!("{folder}{ordinal}.png");
    PlanRow { ordinal, uri: format!("file:///{key}"), key, bytes: 7, ..PlanRow::default() }
}

/// A plan of ten images, five to a partition, that begins with these class names.
fn plan(dir: &Path, classes: Option<&Classes>) -> Plan {
    let (identity, base) = (identity(CODES, Some([2, 3]), 5), Base::default());
    let about = About {
        identity: &identity,
        base: &base,
        taken: "",
        listed_at: None,
        in_buckets: true,
        classes,
        arrangement: Arrangement::usual(),
    };
    let rows = (0..10).map(|ordinal| Ok(Today::Image(row(ordinal))));
    let written = write_plan(&dir.join("plan.parquet"), about, rows).unwrap();
    written.replace(dir, 0).unwrap();
    Plan::open(dir).unwrap()
}

fn write(plan: &Plan, partition: usize) {
    let mut writer = PartitionWriter::create(plan, partition, CommitMode::New).unwrap();
    for ordinal in plan.ordinals(partition).unwrap() {
        let PlanRow { key, uri, .. } = row(ordinal);
        let label = LABELS[ordinal as usize % 5].map(str::to_string);
        writer
            .push(match outcome(ordinal) {
                Outcome::Written(row) => {
                    Outcome::Written(Box::new(TokenRow { key, uri, label, ..*row }))
                }
                Outcome::Failed(row) => {
                    Outcome::Failed(crate::tokens::FailureRow { key, uri, ..row })
                }
            })
            .unwrap();
    }
    writer.close().unwrap();
}

fn written(dir: &Path, classes: Option<&Classes>) -> Plan {
    let plan = plan(dir, classes);
    (0..2).for_each(|partition| write(&plan, partition));
    finalize(dir).unwrap();
    plan
}

fn shard(dir: &Path, partition: usize) -> (RecordBatch, String) {
    let file = std::fs::File::open(shard_path(dir, partition)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let metadata = builder.schema().metadata();
    let features = metadata.get("huggingface").cloned().unwrap_or_default();
    (builder.build().unwrap().next().unwrap().unwrap(), features)
}

fn problems(dir: &Path) -> Vec<String> {
    let findings = verify(dir).unwrap().findings;
    findings.into_iter().map(|finding| finding.problem).collect()
}

#[test]
fn plans_record_classes_and_shards_have_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let plan = written(dir.path(), Some(&Classes::none_yet()));
    // Image 3, the only one of class ant in its partition, has failed: its class counts all the same.
    assert_eq!(plan.classes().unwrap(), ["ant", "cat", "owl"]);
    let (batch, features) = shard(dir.path(), 0);
    let ids = batch.column_by_name("label_id").unwrap().as_primitive::<Int64Type>();
    assert_eq!(ids.iter().collect::<Vec<_>>(), [Some(2), None, Some(1), Some(1)]);
    assert_eq!(
        batch.schema().index_of("label_id").unwrap(),
        batch.schema().index_of("label").unwrap() + 1
    );
    assert_eq!(batch.column_by_name("content_sha256").unwrap().data_type(), &DataType::Binary);
    assert!(features.contains(r#""label_id":{"names":["ant","cat","owl"],"_type":"ClassLabel"}"#));
    let summary = finalize(dir.path()).unwrap();
    assert_eq!(summary.classes.unwrap(), ["ant", "cat", "owl"]);
    assert_eq!(problems(dir.path()), Vec::<String>::new());
}

#[test]
fn an_output_from_before_ids_goes_on_without() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plan = written(old.path(), None);
    assert_eq!(plan.digest(), written(new.path(), Some(&Classes::none_yet())).digest());
    let (batch, features) = shard(old.path(), 0);
    assert!(batch.column_by_name("label_id").is_none() && features.is_empty());
    let digests = batch.column_by_name("content_sha256").unwrap().data_type();
    assert_eq!(digests, &DataType::FixedSizeBinary(32));
    let contents_of = |dir: &Path| contents(&Plan::open(dir).unwrap(), 0).unwrap();
    assert_eq!(contents_of(old.path()), contents_of(new.path()));
    assert_eq!(finalize(old.path()).unwrap().classes, None);
    assert_eq!(problems(old.path()), Vec::<String>::new());
    // A lost plan comes back as what its shards are, by a repair or by the same run.
    for dir in [old.path(), new.path()] {
        let whole = tree(dir);
        std::fs::remove_file(dir.join("plan.parquet")).unwrap();
        let damage = repair::Damage { plans: [0].into(), ..repair::Damage::default() };
        repair::clear(dir, &damage, &|_| Some(7)).unwrap();
        assert!(tree(dir) == whole, "{}", dir == old.path());
        std::fs::remove_file(dir.join("plan.parquet")).unwrap();
        let rows = (0..10).map(|ordinal| Ok(row(ordinal)));
        Plan::create_or_open(dir, plan.identity(), rows, 5).unwrap();
        assert!(tree(dir) == whole, "{}", dir == old.path());
    }
    std::fs::copy(shard_path(old.path(), 0), shard_path(new.path(), 0)).unwrap();
    std::fs::remove_file(new.path().join("dataset.json")).unwrap();
    let found = problems(new.path());
    assert!(
        found[0].contains("it is a tokens.v1, where its plan's shards are tokens.v2"),
        "{found:?}"
    );
}

#[test]
fn ids_and_classes_that_do_not_follow_from_the_plan_are_found() {
    let (good, bad) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    written(good.path(), Some(&Classes::none_yet()));
    written(bad.path(), Some(&of(&Classes::none_yet(), &["bee"])));
    let report = verify(bad.path()).unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].part, Part::Plan);
    assert!(report.findings[0].problem.contains("its rows don't give its class names"));
    // Ids of another list.
    std::fs::copy(good.path().join("plan.parquet"), bad.path().join("plan.parquet")).unwrap();
    std::fs::remove_file(bad.path().join("dataset.json")).unwrap();
    let found = problems(bad.path());
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("('owl/0.png'): its label_id isn't the place of its label"),
        "{found:?}"
    );
}

#[test]
fn a_label_that_is_none_of_the_plans_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), Some(&Classes::none_yet()));
    let mut writer = PartitionWriter::create(&plan, 0, CommitMode::New).unwrap();
    let Outcome::Written(row) = outcome(0) else { panic!() };
    let row = TokenRow { label: Some("bee".into()), ..*row };
    let error = writer.push(Outcome::Written(Box::new(row))).unwrap_err().to_string();
    assert!(error.contains("its class 'bee' isn't among those of the plan"), "{error}");
    // With too many of them none has an id.
    let many = Classes::parse("null").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let plan = written(dir.path(), Some(&many));
    assert!(plan.has_too_many_classes());
    let (batch, features) = shard(dir.path(), 0);
    assert_eq!(batch.column_by_name("label_id").unwrap().null_count(), 4);
    assert!(features.contains(r#""label_id":{"dtype":"int64","_type":"Value"}"#));
}
