//! Holds what `train --budget` and `recipe suggest` promise: steps that fit a time and stay what
//! they are, and a proposal that is the same for the same images. Must not know: how long a step takes.

use crate::support::*;

use std::process::Stdio;
use std::time::{Duration, Instant};

/// The steps in a model folder's recipe.
fn steps(job: &Job, model: &str) -> usize {
    let text = std::fs::read_to_string(job.path(model).join("recipe.toml")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("steps = ")).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_budget_says_the_steps_and_a_resumed_training_keeps_them() {
    let job = Job::new(12);
    let begun = Instant::now();
    let line = "train images --model model --recipe tiny.toml --budget 3s";
    let done = job.expect(0, line);
    let told: Vec<_> =
        done.stderr.lines().filter(|line| line.contains("there is time for")).collect();
    assert_eq!(told.len(), 1, "{}", done.stderr);
    let all = steps(&job, "model");
    assert!(all >= 20 && told[0].contains("steps of"), "{all}: {}", told[0]);
    // A machine with other work may take longer, but not by any factor.
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    // The schedule is that of a training that was asked for so many steps.
    job.expect(0, &format!("train images --model same --recipe tiny.toml --steps {all}"));
    let weights = |model: &str| std::fs::read(job.path(model).join("model.safetensors")).unwrap();
    assert!(weights("model") == weights("same"));
    // Through: nothing is left to do, whatever a budget would be enough for now.
    let again = job.expect(0, &format!("{line} --resume"));
    assert!(again.stderr.contains("is finished"), "{}", again.stderr);

    let text = TINY_RECIPE.replace("batch_size = 4", "batch_size = 4\ncheckpoint_every = 5");
    std::fs::write(job.path("often.toml"), text).unwrap();
    let line = "train images --model cut --recipe often.toml --budget";
    let mut command = job.command(&format!("{line} 20s"));
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while !job.path("cut/state/checkpoint.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no checkpoint within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let all = steps(&job, "cut");
    let mut resumed = job.command(&format!("{line} 1s --resume --json"));
    let mut child = resumed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(steps(&job, "cut"), all);
}

#[test]
fn a_budget_that_is_none_is_refused_in_one_line() {
    let job = Job::new(12);
    let line = "train images --model model --recipe tiny.toml";
    job.expect(2, &format!("{line} --budget 0.001s")).assert_one_line(&["--budget", "enough for"]);
    for wrong in ["--budget soon", "--budget 30", "--budget 1m --steps 5", "--cache-crops 5"] {
        let done = job.expect(2, &format!("{line} {wrong}"));
        let flag = wrong.split(' ').next().unwrap();
        assert!(done.stderr.contains(flag), "{}", done.stderr);
    }
    assert!(!job.path("model").exists());
}

#[test]
fn a_recipe_is_suggested_by_what_the_images_are_like() {
    let job = Job::new(12);
    let suggested = |line: &str| {
        let found = job.expect(0, line).events("suggestion").remove(0);
        let field = |name: &str| found[name].clone();
        (field("look"), field("recipe"), field("tokens"), field("memory_bytes").as_u64())
    };
    let (look, recipe, tokens, memory) = suggested("recipe suggest images --json");
    assert_eq!((&look["images"], &look["looked_at"]), (&12.into(), &12.into()));
    assert_eq!((&recipe["data"]["size"], &tokens), (&32.into(), &64.into()));
    assert!(recipe["name"].as_str().unwrap().starts_with("cifar10-vqvae"), "{recipe}");
    assert!(memory.unwrap() > 1 << 20);
    let again = suggested("recipe suggest images --json");
    assert_eq!((look, recipe, tokens), (again.0, again.1, again.2));

    std::fs::create_dir(job.path("grey")).unwrap();
    for index in 0..4u8 {
        let grey = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(x * y) as u8 ^ index]));
        grey.save(job.path(&format!("grey/{index}.png"))).unwrap();
    }
    let line = "recipe suggest grey --out grey.toml";
    let said = job.expect(0, line).stdout;
    for words in ["4 images", "100 % grey", "64 tokens an image", "of memory", "next: vqtok train"]
    {
        assert!(said.contains(words), "{words:?} is missing in: {said}");
    }
    assert!(said.contains("--recipe grey.toml"), "{said}");
    job.expect(0, "recipe show grey.toml");
    job.expect(2, line).assert_one_line(&["--out", "grey.toml", "there already"]);
    std::fs::create_dir(job.path("none")).unwrap();
    job.expect(2, "recipe suggest none").assert_one_line(&["no image"]);
    std::fs::write(job.path("none/broken.png"), b"\x89PNG").unwrap();
    job.expect(2, "recipe suggest none").assert_one_line(&["can be read"]);
    job.expect(2, "recipe suggest images --budget 0.001s").assert_one_line(&["--budget"]);
}

#[test]
fn recipes_say_what_a_run_of_them_gave() {
    let job = Job::new(0);
    let told = job.expect(0, "recipe list --json").events("recipe");
    let run = told.iter().find(|told| told["name"] == "cifar10-vqvae").unwrap();
    assert!(run["expected"]["psnr"].as_f64().unwrap() > 23.0, "{run}");
    let said = job.expect(0, "recipe list").stdout;
    assert!(said.contains("gave 24.") && said.contains("not run to its end yet"), "{said}");
    assert!(job.expect(0, "recipe show cifar10-vqvae").stdout.contains("[expected]"));
}

#[test]
fn a_proposal_that_cannot_be_written_is_refused_before_it_is_looked_for() {
    let job = Job::new(6);
    std::fs::write(job.path("taken"), b"").unwrap();
    for (out, words) in [("taken/r.toml", "taken is no folder"), ("taken", "there already")] {
        let done = job.expect(2, &format!("recipe suggest images --out {out}"));
        done.assert_one_line(&["--out", words]);
        assert!(!done.stderr.contains("timing"), "{}", done.stderr);
    }
}

#[test]
fn one_picture_in_colour_keeps_a_proposal_from_one_channel() {
    let job = Job::new(0);
    std::fs::create_dir_all(job.path("images")).unwrap();
    for shade in 0..12 {
        let name = format!("images/{shade}.png");
        image::GrayImage::from_pixel(40, 40, image::Luma([20 * shade]))
            .save(job.path(&name))
            .unwrap();
    }
    let channels = || {
        let done = job.expect(0, "recipe suggest images --json");
        let found = &done.events("suggestion")[0];
        (found["recipe"]["model"]["channels"].clone(), found["reasons"].to_string())
    };
    let (grey, reasons) = channels();
    assert!(grey == 1 && reasons.contains("the colours would be lost"), "{grey} {reasons}");
    let red = image::RgbImage::from_pixel(40, 40, image::Rgb([200, 30, 30]));
    red.save(job.path("images/red.png")).unwrap();
    let (channels, reasons) = channels();
    assert!(channels == 3 && !reasons.contains("colours"), "{channels} {reasons}");
}
