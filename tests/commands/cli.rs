//! Drives the binary as a user does: the main job, its options, and what bad input gets.

use crate::support::*;

use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

const TOKENIZE: &str = "tokenize images --model model --shard-rows 10";

#[test]
fn trains_where_there_is_no_model_then_tokenizes_then_does_nothing() {
    let job = Job::new(24);
    let line = "tokenize images --out out --model model --recipe tiny.toml --json";
    let first = job.expect(0, line);
    assert!(!first.events("estimate").is_empty(), "no estimate of the training:\n{}", first.stdout);
    let dataset = &first.events("dataset")[0];
    assert_eq!(dataset["written"], 24);
    assert_eq!(dataset["failed"], 0);
    for file in ["plan.parquet", "tokens/part-00000.parquet", "codebook.parquet", "dataset.json"] {
        assert!(job.path("out").join(file).exists(), "{file}");
    }
    for file in [
        "config.json",
        "model.safetensors",
        "training.jsonl",
        "training.html",
        "tensorboard/events.out.tfevents.vqtok",
        "samples",
    ] {
        assert!(job.path("model").join(file).exists(), "{file}");
    }
    let before = job.files("out");
    let again = job.expect(0, line);
    assert!(again.events("progress").is_empty());
    assert_eq!(before, job.files("out"));
}

#[test]
fn a_bad_image_costs_one_row_and_exit_code_1() {
    let job = Job::new(12).trained();
    std::fs::write(job.path("images/broken.jpg"), b"\xff\xd8\xff\xe0 not really").unwrap();
    std::fs::write(job.path("images/empty.PNG"), b"").unwrap();
    std::fs::write(job.path("images/notes.txt"), b"not an image").unwrap();
    let png = std::fs::read(job.path("images/0000.png")).unwrap();
    std::fs::write(job.path("images/truncated.png"), &png[..png.len() / 2]).unwrap();
    std::fs::write(job.path("images/no_extension"), &png).unwrap();
    std::fs::write(job.path("images/no_image"), b"plain text").unwrap();
    let done = job.expect(1, &format!("{TOKENIZE} --out out --json"));
    let dataset = &done.events("dataset")[0];
    assert_eq!((&dataset["planned"], &dataset["written"]), (&16.into(), &13.into()));
    assert_eq!(dataset["failed"], 3);
    assert_eq!(done.events("plan")[0]["skipped"], 2);
    assert_eq!(done.events("failure").len(), 3);
    job.expect(0, "verify out");
    job.expect(1, &format!("{TOKENIZE} --out out")).stdout.contains("3 failed");

    let stop = job.expect(2, &format!("{TOKENIZE} --out stopped --on-error stop"));
    stop.assert_one_line(&["broken.jpg", "decode"]);
}

#[test]
fn shards_are_the_same_bytes_for_any_batch_size_threads_and_partition() {
    let job = Job::new(47).trained();
    std::fs::write(job.path("images/cat/broken.webp"), b"RIFF").unwrap();
    job.expect(1, &format!("{TOKENIZE} --out a --batch-size 7 --threads 2"));
    for (out, flags) in [
        ("b", "--batch-size 1 --threads 1"),
        ("c", "--batch-size 64 --threads 1"),
        ("d", "--batch-size 64 --threads 3"),
    ] {
        job.expect(1, &format!("{TOKENIZE} --out {out} {flags}"));
        job.assert_same("a", out);
    }
    for index in [2, 0, 1] {
        let done = job.run(&format!("{TOKENIZE} --out e --partition {index}/3"));
        assert!(matches!(done.code, 0 | 1), "{}", done.stderr);
    }
    job.assert_same("a", "e");
}

