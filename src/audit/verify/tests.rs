//! Tests of the auditor on outputs of the writer: whole ones pass, every flipped bit is found, and
//! what `repair` clears comes back byte for byte.

use std::fs;

use super::*;
use crate::job::verify;
use crate::tokens::testing::{deep_identity, plan, plan_with, token_row, tree, write};
use crate::tokens::{self, Plan, finalize, repair};

/// A finished output of 3 partitions, 25 images.
fn output(dir: &Path) -> Plan {
    let plan = plan(dir, 25, 10);
    for partition in 0..3 {
        write(&plan, partition);
    }
    finalize(dir).unwrap();
    plan
}

/// Pseudo-random numbers below `bound` (Knuth's constants).
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    ((*state >> 33) % bound as u64) as usize
}

fn damage(report: &VerifyReport) -> repair::Damage {
    let plan = |part| match part {
        Part::Plan => Some(0),
        Part::AppendedPlan(number) => Some(number),
        _ => None,
    };
    let has = |part| report.findings.iter().any(|finding| finding.part == part);
    repair::Damage {
        plans: report.findings.iter().filter_map(|finding| plan(finding.part)).collect(),
        aggregates: has(Part::Codebook) || has(Part::Dataset),
        partitions: report.bad_partitions(),
        ..repair::Damage::default()
    }
}

/// What `vqtok repair` does, with the tests' own pipeline.
fn mend(dir: &Path, report: &VerifyReport) {
    repair::clear(dir, &damage(report), &|_| Some(7)).unwrap();
    let plan = Plan::open(dir).unwrap();
    for partition in 0..plan.partitions() {
        if !plan.has(partition) {
            write(&plan, partition);
        }
    }
    finalize(dir).unwrap();
}

#[test]
fn a_whole_output_is_clean() {
    let dir = tempfile::tempdir().unwrap();
    output(dir.path());
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.finished, report.partitions, report.missing), (true, 3, 0));
    assert_eq!((report.planned, report.written, report.failed), (25, 20, 5));
    assert_eq!((report.rows, report.tokens), (20, 120));
    assert!(report.strays.is_empty());
    let bytes: usize = tree(dir.path()).iter().map(|(_, bytes)| bytes.len()).sum();
    let json = fs::metadata(dir.path().join("dataset.json")).unwrap().len();
    assert_eq!(report.bytes + json, bytes as u64);
    fs::write(dir.path().join("tokens/.part-00001.parquet.1-1.tmp"), b"x").unwrap();
    let report = verify(dir.path()).unwrap();
    assert!(report.clean());
    assert_eq!(report.leftovers, ["tokens/.part-00001.parquet.1-1.tmp"]);
}

#[test]
fn an_unfinished_output_is_clean_but_not_finished() {
    let dir = tempfile::tempdir().unwrap();
    assert!(verify(dir.path()).is_err(), "an empty folder is no output");
    let plan = plan(dir.path(), 25, 10);
    write(&plan, 1);
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.finished, report.missing, report.findings.len()), (false, 2, 0));
    assert_eq!(report.planned, 10);
}

/// What the auditor says of a file of which one bit, by chance, is another; it must say something.
fn flipped(dir: &Path, name: &Path, good: &[u8], state: &mut u64) -> VerifyReport {
    let (byte, bit) = (below(state, good.len()), below(state, 8));
    let mut bad = good.to_vec();
    bad[byte] ^= 1 << bit;
    fs::write(dir.join(name), &bad).unwrap();
    let report = verify(dir).unwrap();
    assert!(!report.clean(), "{name:?}: bit {bit} of byte {byte} goes unseen");
    report
}

#[test]
fn every_flipped_bit_is_found_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    output(dir.path());
    let whole = tree(dir.path());
    assert_eq!(whole.len(), 12);
    let mut state = 1;
    for (name, good) in &whole {
        for round in 0..16 {
            let report = flipped(dir.path(), name, good, &mut state);
            if round < 4 {
                mend(dir.path(), &report);
                assert_eq!(tree(dir.path()), whole, "{name:?} {:?}", report.findings);
            } else {
                fs::write(dir.path().join(name), good).unwrap();
            }
        }
    }
    assert!(verify(dir.path()).unwrap().clean());
}

#[test]
fn every_flipped_bit_of_a_plan_is_found_that_nothing_has_recorded() {
    let dir = tempfile::tempdir().unwrap();
    output(dir.path());
    fs::remove_file(dir.path().join("dataset.json")).unwrap();
    let path = dir.path().join("plan.parquet");
    let good = fs::read(&path).unwrap();
    assert!(verify(dir.path()).unwrap().clean());
    // Who wrote it tells whether it can be written anew.
    let by = good.windows(11).position(|bytes| bytes == b"vqtok 0.1.0").unwrap();
    for byte in (0..good.len()).step_by(7).filter(|byte| !(by..by + 11).contains(byte)) {
        let mut bad = good.clone();
        bad[byte] ^= 1 << (byte % 8);
        fs::write(&path, &bad).unwrap();
        let found = verify(dir.path()).unwrap();
        assert!(!found.clean(), "byte {byte} goes unseen");
        assert!(
            finalize(dir.path()).is_err(),
            "byte {byte} is taken for whole: {:?}",
            found.findings
        );
        assert!(!dir.path().join("dataset.json").exists());
    }
    let mut older = good.clone();
    older[by + 8] = b'0';
    assert!(older != good, "{}", String::from_utf8_lossy(&older[by..by + 11]));
    // Another version may write other bytes: what can't be told isn't said.
    fs::write(&path, &older).unwrap();
    assert!(verify(dir.path()).unwrap().clean());
    finalize(dir.path()).unwrap();
    assert!(verify(dir.path()).unwrap().clean());
}

