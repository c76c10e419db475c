//! Tests of holding today's images against an output's, in shares of any number.

use std::path::Path;

use super::*;
use crate::tokens::append;
use crate::tokens::plan::Container;
use crate::tokens::testing::{outcome, plan, write};

/// Image `i` as the outputs of tests plan it.
fn row(i: i64) -> PlanRow {
    PlanRow {
        key: format!("c/{i}.png"),
        uri: format!("file:///c/{i}.png"),
        bytes: 7,
        ..PlanRow::default()
    }
}

fn images(which: impl IntoIterator<Item = i64>) -> Vec<Today> {
    which.into_iter().map(|i| Today::Image(row(i))).collect()
}

/// What the doubts about today's images are, by key, with whether more than the place differs.
fn held(keys_max: u64, plan: &Plan, items: Vec<Today>) -> (Result<Arrivals>, Vec<(String, bool)>) {
    let mut doubts = Vec::new();
    let judge: Judge<'_> = &mut |_, doubt| {
        assert_eq!(doubt.was.key, doubt.now.key);
        doubts.push((doubt.now.key.clone(), doubt.differs));
        Ok(if doubt.differs { Verdict::Changed } else { Verdict::Same })
    };
    let arrivals = Arrivals::within(keys_max, plan, &mut items.into_iter().map(Ok), judge);
    doubts.sort();
    (arrivals, doubts)
}

#[test]
fn new_known_changed_and_gone_images_are_told_apart_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let made = plan(dir.path(), 25, 10);
    for keys_max in [1, 3, 10, 1 << 20] {
        let mut items = images((3..40).rev());
        items[30] = Today::Image(PlanRow { bytes: 8, ..row(9) });
        items[31] = Today::Image(PlanRow { uri: "file:///elsewhere".into(), ..row(8) });
        let (arrivals, doubts) = held(keys_max, &made, items);
        let arrivals = arrivals.unwrap();
        assert_eq!((arrivals.new, arrivals.known, arrivals.changed), (15, 22, 1));
        assert_eq!(arrivals.examples, ["'c/9.png' had 7 bytes and now has 8"]);
        assert_eq!(doubts, [("c/8.png".to_string(), false), ("c/9.png".to_string(), true)]);
        let (gone, keys) = arrivals.gone(&made.files()[0]).unwrap();
        assert_eq!((gone, keys), (3, vec!["c/0.png".into(), "c/1.png".into(), "c/2.png".into()]));
        let new: Vec<_> = arrivals.listed.as_ref().unwrap().arrived(25).unwrap().collect();
        assert_eq!(new.len(), 15);
        for (place, item) in new.into_iter().enumerate() {
            let Today::Image(found) = item.unwrap() else { panic!() };
            assert_eq!(found, PlanRow { ordinal: 25 + place as i64, ..row(39 - place as i64) });
        }
    }
}

#[test]
fn a_key_twice_today_is_refused_and_a_container_that_is_known_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let made = plan(dir.path(), 25, 10);
    let twice = PlanRow { uri: "file:///d/3.png".into(), ..row(3) };
    let mut items = images(0..5);
    items.push(Today::Image(twice));
    for keys_max in [2, 100] {
        let error = held(keys_max, &made, items.clone()).0.err().unwrap().to_string();
        assert!(error.contains("'c/3.png': file:///c/3.png and file:///d/3.png"), "{error}");
    }
    let container = Container { first: 2, images: 20, ..Container::default() };
    let items = vec![Today::Unchanged(container, "file:///a.tar".into())];
    let arrivals = held(100, &made, items).0.unwrap();
    assert_eq!((arrivals.new, arrivals.known, arrivals.listed.is_none()), (0, 20, true));
    assert_eq!(arrivals.gone(&made.files()[0]).unwrap().0, 5);
}