#[test]
fn workers_take_their_ranks_from_the_environment_and_finalize_folds() {
    let job = Job::new(30).trained();
    job.expect(0, &format!("{TOKENIZE} --out alone"));
    for rank in ["1", "0"] {
        let mut worker = job.command(&format!("{TOKENIZE} --out out --rank-from torch"));
        let output = worker.env("RANK", rank).env("WORLD_SIZE", "2").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        if rank == "1" {
            let early = job.expect(75, "finalize out");
            early.assert_one_line(&["2 of 3 partitions"]);
        }
    }
    job.expect(0, "finalize out");
    job.assert_same("alone", "out");
    job.expect(2, &format!("{TOKENIZE} --out other --rank-from slurm"))
        .assert_one_line(&["SLURM_ARRAY_TASK_ID"]);
}

#[test]
fn an_interrupt_leaves_whole_shards_and_the_next_run_goes_on() {
    let job = Job::new(300).trained();
    let line = "tokenize images --model model --shard-rows 20 --batch-size 1 --threads 1";
    job.expect(0, &format!("{line} --out whole"));
    for (out, signal, code) in [("out", libc::SIGINT, 130), ("term", libc::SIGTERM, 143)] {
        let mut child = job.command(&format!("{line} --out {out} --json")).spawn().unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while !job.path(out).join("tokens/part-00000.parquet").exists() {
            assert!(std::time::Instant::now() < deadline, "no shard within a minute");
            std::thread::sleep(Duration::from_millis(2));
        }
        // SAFETY: kill(2) with the id of a child of ours that hasn't been waited for.
        unsafe { libc::kill(child.id() as i32, signal) };
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(code));
        let finished = job.path(out).join("dataset.json");
        assert!(!finished.exists(), "the run was over before the signal");
        job.expect(0, &format!("verify {out} --partial"));
        job.expect(0, &format!("{line} --out {out}"));
        job.assert_same("whole", out);
    }
}

#[test]
fn an_output_of_other_settings_or_input_is_refused_by_name() {
    let job = Job::new(12).trained();
    job.expect(0, &format!("{TOKENIZE} --out out"));
    let refused = |line: &str, words: &[&str]| job.expect(2, line).assert_one_line(words);
    refused(&format!("{TOKENIZE} --out out --size 32"), &["size", "16", "32"]);
    refused(&format!("{TOKENIZE} --out out --resize bilinear"), &["bilinear", "bicubic"]);
    refused("tokenize images --model model --shard-rows 11 --out out", &["10", "11"]);
    job.expect(0, "train images --model other --recipe tiny.toml --seed 5");
    refused("tokenize images --model other --shard-rows 10 --out out", &["another model"]);
    picture(99).save(job.path("images/zz.png")).unwrap();
    refused(&format!("{TOKENIZE} --out out"), &["zz.png"]);
    std::fs::remove_file(job.path("images/zz.png")).unwrap();
    std::fs::remove_file(job.path("images/0000.png")).unwrap();
    refused(&format!("{TOKENIZE} --out out"), &["0000.png"]);
}

#[test]
fn bad_input_gets_one_line_and_exit_code_2() {
    let job = Job::new(4).trained();
    let refused = |line: &str, words: &[&str]| job.expect(2, line).assert_one_line(words);
    std::fs::create_dir(job.path("nothing")).unwrap();
    refused("tokenize nothing --out out --model model", &["no image", "nothing"]);
    assert!(!job.path("out").exists(), "an output folder was made for nothing");
    refused("tokenize missing --out out --model model", &["missing"]);
    refused("tokenize images images/cat --out out --model model", &["images/cat"]);
    refused("tokenize images --out out --model model --device cuda", &["cuda"]);
    refused("tokenize images --out out --model model --device tpu", &["tpu"]);
    refused("tokenize images --out out --model model --precision bf16", &["--device cuda"]);
    refused(
        "tokenize images --out out --model model --precision tf32",
        &["--precision tf32", "trainings alone", "choose f32 or bf16"],
    );
    refused("tokenize images --out out --model model --size 3", &["--size 3"]);
    refused("tokenize images --out out --model new --recipe tiny.toml --size 17", &["17"]);
    refused("tokenize images --out out --model m2 --recipe nowhere.toml", &["nowhere.toml"]);
    for flag in ["--batch-size 0", "--batch-size 100000000", "--threads 0", "--threads 5000"] {
        refused(
            &format!("tokenize images --out out --model model {flag}"),
            &[flag.split_once(' ').unwrap().0, "is 1 to"],
        );
    }
    // A mistyped checkpoint isn't trained.
    for name in ["typo.ckpt", "typo/model.safetensors", "typo.pt", "typo --family taming"] {
        let line = format!("tokenize images --out out --recipe tiny.toml --model {name}");
        refused(&line, &["typo", "no such checkpoint"]);
    }
    assert!(!job.path("typo").exists() && !job.path("out").exists());
    std::fs::write(job.path("model/model.safetensors"), b"garbage").unwrap();
    refused("tokenize images --out out --model model", &["model.safetensors"]);
    let unknown = TINY_RECIPE.replace("steps = 4", "steps = 4\nstepz = 5");
    std::fs::write(job.path("unknown.toml"), unknown).unwrap();
    refused("train images --model m3 --recipe unknown.toml", &["stepz"]);
    let impossible = TINY_RECIPE.replace("size = 16", "size = 18");
    std::fs::write(job.path("impossible.toml"), impossible).unwrap();
    refused("train images --model m3 --recipe impossible.toml", &["18", "multiple of 4"]);
    assert!(!job.path("m3").exists());
}

