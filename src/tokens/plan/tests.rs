//! Tests of the plan: made once, opened again, refused when anything differs.

mod buckets;

use super::*;
use crate::error::{Error, Result};
use crate::tokens::commit;
use crate::tokens::identity::Identity;
use crate::tokens::identity::tests::identity;
use crate::tokens::rows::PlanRow;
use std::path::Path;

fn rows(count: i64) -> Vec<PlanRow> {
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("class/{ordinal:04}.png"),
        uri: format!("file:///data/class/{ordinal:04}.png"),
        bytes: 100 + ordinal,
        ..PlanRow::default()
    };
    (0..count).map(row).collect()
}

fn create(dir: &Path, rows: Vec<PlanRow>) -> Result<Plan> {
    let identity = identity(16, Some([2, 2]), 10);
    Plan::create_or_open(dir, &identity, rows.into_iter().map(Ok), 10)
}

fn assert_written_anew_is_the_same(dir: &Path) {
    let (sha256, _) = commit::digest_file(&dir.join(FILE)).unwrap();
    assert_eq!(sha256_anew(dir, 0), Some(crate::util::hex::hex(sha256)));
}

#[test]
fn a_plan_is_made_once_and_read_by_partition() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new/out");
    let plan = create(&out, rows(25)).unwrap();
    assert_eq!((plan.rows(), plan.partitions()), (25, 3));
    assert_eq!(plan.partition(1).unwrap(), rows(25)[10..20]);
    assert_eq!(plan.partition(2).unwrap(), rows(25)[20..]);
    assert!(plan.partition(3).is_err());
    let bytes = std::fs::read(out.join(FILE)).unwrap();
    let again = create(&out, rows(25)).unwrap();
    assert_eq!(again.digest(), plan.digest());
    assert_eq!(std::fs::read(out.join(FILE)).unwrap(), bytes);
    let other = create(&dir.path().join("other"), rows(25)).unwrap();
    assert_eq!(other.digest(), plan.digest());
    assert_eq!(std::fs::read(dir.path().join("other").join(FILE)).unwrap(), bytes);
    assert_eq!(Plan::open(&out).unwrap().identity(), plan.identity());
}

#[test]
fn a_changed_input_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), rows(25)).unwrap();
    let refused = |change: &dyn Fn(&mut Vec<PlanRow>), words: &str| {
        let mut changed = rows(25);
        change(&mut changed);
        let error = create(dir.path(), changed).err().unwrap();
        assert!(matches!(error, Error::Mismatch(_)));
        let text = error.to_string();
        assert!(
            text.contains(words) && text.contains("another out") && !text.contains('\n'),
            "{text}"
        );
    };
    refused(
        &|r| r[13].key = "x\n.png".into(),
        r"image 13 was 'class/0013.png' and is now 'x\n.png'",
    );
    refused(&|r| r[13].bytes = 1, "'class/0013.png' had 113 bytes and now has 1");
    refused(&|r| r.truncate(24), "'class/0024.png', is gone (it had 25, now 24)");
    refused(&|r| r.extend(rows(26).split_off(25)), "it had 25 images, now 'class/0025.png'");
    let mut other = identity(16, Some([2, 2]), 10);
    other.tokenizer.weights_sha256 = "12".repeat(32);
    let all = rows(25).into_iter().map(Ok);
    let error = Plan::create_or_open(dir.path(), &other, all, 10).err().unwrap().to_string();
    assert!(error.contains("another model (vqtok with weights abababababab, codebook"), "{error}");
    assert!(error.contains("this run has vqtok with weights 121212121212, codebook"), "{error}");
    assert!(!error.contains(&"ab".repeat(7)), "{error}");
}

#[test]
fn nothing_is_left_of_a_plan_that_failed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    assert!(create(&out, Vec::new()).err().unwrap().to_string().contains("no image"));
    assert!(!out.exists());
    let all = vec![Ok(rows(1).remove(0)), Err(Error::invalid("walk failed"))];
    let id = identity(16, Some([2, 2]), 10);
    let error = Plan::create_or_open(&out, &id, all.into_iter(), 10).err().unwrap();
    assert_eq!(error.to_string(), "walk failed");
    assert_eq!(commit::list(&out).unwrap().len(), 0);
    let mut hole = rows(3);
    hole[2].ordinal = 7;
    assert!(create(&out, hole).is_err());
    assert_eq!(commit::list(&out).unwrap().len(), 0);
}

#[test]
fn a_broken_plan_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), rows(25)).unwrap();
    let path = dir.path().join(FILE);
    let good = std::fs::read(&path).unwrap();
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        std::fs::write(&path, &bad).unwrap();
        // Never a panic; whether it is seen here depends on what was hit.
        if let Ok(plan) = Plan::open(dir.path()) {
            for index in 0..plan.partitions() {
                let _ = plan.partition(index);
            }
        }
    }
    for length in [0, 3, 8, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        let error = Plan::open(dir.path()).err().unwrap().to_string();
        assert!(error.contains("plan.parquet"), "{error}");
    }
}