/// Appends the images `which` to the output in `dir`.
fn appended(dir: &Path, which: std::ops::Range<i64>) -> Plan {
    let made = Plan::open(dir).unwrap();
    let arrivals = held(7, &made, images(which)).0.unwrap();
    append::append(&made, &arrivals, "", |new| new).unwrap().unwrap()
}

#[test]
fn plans_stand_upon_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let first = plan(dir.path(), 25, 10);
    let second = appended(dir.path(), 20..32);
    let third = appended(dir.path(), 0..33);
    assert_eq!((third.rows(), third.partitions(), third.files().len()), (33, 5, 3));
    assert_eq!((third.ordinals(3).unwrap(), third.ordinals(4).unwrap()), (25..32, 32..33));
    assert_eq!([24, 25, 31, 32].map(|ordinal| third.partition_of(ordinal)), [2, 3, 3, 4]);
    let digests = [0, 2, 3, 4].map(|partition| third.digest_of(partition));
    assert_eq!(digests, [first.digest(), first.digest(), second.digest(), third.digest()]);
    let keys: Vec<_> = third.all_rows().unwrap().map(|row| row.unwrap().key).collect();
    assert_eq!(keys, (0..33).map(|i| format!("c/{i}.png")).collect::<Vec<_>>());
    assert_eq!(third.partition(3).unwrap()[6], PlanRow { ordinal: 31, ..row(31) });
    // A plan stands upon one other alone.
    let other = tempfile::tempdir().unwrap();
    plan(other.path(), 24, 10);
    let copied = other.path().join("plan-00001.parquet");
    std::fs::copy(dir.path().join("plan-00001.parquet"), copied).unwrap();
    let error = Plan::open(other.path()).err().unwrap().to_string();
    assert!(error.contains("plan-00001.parquet: it wasn't appended to the plans"), "{error}");
    std::fs::remove_file(dir.path().join("plan-00001.parquet")).unwrap();
    let error = Plan::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("plan-00001.parquet: it is missing among the plans"), "{error}");
}

#[test]
fn two_jobs_that_append_make_one_plan_each_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let made = plan(dir.path(), 25, 10);
    let [one, same, other] =
        [20..30, 20..30, 20..31].map(|which| held(7, &made, images(which)).0.unwrap());
    let first = append::append(&made, &one, "", |new| new).unwrap().unwrap();
    assert_eq!(
        append::append(&made, &same, "", |new| new).unwrap().unwrap().digest(),
        first.digest()
    );
    assert!(
        append::append(&made, &other, "", |new| new).unwrap().is_none(),
        "it has to look again"
    );
    assert_eq!(appended(dir.path(), 20..31).rows(), 31);
}

#[test]
fn an_output_of_several_plans_is_folded_whole() {
    let dir = tempfile::tempdir().unwrap();
    let first = plan(dir.path(), 25, 10);
    (0..3).for_each(|partition| drop(write(&first, partition)));
    let then = crate::tokens::finalize(dir.path()).unwrap();
    assert_eq!((&*then.schema, then.appended.len()), ("dataset.v1", 0));
    let second = appended(dir.path(), 25..37);
    write(&second, 4);
    let error = crate::tokens::finalize(dir.path()).unwrap_err().to_string();
    assert!(error.contains("1 of 5 partitions are not there yet"), "{error}");
    assert_eq!(crate::tokens::finalize::read(dir.path()).unwrap(), Some(then));
    write(&second, 3);
    let now = crate::tokens::finalize(dir.path()).unwrap();
    let failed = (0..37).filter(|&i| matches!(outcome(i), crate::tokens::Outcome::Failed(_)));
    assert_eq!((now.totals.planned, now.totals.failed), (37, failed.count() as u64));
    assert_eq!((&*now.schema, now.plan.rows, now.shards.len()), ("dataset.v2", 25, 5));
    let appended = &now.appended[0];
    assert_eq!((appended.rows, appended.partitions), (12, 2));
    assert_eq!((appended.first_ordinal, appended.first_partition), (25, 3));
    assert_eq!(crate::tokens::finalize(dir.path()).unwrap(), now);
}
