//! Tests of the plan: made once, opened again, refused when anything differs.

use super::*;
use crate::tokens::identity::tests::identity;

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
    assert_eq!(crate::audit::verify(dir.path()).unwrap().findings, []);
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
