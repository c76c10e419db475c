//! Holds that no flag of the commands about models and recipes is taken and does nothing; see
//! `support/effects.rs`. A flag that is new needs a case here.

use crate::support::effects;
use effects::{Bounded, Case, Differs, Kept, Refused, hold, onnx_case};

const TRAIN: &str = "train images --model @ --recipe tiny.toml";
const CONVERT: &str = "convert model --out @";

/// The case of each flag; None where nobody thought of it.
fn case(command: &str, flag: &str) -> Option<Case> {
    Some(match (command, flag) {
        (_, "json") => return json_case(command),
        ("train", flag) => return train_case(flag),
        ("recipe show", flag) => return recipe_case(flag),
        ("recipe suggest", "hidden") => {
            Differs("recipe suggest veiled", "recipe suggest veiled --hidden")
        }
        ("recipe suggest", "image-column") => {
            Refused("recipe suggest list.csv --image-column nobody")
        }
        ("recipe suggest", "budget") => Refused("recipe suggest images --budget soon"),
        ("recipe suggest", "out") => Refused("recipe suggest images --out tiny.toml"),
        ("recipe suggest", "threads") => Bounded("recipe suggest images --threads 0"),
        ("quickstart", "out") => Refused("quickstart --out tiny.toml"),
        ("quickstart", "seed") => Refused("quickstart --out @ --seed x"),
        ("quickstart", "threads") => Bounded("quickstart --out @ --threads 0"),
        ("quickstart", "device") => Refused("quickstart --out @ --device tpu"),
        ("quickstart", "precision") => Refused("quickstart --out @ --precision bf16"),
        ("convert", "out") => Differs(CONVERT, "convert model --out @b"),
        ("convert", "to") => Differs(CONVERT, "convert model --out @ --to onnx"),
        ("convert", "precision") => Refused("convert model --out @ --precision f16"),
        ("convert", "family") => Refused("convert model --out @ --family nobody"),
        ("convert", "model-config") => Refused("convert model --out @ --model-config nowhere.json"),
        ("convert", "scales") => Refused("convert model --out @ --scales 1x1"),
        ("convert", "weights") => Refused("convert model --out @ --weights nobody."),
        ("inspect", "family") => Refused("inspect model --family nobody"),
        ("inspect", "model-config") => Refused("inspect model --model-config nowhere.json"),
        ("inspect", "scales") => Refused("inspect model --scales 1x1"),
        ("inspect", "codes" | "layout" | "mean" | "std") => {
            return onnx_case("inspect model", flag);
        }
        ("inspect", "weights") => Refused("inspect model --weights nobody."),
        _ => return None,
    })
}

fn json_case(command: &str) -> Option<Case> {
    Some(match command {
        "train" => Differs(TRAIN, "train images --model @ --recipe tiny.toml --json"),
        "recipe list" => Differs("recipe list", "recipe list --json"),
        "recipe suggest" => Differs("recipe suggest images", "recipe suggest images --json"),
        "recipe show" => Differs("recipe show tiny.toml", "recipe show tiny.toml --json"),
        // The whole tour takes minutes; its events are those of the commands it calls.
        "quickstart" => Refused("quickstart --out @ --json --device tpu"),
        "convert" => Differs(CONVERT, "convert model --out @ --json"),
        "inspect" => Differs("inspect model", "inspect model --json"),
        _ => return None,
    })
}

fn train_case(flag: &str) -> Option<Case> {
    let with = |line| Differs(TRAIN, line);
    Some(match flag {
        "hidden" => with("train images --model @ --recipe tiny.toml --hidden"),
        "image-column" => Differs(
            "train list.csv --model @ --recipe tiny.toml",
            "train list.csv --model @ --recipe tiny.toml --image-column second",
        ),
        "model" => with("train images --model @b --recipe tiny.toml"),
        "recipe" => with("train images --model @ --recipe five.toml"),
        "steps" => with("train images --model @ --recipe tiny.toml --steps 5"),
        "budget" => Refused("train images --model @ --recipe tiny.toml --budget soon"),
        "cache-crops" => Refused("train images --model @ --recipe tiny.toml --cache-crops much"),
        "batch-size" => with("train images --model @ --recipe tiny.toml --batch-size 5"),
        "micro-batch" => Refused("train images --model @ --recipe tiny.toml --micro-batch 5"),
        "recompute" => {
            Kept("train images --model @ --recipe tiny.toml --recompute", "recompute = true")
        }
        "perceptual-weights" => {
            Refused("train images --model @ --recipe tiny.toml --perceptual-weights nowhere")
        }
        "init-from" => with("train images --model @ --recipe tiny.toml --init-from model"),
        "init-family" => Refused("train images --model @ --recipe tiny.toml --init-family x"),
        "init-weights" => Refused("train images --model @ --recipe tiny.toml --init-weights x"),
        "seed" => with("train images --model @ --recipe tiny.toml --seed 5"),
        "resume" => Differs(
            "train images --model model --recipe tiny.toml",
            "train images --model model --recipe tiny.toml --resume",
        ),
        "size" => with("train images --model @ --recipe tiny.toml --size 32"),
        "resize" => with("train images --model @ --recipe tiny.toml --resize box"),
        "alpha" => with("train images --model @ --recipe tiny.toml --alpha black"),
        "orientation" => with("train images --model @ --recipe tiny.toml --orientation ignore"),
        "pillow" => with("train images --model @ --recipe tiny.toml --pillow 13"),
        "device" => Refused("train images --model @ --recipe tiny.toml --device tpu"),
        "precision" => Refused("train images --model @ --recipe tiny.toml --precision bf16"),
        "threads" => Bounded("train images --model @ --recipe tiny.toml --threads 0"),
        _ => return None,
    })
}

fn recipe_case(flag: &str) -> Option<Case> {
    let with = |line| Differs("recipe show tiny.toml", line);
    Some(match flag {
        "size" => with("recipe show tiny.toml --size 32"),
        "resize" => with("recipe show tiny.toml --resize box"),
        "alpha" => with("recipe show tiny.toml --alpha black"),
        "orientation" => with("recipe show tiny.toml --orientation ignore"),
        "pillow" => with("recipe show tiny.toml --pillow 13"),
        _ => return None,
    })
}

#[test]
fn every_flag_has_an_effect_or_is_refused_by_name() {
    hold("training", case);
}
