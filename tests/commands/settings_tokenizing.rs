//! Holds that no flag of the commands that make outputs is taken and does nothing; see
//! `support/effects.rs`. A flag that is new needs a case here.

use crate::support::effects;
use crate::support::*;
use effects::{Bounded, Case, Differs, Refused, hold, onnx_case};

const TOKENIZE: &str = "tokenize images --model model --out @";
const LIST: &str = "tokenize list.csv --model model --out @";
const PLAN: &str = "plan list.csv";

/// The case of each flag; None where nobody thought of it.
fn case(command: &str, flag: &str) -> Option<Case> {
    match (command, flag) {
        (_, "json") => json_case(command),
        ("tokenize", flag) => tokenize_case(flag),
        ("plan", flag) => plan_case(flag),
        ("repair", flag) => repair_case(flag),
        ("worker", flag) => worker_case(flag),
        ("finalize", flag) => finalize_case(flag),
        _ => None,
    }
}

fn json_case(command: &str) -> Option<Case> {
    Some(match command {
        "tokenize" => Differs(TOKENIZE, "tokenize images --model model --out @ --json"),
        "plan" => Differs(PLAN, "plan list.csv --json"),
        "repair" => Differs("repair out", "repair out --json"),
        "finalize" => Differs("finalize out", "finalize out --json"),
        _ => return None,
    })
}

fn finalize_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "partition" => Differs("finalize out", "finalize out --partition 0/2"),
        "rank-from" => Refused("finalize out --rank-from torch"),
        "ranks" => Refused("finalize out --ranks 2"),
        _ => return None,
    })
}

fn tokenize_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "hidden" => Differs(TOKENIZE, "tokenize images --model model --out @ --hidden"),
        "label-level" => {
            Differs(TOKENIZE, "tokenize images --model model --out @ --label-level none")
        }
        "out" => Differs(TOKENIZE, "tokenize images --model model --out @b"),
        "model" => Differs(TOKENIZE, "tokenize images --model other --out @"),
        "family" => Refused("tokenize images --model model --out @ --family nobody"),
        "model-config" => {
            Refused("tokenize images --model model --out @ --model-config nowhere.json")
        }
        "scales" => Refused("tokenize images --model model --out @ --scales 1x1"),
        "weights" => Refused("tokenize images --model model --out @ --weights nobody."),
        "recipe" => Refused("tokenize images --model model --out @ --recipe quickstart"),
        "size" => Differs(TOKENIZE, "tokenize images --model model --out @ --size 32"),
        "resize" => Differs(TOKENIZE, "tokenize images --model model --out @ --resize box"),
        "alpha" => Differs(TOKENIZE, "tokenize images --model model --out @ --alpha black"),
        "orientation" => {
            Differs(TOKENIZE, "tokenize images --model model --out @ --orientation ignore")
        }
        "pillow" => Differs(TOKENIZE, "tokenize images --model model --out @ --pillow 13"),
        "buckets" => {
            Differs(TOKENIZE, "tokenize images --model model --out @ --buckets 16x16,24x16,16x24")
        }
        "views" => Differs(TOKENIZE, "tokenize images --model model --out @ --views flips"),
        "batch-size" => Bounded("tokenize images --model model --out @ --batch-size 0"),
        "shard-rows" => Differs(TOKENIZE, "tokenize images --model model --out @ --shard-rows 3"),
        "partition" => Differs(
            "tokenize images --model model --out @ --shard-rows 3",
            "tokenize images --model model --out @ --shard-rows 3 --partition 1/2",
        ),
        "rank-from" => Refused("tokenize images --model model --out @ --rank-from torch"),
        "ranks" => Refused("tokenize images --model model --out @ --ranks 2"),
        "on-error" => Differs(
            "tokenize broken --model model --out @",
            "tokenize broken --model model --out @ --on-error stop",
        ),
        "device" => Refused("tokenize images --model model --out @ --device tpu"),
        "engine" => Refused("tokenize images --model model --out @ --engine other"),
        "precision" => Refused("tokenize images --model model --out @ --precision bf16"),
        "threads" => Bounded("tokenize images --model model --out @ --threads 0"),
        flag => return onnx_case(TOKENIZE, flag).or_else(|| rest_case(flag)),
    })
}

/// Flags about what is done to an output that may be there.
fn rest_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "retry-failed" => Differs(
            "tokenize mended --model model --out failed",
            "tokenize mended --model model --out failed --retry-failed",
        ),
        "list-only" => Differs(TOKENIZE, "tokenize images --model model --out @ --list-only"),
        "plan-only" => Differs(TOKENIZE, "tokenize images --model model --out @ --plan-only"),
        "append" => Differs(
            "tokenize mended --model model --out appended",
            "tokenize mended --model model --out appended --append",
        ),
        flag => return list_case(flag),
    })
}

