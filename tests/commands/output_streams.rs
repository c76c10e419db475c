//! Takes stdout and stderr away from the binary, or fills them: a reader that left is nobody's
//! error, a full disk behind stdout is one line and exit code 2, and no job ends early for either.

use crate::support::*;

use std::fs::{File, OpenOptions};
use std::process::{Command, Output, Stdio};

/// Commands whose result is on stdout, for a scene with an output `out`.
const RESULTS: &[&str] = &[
    "--help",
    "--version",
    "tokenize --help",
    "recipe list",
    "recipe list --json",
    "recipe show quickstart",
    "inspect model",
    "inspect out",
    "inspect out/tokens/part-00000.parquet --json",
    "verify out",
    "verify out --json",
    "report out --out page.html",
    "finalize out",
];

fn scene() -> Job {
    let job = Job::new(6).trained();
    job.expect(0, "tokenize images --model model --out out");
    job
}

/// A place that takes nothing, as a full disk.
fn full() -> Option<File> {
    let file = OpenOptions::new().write(true).open("/dev/full").ok();
    if file.is_none() {
        eprintln!("skipped: there is no /dev/full");
    }
    file
}

/// The write end of a pipe that nobody reads.
fn without_reader() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// Runs what `line` says through a shell that closes a stream.
fn closed(job: &Job, line: &str, redirection: &str) -> Output {
    let text = format!("{} {line} {redirection}", env!("CARGO_BIN_EXE_vqtok"));
    Command::new("sh").args(["-c", &text]).current_dir(job.dir.path()).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_left_is_nobodys_error() {
    let job = scene();
    for line in RESULTS {
        let mut command = job.command(line);
        let done = command.stdout(without_reader()).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((done.status.code(), stderr(&done)), (Some(0), String::new()), "{line}");
        let done = closed(&job, line, ">&-");
        assert_eq!((done.status.code(), stderr(&done)), (Some(0), String::new()), "{line} >&-");
    }
}

#[test]
fn a_full_stdout_is_one_line_and_an_error() {
    let job = scene();
    for line in RESULTS {
        let Some(full) = full() else { return };
        let mut command = job.command(line);
        let done = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{line}");
        assert_eq!(
            stderr(&done),
            "vqtok: stdout: No space left on device; not everything was written there\n",
            "{line}"
        );
    }
}

#[test]
fn a_job_is_finished_whoever_listens() {
    let job = scene();
    let tokenize = |out: &str, flags: &str| {
        job.command(&format!("tokenize images --model model --out {out} {flags}"))
    };
    for (name, flags) in [("quiet", ""), ("events", "--json")] {
        // Both streams without a reader.
        let mut command = tokenize(name, flags);
        let done = command.stdout(without_reader()).stderr(without_reader()).status().unwrap();
        assert_eq!(done.code(), Some(0), "{name}");
        job.assert_same("out", name);
        // Both closed.
        let line = format!("tokenize images --model model --out closed-{name} {flags}");
        assert_eq!(closed(&job, &line, ">&- 2>&-").status.code(), Some(0), "{name}");
        job.assert_same("out", &format!("closed-{name}"));
        // A full stderr: there is nobody to tell.
        let Some(nowhere) = full() else { return };
        let mut command = tokenize(&format!("err-{name}"), flags);
        let done = command.stdout(Stdio::null()).stderr(nowhere).status().unwrap();
        assert_eq!(done.code(), Some(0), "{name}");
        job.assert_same("out", &format!("err-{name}"));
        // A full stdout: the work is done, and what was kept of its events isn't all.
        let Some(nowhere) = full() else { return };
        let mut command = tokenize(&format!("full-{name}"), flags);
        let done = command.stdout(nowhere).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{name}: {}", stderr(&done));
        let told = stderr(&done);
        let told: Vec<_> = told.lines().filter(|line| line.starts_with("vqtok: ")).collect();
        assert_eq!(
            told,
            ["vqtok: stdout: No space left on device; not everything was written there"]
        );
        job.assert_same("out", &format!("full-{name}"));
    }
}

#[test]
fn a_failure_keeps_its_exit_code_whoever_listens() {
    let job = scene();
    let mut command = job.command("inspect nothing --json");
    let done = command.stdout(without_reader()).stderr(without_reader()).status().unwrap();
    assert_eq!(done.code(), Some(2));
    std::fs::write(job.path("out/tokens/part-00000.parquet"), "no Parquet").unwrap();
    let mut command = job.command("verify out");
    let done = command.stdout(without_reader()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((done.status.code(), stderr(&done)), (Some(1), String::new()));
}