#[test]
fn a_model_that_stands_takes_any_size_and_keeps_sizes_with_rule_none() {
    let job = Job::new(12).trained();
    let none = job.expect(0, "tokenize images --model model --out none --resize none --json");
    assert_eq!(none.events("dataset")[0]["written"], 12);
    job.expect(0, "verify none");
    job.expect(0, "decode none --model model --out decoded");
    let decoded = image::open(job.path("decoded/0000.png")).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (16, 16));
    job.expect(0, "tokenize images --model model --out odd --size 18");
}

#[test]
fn keys_are_paths_and_odd_names_survive() {
    let job = Job::new(3).trained();
    let folder = job.path("images").join(std::ffi::OsStr::from_bytes(b"caf\xe9 %41"));
    std::fs::create_dir_all(&folder).unwrap();
    picture(1).save(folder.join("new\nline \u{202e}x.PNG")).unwrap();
    job.expect(0, &format!("{TOKENIZE} --out out"));
    let keys = rows(&job.path("out/tokens/part-00000.parquet"), "key");
    assert_eq!(
        keys,
        ["0000.png", "caf%E9 %41/new\nline \u{202e}x.PNG", "cat/0001.bmp", "dog/0002.ppm"]
    );
    let labels = rows(&job.path("out/tokens/part-00000.parquet"), "label");
    assert_eq!(labels, ["", "caf%E9 %41", "cat", "dog"]);
    job.expect(0, "decode out --model model --out decoded");
    let names: Vec<_> = job.files("decoded").into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["0000.png", "caf%E9 %41/new\nline \u{202e}x.png", "cat/0001.png", "dog/0002.png"]
    );
}

/// A string column, nulls as "".
fn rows(file: &std::path::Path, column: &str) -> Vec<String> {
    use arrow::array::{Array, AsArray};
    let file = std::fs::File::open(file).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file);
    let mut values = Vec::new();
    for batch in reader.unwrap().build().unwrap() {
        let batch = batch.unwrap();
        let strings = batch.column_by_name(column).unwrap().as_string::<i32>().clone();
        values.extend((0..strings.len()).map(|i| {
            if strings.is_null(i) { String::new() } else { strings.value(i).to_string() }
        }));
    }
    values
}

