//! Holds what a training owes those who run it: that it stops where nothing is learned, that it says
//! what it left out, that it goes on as it was begun and with nothing but its folder, and that it
//! ends soon when it is told to.

use crate::support::*;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The tiny recipe with some of its lines replaced.
fn recipe(job: &Job, name: &str, changes: &[(&str, &str)]) {
    let mut text = TINY_RECIPE.to_string();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    std::fs::write(job.path(name), text).unwrap();
}

#[test]
fn a_training_without_a_model_yet_is_no_checkpoint() {
    let job = Job::new(6);
    let mut running = job
        .command("train images --model model --recipe tiny.toml --steps 100000")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while !job.path("model/training.jsonl").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    for line in [
        "inspect model",
        "convert model --out other",
        "reconstruct images --model model --out sheet.png",
        "train images --model other --recipe tiny.toml --init-from model",
    ] {
        job.expect(2, line).assert_one_line(&["model: its training isn't finished", "--resume"]);
    }
    assert!(!job.path("other").exists());
}

#[test]
fn names_of_recipes_and_sizes_that_are_none_are_refused_before_any_work() {
    let job = Job::new(3);
    for name in ["", " ", "two\\nlines", "\\u001b[31mred"] {
        let recipe = TINY_RECIPE.replace("name = \"tiny\"", &format!("name = \"{name}\""));
        std::fs::write(job.path("named.toml"), recipe).unwrap();
        let done = job.expect(2, "train images --model model --recipe named.toml");
        done.assert_one_line(&["named.toml", "name is a recipe's name"]);
    }
    for command in ["train images", "tokenize images --out out", "reconstruct images --out a.png"] {
        let done = job.expect(2, &format!("{command} --model model --size 0"));
        assert!(done.stderr.contains("a picture has at least one pixel"), "{}", done.stderr);
    }
    assert!(!job.path("model").exists());
}

#[test]
fn a_training_whose_steps_are_not_finite_leaves_no_model_and_is_not_tried_again() {
    let job = Job::new(12);
    let diverging = "steps = 120\nlearning_rate = 100.0\nclip_norm = 0.0\nbatch_size = 4";
    recipe(&job, "wild.toml", &[("steps = 4\nbatch_size = 4", diverging)]);
    let done = job.expect(2, "train images --model wild --recipe wild.toml --json");
    done.assert_one_line(&["wild", "not finite", "leaves no model", "learning_rate"]);
    let warned = |done: &Done| {
        let said = done.events("warning");
        said.iter().filter(|w| w["message"].to_string().contains("not finite")).count()
    };
    assert_eq!(warned(&done), 1, "{}", done.stdout);
    assert!(done.events("trained").is_empty() && !job.path("wild/config.json").exists());
    let before = job.files("wild");
    for line in [
        "train images --model wild --recipe wild.toml --resume",
        "train images --model wild --resume",
        "train images --model wild --recipe wild.toml",
        "tokenize images --model wild --out out",
        "tokenize images --model wild --out out --recipe wild.toml",
    ] {
        let begun = Instant::now();
        job.expect(2, line).assert_one_line(&["wild", "stopped for good", "Remove"]);
        assert!(begun.elapsed() < Duration::from_secs(5), "{line} trained again");
    }
    assert!(before == job.files("wild") && !job.path("out").exists());
    // Removed, it is trained again.
    std::fs::remove_dir_all(job.path("wild")).unwrap();
    job.expect(0, "train images --model wild --recipe tiny.toml");
}

#[test]
fn images_that_cannot_be_read_are_counted_and_named_and_all_of_them_are_an_error() {
    let job = Job::new(12);
    for name in ["a.png", "b.jpg", "cat/c.png"] {
        std::fs::write(job.path("images").join(name), b"no image").unwrap();
    }
    let done = job.expect(0, "train images --model model --recipe tiny.toml --json");
    let told = done.events("unreadable");
    let last = told.last().expect("nothing was told");
    assert_eq!((&last["count"], &last["images"]), (&3.into(), &15.into()), "{last}");
    assert!(last["examples"][0]["key"] == "a.png" && last["examples"][0]["error"].is_string());
    assert_eq!(done.events("trained")[0]["unreadable"], 3);
    let plain = job.expect(0, "train images --model plain --recipe tiny.toml");
    let text = &plain.stderr;
    assert!(text.contains("3 of 15 images can't be read and are left out: a.png ("), "{text}");
    assert!(text.contains("3 images can't be read and were left out"), "{text}");

    std::fs::create_dir(job.path("broken")).unwrap();
    for name in ["a.png", "b.png", "c.jpg"] {
        std::fs::write(job.path("broken").join(name), b"no image").unwrap();
    }
    let done = job.expect(2, "train broken --model none --recipe tiny.toml");
    done.assert_one_line(&["all 3 images", "can't be read", "a.png", "decode"]);
    assert!(!job.path("none").exists());
}

