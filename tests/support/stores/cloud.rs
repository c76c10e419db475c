//! Owns a job whose data lie in a bucket, behind a proxy with faults: a user's machine and a store.

use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Moto, Proxy};
use crate::support::Job;

/// What no message may hold.
pub const KEY: &str = "AKIAOFTESTSALONE";
pub const SECRET: &str = "secretOfTestsAlone+/=";

/// Seconds: several attempts, and long enough that a busy machine isn't taken for an outage.
const IMPATIENT: &str = "6";

/// A scratch folder, a bucket of its own.
pub struct Cloud {
    pub job: Job,
    pub moto: &'static Moto,
    pub proxy: Proxy,
    pub bucket: String,
    /// What `VQTOK_STORE_PATIENCE` says; None leaves it to vqtok.
    patience: Option<&'static str>,
}

/// How a command ended, as [`Job::run`] has it, and how long it took.
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Cloud {
    /// A job beside an empty bucket; None where there is no server.
    pub fn of(job: Job) -> Option<Cloud> {
        static BUCKETS: AtomicUsize = AtomicUsize::new(0);
        let moto = Moto::get()?;
        let bucket = format!("tests-{}", BUCKETS.fetch_add(1, Ordering::SeqCst));
        moto.bucket(&bucket);
        Some(Cloud { job, moto, proxy: Proxy::before(moto.port), bucket, patience: None })
    }

    /// The same for a user who gives a store up after some seconds, where a test waits for that.
    pub fn impatient(self) -> Cloud {
        Cloud { patience: Some(IMPATIENT), ..self }
    }

    /// Puts an object.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.moto.put(&format!("{}/{key}", self.bucket), bytes);
    }

    /// Puts everything below a local folder below a prefix.
    pub fn upload(&self, folder: &str, prefix: &str) {
        for (name, bytes) in self.job.files(folder) {
            self.put(&format!("{prefix}/{name}"), &bytes);
        }
    }

    /// Every object below a prefix, which ends with `/`. Left out is what a worker leaves that is killed
    /// while it looks whether names are given once: one hidden object, which nobody reads.
    pub fn files(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let mut files = self.moto.files(&self.bucket, prefix);
        files.retain(|(name, _)| !name.starts_with(".vqtok-probe-"));
        files
    }

    /// The names in an output: `@/out` in the bucket, or a local folder.
    pub fn names(&self, out: &str) -> Vec<String> {
        let first = |(name, _): (String, Vec<u8>)| name;
        match out.strip_prefix("@/") {
            Some(prefix) => {
                let prefix = format!("{prefix}/");
                let keys = self.moto.keys(&self.bucket, &prefix);
                keys.iter().map(|key| key[prefix.len()..].to_string()).collect()
            }
            None if self.job.path(out).exists() => {
                self.job.files(out).into_iter().map(first).collect()
            }
            None => Vec::new(),
        }
    }

    /// Asserts that what lies below a prefix is a local folder's content, byte for byte.
    pub fn assert_same(&self, local: &str, prefix: &str) {
        let (left, right) = (self.job.files(local), self.files(&format!("{prefix}/")));
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&left), names(&right), "{local} and {prefix} hold different files");
        for ((name, x), (_, y)) in left.iter().zip(&right) {
            assert!(x == y, "{name} differs between {local} and {prefix}");
        }
    }

    /// The address of a key.
    pub fn at(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.bucket)
    }

    /// The binary with `line` split at spaces, `@/` standing for the bucket, as a user of the store.
    pub fn command(&self, line: &str) -> Command {
        let line = line.replace("@/", &self.at(""));
        let mut command = self.job.command(&line);
        self.credentials(&mut command);
        let endpoint = format!("http://127.0.0.1:{}", self.proxy.port());
        command.env("AWS_ENDPOINT_URL", endpoint);
        // What a machine of this kind would ask for credentials is nobody here.
        command.env("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9");
        command
    }

    fn credentials(&self, command: &mut Command) {
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
            command.env_remove(name);
        }
        command.env("AWS_ACCESS_KEY_ID", KEY).env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("AWS_REGION", "us-east-1").env("TMPDIR", self.job.dir.path().join("tmp"));
        command.env("XDG_CACHE_HOME", self.job.dir.path().join("cache"));
        match self.patience {
            Some(seconds) => command.env("VQTOK_STORE_PATIENCE", seconds),
            None => command.env_remove("VQTOK_STORE_PATIENCE"),
        };
        std::fs::create_dir_all(self.job.dir.path().join("tmp")).unwrap();
    }

    /// Runs `line` and demands its exit code.
    pub fn expect(&self, code: i32, line: &str) -> Ended {
        expect(code, self.command(line))
    }

    /// The files that are left in the folder for temporary files.
    pub fn left(&self) -> Vec<String> {
        self.job.files("tmp").into_iter().map(|(name, _)| name).collect()
    }
}

/// Runs a command to its end, which must be this and within three minutes, without a word of what is
/// secret.
pub fn expect(code: i32, mut command: Command) -> Ended {
    let started = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let output = finish(child, Duration::from_secs(180));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    for word in [KEY, SECRET, &SECRET[..12]] {
        assert!(!stdout.contains(word) && !stderr.contains(word), "{stdout}\n{stderr}");
    }
    let ended = output.status.code().unwrap_or(-1);
    assert_eq!(ended, code, "{command:?}\n{stdout}\n{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ended { code: ended, stdout, stderr, took: started.elapsed() }
}

/// Waits for a child, not for ever.
fn finish(child: Child, longest: Duration) -> Output {
    let id = child.id();
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if ended.recv_timeout(longest) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // SAFETY: a signal to a child that hasn't been waited for yet.
            unsafe { libc::kill(id as i32, libc::SIGKILL) };
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(done);
    watch.join().unwrap();
    output
}

impl Ended {
    /// Asserts that it failed in one line on stderr that holds every word.
    pub fn assert_one_line(&self, words: &[&str]) -> &Ended {
        let errors: Vec<_> =
            self.stderr.lines().filter(|line| line.starts_with("vqtok: ")).collect();
        assert_eq!(errors.len(), 1, "one line of error expected:\n{}", self.stderr);
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is missing in: {}", errors[0]);
        }
        self
    }
}