#[test]
fn decode_reconstruct_and_inspect_show_what_is_there() {
    let job = Job::new(9).trained();
    job.expect(0, &format!("{TOKENIZE} --out out"));
    job.expect(0, "decode out --model model --out decoded");
    assert_eq!(job.files("decoded").len(), 9);
    job.expect(0, "decode out/tokens/part-00000.parquet --model model --out again --json");
    job.assert_same("decoded", "again");
    let sheet = job.expect(0, "reconstruct images --model model --out sheet.png --count 4 --json");
    let numbers = &sheet.events("reconstructed")[0];
    assert_eq!(numbers["images"].as_array().unwrap().len(), 4);
    assert!(numbers["psnr_db"].as_f64().unwrap() > 3.0);
    assert!(image::open(job.path("sheet.png")).unwrap().width() > 96);
    let shard = ("out/tokens/part-00000.parquet", "9");
    for (path, word) in
        [("model", "vqvae"), ("model/model.safetensors", "vqvae"), ("out", "9"), shard]
    {
        let card = job.expect(0, &format!("inspect {path}"));
        assert!(card.stdout.contains(word), "{path}: {}", card.stdout);
        job.expect(0, &format!("inspect {path} --json"));
    }
    job.expect(2, "inspect nowhere").assert_one_line(&["nowhere"]);
}

#[test]
fn an_image_of_too_many_tokens_costs_one_row() {
    let job = Job::new(3).trained();
    image::GrayImage::new(8_300, 8_300).save(job.path("images/huge.png")).unwrap();
    job.expect(1, "tokenize images --out out --model model --resize none");
    assert_eq!(rows(&job.path("out/tokens/part-00000.parquet"), "key").len(), 3);
    let files = job.files("out/failures");
    let failure = rows(&job.path("out/failures").join(&files[0].0), "error");
    assert!(failure[0].contains("8300x8300 pixels give a grid of 2075x2075 tokens"), "{failure:?}");
    job.expect(0, "verify out");
}