#[test]
fn few_images_are_judged_by_images_that_there_are() {
    for count in 1..=3 {
        for share in ["held_out_share = 0.5", "held_out_share = 0.0"] {
            let job = Job::new(count);
            recipe(&job, "few.toml", &[("steps = 4", &format!("steps = 4\n{share}"))]);
            let done = job.expect(0, "train images --model model --recipe few.toml --json");
            let summary = &done.events("trained")[0]["summary"];
            let judged = summary["evaluation"]["images"].as_u64().unwrap();
            assert!(judged > 0 && summary["evaluation"]["psnr"].is_f64(), "{summary}");
            assert!(share.contains("0.5") || summary["held_out"] == false);
            job.expect(0, "tokenize images --model model --out out");
        }
    }
}

#[test]
fn images_held_out_that_cannot_be_read_are_no_judges() {
    // All that is held out is broken, whichever that is.
    let job = Job::new(12);
    recipe(&job, "half.toml", &[("steps = 4", "steps = 4\nheld_out_share = 0.5")]);
    let done = job.expect(0, "train images --model whole --recipe half.toml --json");
    let judged = done.events("trained")[0]["summary"]["evaluation"]["images"].as_u64().unwrap();
    assert!(judged > 0);
    let mut broken = 0;
    for (name, bytes) in job.files("images") {
        let path = job.path("images").join(&name);
        std::fs::write(&path, b"no image").unwrap();
        std::fs::remove_dir_all(job.path("try")).unwrap_or_default();
        let done = job.expect(0, "train images --model try --recipe half.toml --json");
        let summary = &done.events("trained")[0]["summary"];
        let now = summary["evaluation"]["images"].as_u64().unwrap();
        if summary["held_out"] == false {
            assert!(broken + 1 == judged && now > 0, "{summary}");
            return;
        }
        // One that is held out is one judge less; any other is whole again for the next try.
        if now == judged - broken {
            std::fs::write(&path, bytes).unwrap();
        } else {
            broken += 1;
        }
    }
    panic!("{broken} of {judged} broken");
}

/// Begins `line` and interrupts it `later` than it has said `word` on stderr.
fn interrupted(job: &Job, line: &str, word: &str, later: Duration) -> Done {
    use std::io::{BufRead, Read};
    let mut command = job.command(line);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut stderr = String::new();
    while !stderr.contains(word) {
        assert!(said.read_line(&mut stderr).unwrap() > 0, "{word:?} is missing: {stderr}");
    }
    std::thread::sleep(later);
    let done = stop(child, "-INT");
    said.read_to_string(&mut stderr).unwrap();
    Done { stderr, ..done }
}