#[test]
fn residual_levels_are_proven_as_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan_with(dir.path(), 25, &deep_identity(10));
    for partition in 0..3 {
        write(&plan, partition);
    }
    finalize(dir.path()).unwrap();
    let report = verify(dir.path()).unwrap();
    assert_eq!((report.findings.len(), report.tokens), (0, 3 * 120));
    let whole = tree(dir.path());
    let mut state = 2;
    for (name, good) in &whole {
        for _ in 0..3 {
            flipped(dir.path(), name, good, &mut state);
        }
        let report = flipped(dir.path(), name, good, &mut state);
        mend(dir.path(), &report);
        assert_eq!(tree(dir.path()), whole, "{name:?}");
    }
}

#[test]
fn a_missing_or_cut_file_is_found_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    output(dir.path());
    let whole = tree(dir.path());
    for (name, good) in &whole {
        let path = dir.path().join(name);
        for cut in [None, Some(0), Some(good.len() / 2), Some(good.len() - 1)] {
            match cut {
                None if name.ends_with("dataset.json") => continue, // Unfinished, not damaged.
                None => fs::remove_file(&path).unwrap(),
                Some(length) => fs::write(&path, &good[..length]).unwrap(),
            }
            let report = verify(dir.path()).unwrap();
            assert!(!report.clean(), "{name:?} cut to {cut:?} goes unseen");
            mend(dir.path(), &report);
            assert_eq!(tree(dir.path()), whole, "{name:?} {:?}", report.findings);
        }
    }
}

#[test]
fn partitions_are_checked_before_the_output_is_finished() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 25, 10);
    write(&plan, 0);
    write(&plan, 1);
    let whole = tree(dir.path());
    let mut state = 2;
    for (name, good) in whole.iter().filter(|(name, _)| !name.ends_with("plan.parquet")) {
        for _ in 0..16 {
            let mut bad = good.clone();
            bad[below(&mut state, good.len())] ^= 1 << below(&mut state, 8);
            fs::write(dir.path().join(name), &bad).unwrap();
            assert!(!verify(dir.path()).unwrap().clean(), "{name:?}");
        }
        fs::write(dir.path().join(name), good).unwrap();
    }
}

/// A writer that lies consistently, digests and all, is caught by what the rows say.
#[test]
fn consistent_lies_are_found() {
    let honest = tempfile::tempdir().unwrap();
    output(honest.path());
    let lie = |change: &dyn Fn(&mut tokens::TokenRow), words: &str| {
        let dir = tempfile::tempdir().unwrap();
        let plan = plan(dir.path(), 10, 10);
        let mode = tokens::CommitMode::New;
        let mut writer = tokens::PartitionWriter::create(&plan, 0, mode).unwrap();
        for ordinal in 0..10 {
            let mut row = token_row(ordinal);
            if ordinal == 6 {
                change(&mut row);
            }
            writer.push(tokens::Outcome::Written(Box::new(row))).unwrap();
        }
        writer.close().unwrap();
        finalize(dir.path()).unwrap();
        let report = verify(dir.path()).unwrap();
        let problem = &report.findings[0].problem;
        assert!(problem.contains(words), "{problem}");
    };
    lie(&|row| row.key = "c/5.png".into(), "image 6 is not the one that was planned");
    lie(&|row| row.uri.push('x'), "image 6 is not the one that was planned");
}

#[test]
fn a_foreign_shard_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    output(dir.path());
    let plan = plan(other.path(), 26, 10);
    write(&plan, 1);
    let name = "tokens/part-00001.parquet";
    fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    for folder in ["failures", "codebook"] {
        for entry in fs::read_dir(other.path().join(folder)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), dir.path().join(folder).join(entry.file_name())).unwrap();
        }
    }
    let report = verify(dir.path()).unwrap();
    let problems: Vec<_> = report.findings.iter().map(|f| f.problem.as_str()).collect();
    assert!(problems.iter().any(|p| p.contains("another plan")), "{problems:?}");
    assert_eq!(report.bad_partitions().into_iter().collect::<Vec<_>>(), [1]);
}