/// Of many sizes, more than go through the engine at once, and one broken.
#[test]
fn reconstructions_together_are_those_of_each_image_alone() {
    let job = Job::new(40).trained();
    std::fs::write(job.path("images/broken.png"), b"\x89PNG").unwrap();
    let line = "--model model --out sheet.png --resize none --json";
    let none = job.expect(2, "reconstruct images/broken.png --model model --out none.png");
    assert!(none.stderr.contains("the only image couldn't be reconstructed"), "{}", none.stderr);
    assert!(!job.path("none.png").exists());
    let sheet = job.expect(1, &format!("reconstruct images --count 41 {line}"));
    assert_eq!(sheet.events("failure").len(), 1);
    let together = &sheet.events("reconstructed")[0]["images"];
    let together = together.as_array().unwrap();
    assert_eq!(together.len(), 40);
    let keys: Vec<&str> = together.iter().map(|row| row["key"].as_str().unwrap()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    for row in together.iter().step_by(7) {
        let file = format!("images/{}", row["key"].as_str().unwrap());
        let alone = job.expect(0, &format!("reconstruct {file} {line}"));
        let alone = &alone.events("reconstructed")[0]["images"][0];
        assert_eq!((&alone["psnr_db"], &alone["ssim"]), (&row["psnr_db"], &row["ssim"]), "{file}");
    }
}

#[test]
fn verify_finds_damage_and_repair_makes_just_that_anew() {
    let job = Job::new(30).trained();
    std::fs::write(job.path("images/broken.png"), b"\x89PNG").unwrap();
    job.expect(1, &format!("{TOKENIZE} --out out"));
    let whole = job.files("out");
    job.expect(0, "verify out");
    for (name, bytes) in &whole {
        let mut damaged = bytes.clone();
        if damaged.is_empty() {
            continue; // the lock file has nothing that could be damaged
        }
        let place = damaged.len() / 2;
        damaged[place] ^= 0x10;
        std::fs::write(job.path("out").join(name), damaged).unwrap();
        let found = job.run("verify out --json");
        assert_eq!(found.code, 1, "{name}: {}{}", found.stdout, found.stderr);
        assert!(!found.events("finding").is_empty(), "{name}");
        job.expect(1, "repair out --model model");
        assert!(whole == job.files("out"), "{name} is not repaired");
    }
    std::fs::remove_file(job.path("out/tokens/part-00001.parquet")).unwrap();
    job.expect(2, "repair out").assert_one_line(&["--model"]);
    job.expect(1, "repair out --model model");
    assert!(whole == job.files("out"));
    job.expect(0, "report out --out page.html");
    assert!(std::fs::read_to_string(job.path("page.html")).unwrap().contains("broken.png"));
}

#[test]
fn failures_are_retried_alone() {
    let job = Job::new(30).trained();
    let image = job.path("images/cat/0001.bmp");
    let good = std::fs::read(&image).unwrap();
    job.expect(0, &format!("{TOKENIZE} --out good"));
    std::fs::write(&image, vec![0u8; good.len()]).unwrap();
    job.expect(1, &format!("{TOKENIZE} --out out"));
    std::fs::write(&image, &good).unwrap();
    job.expect(0, &format!("{TOKENIZE} --out out --retry-failed"));
    job.assert_same("good", "out");
}

#[test]
fn a_mended_file_of_another_size_is_taken_by_a_retry_and_stays_taken() {
    let job = Job::new(30).trained();
    let image = job.path("images/cat/0001.bmp");
    let good = std::fs::read(&image).unwrap();
    std::fs::write(&image, &good[..good.len() / 2]).unwrap();
    job.expect(1, &format!("{TOKENIZE} --out out"));
    let failed = job.files("out");
    std::fs::write(&image, &good).unwrap();
    let again = job.expect(1, &format!("{TOKENIZE} --out out --json"));
    assert_eq!(again.events("plan")[0]["resized"], 1);
    assert!(failed == job.files("out"), "a run without the flag touched what is finished");
    job.expect(0, &format!("{TOKENIZE} --out out --retry-failed"));
    job.expect(0, "verify out");
    let mended = job.files("out");
    assert_eq!(rows(&job.path("out/tokens/part-00001.parquet"), "key").len(), 10);
    // What was mended is as tokenized, also where the shard is made again.
    job.expect(0, &format!("{TOKENIZE} --out out"));
    job.expect(0, &format!("{TOKENIZE} --out out --retry-failed"));
    assert!(mended == job.files("out"));
    std::fs::write(job.path("out/tokens/part-00001.parquet"), b"PAR1").unwrap();
    let repaired = job.expect(0, "repair out --model model");
    assert!(!repaired.stderr.contains("failed"), "{}", repaired.stderr);
    assert!(mended == job.files("out"));
    // An image that has tokens may not change under them.
    std::fs::write(&image, &good[..good.len() - 1]).unwrap();
    for flag in ["", "--retry-failed"] {
        let refused = job.expect(2, &format!("{TOKENIZE} --out out {flag}"));
        refused.assert_one_line(&["cat/0001.bmp", "bytes and now has"]);
    }
}

#[test]
fn a_file_that_changed_before_its_shard_was_made_is_a_failure_that_says_so() {
    let job = Job::new(30).trained();
    job.expect(0, &format!("{TOKENIZE} --out out --partition 1/2"));
    let image = job.path("images/0000.png");
    picture(77).save(&image).unwrap();
    let done = job.expect(1, &format!("{TOKENIZE} --out out --json"));
    let failure = &done.events("failure")[0];
    assert_eq!((&failure["key"], &failure["stage"]), (&"0000.png".into(), &"read".into()));
    assert!(failure["error"].as_str().unwrap().contains("has changed since it was planned"));
    job.expect(0, "verify out");
    let failed = job.files("out");
    std::fs::write(job.path("out/tokens/part-00000.parquet"), b"PAR1").unwrap();
    job.expect(1, "repair out --model model");
    assert!(failed == job.files("out"), "a shard with a failure comes back as it was");
    job.expect(0, &format!("{TOKENIZE} --out out --retry-failed"));
    job.expect(0, "verify out");
}

#[test]
fn one_key_from_two_inputs_is_refused_before_any_work() {
    let job = Job::new(6).trained();
    std::fs::create_dir_all(job.path("more/cat")).unwrap();
    std::fs::copy(job.path("images/cat/0001.bmp"), job.path("more/cat/0001.bmp")).unwrap();
    let line = "tokenize images more --model model --out out";
    let words = ["'cat/0001.bmp'", "/images/cat/0001.bmp", "/more/cat/0001.bmp", "--out"];
    job.expect(2, line).assert_one_line(&words);
    assert!(job.files("out").is_empty());
    std::fs::rename(job.path("more/cat/0001.bmp"), job.path("more/cat/0009.bmp")).unwrap();
    job.expect(0, line);
}

#[test]
fn repair_with_another_model_removes_nothing() {
    let job = Job::new(30).trained();
    job.expect(0, &format!("{TOKENIZE} --out out"));
    job.expect(0, "train images --model other --recipe tiny.toml --seed 5");
    let whole = job.files("out");
    let shard = job.path("out/tokens/part-00001.parquet");
    let mut bytes = std::fs::read(&shard).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&shard, &bytes).unwrap();
    let damaged = job.files("out");
    job.expect(2, "repair out --model other").assert_one_line(&["another model", "out"]);
    job.expect(2, "repair out --model nowhere").assert_one_line(&["nowhere"]);
    job.expect(2, "repair out").assert_one_line(&["--model"]);
    // The plan's damage must not hide which model it was.
    std::fs::write(job.path("out/plan.parquet"), b"PAR1").unwrap();
    job.expect(2, "repair out --model other").assert_one_line(&["another model", "out"]);
    let plan = damaged.iter().find(|(name, _)| name == "plan.parquet").unwrap();
    std::fs::write(job.path("out/plan.parquet"), &plan.1).unwrap();
    assert!(damaged == job.files("out"), "something was removed");
    job.expect(0, "repair out --model model");
    assert!(whole == job.files("out"));
}

