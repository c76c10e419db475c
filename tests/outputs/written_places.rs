//! Drives every command that writes beside a user's files: no original is overwritten, and places
//! that can't be, or belong to an output or a model, are named before any work.

use crate::support::*;

fn names(job: &Job, folder: &str) -> Vec<String> {
    job.files(folder).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn no_original_is_overwritten_unasked() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --model model --out out");
    let originals = job.files("images");
    // The first key is 0000.png.
    job.expect(2, "decode out --model model --out images")
        .assert_one_line(&["images/0000.png", "--overwrite"]);
    assert!(originals == job.files("images"));
    let sheet = "reconstruct images --model model --out";
    for (line, file) in [
        (format!("{sheet} images/0000.png"), "images/0000.png"),
        ("report out --out notes.html".into(), "notes.html"),
        ("decode out --model model --sheet images/0000.png".into(), "images/0000.png"),
        ("decode out --model model --out d --sheet link.png".into(), "link.png"),
        (format!("{sheet} link.png"), "link.png"),
    ] {
        std::fs::write(job.path("notes.html"), "<html>mine").unwrap();
        let _ = std::fs::remove_file(job.path("link.png"));
        std::os::unix::fs::symlink(job.path("images/0000.png"), job.path("link.png")).unwrap();
        job.expect(2, &line).assert_one_line(&[file, "nothing is overwritten", "--overwrite"]);
        assert!(originals == job.files("images"), "{line}");
        assert_eq!(std::fs::read(job.path("notes.html")).unwrap(), b"<html>mine");
        assert!(!job.path("d").exists(), "work was done before the refusal");
        // An input is never the place of its own sheet.
        let code = if line.starts_with("reconstruct") { 2 } else { 0 };
        job.expect(code, &format!("{line} --overwrite"));
        for (name, bytes) in &originals {
            std::fs::write(job.path("images").join(name), bytes).unwrap();
        }
        let _ = std::fs::remove_dir_all(job.path("d"));
    }
    // What vqtok drew itself is drawn again.
    for line in [
        "decode out --model model --out pictures --sheet pictures/sheet.png",
        "reconstruct images --model model --out sheet.png",
        "report out --out page.html",
    ] {
        job.expect(0, line);
        job.expect(0, line);
    }
    assert_eq!(names(&job, "pictures").len(), 10);
    // A file of the user's that has the name of a temporary one, or lies in between.
    std::fs::write(job.path("pictures/0000.png.tmp"), b"mine").unwrap();
    let picture = std::fs::read(job.path("images/0000.png")).unwrap();
    std::fs::write(job.path("pictures/cat/0001.png"), &picture).unwrap();
    let before = job.files("pictures");
    job.expect(2, "decode out --model model --out pictures").assert_one_line(&["cat/0001.png"]);
    assert!(before == job.files("pictures"), "something was written before the refusal");
    job.expect(0, "decode out --model model --out pictures --overwrite");
    assert_eq!(std::fs::read(job.path("pictures/0000.png.tmp")).unwrap(), b"mine");
    // Somebody's data set of the names that ours would have.
    std::fs::create_dir(job.path("theirs")).unwrap();
    std::fs::write(job.path("theirs/codebook.parquet"), b"theirs").unwrap();
    job.expect(2, "tokenize images --model model --out theirs")
        .assert_one_line(&["codebook.parquet"]);
    assert_eq!(std::fs::read(job.path("theirs/codebook.parquet")).unwrap(), b"theirs");
}

#[test]
fn places_that_cannot_be_are_named_before_any_work() {
    let job = Job::new(4).trained();
    job.expect(0, "tokenize images --model model --out out");
    std::fs::write(job.path("file"), b"mine").unwrap();
    std::fs::create_dir(job.path("folder.png")).unwrap();
    std::fs::create_dir(job.path("folder.html")).unwrap();
    for (line, words) in [
        ("decode out --model none --out file", "a file stands where a folder is needed"),
        ("decode out --model none --out file/deeper", "a file stands where a folder is needed"),
        ("decode out --model none --out a.jpg", "name a folder"),
        ("decode out --model none --sheet a.jpg", "what is written is PNG; name it a.png"),
        ("decode out --model none --sheet folder.png", "it is a folder"),
        ("decode out --model none --out out", "only its own files belong"),
        ("decode out --model none --out out/tokens/pictures", "only its own files belong"),
        ("decode out --model none --sheet out/tokens/a.png", "only its own files belong"),
        ("decode out --model none --out d --batch-size 0", "--batch-size is 1 to"),
        ("reconstruct images --model none --out a.jpg", "what is written is PNG; name it a.png"),
        ("reconstruct images --model none --out file/a.png", "a file stands where"),
        ("report out --out page.json", "what is written is HTML; name it page.html"),
        ("report out --out folder.html", "it is a folder"),
        ("convert model --out file", "a file stands where a folder is needed"),
    ] {
        let done = job.expect(2, line);
        done.assert_one_line(&[words]);
        assert!(!done.stderr.contains("os error"), "{}", done.stderr);
    }
    assert_eq!(names(&job, "out").len(), 6);
    assert!(job.run("decode out --model model").code == 2, "neither --out nor --sheet");
}

#[test]
fn tokens_are_kept_out_of_model_folders_and_nobody_advises_to_remove_a_model() {
    let job = Job::new(4).trained();
    for out in ["model", "./model/../model"] {
        let refused = job.expect(2, &format!("tokenize images --model model --out {out}"));
        refused.assert_one_line(&["the model model lies there", "give a folder of its own"]);
    }
    std::fs::create_dir(job.path("copy")).unwrap();
    for (name, bytes) in job.files("model") {
        let to = job.path("copy").join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let refused = job.expect(2, "tokenize images --model model --out copy");
    refused.assert_one_line(&["--out copy: it holds a model"]);
    assert!(!job.path("copy/plan.parquet").exists());
    // As earlier versions allowed it.
    job.expect(0, "tokenize images --model model --out out");
    for (name, bytes) in job.files("out") {
        let to = job.path("copy").join(name);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::write(to, bytes).unwrap();
    }
    let seen = job.expect(1, "verify copy");
    assert!(seen.stdout.contains("stray: model.safetensors"), "{}", seen.stdout);
    assert!(seen.stdout.contains("leave what is the model's"), "{}", seen.stdout);
    assert!(!seen.stdout.contains("remove it"), "{}", seen.stdout);
    job.expect(0, "tokenize images --model model --out copy");
}

#[test]
fn nothing_new_is_made_among_the_files_of_an_output() {
    let job = Job::new(4).trained();
    job.expect(0, "tokenize images --model model --out out");
    let whole = job.files("out");
    for line in [
        "tokenize images --model model --out out/tokens/more",
        "tokenize images --model model --out out/more",
        "tokenize images --model out/model --recipe tiny.toml --out more",
        "train images --model out/tokens/model --recipe tiny.toml",
        "convert model --out out/model",
        "decode out --model model --out out/pictures",
    ] {
        let refused = job.expect(2, line);
        refused.assert_one_line(&["an output of vqtok, where only its own files belong"]);
    }
    // A folder that is there already is no place for another output either.
    let refused = job.expect(2, "tokenize images --model model --out out/tokens");
    refused.assert_one_line(&["an output of vqtok, where only its own files belong"]);
    assert!(job.files("out") == whole);
}
