//! Fills a real disk, and takes it away: a full, read-only or vanished output is one clear error
//! and exit code 2, and once it is mended the same command ends with the bytes of an undisturbed
//! job. The disks are small tmpfs mounts; where this process may not mount, tests say so and skip.

use crate::support::random::{Random, rounds};
use crate::support::*;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LINE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2 --threads 1";

/// A tmpfs, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// None, said, where this process may not mount.
    fn mount(at: &Path, kibibytes: usize) -> Option<Disk> {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={kibibytes}k");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "vqtok-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Disk(at.to_path_buf()));
        }
        eprintln!("skipped: no right to mount a small disk");
        None
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let status = Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap();
        assert!(status.success(), "mount -o {options}: {status}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: nothing of it may outlive a test that failed with files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Files that are hidden, as half-written ones are.
fn hidden(job: &Job, folder: &str) -> Vec<String> {
    let files = job.files(folder).into_iter().map(|(name, _)| name);
    files.filter(|name| name.contains("/.") || name.starts_with('.')).collect()
}

#[test]
fn a_full_disk_is_one_error_and_costs_nothing() {
    let job = Job::new(63).trained();
    job.expect(0, &format!("{LINE} --out whole"));
    // Whole pages are what a tmpfs counts.
    let pages = job.files("whole").into_iter().map(|(_, bytes)| bytes.len().div_ceil(4096));
    let kibibytes = 4 * pages.sum::<usize>();
    let (mut random, mut full, mut stopped) = (Random(0xd15c), 0, Vec::new());
    for round in 0..rounds(20) {
        let at = job.path(&format!("disk{round}"));
        let size = 4 * (1 + random.below(kibibytes / 4 + 2));
        let Some(disk) = Disk::mount(&at, size) else { return };
        let line = format!("{LINE} --out disk{round}/out");
        let done = job.run(&line);
        if done.code != 0 {
            full += 1;
            assert_eq!(done.code, 2, "{size} KiB: {}", done.stderr);
            done.assert_one_line(&["No space left on device", &format!("disk{round}/out")]);
            assert!(!done.stderr.contains("inner writer"), "{}", done.stderr);
            assert_eq!(hidden(&job, &format!("disk{round}")), [""; 0], "{size} KiB");
            if job.path(&format!("disk{round}/out/plan.parquet")).exists() {
                job.expect(0, &format!("verify disk{round}/out --partial"));
            }
            let out = job.path(&format!("disk{round}/out/tokens"));
            stopped.push(std::fs::read_dir(out).map_or(0, |shards| shards.count()));
            disk.remount(&format!("size={}k", kibibytes + 4096));
            job.expect(0, &line);
        }
        job.assert_same("whole", &format!("disk{round}/out"));
    }
    stopped.sort_unstable();
    println!("{full} full disks of 4 to {kibibytes} KiB, after so many shards: {stopped:?}");
    assert!(full > 0, "no disk was small enough");
}

#[test]
fn a_read_only_output_is_one_error_and_costs_nothing() {
    let job = Job::new(12).trained();
    job.expect(0, &format!("{LINE} --out whole"));
    let Some(disk) = Disk::mount(&job.path("disk"), 8192) else { return };
    disk.remount("ro");
    let line = format!("{LINE} --out disk/out");
    job.expect(2, &line).assert_one_line(&["disk/out", "Read-only file system"]);
    disk.remount("rw");
    job.expect(0, &format!("{line} --partition 1/2"));
    disk.remount("ro");
    job.expect(2, &line).assert_one_line(&["disk/out", "Read-only file system"]);
    job.expect(0, "verify disk/out --partial");
    disk.remount("rw");
    job.expect(0, &line);
    job.assert_same("whole", "disk/out");
    // What is finished needs no writing.
    disk.remount("ro");
    job.expect(0, &line);
    job.expect(0, "verify disk/out");
}

#[test]
fn an_output_that_vanishes_is_one_error_and_costs_nothing() {
    let job = Job::new(300).trained();
    let line = "tokenize images --model model --shard-rows 20 --batch-size 1 --threads 1";
    job.expect(0, &format!("{line} --out whole"));
    let mut command = job.command(&format!("{line} --out out"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !job.path("out/tokens/part-00000.parquet").exists() {
        assert!(Instant::now() < deadline, "no shard within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::fs::rename(job.path("out"), job.path("gone")).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    let errors: Vec<_> = stderr.lines().filter(|line| line.starts_with("vqtok: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains("out"), "{stderr}");
    // What went with the folder is as good as what stays after a kill.
    assert!(!job.path("gone/dataset.json").exists(), "the run was over before");
    job.expect(0, "verify gone --partial");
    for out in ["gone", "out"] {
        job.expect(0, &format!("{line} --out {out}"));
        job.assert_same("whole", out);
    }
}

/// Nothing is decided by a clock: files from 1970 or from 2100 change no byte and no decision.
#[test]
fn times_of_files_mean_nothing() {
    let job = Job::new(12).trained();
    job.expect(0, &format!("{LINE} --out whole"));
    for (out, year) in [("early", 0), ("late", 130)] {
        job.expect(0, &format!("{LINE} --out {out} --partition 0/2"));
        let time = std::time::UNIX_EPOCH + Duration::from_secs(year * 31_556_952);
        for folder in ["images", "model", out] {
            for (name, _) in job.files(folder) {
                let file = std::fs::File::open(job.path(folder).join(name)).unwrap();
                file.set_modified(time).unwrap();
            }
        }
        job.expect(0, &format!("{LINE} --out {out}"));
        job.expect(0, &format!("verify {out}"));
        job.assert_same("whole", out);
    }
}
