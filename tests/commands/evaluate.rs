//! Drives `vqtok evaluate`: models judged side by side on whole inputs, the same on any number of
//! threads, going on where a run was stopped.

use crate::support::random::Random;
use crate::support::*;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

/// What an evaluation found, without how fast.
fn evaluated(job: &Job, code: i32, line: &str) -> Value {
    job.expect(code, &format!("evaluate {line} --json found.json"));
    let mut found: Value =
        serde_json::from_slice(&std::fs::read(job.path("found.json")).unwrap()).unwrap();
    for model in found["models"].as_array_mut().unwrap() {
        model.as_object_mut().unwrap().remove("images_per_second").unwrap();
    }
    found
}

/// Models `model` and `other`, and a broken file among the images.
fn scene(images: usize) -> Job {
    let job = Job::new(images).trained();
    let five = TINY_RECIPE.replace("steps = 4", "steps = 5");
    std::fs::write(job.path("five.toml"), five).unwrap();
    job.expect(0, "train images --model other --recipe five.toml --seed 9");
    std::fs::write(job.path("images/dog/broken.png"), b"\x89PNG").unwrap();
    job
}

#[test]
fn figures_are_those_of_a_sheet_and_of_the_codes() {
    let job = scene(12);
    let found = evaluated(&job, 1, "images --model model --model other");
    assert_eq!(found["images"], 13);
    for (at, name) in ["model", "other"].into_iter().enumerate() {
        let model = &found["models"][at];
        assert_eq!((&model["model"], &model["failed"]), (&json!(name), &json!(1)));
        let line = format!("reconstruct images --model {name} --out {name}.png --count 13 --json");
        let sheet = &job.expect(1, &line).events("reconstructed")[0];
        for mean in ["psnr_db", "ssim"] {
            let [a, b] = [model, sheet].map(|of| of[mean].as_f64().unwrap());
            assert!((a - b).abs() < 1e-9, "{mean}: {a} and {b}");
        }
        // No weights, and pictures of 16 pixels.
        assert_eq!([&model["lpips"], &model["rfid"], &model["ms_ssim"]], [&Value::Null; 3]);
        job.expect(1, &format!("tokenize images --model {name} --out {name}-out"));
        let dataset = std::fs::read(job.path(&format!("{name}-out/dataset.json"))).unwrap();
        let dataset: Value = serde_json::from_slice(&dataset).unwrap();
        let level = &dataset["codebook"]["levels"][0];
        for (ours, theirs) in [("perplexity", "perplexity"), ("bits", "entropy_bits")] {
            let [a, b] = [&model["levels"][0][ours], &level[theirs]].map(|of| of.as_f64().unwrap());
            assert!((a - b).abs() < 2e-6, "{ours}: {a} and {b}");
        }
        let used = level["used"].as_f64().unwrap() / level["codes"].as_f64().unwrap();
        assert_eq!(model["usage"].as_f64().unwrap(), used);
        let labels: Vec<&Value> =
            model["labels"].as_array().unwrap().iter().map(|label| &label["of"]).collect();
        assert_eq!(labels, ["cat", "dog"]);
        let images: u64 = model["sizes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|size| size["images"].as_u64().unwrap())
            .sum();
        assert_eq!(images, 12);
        let bits = model["bits_per_token"].as_f64().unwrap();
        assert!(bits <= model["levels"][0]["bits"].as_f64().unwrap());
    }
    let worst = found["worst"].as_array().unwrap();
    assert_eq!(worst.len(), 12);
    // Logarithms of errors are added up.
    let decibels = |image: &Value| -> f64 {
        (0..2).map(|at| image["models"][at]["psnr_db"].as_f64().unwrap()).sum()
    };
    assert!(worst.windows(2).all(|two| decibels(&two[0]) <= decibels(&two[1]) + 1e-9));
}

#[test]
fn threads_and_stops_change_nothing() {
    let job = scene(600);
    let line = "images --model model --model other";
    let whole = evaluated(&job, 1, &format!("{line} --threads 1"));
    assert_eq!(evaluated(&job, 1, &format!("{line} --threads 3")), whole);
    let mut random = Random(21);
    for _ in 0..3 {
        let line = format!("evaluate {line} --out kept");
        let mut child =
            job.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(random.below(1500) as u64));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let line = format!("{line} --out kept");
    assert_eq!(evaluated(&job, 1, &line), whole);
    let parts = |job: &Job| {
        job.files("kept")
            .into_iter()
            .filter(|(name, _)| Path::new(name).extension().is_some_and(|it| it == "parquet"))
            .collect::<Vec<_>>()
    };
    let before = parts(&job);
    assert_eq!(before.len(), 6);
    // All is there: nothing is made again.
    assert_eq!(evaluated(&job, 1, &line), whole);
    assert!(parts(&job) == before);
    // What is lost is made again.
    std::fs::remove_file(job.path("kept/model-01/part-00001.parquet")).unwrap();
    assert_eq!(evaluated(&job, 1, &line), whole);
    // Other settings, other images, damage: refused, and said.
    let refused = |line: &str, words: &[&str]| job.expect(2, line).assert_one_line(words);
    refused("evaluate images --model other --out kept", &["kept", "another --out"]);
    refused(
        "evaluate images --model model --model other --out kept --size 24",
        &["evaluation.json", "24", "another --out"],
    );
    refused("evaluate images --model model --out images", &["images", "folder of its own"]);
    refused("evaluate images --model model --out images/kept", &["image of the next run"]);
    refused("evaluate images --model model --json images/0000.png --overwrite", &["the INPUT"]);
    refused("evaluate images --model model --out model", &["it holds a model"]);
    std::fs::write(job.path("kept/model-00/part-00000.parquet"), b"PAR1").unwrap();
    refused(&format!("evaluate {line}"), &["part-00000.parquet"]);
    std::fs::remove_file(job.path("kept/model-00/part-00000.parquet")).unwrap();
    picture(9999).save(job.path("images/0000-new.png")).unwrap();
    refused(&format!("evaluate {line}"), &["other images than the inputs have now"]);
}

#[test]
fn the_page_shows_models_side_by_side() {
    let job = scene(9);
    let line = "evaluate images --model model --model other --html page.html --worst 4";
    let done = job.expect(1, line);
    assert!(done.stdout.contains("PSNR dB") && done.stdout.contains("page.html"));
    let page = std::fs::read_to_string(job.path("page.html")).unwrap();
    // Of each image its own picture and one a model.
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 4 * 3);
    assert_eq!(page.matches("<h3>").count(), 4);
    for part in ["Worst first", "By label", "By the shorter side", "Content-Security-Policy"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("http://") && !page.contains("https://"));
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let job = scene(3);
    let refused = |line: &str, words: &[&str]| job.expect(2, line).assert_one_line(words);
    std::fs::create_dir(job.path("empty")).unwrap();
    refused("evaluate empty --model model", &["no image under the inputs"]);
    job.expect(1, "tokenize images --model model --out out");
    refused("evaluate out --model model", &["it holds tokens"]);
    refused("evaluate images --model model --lpips tiny.toml", &["tiny.toml"]);
    refused("evaluate images --model model --inception tiny.toml", &["tiny.toml"]);
    std::fs::create_dir(job.path("broken")).unwrap();
    std::fs::rename(job.path("images/dog/broken.png"), job.path("broken/broken.png")).unwrap();
    refused("evaluate broken --model model", &["no image could be reconstructed"]);
}