/// Flags about what a list says.
fn list_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "image-column" => {
            Differs(LIST, "tokenize list.csv --model model --out @ --image-column second")
        }
        "key-column" => Differs(LIST, "tokenize list.csv --model model --out @ --key-column id"),
        "label-column" => {
            Differs(LIST, "tokenize list.csv --model model --out @ --label-column id")
        }
        "caption-column" => {
            Differs(LIST, "tokenize list.csv --model model --out @ --caption-column id")
        }
        "pass" => Differs(LIST, "tokenize list.csv --model model --out @ --pass id"),
        _ => return None,
    })
}

fn plan_case(flag: &str) -> Option<Case> {
    let with = |line| Differs(PLAN, line);
    Some(match flag {
        "hidden" => Differs("plan images", "plan images --hidden"),
        "image-column" => with("plan list.csv --image-column second"),
        "key-column" => with("plan list.csv --key-column id"),
        "label-column" => with("plan list.csv --label-column id"),
        "caption-column" => with("plan list.csv --caption-column id"),
        "pass" => with("plan list.csv --pass id"),
        "rows" => with("plan list.csv --rows 1"),
        "buckets" => with("plan list.csv --buckets 16x16,24x16 --model model"),
        "model" => Refused("plan list.csv --buckets 16x16,24x16 --model nowhere"),
        "diff" => Differs("plan images", "plan images --diff out"),
        _ => return None,
    })
}

fn repair_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "model" => Differs("repair gone", "repair gone --model model"),
        "moved" => Refused("repair lost --model model --moved nowhere"),
        "family" => Refused("repair lost --model model --family nobody"),
        "model-config" => Refused("repair lost --model model --model-config nowhere.json"),
        "scales" => Refused("repair lost --model model --scales 1x1"),
        "weights" => Refused("repair lost --model model --weights nobody."),
        "batch-size" => Bounded("repair lost --model model --batch-size 0"),
        "device" => Refused("repair lost --model model --device tpu"),
        "precision" => Refused("repair lost --model model --precision bf16"),
        "threads" => Bounded("repair lost --model model --threads 0"),
        flag => return onnx_case("repair lost --model model", flag),
    })
}

/// Nobody asks it for anything here; what it does is in `worker.rs`.
fn worker_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "out" => Differs("worker --out out --model model", "worker --out part --model model"),
        "model" => Refused("worker --out out --model nowhere"),
        "family" => Refused("worker --out out --model model --family nobody"),
        "model-config" => Refused("worker --out out --model model --model-config nowhere.json"),
        "scales" => Refused("worker --out out --model model --scales 1x1"),
        "weights" => Refused("worker --out out --model model --weights nobody."),
        "batch-size" => Bounded("worker --out out --model model --batch-size 0"),
        "on-error" => Bounded("worker --out out --model model --on-error nobody"),
        "device" => Refused("worker --out out --model model --device tpu"),
        "precision" => Refused("worker --out out --model model --precision bf16"),
        "threads" => Bounded("worker --out out --model model --threads 0"),
        flag => return onnx_case("worker --out out --model model", flag),
    })
}

#[test]
fn every_flag_has_an_effect_or_is_refused_by_name() {
    hold("tokenizing", case);
}

#[test]
fn every_command_is_of_one_of_the_files_with_cases() {
    effects::hold_groups();
}

#[test]
fn the_settings_of_tokenizing_in_a_recipe_have_an_effect() {
    let job = Job::new(6);
    std::fs::write(job.path("images/broken.png"), b"no image").unwrap();
    let with = |name: &str, table: &str| {
        let text = format!("{TINY_RECIPE}\n[tokenize]\n{table}\n");
        std::fs::write(job.path(&format!("{name}.toml")), text).unwrap();
        job.run(&format!("tokenize images --model m-{name} --out o-{name} --recipe {name}.toml"))
    };
    assert_eq!(with("rows", "shard_rows = 3").code, 1);
    assert_eq!(job.files("o-rows/tokens").len(), 3);
    assert_eq!(with("plain", "").code, 1);
    assert_eq!(job.files("o-plain/tokens").len(), 1);
    assert_eq!(with("stop", "on_error = \"stop\"").code, 2);
    with("batch", "batch_size = 0").assert_one_line(&["tokenize.batch_size"]);
}
