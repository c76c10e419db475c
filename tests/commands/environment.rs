//! Drives what the environment says: signals that end a run, variables that say how large outputs are laid
//! out and which share is taken. Must not know: what is made meanwhile.

use crate::support::*;

use std::process::Stdio;
use std::time::{Duration, Instant};

const LINE: &str = "tokenize images --model model --out out";

#[test]
fn a_batch_that_takes_longer_does_not_hold_a_stopped_run() {
    let job = Job::new(12).trained();
    let line = format!("{LINE} --shard-rows 4 --batch-size 4 --threads 1");
    job.expect(0, &line.replace("--out out", "--out whole"));
    let start = |out: &str, signal: i32| {
        let mut command = job.command(&format!("{line} --json").replace("--out out", out));
        command.env("VQTOK_FAILPOINT", "encode:2:hang");
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !job.path(out.trim_start_matches("--out ")).join("tokens").exists() {
            assert!(Instant::now() < deadline, "no work within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
        // SAFETY: kill(2) with the id of a child of ours that hasn't been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        child
    };
    let children =
        [(start("--out out", libc::SIGTERM), 143), (start("--out other", libc::SIGINT), 130)];
    let begun = Instant::now();
    for (child, code) in children {
        let done = Done::of(child.wait_with_output().unwrap());
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        assert_eq!(done.code, code, "{}", done.stderr);
        done.assert_one_line(&["interrupted; go on with: ", "--out o"]);
        assert_eq!(done.events("error")[0]["exit_code"], code);
    }
    job.expect(0, "verify out --partial");
    job.expect(0, &line);
    job.assert_same("whole", "out");
}

#[test]
fn a_scale_that_is_none_is_refused() {
    let job = Job::new(6).trained();
    job.expect(0, &format!("{LINE} --shard-rows 2"));
    for set in ["garbage", "", "3", "0:2", "3:2:1", "-1:2"] {
        for line in
            [&*LINE.replace("out out", "out new"), "finalize out", "verify out", "repair out"]
        {
            let done = Done::of(job.command(line).env("VQTOK_SCALE", set).output().unwrap());
            assert_eq!(done.code, 2, "{line}: {}", done.stderr);
            done.assert_one_line(&[&format!("VQTOK_SCALE={set}: "), "10000:1000"]);
        }
    }
    assert!(!job.path("new").exists());
}

#[test]
fn shares_of_nobody_and_of_nothing_are_told() {
    let job = Job::new(6).trained();
    let ranked = |line: &str, size: &str| {
        let mut command = job.command(line);
        Done::of(command.env("RANK", "0").env("WORLD_SIZE", size).output().unwrap())
    };
    for line in [&*format!("{LINE} --rank-from torch"), "finalize out --rank-from torch"] {
        let none = ranked(line, "0");
        assert_eq!(none.code, 2);
        none.assert_one_line(&[
            "--rank-from: WORLD_SIZE is 0, where the number of workers is at least 1",
        ]);
        let none = ranked(&format!("{line} --ranks 0"), "1");
        none.assert_one_line(&["--ranks is at least 1, not 0"]);
        let other = ranked(&format!("{line} --ranks 3"), "2");
        other.assert_one_line(&["--ranks is 3, where WORLD_SIZE is 2: leave it out"]);
        let share = line.replace("--rank-from torch", "--partition 0/2 --ranks 2");
        let both = ranked(&share, "2");
        assert_eq!(both.code, 2);
        for word in ["--partition <I/N>", "cannot be used with", "--ranks <N>"] {
            assert!(both.stderr.contains(word), "{}", both.stderr);
        }
        let mut stepless = job.command(&line.replace("torch", "slurm"));
        stepless.env("SLURM_ARRAY_TASK_ID", "1").env("SLURM_ARRAY_TASK_COUNT", "2");
        let stepless = Done::of(stepless.env("SLURM_ARRAY_TASK_STEP", "0").output().unwrap());
        stepless.assert_one_line(&["--rank-from: no task 1 of an array", "in steps of 0"]);
    }
    job.expect(0, &format!("{LINE} --shard-rows 2"));
    let done = job.expect(0, "finalize out --partition 0/2");
    let words = "out: no folder of this share: shards of a small output lie in one, which `vqtok finalize` \
                 without a share sums up at its end";
    assert_eq!(done.stdout.trim_end(), words);
}