#[test]
fn a_lost_plan_needs_the_same_files() {
    let dir = tempfile::tempdir().unwrap();
    output(dir.path());
    let before = tree(dir.path());
    fs::remove_file(dir.path().join("plan.parquet")).unwrap();
    let damage = damage(&verify(dir.path()).unwrap());
    assert_eq!(damage.plans.iter().collect::<Vec<_>>(), [&0]);
    let error = repair::clear(dir.path(), &damage, &|_| Some(8)).unwrap_err().to_string();
    assert!(error.contains("don't give it back"), "{error}");
    let error = repair::clear(dir.path(), &damage, &|_| None).unwrap_err().to_string();
    assert!(error.contains("the size of 'c/0.png' is not known"), "{error}");
    repair::clear(dir.path(), &damage, &|_| Some(7)).unwrap();
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn failures_are_found_for_a_retry() {
    let dir = tempfile::tempdir().unwrap();
    let plan = plan(dir.path(), 13, 3);
    for partition in 0..4 {
        write(&plan, partition);
    }
    // Images 3 and 8 fail: partitions 1 and 2; partition 4 is not there.
    assert_eq!(repair::with_failures(&plan).unwrap(), [1, 2]);
}

#[test]
fn whatever_is_not_the_outputs_own_is_a_stray() {
    let dir = tempfile::tempdir().unwrap();
    output(dir.path());
    let at = |name: &str| dir.path().join(name);
    let sidecar = fs::read_dir(at("failures")).unwrap().next().unwrap().unwrap().path();
    let other = "failures/part-00001-0123456789abcdef.parquet";
    fs::create_dir_all(at("tokens/sub/deeper")).unwrap();
    let copies = [
        ".DS_Store",
        "notes.txt",
        "codebook/part-00000.parquet",
        "failures/copy.parquet",
        other,
        "tokens/.notes.tmp",
        "tokens/._part-00000.parquet",
        "tokens/part-00000 (copy).parquet",
        "tokens/part-00000.parquet.tmp",
        "tokens/part-00003.parquet",
        "tokens/part-1.parquet",
        "tokens/part-00000-0123456789abcdef.parquet",
    ];
    for name in copies {
        fs::copy(&sidecar, at(name)).unwrap();
    }
    std::os::unix::fs::symlink(at("nowhere"), at("tokens/link.parquet")).unwrap();
    let page = format!("<!doctype html>{}", crate::util::overwrite::HTML_MARK);
    fs::write(at("report.html"), page).unwrap();
    let report = verify(dir.path()).unwrap();
    let mut expected: Vec<String> = copies.map(str::to_string).to_vec();
    expected.extend(["tokens/link.parquet".to_string(), "tokens/sub/".to_string()]);
    expected.sort();
    let mut strays = report.strays.clone();
    strays.sort();
    assert_eq!((strays, report.findings.len()), (expected, 0));
    assert!(!report.clean() && report.leftovers.is_empty());
    // Before the end, the sidecar may be of a shard that is still to come.
    fs::remove_file(at("dataset.json")).unwrap();
    assert_eq!(verify(dir.path()).unwrap().leftovers, [other]);
    let before = tree(dir.path());
    repair::clear(dir.path(), &repair::Damage::default(), &|_| Some(7)).unwrap();
    assert!(before == tree(dir.path()), "something of others' was removed");
}

#[test]
fn an_image_without_all_its_views_is_found() {
    let checked = |words: Option<&str>, views: &dyn Fn(i64) -> i32| {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = deep_identity(10);
        identity.levels.truncate(1);
        identity.preprocessing.views = words.map(str::to_string);
        let plan = plan_with(dir.path(), 10, &identity);
        let mode = tokens::CommitMode::New;
        let mut writer = tokens::PartitionWriter::create(&plan, 0, mode).unwrap();
        for ordinal in 0..10 {
            for view in 0..views(ordinal) {
                let row = tokens::TokenRow { view, ..token_row(ordinal) };
                writer.push(tokens::Outcome::Written(Box::new(row))).unwrap();
            }
        }
        writer.close().unwrap();
        let summary = finalize(dir.path()).unwrap();
        assert_eq!((summary.totals.written, summary.totals.failed), (10, 0));
        let report = verify(dir.path()).unwrap();
        report.findings.first().map_or_else(String::new, |finding| finding.problem.clone())
    };
    assert_eq!(checked(Some("flips"), &|_| 2), "");
    assert_eq!(checked(Some("ten-crop=1.1"), &|_| 10), "");
    assert_eq!(checked(Some("random-crops=3"), &|_| 3), "");
    assert_eq!(checked(None, &|_| 1), "");
    let lost = checked(Some("flips"), &|ordinal| if ordinal == 4 { 1 } else { 2 });
    assert!(lost.contains("image 4 has 1 rows, where its views are 2"), "{lost}");
    let last = checked(Some("random-crops=3"), &|ordinal| if ordinal == 9 { 2 } else { 3 });
    assert!(last.contains("image 9 has 2 rows, where its views are 3"), "{last}");
    let more = checked(None, &|ordinal| if ordinal == 0 { 2 } else { 1 });
    assert!(more.contains("image 0 has 2 rows"), "{more}");
}
