//! Holds what the folder of a finished training owes those who come back to it: that it says what it is, goes on
//! where that was asked for, and tells what it has lost as that.

use crate::support::*;

#[test]
fn a_finished_training_says_so_and_goes_on_when_it_is_made_longer() {
    let job = Job::new(12).trained();
    let before = job.files("model");
    for line in [
        "train images --model model --resume",
        "train images --model model --resume --recipe tiny.toml --steps 4",
        "train nowhere --model model --resume",
    ] {
        let done = job.expect(0, line);
        assert!(done.stderr.contains("is finished: trained for 4 steps"), "{}", done.stderr);
    }
    let other = job.expect(2, "train images --model model --resume --recipe quickstart");
    other.assert_one_line(&["--recipe quickstart", "and 16 in the training to resume"]);
    let shorter = job.expect(2, "train images --model model --resume --steps 2");
    shorter.assert_one_line(&["--steps", "4 steps", "longer"]);
    assert!(before == job.files("model"));

    job.expect(0, "tokenize images --model model --out before");
    let done = job.expect(0, "train images --model model --resume --steps 9 --json");
    assert_eq!(done.events("trained")[0]["summary"]["steps"], 9);
    let kept = std::fs::read_to_string(job.path("model/recipe.toml")).unwrap();
    assert!(kept.contains("steps = 9"), "{kept}");
    assert!(before != job.files("model"));
    job.expect(0, "tokenize images --model model --out after");
    job.expect(0, "verify after");
    // Without its state it is a model, and can be finished no further.
    std::fs::remove_dir_all(job.path("model/state")).unwrap();
    job.expect(0, "train images --model model --resume");
    let gone = job.expect(2, "train images --model model --resume --steps 20");
    gone.assert_one_line(&["state", "gone", "--init-from"]);
}

#[test]
fn a_finished_training_whose_model_is_broken_says_so_and_writes_it_again() {
    let job = Job::new(12).trained();
    let whole = std::fs::read(job.path("model/model.safetensors")).unwrap();
    let resume = "train images --model model --resume";
    for broken in [None, Some(&whole[..100])] {
        std::fs::remove_file(job.path("model/model.safetensors")).unwrap();
        if let Some(bytes) = broken {
            std::fs::write(job.path("model/model.safetensors"), bytes).unwrap();
        }
        let done = job.expect(2, resume);
        done.assert_one_line(&["model.safetensors", "remove model/config.json"]);
        std::fs::remove_file(job.path("model/config.json")).unwrap();
        job.expect(0, resume);
        assert!(std::fs::read(job.path("model/model.safetensors")).unwrap() == whole);
        job.expect(0, "tokenize images --model model --out out");
    }
    let done = job.expect(2, "train images --model nowhere --resume");
    done.assert_one_line(&["--resume", "there is no training in nowhere", "--recipe"]);
    assert!(!job.path("nowhere").exists());
}

#[test]
fn what_a_folder_of_a_training_has_lost_is_told_as_that() {
    let job = Job::new(12).trained();
    // Neither checkpoint of a finished model: the model stays.
    let checkpoints = ["checkpoint.safetensors", "checkpoint.before.safetensors"];
    let state = |name: &str| job.path("model/state").join(name);
    let whole = checkpoints.map(|name| std::fs::read(state(name)).ok());
    for name in checkpoints {
        std::fs::write(state(name), b"cut").unwrap();
    }
    let longer = "train images --model model --resume --steps 9";
    let words = [checkpoints[0], checkpoints[1], "the finished model stays", "--init-from model"];
    job.expect(2, longer).assert_one_line(&words);
    for (name, bytes) in checkpoints.iter().zip(whole) {
        match bytes {
            Some(bytes) => std::fs::write(state(name), bytes).unwrap(),
            None => std::fs::remove_file(state(name)).unwrap(),
        }
    }
    // Its record, which training further doesn't need; saying how it went does.
    let lines = std::fs::read(job.path("model/training.jsonl")).unwrap();
    std::fs::remove_file(job.path("model/training.jsonl")).unwrap();
    let words = ["training.jsonl: it is gone", "the model stands"];
    job.expect(2, "train images --model model --resume").assert_one_line(&words);
    let done = job.expect(0, longer);
    assert!(done.stderr.contains("training.jsonl"), "{}", done.stderr);
    // Its recipe.
    std::fs::write(job.path("model/training.jsonl"), lines).unwrap();
    std::fs::remove_file(job.path("model/recipe.toml")).unwrap();
    let gone = job.expect(2, "train images --model model --resume --steps 20");
    gone.assert_one_line(&["--recipe: model/recipe.toml is missing"]);
    job.expect(0, "train images --model model --resume --steps 20 --recipe tiny.toml");
}