#[test]
fn racing_jobs_make_one_plan() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let digests: Vec<String> = std::thread::scope(|scope| {
        let job = || create(&out, rows(200)).unwrap().digest().to_string();
        let jobs: Vec<_> = (0..8).map(|_| scope.spawn(job)).collect();
        jobs.into_iter().map(|j| j.join().unwrap()).collect()
    });
    assert!(digests.iter().all(|d| d == &digests[0]));
    assert_eq!(commit::list(&out).unwrap(), [out.join(FILE)]);
}

/// Rows of two files, then of three compressed tars, then of a table.
fn parts() -> Vec<PlanRow> {
    let of = |uri: &str, forward: bool, members: i64| {
        let uri = uri.to_string();
        (0..members).map(move |offset| PlanRow {
            key: format!("{uri}/{offset}"),
            uri: uri.clone(),
            bytes: offset,
            member: Some(format!("{offset}.jpg")),
            offset: Some(512 * offset),
            caption: (offset % 3 == 0).then(|| format!("a cat {offset}")),
            label: (offset % 2 == 0).then(|| "cat".to_string()),
            meta_json: (offset == 4).then(|| r#"{"a":1}"#.to_string()),
            fault: (offset == 5).then(|| "cut".to_string()),
            forward,
            ..PlanRow::default()
        })
    };
    let all = rows(2).into_iter().chain(of("a.tar.gz", true, 13)).chain(of("b.tar.gz", true, 25));
    let all = all.chain(of("c.tar.gz", true, 10)).chain(of("d.parquet", false, 3));
    all.chain(of("e.tar", false, 9))
        .zip(0..)
        .map(|(row, ordinal)| PlanRow { ordinal, ..row })
        .collect()
}

#[test]
fn partitions_begin_and_end_with_what_is_read_forward() {
    let dir = tempfile::tempdir().unwrap();
    let plan = create(dir.path(), parts()).unwrap();
    assert!(plan.has_parts());
    let sizes: Vec<usize> =
        (0..plan.partitions()).map(|p| plan.ordinals(p).unwrap().count()).collect();
    assert_eq!(sizes, [2, 10, 3, 10, 10, 5, 10, 10, 2]);
    let together: Vec<usize> = (0..plan.partitions()).map(|p| plan.taken_with(p)).collect();
    assert_eq!(together, [0, 1, 1, 3, 3, 3, 6, 7, 8]);
    let all: Vec<PlanRow> = plan.all_rows().unwrap().map(Result::unwrap).collect();
    assert_eq!(all, parts());
    for partition in 0..plan.partitions() {
        for ordinal in plan.ordinals(partition).unwrap() {
            assert_eq!(plan.partition_of(ordinal), partition);
        }
    }
    let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
    create(dir.path(), parts()).unwrap();
    assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), bytes);
    assert_eq!(crate::job::verify(dir.path()).unwrap().findings, []);
    assert_written_anew_is_the_same(dir.path());
}

