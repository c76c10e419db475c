//! Kills and starves trainings at every file operation, damages what they leave, sets two of them
//! on one folder: after the same command again, model and record are byte for byte what an
//! undisturbed training leaves. (`tests/kill_train.rs` kills at random moments;
//! `tests/io_faults.rs` does the same for outputs.) Must not know: what is trained.

use crate::support::*;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Every kind of file: lines, events, pictures, checkpoints, the page, the model.
const CHANGES: &str = "steps = 6\nbatch_size = 4\ncheckpoint_every = 2\nlog_every = 3\n\
                       picture_every = 3\nwatch.every_share = 0.5\n";
const LINE: &str = "train images --recipe faults.toml --threads 1 --model";

/// A recipe as `faults.toml`, and the folder of an undisturbed training by it.
fn scene(changes: &str) -> Job {
    let job = Job::new(8);
    let text = TINY_RECIPE.replace("steps = 4\nbatch_size = 4\n", changes);
    std::fs::write(job.path("faults.toml"), text).unwrap();
    job.expect(0, &format!("{LINE} whole"));
    job
}

/// What a training leaves that doesn't tell when, or how often it was begun.
fn left(job: &Job, folder: &str) -> Vec<(String, Vec<u8>)> {
    let mut files = job.files(folder);
    files.retain(|(name, _)| !name.contains("tfevents") && !name.contains(".before."));
    files
}

/// Goes on with what `folder` holds; it must end as the undisturbed one did.
fn must_recover(job: &Job, folder: &str, when: &str) -> Done {
    let done = job.run(&format!("{LINE} {folder} --resume"));
    assert_eq!(done.code, 0, "{when}: {}", done.stderr);
    let (found, expected) = (left(job, folder), left(job, "whole"));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&found), names(&expected), "{when}");
    for ((name, bytes), (_, whole)) in found.iter().zip(&expected) {
        assert!(bytes == whole, "{when}: {name} differs");
    }
    done
}

/// Runs a training into `folder` that meets the fail point.
fn fail_at(job: &Job, folder: &str, point: &str) -> Done {
    let mut command = job.command(&format!("{LINE} {folder}"));
    Done::of(command.env("VQTOK_FAILPOINT", point).output().unwrap())
}

#[test]
fn a_kill_at_every_file_operation_costs_nothing() {
    let job = scene(CHANGES);
    let mut kills = 0;
    for nth in 1.. {
        let point = format!("any:{nth}");
        if fail_at(&job, "killed", &point).code == 0 {
            break;
        }
        kills += 1;
        must_recover(&job, "killed", &point);
        std::fs::remove_dir_all(job.path("killed")).unwrap();
    }
    println!("killed at {kills} operations");
    // Three checkpoints of a dozen operations each, as many lines and events, the model.
    assert!(kills > 60, "only {kills} operations were met");
}

#[test]
fn a_full_disk_at_any_write_and_a_failing_sync_are_one_error_and_cost_nothing() {
    let job = scene(CHANGES);
    for (operation, number, reason) in
        [("write", 28, "No space left on device"), ("sync", 5, "error"), ("rename", 5, "error")]
    {
        let mut met = 0;
        for nth in 1.. {
            let point = format!("{operation}:{nth}:{number}");
            let done = fail_at(&job, "full", &point);
            if done.code == 0 {
                break;
            }
            met += 1;
            assert_eq!(done.code, 2, "{point}: {}", done.stderr);
            done.assert_one_line(&["full", reason]);
            let files = if job.path("full").exists() { job.files("full") } else { Vec::new() };
            let half = |(name, _): &&(String, Vec<u8>)| {
                name.contains(".partial") || name.contains(".tmp-")
            };
            assert!(!files.iter().any(|file| half(&file)), "{point}: a half file was left");
            must_recover(&job, "full", &point);
            std::fs::remove_dir_all(job.path("full")).unwrap();
        }
        assert!(met >= 8, "only {met} of {operation}");
        std::fs::remove_dir_all(job.path("full")).unwrap();
    }
}

/// Which file operation of a training is the first behind its second checkpoint.
fn behind_two_checkpoints(job: &Job) -> usize {
    let mut command = job.command(&format!("{LINE} traced"));
    command.env("VQTOK_FAILTRACE", job.path("trace"));
    assert_eq!(Done::of(command.output().unwrap()).code, 0);
    let trace = std::fs::read_to_string(job.path("trace")).unwrap();
    let newest =
        |line: &str| line.starts_with("rename") && line.ends_with("/checkpoint.safetensors");
    let renames = trace.lines().zip(1..).filter(|(line, _)| newest(line));
    // The rename's number, then the sync of its folder, then what was asked for.
    renames.map(|(_, at)| at + 2).nth(1).unwrap()
}

/// A training that was killed at its `nth` file operation, as `cut`.
fn cut(job: &Job, nth: usize) {
    let _ = std::fs::remove_dir_all(job.path("cut"));
    assert_ne!(fail_at(job, "cut", &format!("any:{nth}")).code, 0);
    assert!(job.path("cut/state/checkpoint.before.safetensors").exists());
}