#[test]
fn damaged_weights_are_named_before_anything_is_written() {
    let job = Job::new(3).trained();
    let weights = job.path("model/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    for words in [
        "tokenize images --out out --model model",
        "inspect model",
        "inspect model/model.safetensors",
    ] {
        job.expect(2, words).assert_one_line(&["model.safetensors: not the weights"]);
    }
    assert!(!job.path("out").exists());
}

#[test]
fn a_log_does_not_grow_with_the_failures() {
    let job = Job::new(1).trained();
    for index in 0..250 {
        std::fs::write(job.path(&format!("images/bad{index:03}.png")), b"no picture").unwrap();
    }
    let human = job.expect(1, &format!("{TOKENIZE} --out out"));
    let told = human.stderr.lines().filter(|line| line.starts_with("failed: ")).count();
    assert_eq!(told, 100);
    assert!(human.stderr.contains("more than 100 failures"), "{}", human.stderr);
    let json = job.expect(1, &format!("{TOKENIZE} --out json --json"));
    assert_eq!((json.events("failure").len(), json.events("failures-untold").len()), (100, 1));
    assert_eq!(json.events("dataset")[0]["failed"], 250);
}

#[test]
fn recipes_are_listed_shown_and_read_back() {
    let job = Job::new(0);
    let list = job.expect(0, "recipe list").stdout;
    for name in ["quickstart", "mnist-vqvae", "cifar10-vqvae", "photos-vqvae-64", "vqgan-f8-256"] {
        assert!(list.contains(name), "{name}");
        let shown = job.expect(0, &format!("recipe show {name}")).stdout;
        std::fs::write(job.path("shown.toml"), &shown).unwrap();
        assert_eq!(job.expect(0, "recipe show shown.toml").stdout, shown);
    }
}

#[test]
fn threads_beyond_any_machine_are_refused_by_the_environment_too() {
    let job = Job::new(1).trained();
    let run = |line: &str, threads: &str| {
        job.command(line).env("RAYON_NUM_THREADS", threads).output().unwrap()
    };
    for line in ["verify out", &format!("{TOKENIZE} --out out"), "inspect model"] {
        let refused = run(line, "1025");
        assert_eq!(refused.status.code(), Some(2), "{line}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(said, "vqtok: RAYON_NUM_THREADS=1025: choose 1 to 1024\n", "{line}");
    }
    assert!(!job.path("out").exists());
    assert_eq!(run("inspect model", "1024").status.code(), Some(0));
    assert_eq!(run(&format!("{TOKENIZE} --out out --threads 2"), "1025").status.code(), Some(0));
}