#[test]
fn what_stands_beside_an_image_is_part_of_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    create(dir.path(), parts()).unwrap();
    for (change, words) in [
        (|row: &mut PlanRow| row.caption = Some("a dog".into()), "the caption of 'a.tar.gz/3'"),
        (|row: &mut PlanRow| row.label = Some("dog".into()), "the label of 'a.tar.gz/3' was none"),
        (|row: &mut PlanRow| row.offset = Some(1), "'a.tar.gz/3' lies elsewhere in its file"),
        (
            |row: &mut PlanRow| row.member = Some("x".into()),
            "the member of 'a.tar.gz/3' was '3.jpg'",
        ),
    ] as [(fn(&mut PlanRow), &str); 4]
    {
        let mut changed = parts();
        change(&mut changed[5]);
        let error = create(dir.path(), changed).err().unwrap().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_plan_of_files_is_what_it_always_was() {
    let (files, late) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let plan = create(files.path(), rows(25)).unwrap();
    assert!(!plan.has_parts());
    assert_eq!(plan.digest(), "ada383f15d91ee3434ca78683c94d34a2d2ed8103d051b9eb354fe578af2836d");
    // A caption in the last row gives every row the wider layout.
    let mut with = rows(25);
    with[24].caption = Some("late".into());
    let wide = create(late.path(), with.clone()).unwrap();
    assert!(wide.has_parts() && wide.digest() != plan.digest());
    assert_eq!(wide.all_rows().unwrap().map(Result::unwrap).collect::<Vec<_>>(), with);
    // Files that have texts beside them now are those of an output that was begun without.
    create(files.path(), with).unwrap();
}

/// [`parts`] as they are found: each container, then its images; those called `unchanged` at once.
fn found(plan: Option<&Plan>, unchanged: &[&str]) -> Vec<Today> {
    let mut items = Vec::new();
    let all = parts();
    for rows in all.chunk_by(|a, b| a.uri == b.uri) {
        let uri = rows[0].uri.clone();
        let known = plan.and_then(|plan| plan.containers().iter().find(|c| c.file.uri == uri));
        match known {
            Some(known) if unchanged.contains(&&*uri) => {
                items.push(Today::Unchanged(known.clone(), format!("elsewhere/{uri}")));
            }
            _ => {
                let bytes = rows.len() as u64;
                items.push(Today::Opened(ContainerFile {
                    key: uri.clone(),
                    uri,
                    bytes,
                    digest: None,
                }));
                items.extend(rows.iter().cloned().map(Today::Image));
            }
        }
    }
    items
}

fn hold(dir: &Path, items: Vec<Today>) -> Result<Held> {
    let identity = identity(16, Some([2, 2]), 10);
    let items = items.into_iter().map(Ok);
    Plan::hold(dir, &identity, "so", items, 10, &mut |_, _, _| Ok(false))
}

#[test]
fn containers_are_recorded_and_passed_over_by_their_counts() {
    let dir = tempfile::tempdir().unwrap();
    let Held::Same(plan) = hold(dir.path(), found(None, &[])).unwrap() else { panic!() };
    let known: Vec<_> =
        plan.containers().iter().map(|c| (&*c.file.uri, c.first, c.images)).collect();
    // The others hold an image that can't be read.
    assert_eq!(known, [("d.parquet", 50, 3)]);
    assert_eq!((plan.taken(), plan.rows()), ("so", 62));
    assert_eq!(plan.digest(), create(&dir.path().join("other"), parts()).unwrap().digest());
    let listed_at = plan.listed_at().unwrap().elapsed().unwrap().as_secs_f64();
    assert!((2.0..60.0).contains(&listed_at), "{listed_at}");
    let Held::Same(again) = hold(dir.path(), found(Some(&plan), &["d.parquet"])).unwrap() else {
        panic!()
    };
    let rows: Vec<PlanRow> = again.all_rows().unwrap().map(Result::unwrap).collect();
    for (row, place) in rows[48..54].iter().map(|row| (row, again.place(row))) {
        let moved = if row.uri == "d.parquet" { "elsewhere/" } else { "" };
        assert_eq!(place, format!("{moved}{}", row.uri));
    }
    let mut late = found(Some(&plan), &["d.parquet"]);
    late.remove(0);
    late.remove(0);
    assert!(matches!(hold(dir.path(), late).unwrap(), Held::Other(..)));
    let mut fewer = found(Some(&plan), &["d.parquet"]);
    while !matches!(fewer.last(), Some(Today::Unchanged(..))) {
        fewer.pop();
    }
    let Held::Other(_, told) = hold(dir.path(), fewer).unwrap() else { panic!() };
    assert_eq!(told, "image 53, 'e.tar/0', is gone (it had 62, now 53)");
    let Held::Other(_, told) =
        hold(dir.path(), vec![Today::Unchanged(plan.containers()[0].clone(), "d".into())]).unwrap()
    else {
        panic!()
    };
    assert_eq!(told, "image 0 was 'class/0000.png' and is now one of d");
}

#[test]
fn a_plan_of_whole_containers_is_held_without_reading_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let row = |ordinal: i64| PlanRow {
        ordinal,
        key: format!("{ordinal}"),
        uri: format!("{}.tar", ordinal / 30),
        member: Some("m".into()),
        offset: Some(ordinal),
        ..PlanRow::default()
    };
    let rows: Vec<PlanRow> = (0..90).map(row).collect();
    let file = |uri: String| ContainerFile { uri, key: "k".into(), bytes: 1, digest: None };
    let items = rows.chunks(30).flat_map(|rows| {
        let images = rows.iter().cloned().map(Today::Image);
        std::iter::once(Today::Opened(file(rows[0].uri.clone()))).chain(images)
    });
    let Held::Same(plan) = hold(dir.path(), items.collect()).unwrap() else { panic!() };
    assert_eq!(plan.containers().len(), 3);
    let again = |which: &[usize]| {
        let mut items = Vec::new();
        for (i, container) in plan.containers().iter().enumerate() {
            if which.contains(&i) {
                items.push(Today::Unchanged(container.clone(), container.file.uri.clone()));
            } else {
                items.extend(rows[30 * i..][..30].iter().cloned().map(Today::Image));
            }
        }
        matches!(hold(dir.path(), items), Ok(Held::Same(_)))
    };
    assert!(again(&[]) && again(&[1]) && again(&[0, 2]) && again(&[0, 1, 2]));
    // The rows of the second partition on are damaged: where they aren't needed nobody notices.
    let path = dir.path().join(FILE);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[600..1200].iter_mut().for_each(|byte| *byte = !*byte);
    std::fs::write(&path, bytes).unwrap();
    assert!(again(&[0, 1, 2]) && !again(&[]));
}