fn wait_for(path: &Path) {
    let begun = Instant::now();
    while std::fs::metadata(path).map_or(0, |meta| meta.len()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} never came", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn stop(child: Child, signal: &str) -> Done {
    let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The command that an interrupted run says goes on, run by a shell.
fn advised(job: &Job, done: &Done) -> std::process::Output {
    assert_eq!(done.code, 130, "{}", done.stderr);
    let line = done.stderr.lines().last().unwrap();
    let (_, command) =
        line.split_once("interrupted; go on with: ").unwrap_or_else(|| panic!("{line}"));
    Command::new("sh").arg("-c").arg(command).current_dir(job.dir.path()).output().unwrap()
}

#[test]
fn the_folder_alone_goes_on_with_what_was_begun() {
    let job = Job::new(12);
    std::fs::rename(job.path("images"), job.path("my images")).unwrap();
    recipe(&job, "it's long.toml", &[("steps = 4", "steps = 3000")]);
    let spaced = |line: &str| {
        let words: Vec<String> = line.split(' ').map(|w| w.replace('~', " ")).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
        command.args(words).current_dir(job.dir.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let line = "train my~images --model a~model --recipe it's~long.toml --seed 5 --batch-size 2";
    let child = spaced(line).spawn().unwrap();
    wait_for(&job.path("a model/training.jsonl"));
    let done = stop(child, "-INT");
    // The recipe lies in the folder, every setting filled in, and that of the flags.
    let kept = std::fs::read_to_string(job.path("a model/recipe.toml")).unwrap();
    assert!(kept.contains("seed = 5") && kept.contains("weight_decay = 0.0"), "{kept}");
    std::fs::remove_file(job.path("it's long.toml")).unwrap();
    std::fs::write(job.path("it's long.toml"), &kept).unwrap();
    // What would change what is trained is refused by its name; the same values are not.
    for (flag, words) in [
        ("--seed 6", "train.seed is 6, and 5"),
        ("--batch-size 3", "train.batch_size is 3, and 2"),
        ("--steps 10", "3000 steps"),
        ("--size 32", "data.size is 32"),
        ("--alpha black", "data.alpha"),
        ("--micro-batch 1", "train.micro_batch"),
        ("--recipe tiny.toml", "train.batch_size is 4, and 2"),
    ] {
        let output = spaced(&format!("train my~images --model a~model --resume {flag}")).output();
        let output = output.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{flag}: {text}");
        assert!(
            text.contains(&format!("{flag}: "))
                || text.contains(&format!("{}: ", &flag[..flag.find(' ').unwrap()])),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
    }
    let ended = advised(&job, &done);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(job.path("a model/config.json").exists());
    // As one that was never interrupted.
    let whole = spaced("train my~images --model whole --recipe it's~long.toml").output().unwrap();
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    for file in ["config.json", "model.safetensors"] {
        let read = |folder: &str| std::fs::read(job.path(folder).join(file)).unwrap();
        assert!(read("whole") == read("a model"), "{file} differs");
    }
}

#[test]
fn the_advice_of_a_tokenize_that_trains_goes_on_too() {
    let job = Job::new(12);
    recipe(&job, "long.toml", &[("steps = 4", "steps = 1500")]);
    let line = "tokenize images --model model --out out --recipe long.toml --shard-rows 5";
    let later = Duration::from_millis(100);
    let done = interrupted(&job, line, "training model first", later);
    assert!(!job.path("model/config.json").exists());
    let ended = advised(&job, &done);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    assert_eq!(job.files("out/tokens").len(), 3);
    job.expect(0, "verify out");
}

#[test]
fn other_contents_are_told_when_a_training_is_resumed() {
    let job = Job::new(12);
    recipe(&job, "long.toml", &[("steps = 4", "steps = 100000")]);
    let goes_on = || {
        let line = "train images --model model --resume";
        let done = interrupted(&job, line, "resuming after step", Duration::ZERO);
        assert!(done.code == 130, "{}", done.stderr);
    };
    let line = "train images --model model --recipe long.toml";
    let later = Duration::from_millis(300);
    assert_eq!(interrupted(&job, line, "training model first", later).code, 130);
    goes_on();
    // Written again with the same bytes, or moved, they are the same.
    let before = job.files("images");
    std::fs::rename(job.path("images"), job.path("elsewhere")).unwrap();
    std::fs::rename(job.path("elsewhere"), job.path("images")).unwrap();
    for (name, bytes) in &before {
        std::fs::write(job.path("images").join(name), bytes).unwrap();
    }
    goes_on();
    // Others of the same size and at the same time are not.
    for name in ["cat/0001.bmp", "dog/0005.bmp", "0009.bmp"] {
        let path = job.path("images").join(name);
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    std::fs::remove_file(job.path("images/dog/0002.ppm")).unwrap();
    for seed in [90, 91] {
        picture(seed).save(job.path(&format!("images/new-{seed}.png"))).unwrap();
    }
    let done = job.expect(2, "train images --model model --resume");
    done.assert_one_line(&["2 new, 1 gone, 3 changed", "new-90.png", "dog/0002.ppm", "0009.bmp"]);
    // With what it was begun with, it goes on.
    std::fs::remove_dir_all(job.path("images")).unwrap();
    for (name, bytes) in &before {
        let path = job.path("images").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    goes_on();
}

#[test]
fn its_own_pictures_in_the_data_are_no_new_images() {
    let job = Job::new(12);
    recipe(&job, "long.toml", &[("steps = 4", "steps = 2000")]);
    let mut command = job.command("train images --model images/model --recipe long.toml");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_for(&job.path("images/model/samples/step-000250.png"));
    let done = stop(child, "-INT");
    let ended = advised(&job, &done);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let done = job.expect(0, "tokenize images --model images/model --out out --json");
    assert_eq!(done.events("dataset")[0]["written"], 12);
}

#[test]
fn a_wrong_flag_costs_no_training() {
    let job = Job::new(6);
    std::fs::write(job.path("file"), b"x").unwrap();
    for (flags, words) in [
        ("--out out --batch-size 0", "--batch-size"),
        ("--out out --shard-rows 0", "--shard-rows"),
        ("--out out --shard-rows 99999999999", "--shard-rows"),
        ("--out out --partition 5/2", "--partition"),
        ("--out out --precision bf16", "--precision"),
        ("--out file", "--out file"),
        ("--out file/below", "--out file/below"),
        ("--out out --on-error maybe", "maybe"),
        ("--out out --threads 0", "--threads"),
    ] {
        let line = format!("tokenize images --model model --recipe tiny.toml {flags}");
        let done = job.expect(2, &line);
        assert!(done.stderr.contains(words), "{flags}: {}", done.stderr);
        assert!(!job.path("model").exists(), "{flags} trained first");
    }
    // Tokens of another model are in the way.
    job.expect(0, "tokenize images --model model --recipe tiny.toml --out out");
    let done = job.expect(2, "tokenize images --model new --recipe tiny.toml --out out");
    done.assert_one_line(&["--out out", "another model"]);
    assert!(!job.path("new").exists());
}

#[test]
fn a_recipe_beside_a_model_that_stands_is_its_own_or_refused() {
    let job = Job::new(6);
    recipe(&job, "rows.toml", &[("[train]\n", "[tokenize]\nshard_rows = 2\n\n[train]\n")]);
    let line = "tokenize images --model model --out out --recipe rows.toml";
    job.expect(0, line);
    job.expect(0, line);
    assert_eq!(job.files("out/tokens").len(), 3);
    // Its own settings of tokenizing go with the model.
    job.expect(0, "tokenize images --model model --out other");
    assert_eq!(job.files("other/tokens").len(), 3);
    recipe(&job, "seven.toml", &[("steps = 4", "steps = 7")]);
    for name in ["seven.toml", "quickstart"] {
        let done = job.expect(2, &format!("tokenize images --model model --out x --recipe {name}"));
        done.assert_one_line(&[&format!("--recipe {name}"), "model", "is there already"]);
    }
    assert!(!job.path("x").exists());
}

#[test]
fn what_shows_through_transparency_goes_with_the_model() {
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for index in 0..6u8 {
        let picture = image::RgbaImage::from_fn(20, 20, |x, y| {
            image::Rgba([index * 30, (x * 12) as u8, (y * 12) as u8, if x > 9 { 255 } else { 0 }])
        });
        picture.save(job.path(&format!("images/{index}.png"))).unwrap();
    }
    recipe(&job, "black.toml", &[("size = 16", "size = 16\nalpha = \"black\"")]);
    job.expect(0, "tokenize images --model model --out one --recipe black.toml");
    job.expect(0, "tokenize images --model model --out own");
    job.expect(0, "tokenize images --model model --out said --alpha black");
    job.expect(0, "tokenize images --model model --out white --alpha white");
    let shard = |out: &str| std::fs::read(job.path(out).join("tokens/part-00000.parquet")).unwrap();
    assert!(shard("one") == shard("own") && shard("one") == shard("said"));
    assert!(shard("one") != shard("white"));
}

#[test]
fn k_means_of_many_codes_is_told_and_stops_at_once() {
    let job = Job::new(12);
    recipe(
        &job,
        "many.toml",
        &[
            ("codes = 16", "codes = 60000"),
            ("dim = 4", "dim = 64"),
            ("size = 16", "size = 256"),
            ("steps = 4\n", "steps = 20\n"),
        ],
    );
    let mut command = job.command("train images --model model --recipe many.toml --json");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = {
        use std::io::BufRead;
        std::io::BufReader::new(child.stdout.take().unwrap()).lines()
    };
    let seen = lines.by_ref().map_while(Result::ok).find(|line| line.contains("\"k-means\""));
    assert!(seen.is_some(), "k-means is not told");
    let begun = Instant::now();
    std::thread::spawn(move || lines.for_each(drop));
    let done = stop(child, "-TERM");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(done.code, 143, "{}", done.stderr);
}
