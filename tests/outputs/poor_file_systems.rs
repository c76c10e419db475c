//! Runs every command on a file system that has less than others: no locks, no syncing of folders,
//! no hard links, no maps. Everything works, byte for byte as elsewhere, and what stays unprotected
//! is said once. The file system is a library that is preloaded and refuses calls.

use crate::support::*;

use std::path::PathBuf;
use std::process::Command;

/// What a file system refuses, and with which of the numbers that real ones give.
type Poverty = &'static [(&'static str, i32)];

const ENOLCK: i32 = 37;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;
const EINVAL: i32 = 22;
const EPERM: i32 = 1;
const EBADF: i32 = 9;
const ENODEV: i32 = 19;
const EACCES: i32 = 13;

const POVERTIES: &[Poverty] = &[
    &[("NOLOCK", ENOLCK)],
    &[("NOLOCK", ENOSYS)],
    &[("NOLOCK", EOPNOTSUPP), ("NODIRSYNC", EINVAL)],
    &[("NODIRSYNC", EOPNOTSUPP)],
    &[("NODIRSYNC", EBADF), ("NOLINK", EPERM)],
    &[("NOLINK", EOPNOTSUPP)],
    &[("NOLINK", ENOSYS), ("NONOREPLACE", EINVAL)],
    &[("NOMAP", ENODEV), ("NOSYNC", EINVAL)],
    &[("NOMAP", ENODEV), ("NOPRIVATEMAP", ENODEV)],
    &[
        ("NOLOCK", EINVAL),
        ("NODIRSYNC", ENOSYS),
        ("NOSYNC", ENOSYS),
        ("NOLINK", EACCES),
        ("NONOREPLACE", ENOSYS),
        ("NOMAP", EOPNOTSUPP),
        ("NOPRIVATEMAP", EOPNOTSUPP),
    ],
];

struct Poor {
    job: Job,
    library: PathBuf,
    poverty: Poverty,
}

impl Poor {
    fn run(&self, line: &str) -> Done {
        let mut command = self.job.command(line);
        command.env("LD_PRELOAD", &self.library).env("FSLOG", self.job.path("refused"));
        for (name, number) in self.poverty {
            command.env(name, number.to_string());
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Done { code: output.status.code().unwrap_or(-1), stdout, stderr }
    }

    /// Runs `line`; says how often it told that there are no locks.
    fn expect(&self, code: i32, line: &str) -> usize {
        let done = self.run(line);
        let told = || format!("{:?}: vqtok {line}\n{}\n{}", self.poverty, done.stdout, done.stderr);
        assert_eq!(done.code, code, "{}", told());
        let notices = done.stderr.matches("this file system has no locks").count();
        assert!(notices <= 1, "told more than once: {}", told());
        notices
    }

    fn has_no(&self, what: &str) -> bool {
        self.poverty.iter().any(|(name, _)| *name == what)
    }

    /// Files, but for the one that a lock was looked for on.
    fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let mut files = self.job.files(folder);
        files.retain(|(name, _)| name != ".lock");
        files
    }

    fn must_be_same(&self, whole: &str, other: &str) {
        let (left, right) = (self.files(whole), self.files(other));
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&left), names(&right), "{:?}: {whole}, {other}", self.poverty);
        for ((name, a), (_, b)) in left.iter().zip(&right) {
            // Events have the time of day.
            assert!(a == b || name.contains("tfevents"), "{:?}: {name} of {other}", self.poverty);
        }
    }
}

/// None, said, where the library can't be built.
fn library() -> Option<(tempfile::TempDir, PathBuf)> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("poor.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/poor_file_system.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&path)
        .args([source, "-ldl"])
        .status();
    if built.is_ok_and(|status| status.success()) {
        return Some((dir, path));
    }
    eprintln!("skipped: no C compiler builds {source}");
    None
}

const TOKENIZE: &str = "tokenize images --model model --shard-rows 4 --batch-size 2";

#[test]
fn every_command_works_on_every_file_system() {
    let Some((_dir, library)) = library() else { return };
    for poverty in POVERTIES {
        let job = Job::new(12).trained();
        std::fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
        job.expect(1, &format!("{TOKENIZE} --out whole"));
        let poor = Poor { job, library: library.clone(), poverty };
        let unprotected = usize::from(poor.has_no("NOLOCK"));

        let train = "train images --model again --recipe tiny.toml";
        assert_eq!(poor.expect(0, train), unprotected, "{poverty:?}");
        let trained = poor.job.expect(0, "train images --model usual --recipe tiny.toml");
        assert!(!trained.stderr.contains("no locks"));
        poor.must_be_same("usual", "again");

        assert_eq!(poor.expect(1, &format!("{TOKENIZE} --out out")), unprotected, "{poverty:?}");
        poor.must_be_same("whole", "out");
        poor.expect(1, &format!("{TOKENIZE} --out out"));
        assert_eq!(poor.expect(1, &format!("{TOKENIZE} --out out --retry-failed")), unprotected);
        poor.must_be_same("whole", "out");
        poor.expect(0, "verify out");
        poor.expect(0, "inspect out");
        poor.expect(0, "inspect model");
        poor.expect(0, "report out --out page.html");

        // Workers one by one, and who folds.
        poor.expect(0, &format!("{TOKENIZE} --out parts --partition 0/2"));
        poor.expect(1, &format!("{TOKENIZE} --out parts --partition 1/2"));
        std::fs::remove_file(poor.job.path("parts/dataset.json")).unwrap();
        poor.expect(1, "finalize parts");
        poor.must_be_same("whole", "parts");

        std::fs::write(poor.job.path("out/tokens/part-00001.parquet"), b"damaged").unwrap();
        poor.expect(1, "verify out");
        assert_eq!(poor.expect(1, "repair out --model model"), unprotected, "{poverty:?}");
        poor.must_be_same("whole", "out");

        poor.expect(0, "decode out --model model --out pictures");
        poor.job.expect(0, "decode whole --model model --out usual-pictures");
        poor.must_be_same("usual-pictures", "pictures");
        poor.expect(0, "convert model --out converted");
        poor.expect(1, "reconstruct images --model model --out sheet.png --count 20");

        // Nothing of this was said of a file system that had everything.
        let refused = std::fs::read_to_string(poor.job.path("refused")).unwrap();
        for (name, _) in *poverty {
            assert!(refused.lines().any(|line| line == *name), "{name} was never refused");
        }
    }
}

/// A commit is exclusive with whichever call a file system has for it.
#[test]
fn workers_without_hard_links_lose_no_shard_to_each_other() {
    let Some((_dir, library)) = library() else { return };
    let job = Job::new(63).trained();
    job.expect(0, &format!("{TOKENIZE} --out whole"));
    for poverty in POVERTIES.iter().filter(|p| p.iter().any(|(name, _)| *name == "NOLINK")) {
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let mut command = job.command(&format!("{TOKENIZE} --out out --threads 1"));
                command.env("LD_PRELOAD", &library);
                command.envs(poverty.iter().map(|(name, number)| (name, number.to_string())));
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                command.spawn().unwrap()
            })
            .collect();
        for mut worker in workers {
            // Who folds while another one still commits is told to come again.
            let code = worker.wait().unwrap().code();
            assert!(matches!(code, Some(0 | 75)), "{poverty:?}: {code:?}");
        }
        job.expect(0, &format!("{TOKENIZE} --out out"));
        std::fs::remove_file(job.path("out/.lock")).ok();
        job.assert_same("whole", "out");
        job.expect(0, "verify out");
        std::fs::remove_dir_all(job.path("out")).unwrap();
    }
}
