//! Makes the binary panic in each of its stages, on whichever thread: one line on stderr, exit code
//! 70, nothing of Rust's own; and the same command afterwards ends as if nothing had been.

use crate::support::*;

const TRAIN: &str = "train images --model trained --recipe tiny.toml --resume";
const TOKENIZE: &str = "tokenize images --model model --out out --shard-rows 4 --batch-size 2";

/// Runs `line` with a fail point that panics, and checks what is told.
fn panics(job: &Job, line: &str, stage: &str, nth: usize) {
    let mut command = job.command(line);
    command.env("VQTOK_FAILPOINT", format!("{stage}:{nth}:panic"));
    command.env("RUST_BACKTRACE", if nth.is_multiple_of(2) { "full" } else { "1" });
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(70), "{line}: {stage}:{nth}\n{stderr}");
    let told: Vec<_> = stderr.lines().filter(|line| line.contains("internal error")).collect();
    let [told] = told.as_slice() else { panic!("{stage}: one line of it expected:\n{stderr}") };
    assert!(told.starts_with("vqtok: internal error in "), "{told}");
    assert!(told.contains("please report it at https://"), "{told}");
    for never in ["panicked", "backtrace", "RUST_BACKTRACE", "unwrap", "stack"] {
        assert!(!stderr.contains(never), "{stage}: {never}\n{stderr}");
    }
}

#[test]
fn a_panic_while_tokenizing_is_one_line_and_costs_nothing() {
    let job = Job::new(18).trained();
    job.expect(0, TOKENIZE);
    std::fs::rename(job.path("out"), job.path("whole")).unwrap();
    let stages = [
        ("vqtok tokenize", 1),
        ("plan", 1),
        ("read the plan", 1),
        ("read", 7),
        ("decode", 6),
        ("encode", 3),
        ("quantize", 4),
        ("write", 3),
        ("commit", 2),
        ("finalize", 1),
        ("hash shards", 2),
        ("hash weights", 1),
        ("create", 5),
        ("sync", 4),
        ("link", 6),
        ("sync-folder", 3),
        ("rename", 2),
    ];
    for (stage, nth) in stages {
        panics(&job, TOKENIZE, stage, nth);
        if job.path("out/plan.parquet").exists() {
            job.expect(0, "verify out --partial");
        }
        job.expect(0, TOKENIZE);
        job.assert_same("whole", "out");
        std::fs::remove_dir_all(job.path("out")).unwrap();
    }
}

#[test]
fn a_panic_names_its_stage_and_image_and_tells_machines() {
    let job = Job::new(9).trained();
    let mut command = job.command(&format!("{TOKENIZE} --threads 1 --json"));
    let output = command.env("VQTOK_FAILPOINT", "decode:3:panic").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    // The order of a plan is that of its keys: images/ itself, then cat/, then dog/.
    let begin =
        "vqtok: internal error in decode at 0006.ppm: fail point decode (src/util/fail_point.rs:";
    assert!(stderr.contains(begin), "{stderr}");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let last: serde_json::Value = serde_json::from_str(stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["exit_code"]), (&"error".into(), &70.into()), "{last}");
    assert_eq!((&last["stage"], &last["key"]), (&"decode".into(), &"0006.ppm".into()), "{last}");
}

/// What an image does to a reader or to the resizing it does every time: it costs the image.
#[test]
fn a_panic_over_an_images_pixels_is_its_failure() {
    let job = Job::new(6).trained();
    let mut command = job.command(&format!("{TOKENIZE} --threads 1"));
    let output = command.env("VQTOK_FAILPOINT", "resize:2:panic").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("failed: 0003.qoi: resize: resizing failed: fail point"), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    job.expect(0, &format!("{TOKENIZE} --retry-failed"));
}

#[test]
fn a_panic_while_training_is_one_line_and_costs_nothing() {
    let job = Job::new(12);
    let recipe = TINY_RECIPE.replace("batch_size = 4", "batch_size = 4\ncheckpoint_every = 1");
    std::fs::write(job.path("tiny.toml"), recipe).unwrap();
    job.expect(0, TRAIN);
    std::fs::rename(job.path("trained"), job.path("whole")).unwrap();
    let stages = [
        ("vqtok train", 1),
        ("training", 1),
        ("training", 3),
        ("read training images", 1),
        ("read training images", 14),
        ("evaluation", 1),
        ("training page", 1),
    ];
    for (stage, nth) in stages {
        panics(&job, TRAIN, stage, nth);
        job.expect(0, TRAIN);
        for file in ["config.json", "model.safetensors"] {
            let read = |folder: &str| std::fs::read(job.path(folder).join(file)).unwrap();
            assert!(read("whole") == read("trained"), "{stage}:{nth}: {file} differs");
        }
        std::fs::remove_dir_all(job.path("trained")).unwrap();
    }
}

#[test]
fn a_panic_in_any_command_is_one_line() {
    let job = Job::new(6).trained();
    job.expect(0, TOKENIZE);
    for (line, stage) in [
        ("decode out --model model --out pictures", "decode tokens"),
        ("decode out --model model --out pictures", "vqtok decode"),
        ("reconstruct images --model model --out sheet.png", "decode tokens"),
        ("reconstruct images --model model --out sheet.png", "vqtok reconstruct"),
        ("report out --out page.html", "report"),
        ("verify out", "verify"),
        ("repair out", "verify"),
        ("inspect out", "vqtok inspect"),
        ("convert model --out converted", "vqtok convert"),
        ("recipe list", "vqtok recipe"),
        ("finalize out", "finalize"),
        ("quickstart --out tour", "vqtok quickstart"),
    ] {
        panics(&job, line, stage, 1);
    }
}
