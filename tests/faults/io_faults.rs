//! Kills and starves jobs at every write, fsync, link, rename and removal of an output, alone and
//! against a competitor; after running the same job again, the output must be byte for byte what an
//! undisturbed job leaves. The jobs are this test's own executable, so that a kill is a real one.

use crate::support::outputs;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use outputs::{job, tree};

const IMAGES: i64 = 25;
const SHARD_ROWS: u64 = 10;

/// Not a test: what the children of the tests below run.
#[test]
fn child_job() {
    let Some(dir) = std::env::var_os("VQTOK_TEST_JOB") else { return };
    let dir = PathBuf::from(dir);
    let done = match std::env::var("VQTOK_TEST_KIND").as_deref() {
        Ok("retry") => retry(&dir),
        Ok("repair") => repair(&dir),
        _ => job(&dir, IMAGES, SHARD_ROWS),
    };
    if let Err(error) = done {
        eprintln!("child: {error}");
        std::process::exit(i32::from(error.exit_code()));
    }
    std::process::exit(0);
}

/// `--retry-failed`: partitions with failures are made again and take the old ones' places.
fn retry(dir: &Path) -> vqtok::Result<()> {
    use vqtok::internals::tokens::{CommitMode, repair};
    let plan = outputs::plan(dir, IMAGES, SHARD_ROWS)?;
    let lock = plan.lock_exclusive()?;
    repair::reopen(dir, &lock)?;
    for partition in repair::with_failures(&plan)? {
        outputs::write(&plan, partition, CommitMode::Replace)?;
    }
    drop(lock);
    vqtok::internals::tokens::finalize(dir).map(|_| ())
}

/// `repair` of partition 1 and of the plan.
fn repair(dir: &Path) -> vqtok::Result<()> {
    let damage =
        vqtok::internals::tokens::repair::Damage { partitions: [1].into(), ..Default::default() };
    vqtok::internals::tokens::repair::clear(dir, &damage, &|_| None)?;
    job(dir, IMAGES, SHARD_ROWS)
}

fn command(dir: &Path, kind: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "io_faults::child_job", "--nocapture"])
        .env("VQTOK_TEST_JOB", dir)
        .env("VQTOK_TEST_KIND", kind)
        .env_remove("VQTOK_FAILPOINT")
        .env_remove("VQTOK_FAILTRACE")
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Compared by name and length and place, so that a failure can be read.
fn must_equal(dir: &Path, expected: &[(PathBuf, Vec<u8>)], when: &str) {
    let found = tree(dir);
    let names = |tree: &[(PathBuf, Vec<u8>)]| -> Vec<PathBuf> {
        tree.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&found), names(expected), "{when}");
    for ((name, bytes), (_, good)) in found.iter().zip(expected) {
        assert!(bytes == good, "{when}: {} differs", name.display());
    }
}

fn undisturbed() -> Vec<(PathBuf, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    job(dir.path(), IMAGES, SHARD_ROWS).unwrap();
    tree(dir.path())
}

/// What can be seen at any time is whole: every shard has its companions and verifies.
fn must_be_consistent(dir: &Path, when: &str) {
    if dir.join("plan.parquet").exists() {
        let report = vqtok::internals::audit::verify(dir).unwrap();
        assert!(report.clean(), "{when}: {:?}", report.findings);
    }
}

#[test]
fn a_kill_at_every_operation_costs_nothing() {
    let expected = undisturbed();
    let root = tempfile::tempdir().unwrap();
    let mut kills = 0;
    for nth in 1.. {
        let dir = root.path().join(nth.to_string());
        let point = format!("any:{nth}");
        let out = command(&dir, "job").env("VQTOK_FAILPOINT", &point).output().unwrap();
        if out.status.success() {
            break;
        }
        kills += 1;
        must_be_consistent(&dir, &point);
        let again = command(&dir, "job").output().unwrap();
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
        must_equal(&dir, &expected, &point);
        std::fs::remove_dir_all(&dir).unwrap();
    }
    // 3 partitions of 3 files, the plan, 2 files of the merge, each created, written, synced and
    // linked or renamed, with its folder synced.
    assert!(kills > 12 * 5, "only {kills} operations were met");
    eprintln!("killed at {kills} operations");
}

