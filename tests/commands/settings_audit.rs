//! Holds that no flag of `vqtok audit`, `vqtok diff` and `vqtok evaluate` is taken and does nothing; see
//! `support/effects.rs`. A flag that is new needs a case here.

use crate::support::effects;
use effects::{Bounded, Case, Differs, Refused, hold, onnx_case};

/// The case of each flag; None where nobody thought of it.
fn case(command: &str, flag: &str) -> Option<Case> {
    match (command, flag) {
        (_, "json") => json_case(command),
        ("audit", "html" | "source" | "sample" | "precision-audit" | "code-pictures") => {
            audit_model_case(flag)
        }
        ("audit", flag) => audit_case(flag),
        ("diff", flag) => diff_case(flag),
        ("evaluate", flag) => evaluate_case(flag),
        _ => None,
    }
}

fn json_case(command: &str) -> Option<Case> {
    Some(match command {
        "audit" => Differs("audit twins", "audit twins --json @.json"),
        "diff" => Differs("diff out part", "diff out part --json @.json"),
        "evaluate" => Differs(EVALUATE, "evaluate images --model model --json @b.json"),
        _ => return None,
    })
}

/// Flags of an audit about images that are one. `twins` holds one picture twice.
fn audit_case(flag: &str) -> Option<Case> {
    const AUDIT: &str = "audit twins --fail-on none --json @.json";
    const GONE: &str = "audit twins --remove-list @.txt";
    Some(match flag {
        "model" => Differs(AUDIT, "audit twins --fail-on none --json @.json --model model"),
        "against" => Differs(AUDIT, "audit twins --fail-on none --json @.json --against out"),
        "save-index" => Differs(
            "audit twins --model model --fail-on none",
            "audit twins --model model --fail-on none --save-index @.parquet",
        ),
        "remove-list" => Differs("audit twins", GONE),
        "keep" => Differs(GONE, "audit twins --remove-list @.txt --keep b"),
        "threshold" => Refused("audit twins --threshold 1.5"),
        "fail-on" => Differs("audit twins", "audit twins --fail-on none"),
        "html" => Differs("audit twins", "audit twins --html @.html"),
        "force" => Differs("audit twins --model other", "audit twins --model other --force"),
        "overwrite" => {
            Differs("audit twins --html own.html", "audit twins --html own.html --overwrite")
        }
        "events" => Differs("audit twins", "audit twins --events"),
        "family" => Refused("audit twins --model model --family nobody"),
        "model-config" => Refused("audit twins --model model --model-config nowhere.json"),
        "scales" => Refused("audit twins --model model --scales 1x1"),
        "weights" => Refused("audit twins --model model --weights nobody."),
        "device" => Refused("audit twins --model model --device tpu"),
        "precision" => Refused("audit twins --model model --precision bf16"),
        "batch-size" => Bounded("audit twins --model model --batch-size 0"),
        "threads" => Bounded("audit twins --threads 0"),
        flag => return onnx_case("audit twins --model model", flag),
    })
}

/// Flags of an audit about what it does with the model.
fn audit_model_case(flag: &str) -> Option<Case> {
    const MODEL: &str = "audit out --model model --json @.json";
    const SOURCE: &str = "audit out --model model --json @.json --source images";
    Some(match flag {
        "html" => Differs(
            "audit out --model model --html @.html",
            "audit out --model model --html @b.html",
        ),
        "source" => Differs(MODEL, SOURCE),
        "sample" => {
            Differs(SOURCE, "audit out --model model --json @.json --source images --sample 2")
        }
        "precision-audit" => Differs(
            SOURCE,
            "audit out --model model --json @.json --source images --precision-audit cpu",
        ),
        "code-pictures" => {
            Differs(MODEL, "audit out --model model --json @.json --code-pictures @.png")
        }
        _ => return None,
    })
}

fn diff_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "overwrite" => {
            Differs("diff out part --json mine.json", "diff out part --json mine.json --overwrite")
        }
        "events" => Differs("diff out part", "diff out part --events"),
        "threads" => Bounded("diff out part --threads 0"),
        _ => return None,
    })
}

const EVALUATE: &str = "evaluate images --model model --json @.json";

fn evaluate_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "model" => Differs(EVALUATE, "evaluate images --model other --json @.json"),
        "hidden" => Differs(EVALUATE, "evaluate images --model model --json @.json --hidden"),
        "image-column" => Differs(
            "evaluate list.csv --model model --json @.json",
            "evaluate list.csv --model model --json @.json --image-column second",
        ),
        "label-column" => Differs(
            "evaluate list.csv --model model --json @.json",
            "evaluate list.csv --model model --json @.json --label-column id",
        ),
        "label-level" => {
            Differs(EVALUATE, "evaluate images --model model --json @.json --label-level none")
        }
        "lpips" => Refused("evaluate images --model model --lpips nowhere"),
        "inception" => Refused("evaluate images --model model --inception nowhere"),
        "reference" => Refused("evaluate images --model model --reference nowhere"),
        "out" => Differs(EVALUATE, "evaluate images --model model --json @.json --out @kept"),
        "html" => Differs(EVALUATE, "evaluate images --model model --json @.json --html @.html"),
        "worst" => Differs(EVALUATE, "evaluate images --model model --json @.json --worst 2"),
        "overwrite" => Differs(
            "evaluate images --model model --json figures.json",
            "evaluate images --model model --json figures.json --overwrite",
        ),
        "events" => Differs(EVALUATE, "evaluate images --model model --json @.json --events"),
        "size" => Differs(EVALUATE, "evaluate images --model model --json @.json --size 24"),
        "resize" => Differs(EVALUATE, "evaluate images --model model --json @.json --resize box"),
        "alpha" => Differs(EVALUATE, "evaluate images --model model --json @.json --alpha black"),
        "orientation" => {
            Differs(EVALUATE, "evaluate images --model model --json @.json --orientation ignore")
        }
        "pillow" => Differs(EVALUATE, "evaluate images --model model --json @.json --pillow 13"),
        "family" => Refused("evaluate images --model model --family nobody"),
        "model-config" => Refused("evaluate images --model model --model-config nowhere.json"),
        "scales" => Refused("evaluate images --model model --scales 1x1"),
        "weights" => Refused("evaluate images --model model --weights nobody."),
        "device" => Refused("evaluate images --model model --device tpu"),
        "precision" => Refused("evaluate images --model model --precision bf16"),
        "threads" => Bounded("evaluate images --model model --threads 0"),
        flag => return onnx_case("evaluate images --model model", flag),
    })
}

#[test]
fn every_flag_has_an_effect_or_is_refused_by_name() {
    hold("audit", case);
}