#[test]
fn the_checkpoint_before_a_damaged_one_is_taken_and_that_is_said() {
    let job = scene(CHANGES);
    let nth = behind_two_checkpoints(&job);
    let newest = "cut/state/checkpoint.safetensors";
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("its sha256 differs", |path| {
            let mut bytes = std::fs::read(path).unwrap();
            let at = bytes.len() - 9;
            bytes[at] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }),
        ("not a usable training checkpoint", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("not a usable training checkpoint", |path| std::fs::write(path, "").unwrap()),
        ("it is gone", |path| std::fs::remove_file(path).unwrap()),
    ];
    for (word, damage) in damages {
        cut(&job, nth);
        damage(&job.path(newest));
        let done = must_recover(&job, "cut", word);
        let said: Vec<_> = done.stderr.lines().filter(|line| line.contains(word)).collect();
        assert_eq!(said.len(), 1, "{}", done.stderr);
        assert!(said[0].contains(newest) && said[0].contains("of step 2, is taken"), "{}", said[0]);
    }
    // Both are damaged: one error, and nothing is trained anew over them.
    cut(&job, nth);
    for path in [newest, "cut/state/checkpoint.before.safetensors"] {
        std::fs::write(job.path(path), "no tensors").unwrap();
    }
    let before = job.files("cut");
    job.expect(2, &format!("{LINE} cut --resume")).assert_one_line(&[newest, "train again"]);
    assert!(before == job.files("cut"));
}

#[test]
fn a_damaged_record_costs_no_step() {
    let job = scene(CHANGES);
    let nth = behind_two_checkpoints(&job);
    let events = "cut/tensorboard/events.out.tfevents.vqtok";
    let lines = "cut/training.jsonl";
    let images = "cut/state/images.jsonl";
    let model = |folder: &str| std::fs::read(job.path(folder).join("model.safetensors")).unwrap();
    let record = [("training.jsonl", lines), ("tensorboard", events)];
    for (word, path) in record.into_iter().chain([("no list of images", images)]) {
        cut(&job, nth);
        let whole = std::fs::read(job.path(path)).unwrap();
        std::fs::write(job.path(path), &whole[..whole.len() * 2 / 3]).unwrap();
        let done = job.expect(0, &format!("{LINE} cut --resume"));
        let said: Vec<_> = done.stderr.lines().filter(|line| line.contains(word)).collect();
        assert!(said.iter().any(|line| line.starts_with("warning: ")), "{word}: {}", done.stderr);
        assert!(model("cut") == model("whole"), "{word}: another model");
    }
    cut(&job, nth);
    std::fs::remove_file(job.path(images)).unwrap();
    let done = job.expect(0, &format!("{LINE} cut --resume"));
    let said = format!("warning: {images} is missing; whether the images' contents");
    assert!(done.stderr.lines().any(|line| line.starts_with(&said)), "{}", done.stderr);
    assert!(model("cut") == model("whole"));
    // What is left of the lines is whole lines.
    let whole: Vec<_> = std::fs::read_to_string(job.path("whole/training.jsonl"))
        .unwrap()
        .lines()
        .map(String::from)
        .collect();
    cut(&job, nth);
    let text = std::fs::read(job.path(lines)).unwrap();
    std::fs::write(job.path(lines), &text[..text.len() - 5]).unwrap();
    job.expect(0, &format!("{LINE} cut --resume"));
    let left = std::fs::read_to_string(job.path(lines)).unwrap();
    assert!(left.lines().all(|line| whole.iter().any(|known| known == line)), "{left}");
    assert_eq!(left.lines().last(), whole.last().map(String::as_str));
    // Bytes that are no text, removed lines, another folder's: nothing of it stops a training.
    for bytes in [&b"\xff\xfe{\n"[..], b""] {
        cut(&job, nth);
        std::fs::write(job.path(lines), bytes).unwrap();
        std::fs::write(job.path(events), bytes).unwrap();
        job.expect(0, &format!("{LINE} cut --resume"));
        assert!(model("cut") == model("whole"));
    }
}

/// Begins a long training as `long`, and waits for its first checkpoint.
fn begin(job: &Job) -> Child {
    let mut command = job.command(&format!("{LINE} long"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !job.path("long/state/checkpoint.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint within a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
    child
}

fn signal(child: Child, name: &str) -> Done {
    let sent = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    Done::of(child.wait_with_output().unwrap())
}

#[test]
fn a_second_training_is_refused_and_a_stopped_one_is_saved() {
    let job = scene("steps = 400\nbatch_size = 4\ncheckpoint_every = 5\n");
    let first = begin(&job);
    for line in [format!("{LINE} long --resume"), format!("{LINE} long")] {
        let done = job.run(&line);
        assert_eq!(done.code, 75, "{}", done.stderr);
        done.assert_one_line(&["long", "another process is training here"]);
    }
    let stopped = signal(first, "-TERM");
    assert_eq!(stopped.code, 143, "{}", stopped.stderr);
    assert!(stopped.stderr.contains("--resume"), "{}", stopped.stderr);
    // Killed, it leaves its lock file, here as if by another host: no obstacle.
    let mut again = job.command(&format!("{LINE} long --resume"));
    let child = again.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    signal(child, "-KILL");
    assert!(!job.path("long/config.json").exists(), "it ended before it was killed");
    std::fs::write(job.path("long/state/lock"), "17 on node-4\n").unwrap();
    job.expect(0, &format!("{LINE} long --resume"));
    let read = |folder: &str| std::fs::read(job.path(folder).join("model.safetensors")).unwrap();
    assert!(read("whole") == read("long"));
}