#[test]
fn a_full_disk_at_every_operation_is_one_error_and_costs_nothing() {
    let expected = undisturbed();
    let root = tempfile::tempdir().unwrap();
    for nth in 1.. {
        let dir = root.path().join(nth.to_string());
        // 28 is ENOSPC.
        let point = format!("any:{nth}:28");
        let out = command(&dir, "job").env("VQTOK_FAILPOINT", &point).output().unwrap();
        if out.status.success() {
            assert!(nth > 60);
            break;
        }
        let message = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{point}: {message}");
        assert!(message.contains("No space left on device"), "{point}: {message}");
        assert!(!message.contains("inner writer"), "{point}: {message}");
        must_be_consistent(&dir, &point);
        if dir.exists() {
            let hidden =
                tree(&dir).into_iter().filter(|(p, _)| p.to_string_lossy().contains(".tmp"));
            assert_eq!(hidden.count(), 0, "{point}: something half-written is left");
        }
        let again = command(&dir, "job").output().unwrap();
        assert!(again.status.success(), "{point}");
        must_equal(&dir, &expected, &point);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_kill_beside_a_competitor_costs_nothing() {
    let expected = undisturbed();
    let root = tempfile::tempdir().unwrap();
    for nth in (1..120).step_by(3) {
        let dir = root.path().join(nth.to_string());
        let point = format!("any:{nth}");
        let mut victim = command(&dir, "job").env("VQTOK_FAILPOINT", &point).spawn().unwrap();
        let mut other = command(&dir, "job").spawn().unwrap();
        victim.wait().unwrap();
        let other = other.wait().unwrap();
        assert!(other.success(), "{point}: the survivor failed: {other}");
        let again = command(&dir, "job").output().unwrap();
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
        must_equal(&dir, &expected, &point);
    }
}

/// Runs a job of `kind` on a finished output, killed at every operation, and again.
fn kill_on_finished(kind: &str, least: usize) {
    let expected = undisturbed();
    let root = tempfile::tempdir().unwrap();
    for nth in 1.. {
        let dir = root.path().join(nth.to_string());
        job(&dir, IMAGES, SHARD_ROWS).unwrap();
        let point = format!("any:{nth}");
        let out = command(&dir, kind).env("VQTOK_FAILPOINT", &point).output().unwrap();
        if out.status.success() {
            assert!(nth > least, "{kind} met only {nth} operations");
            must_equal(&dir, &expected, &point);
            break;
        }
        must_be_consistent(&dir, &point);
        let again = command(&dir, kind).output().unwrap();
        assert!(again.status.success(), "{point}: {}", String::from_utf8_lossy(&again.stderr));
        must_equal(&dir, &expected, &point);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_kill_during_a_retry_costs_nothing() {
    kill_on_finished("retry", 30);
}

#[test]
fn a_kill_during_a_repair_costs_nothing() {
    kill_on_finished("repair", 20);
}

/// Power loss: nothing may be seen that isn't durable yet. Before a shard's link its content and
/// its companions, their names included, must have been synced; and so for every other file.
#[test]
fn nothing_is_seen_before_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let log = dir.path().join("log");
    let run = command(&out, "job").env("VQTOK_FAILTRACE", &log).output().unwrap();
    assert!(run.status.success());
    let text = std::fs::read_to_string(&log).unwrap();
    let steps: Vec<(&str, &Path)> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(operation, path)| (operation, Path::new(path)))
        .collect();
    let at = |from: usize, to: usize, operation: &str, path: &Path| {
        steps[from..to].iter().rposition(|step| *step == (operation, path)).map(|i| i + from)
    };
    let mut shards = 0;
    for (i, (operation, target)) in steps.iter().enumerate() {
        if !matches!(*operation, "link" | "rename") {
            continue;
        }
        // The temporary file was synced after its last write.
        let name = format!(".{}.", target.file_name().unwrap().to_str().unwrap());
        let is_temp = |path: &Path| {
            path.parent() == target.parent()
                && path.file_name().unwrap().to_str().unwrap().starts_with(&name)
        };
        let last = |operation: &str| {
            steps[..i].iter().rposition(|(op, path)| *op == operation && is_temp(path))
        };
        assert!(last("sync").unwrap() > last("write").unwrap(), "{}", target.display());
        // Its folder is synced before anything else becomes visible.
        let folder = target.parent().unwrap();
        let next = steps[i + 1..].iter().position(|(op, _)| matches!(*op, "link" | "rename"));
        let next = next.map_or(steps.len(), |next| next + i + 1);
        assert!(at(i + 1, next, "sync-folder", folder).is_some(), "{}", target.display());
        // A shard comes after its companions.
        if folder.ends_with("tokens") {
            shards += 1;
            let part = target.file_stem().unwrap().to_str().unwrap();
            for kind in ["failures", "codebook"] {
                let companion = steps[..i].iter().position(|(op, path)| {
                    *op == "link"
                        && path.parent().is_some_and(|p| p.ends_with(kind))
                        && path.file_name().unwrap().to_str().unwrap().starts_with(part)
                });
                let companion = companion.expect("the companion is linked first");
                assert!(at(companion, i, "sync-folder", &out.join(kind)).is_some());
            }
        }
    }
    assert_eq!(shards, 3);
    let last = steps.iter().rposition(|(op, _)| matches!(*op, "link" | "rename")).unwrap();
    assert_eq!(steps[last], ("rename", out.join("dataset.json").as_path()));
}
