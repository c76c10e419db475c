//! Holds that no flag of any command, and no `[tokenize]` setting of a recipe, is taken and does
//! nothing: each changes what a command writes or says, or is refused by name. A flag that is new
//! needs a case here. Recipes' other settings: `src/config_effects_tests.rs`.

mod support;
use support::*;

use std::collections::{BTreeMap, BTreeSet};

/// What a flag is seen by. `@` in a line stands for what the command writes, a file or a folder.
enum Case {
    /// The line with the flag ends with another exit code, other files, or other words on stdout
    /// than the line without it.
    Differs(&'static str, &'static str),
    /// Exit code 2 and a line that names the flag.
    Refused(&'static str),
    /// Results don't depend on it, which other tests hold: values out of its range are refused.
    Bounded(&'static str),
    /// The same result for another price: the recipe in the model's folder says it.
    Kept(&'static str, &'static str),
}
use Case::{Bounded, Differs, Kept, Refused};

const TOKENIZE: &str = "tokenize images --model model --out @";
const LIST: &str = "tokenize list.csv --model model --out @";
const PLAN: &str = "plan list.csv";
const TRAIN: &str = "train images --model @ --recipe tiny.toml";
const DECODE: &str = "decode out --model model --out @";
const EXPORT: &str = "export out --to megatron --out @";
const RECONSTRUCT: &str = "reconstruct images --model model --out @.png";
const CONVERT: &str = "convert model --out @";

/// The case of each flag; None where nobody thought of it.
fn case(command: &str, flag: &str) -> Option<Case> {
    Some(match (command, flag) {
        (_, "json") => return json_case(command),
        ("tokenize", flag) => return tokenize_case(flag),
        ("plan", flag) => return plan_case(flag),
        ("train", flag) => return train_case(flag),
        ("decode", flag) => return decode_case(flag),
        ("export", flag) => return export_case(flag),
        ("reconstruct", flag) => return reconstruct_case(flag),
        ("recipe show", flag) => return recipe_case(flag),
        ("repair", flag) => return repair_case(flag),
        ("diff", flag) => return diff_case(flag),
        ("audit", "html" | "source" | "sample" | "precision-audit" | "code-pictures") => {
            return audit_model_case(flag);
        }
        ("audit", flag) => return audit_case(flag),
        ("inspect", "family") => Refused("inspect model --family nobody"),
        ("inspect", "model-config") => Refused("inspect model --model-config nowhere.json"),
        ("inspect", "weights") => Refused("inspect model --weights nobody."),
        ("convert", "out") => Differs(CONVERT, "convert model --out @b"),
        ("convert", "family") => Refused("convert model --out @ --family nobody"),
        ("convert", "model-config") => Refused("convert model --out @ --model-config nowhere.json"),
        ("convert", "weights") => Refused("convert model --out @ --weights nobody."),
        ("quickstart", "out") => Refused("quickstart --out tiny.toml"),
        ("quickstart", "seed") => Refused("quickstart --out @ --seed x"),
        ("quickstart", "threads") => Bounded("quickstart --out @ --threads 0"),
        ("quickstart", "device") => Refused("quickstart --out @ --device tpu"),
        ("quickstart", "precision") => Refused("quickstart --out @ --precision bf16"),
        ("report", "overwrite") => {
            Differs("report out --out taken.html", "report out --out taken.html --overwrite")
        }
        ("verify", "partial") => Differs("verify part", "verify part --partial"),
        ("verify", "complete") => {
            Differs("verify part --partial", "verify part --partial --complete")
        }
        ("man", "out") => Differs("man --out @", "man --out @b"),
        ("man", "overwrite") => Differs("man --out pages", "man --out pages --overwrite"),
        ("report", "out") => Differs("report out --out @.html", "report out --out @b.html"),
        _ => return None,
    })
}

fn json_case(command: &str) -> Option<Case> {
    Some(match command {
        "tokenize" => Differs(TOKENIZE, "tokenize images --model model --out @ --json"),
        "plan" => Differs(PLAN, "plan list.csv --json"),
        "train" => Differs(TRAIN, "train images --model @ --recipe tiny.toml --json"),
        "decode" => Differs(DECODE, "decode out --model model --out @ --json"),
        "export" => Differs(EXPORT, "export out --to megatron --out @ --json"),
        "reconstruct" => {
            Differs(RECONSTRUCT, "reconstruct images --model model --out @.png --json")
        }
        "inspect" => Differs("inspect model", "inspect model --json"),
        "recipe list" => Differs("recipe list", "recipe list --json"),
        "recipe show" => Differs("recipe show tiny.toml", "recipe show tiny.toml --json"),
        "finalize" => Differs("finalize out", "finalize out --json"),
        "verify" => Differs("verify out", "verify out --json"),
        "repair" => Differs("repair out", "repair out --json"),
        "report" => Differs("report out --out @.html", "report out --out @.html --json"),
        "diff" => Differs("diff out part", "diff out part --json @.json"),
        "audit" => Differs("audit twins", "audit twins --json @.json"),
        "convert" => Differs(CONVERT, "convert model --out @ --json"),
        "completions" => Differs("completions bash", "completions bash --json"),
        "man" => Differs("man --out @", "man --out @ --json"),
        // The whole tour takes minutes; its events are those of the commands it calls.
        "quickstart" => Refused("quickstart --out @ --json --device tpu"),
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
        "retry-failed" => Differs(
            "tokenize mended --model model --out failed",
            "tokenize mended --model model --out failed --retry-failed",
        ),
        "append" => Differs(
            "tokenize mended --model model --out appended",
            "tokenize mended --model model --out appended --append",
        ),
        "on-error" => Differs(
            "tokenize broken --model model --out @",
            "tokenize broken --model model --out @ --on-error stop",
        ),
        "device" => Refused("tokenize images --model model --out @ --device tpu"),
        "precision" => Refused("tokenize images --model model --out @ --precision bf16"),
        "threads" => Bounded("tokenize images --model model --out @ --threads 0"),
        flag => return list_case(flag),
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
        "weights" => Refused("decode out --model model --out @ --weights nobody."),
        "batch-size" => Bounded("decode out --model model --out @ --batch-size 0"),
        "device" => Refused("decode out --model model --out @ --device tpu"),
        "precision" => Refused("decode out --model model --out @ --precision bf16"),
        "threads" => Bounded("decode out --model model --out @ --threads 0"),
        _ => return None,
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

fn repair_case(flag: &str) -> Option<Case> {
    Some(match flag {
        "model" => Differs("repair gone", "repair gone --model model"),
        "moved" => Refused("repair lost --model model --moved nowhere"),
        "family" => Refused("repair lost --model model --family nobody"),
        "model-config" => Refused("repair lost --model model --model-config nowhere.json"),
        "weights" => Refused("repair lost --model model --weights nobody."),
        "batch-size" => Bounded("repair lost --model model --batch-size 0"),
        "device" => Refused("repair lost --model model --device tpu"),
        "precision" => Refused("repair lost --model model --precision bf16"),
        "threads" => Bounded("repair lost --model model --threads 0"),
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
        "weights" => Refused("audit twins --model model --weights nobody."),
        "device" => Refused("audit twins --model model --device tpu"),
        "precision" => Refused("audit twins --model model --precision bf16"),
        "batch-size" => Bounded("audit twins --model model --batch-size 0"),
        "threads" => Bounded("audit twins --threads 0"),
        _ => return None,
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

/// Pictures with what flags are about: transparency, an orientation, sides far apart, hidden names.
fn odd_pictures(job: &Job) {
    let clear = image::RgbaImage::from_fn(40, 21, |x, y| {
        image::Rgba([(x * 6) as u8, (y * 9) as u8, 200, (x * 6) as u8])
    });
    clear.save(job.path("images/clear.png")).unwrap();
    picture(5).save(job.path("images/tall.png")).unwrap();
    image::imageops::resize(&picture(6), 30, 300, image::imageops::FilterType::Triangle)
        .save(job.path("images/tall.png"))
        .unwrap();
    // An EXIF block that says: turned by a quarter.
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    let file = std::fs::File::create(job.path("images/turned.png")).unwrap();
    let mut encoder = image::codecs::png::PngEncoder::new(file);
    image::ImageEncoder::set_exif_metadata(&mut encoder, exif).unwrap();
    picture(7).write_with_encoder(encoder).unwrap();
    picture(10).save(job.path("images/.hidden.png")).unwrap();
}

/// Images, models and outputs with what each flag is about.
fn job() -> Job {
    let job = Job::new(6);
    odd_pictures(&job);
    let list = "image_path,second,id\nimages/0000.png,images/cat/0001.bmp,7\n\
                images/0003.qoi,images/cat/0004.png,8\n";
    std::fs::write(job.path("list.csv"), list).unwrap();
    let five = TINY_RECIPE.replace("steps = 4", "steps = 5");
    std::fs::write(job.path("five.toml"), five).unwrap();
    let broken = |job: &Job| {
        std::fs::create_dir(job.path("broken")).unwrap();
        std::fs::write(job.path("broken/a.png"), b"no image").unwrap();
        picture(8).save(job.path("broken/b.png")).unwrap();
    };
    broken(&job);
    let job = job.trained();
    job.expect(0, "train images --model other --recipe five.toml --seed 9");
    job.expect(0, "tokenize images --model model --out out");
    for out in ["lost", "gone", "appended"] {
        job.expect(0, &format!("tokenize images --model model --out {out}"));
    }
    let line = "tokenize images --model model --out part --shard-rows 3 --partition 0/2";
    job.expect(0, line);
    std::fs::create_dir(job.path("one")).unwrap();
    for name in ["a", "b"] {
        picture(3).save(job.path(&format!("one/{name}.png"))).unwrap();
    }
    job.expect(0, "tokenize one --model model --out twins");
    std::fs::create_dir(job.path("foreign")).unwrap();
    std::fs::create_dir(job.path("pages")).unwrap();
    for name in ["foreign/tall.png", "taken.png"] {
        picture(11).save(job.path(name)).unwrap();
    }
    for name in ["pages/vqtok.1", "taken.html", "own.html", "mine.json"] {
        std::fs::write(job.path(name), b"mine").unwrap();
    }
    for out in ["lost", "gone"] {
        std::fs::write(job.path(out).join("tokens/part-00000.parquet"), b"lost").unwrap();
    }
    job.expect(1, "tokenize broken --model model --out failed");
    std::fs::rename(job.path("broken"), job.path("mended")).unwrap();
    picture(9).save(job.path("mended/a.png")).unwrap();
    broken(&job);
    job
}

/// Exit code, what is said on stdout, and all files but those that repeat settings or times.
type Outcome = (i32, String, BTreeMap<String, Vec<u8>>);

fn outcome(job: &Job, line: &str, out: &str) -> Outcome {
    let done = job.run(&line.replace('@', out));
    let mut files = BTreeMap::new();
    for (name, bytes) in job.files("") {
        let settings = ["recipe.toml", "state/", "tensorboard", "training.html", "export.json"];
        if name.starts_with(out) && !settings.iter().any(|s| name.contains(s)) {
            files.insert(name.replacen(out, "@", 1), bytes);
        }
    }
    // How fast an export was stands at its line's end.
    let said = match line.starts_with("export ") && !line.contains("--json") {
        true => done.stdout.split(" (").next().unwrap_or_default(),
        false => &done.stdout,
    };
    (done.code, said.replace(out, "@"), files)
}

#[test]
fn every_flag_of_every_command_has_an_effect_or_is_refused_by_name() {
    let job = job();
    let mut wrong = Vec::new();
    let mut bases: BTreeMap<&str, Outcome> = BTreeMap::new();
    let mut count = 0;
    for (command, flag) in all_flags() {
        count += 1;
        let out = format!("run{count}-");
        let name = format!("{command} --{flag}");
        match case(&command, &flag) {
            None => wrong.push(format!("{name}: no case")),
            Some(Refused(line) | Bounded(line)) => {
                let done = job.run(&line.replace('@', &out));
                let named = [format!("--{flag}"), "nobody".into(), "nowhere".into()];
                let named = named.iter().any(|word| done.stderr.contains(word.as_str()))
                    || flag == "device" && done.stderr.contains("tpu")
                    || flag == "out" && done.stderr.contains("tiny.toml")
                    || flag == "json" && !done.stdout.is_empty();
                if done.code != 2 || !named {
                    wrong.push(format!("{name}: {} {}", done.code, done.stderr));
                }
            }
            Some(Kept(line, text)) => {
                job.expect(0, &line.replace('@', &out));
                let kept = std::fs::read_to_string(job.path(&out).join("recipe.toml")).unwrap();
                assert!(kept.contains(text), "{name}: {kept}");
            }
            Some(Differs(base, changed)) => {
                let before = bases.entry(base).or_insert_with(|| {
                    let before = outcome(&job, base, &format!("base{count}-"));
                    assert!([0, 1, 2].contains(&before.0), "{base}");
                    before
                });
                let after = outcome(&job, changed, &out);
                if *before == after {
                    wrong.push(format!("{name}: no effect"));
                }
                if after.0 == 2 && before.0 == 2 {
                    wrong.push(format!("{name}: both fail"));
                }
            }
        }
    }
    assert!(count > 100, "{count} flags");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Each command with each of its flags, but those for help.
fn all_flags() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut commands: Vec<(String, clap::Command)> = vqtok::internals::cli::command_line()
        .get_subcommands()
        .map(|command| (command.get_name().to_string(), command.clone()))
        .collect();
    while let Some((name, command)) = commands.pop() {
        for below in command.get_subcommands() {
            commands.push((format!("{name} {}", below.get_name()), below.clone()));
        }
        for flag in command.get_opts().chain(command.get_arguments()) {
            let long = flag.get_long().filter(|long| !["help", "version"].contains(long));
            found.extend(long.map(|long| (name.clone(), long.to_string())));
        }
    }
    found
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
