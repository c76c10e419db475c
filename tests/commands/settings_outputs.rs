//! Holds that no flag of the commands that take outputs, and of those about vqtok itself is taken and does nothing; see
//! `support/effects.rs`. A flag that is new needs a case here.

use crate::support::effects;
use effects::{Bounded, Case, Differs, Refused, hold, onnx_case};

const DECODE: &str = "decode out --model model --out @";
const EXPORT: &str = "export out --to megatron --out @";
const RECONSTRUCT: &str = "reconstruct images --model model --out @.png";

/// The case of each flag; None where nobody thought of it.
fn case(command: &str, flag: &str) -> Option<Case> {
    Some(match (command, flag) {
        (_, "json") => return json_case(command),
        ("decode", flag) => return decode_case(flag),
        ("export", flag) => return export_case(flag),
        ("reconstruct", flag) => return reconstruct_case(flag),
        ("verify", "partial") => Differs("verify part", "verify part --partial"),
        ("verify", "complete") => {
            Differs("verify part --partial", "verify part --partial --complete")
        }
        ("report", "overwrite") => {
            Differs("report out --out taken.html", "report out --out taken.html --overwrite")
        }
        ("report", "out") => Differs("report out --out @.html", "report out --out @b.html"),
        ("man", "out") => Differs("man --out @", "man --out @b"),
        ("man", "overwrite") => Differs("man --out pages", "man --out pages --overwrite"),
        _ => return None,
    })
}

fn json_case(command: &str) -> Option<Case> {
    Some(match command {
        "decode" => Differs(DECODE, "decode out --model model --out @ --json"),
        "export" => Differs(EXPORT, "export out --to megatron --out @ --json"),
        "reconstruct" => {
            Differs(RECONSTRUCT, "reconstruct images --model model --out @.png --json")
        }
        "verify" => Differs("verify out", "verify out --json"),
        "report" => Differs("report out --out @.html", "report out --out @.html --json"),
        "man" => Differs("man --out @", "man --out @ --json"),
        "completions" => Differs("completions bash", "completions bash --json"),
        _ => return None,
    })
}

fn decode_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "model" => Differs(DECODE, "decode out --model other --out @"),
        "sheet" => Differs(DECODE, "decode out --model model --sheet @.png"),
        "column" => Refused("decode out --model model --out @ --column nowhere"),
        "grid" => Bounded("decode out --model model --out @ --grid 0x4"),
        "force" => {
            Differs("decode out --model other --out @", "decode out --model other --out @ --force")
        }
        "overwrite" => Differs(
            "decode out --model model --out foreign",
            "decode out --model model --out foreign --overwrite",
        ),
        "out" => Differs(DECODE, "decode out --model model --out @b"),
        "family" => Refused("decode out --model model --out @ --family nobody"),
        "model-config" => Refused("decode out --model model --out @ --model-config nowhere.json"),
        "scales" => Refused("decode out --model model --out @ --scales 1x1"),
        "weights" => Refused("decode out --model model --out @ --weights nobody."),
        "batch-size" => Bounded("decode out --model model --out @ --batch-size 0"),
        "device" => Refused("decode out --model model --out @ --device tpu"),
        "precision" => Refused("decode out --model model --out @ --precision bf16"),
        "threads" => Bounded("decode out --model model --out @ --threads 0"),
        flag => return onnx_case(DECODE, flag),
    })
}

fn export_case(flag: &str) -> Option<Case> {
    const TARS: &str = "export out --to webdataset --out @";
    Some(match flag {
        "to" => Differs(EXPORT, TARS),
        "out" => Differs(EXPORT, "export out --to megatron --out @b"),
        "order" => Differs(EXPORT, "export out --to megatron --out @ --order shuffle=1"),
        "split" => Differs(EXPORT, "export out --to megatron --out @ --split a=0.5,b=0.5"),
        "vocab-offset" => Differs(EXPORT, "export out --to megatron --out @ --vocab-offset 9"),
        "bos" => Differs(EXPORT, "export out --to megatron --out @ --bos 99"),
        "eos" => Differs(EXPORT, "export out --to megatron --out @ --eos 99"),
        "class-tokens" => Refused("export out --to megatron --out @ --class-tokens 3"),
        "label-map" => Refused("export out --to megatron --out @ --label-map five.toml"),
        "levels" => Refused("export out --to megatron --out @ --levels all"),
        "codes" => Refused("export out --to megatron --out @ --codes 17"),
        "shard-rows" => Differs(TARS, "export out --to webdataset --out @ --shard-rows 2"),
        "fields" => Differs(
            "export out --to jsonl --out @ --fields tokens",
            "export out --to jsonl --out @ --fields tokens,key",
        ),
        "header" => {
            Differs("export out --to bin --out @", "export out --to bin --out @ --header llmc")
        }
        "column" => Refused("export out --to megatron --out @ --column nowhere"),
        "grid" => Bounded("export out --to megatron --out @ --grid 0x4"),
        "no-check" => Differs(EXPORT, "export out --to megatron --out @ --no-check"),
        "partial" => Differs(
            "export part --to megatron --out @",
            "export part --to megatron --out @ --partial",
        ),
        "threads" => Bounded("export out --to megatron --out @ --threads 0"),
        _ => return None,
    })
}

fn reconstruct_case(flag: &str) -> Option<Case> {
    let with = |line| Differs(RECONSTRUCT, line);
    Some(match flag {
        "image-column" => Differs(
            "reconstruct list.csv --model model --out @.png",
            "reconstruct list.csv --model model --out @.png --image-column second",
        ),
        "hidden" => with("reconstruct images --model model --out @.png --hidden"),
        "model" => with("reconstruct images --model other --out @.png"),
        "out" => with("reconstruct images --model model --out @b.png"),
        "family" => Refused("reconstruct images --model model --out @.png --family nobody"),
        "model-config" => {
            Refused("reconstruct images --model model --out @.png --model-config nowhere.json")
        }
        "scales" => Refused("reconstruct images --model model --out @.png --scales 1x1"),
        "weights" => Refused("reconstruct images --model model --out @.png --weights nobody."),
        "overwrite" => Differs(
            "reconstruct images --model model --out taken.png",
            "reconstruct images --model model --out taken.png --overwrite",
        ),
        "count" => with("reconstruct images --model model --out @.png --count 2"),
        "size" => with("reconstruct images --model model --out @.png --size 32"),
        "resize" => with("reconstruct images --model model --out @.png --resize box"),
        "alpha" => with("reconstruct images --model model --out @.png --alpha black"),
        "orientation" => with("reconstruct images --model model --out @.png --orientation ignore"),
        "pillow" => with("reconstruct images --model model --out @.png --pillow 13"),
        "device" => Refused("reconstruct images --model model --out @.png --device tpu"),
        "precision" => Refused("reconstruct images --model model --out @.png --precision bf16"),
        "threads" => Bounded("reconstruct images --model model --out @.png --threads 0"),
        flag => return onnx_case(RECONSTRUCT, flag),
    })
}

#[test]
fn every_flag_has_an_effect_or_is_refused_by_name() {
    hold("outputs", case);
}
