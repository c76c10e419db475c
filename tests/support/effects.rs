//! Owns the holding of flags to what they promise: none is taken and does nothing, each changes what a
//! command writes or says, or is refused by name. Recipes' other settings: `src/config_effects_tests.rs`.
//! Must not know: which flags there are cases for.

#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::support::*;

/// What a flag is seen by. `@` in a line stands for what the command writes, a file or a folder.
pub enum Case {
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
pub use Case::{Bounded, Differs, Kept, Refused};

/// The case of a flag about models in ONNX files, which that of `line` isn't.
pub fn onnx_case(line: &str, flag: &str) -> Option<Case> {
    let value = match flag {
        "codes" => "8",
        "layout" => "NCHW",
        "mean" | "std" => "127.5",
        "onnxruntime" => "nowhere",
        _ => return None,
    };
    Some(Refused(format!("{line} --{flag} {value}").leak()))
}

/// The commands by the file that has the cases of their flags, `tests/commands/settings_*.rs`, and how
/// many flags they have at least.
const GROUPS: [(&str, &[&str], usize); 4] = [
    ("tokenizing", &["tokenize", "plan", "repair", "worker", "finalize"], 70),
    (
        "training",
        &[
            "train",
            "recipe list",
            "recipe show",
            "recipe suggest",
            "quickstart",
            "convert",
            "inspect",
        ],
        51,
    ),
    ("outputs", &["decode", "export", "reconstruct", "verify", "report", "man", "completions"], 63),
    ("audit", &["audit", "diff", "evaluate"], 55),
];

/// Holds that each command with flags is of one group.
pub fn hold_groups() {
    let grouped: Vec<&str> =
        GROUPS.iter().flat_map(|(_, commands, _)| *commands).copied().collect();
    let unique: BTreeSet<&str> = grouped.iter().copied().collect();
    assert_eq!(grouped.len(), unique.len());
    let flags = all_flags();
    let commands: BTreeSet<&str> = flags.iter().map(|(command, _)| command.as_str()).collect();
    assert_eq!(commands, unique);
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
    std::fs::create_dir(job.path("veiled")).unwrap();
    picture(10).save(job.path("veiled/.hidden.png")).unwrap();
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
    for name in ["pages/vqtok.1", "taken.html", "own.html", "mine.json", "figures.json"] {
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
            files.insert(name.replacen(out, "@", 1), timeless(line, bytes));
        }
    }
    // How fast an export was stands at its line's end.
    let said = match line.starts_with("export ") && !line.contains("--json") {
        true => done.stdout.split(" (").next().unwrap_or_default(),
        false => &done.stdout,
    };
    let said = String::from_utf8(timeless(line, said.into())).unwrap();
    (done.code, said.replace(out, "@"), files)
}

/// What an evaluation says, without how fast models were: at the end of a line of its table, and in a
/// line of its JSON.
fn timeless(line: &str, bytes: Vec<u8>) -> Vec<u8> {
    match String::from_utf8(bytes) {
        Ok(text) if line.starts_with("evaluate ") => {
            let lines = text.lines().filter(|line| !line.contains("images_per_second"));
            let lines = lines.map(|line| line.rsplit_once(' ').map_or(line, |(kept, _)| kept));
            lines.collect::<Vec<_>>().join("\n").into_bytes()
        }
        Ok(text) => text.into_bytes(),
        Err(error) => error.into_bytes(),
    }
}

/// Holds every flag of a group's commands to its case.
pub fn hold(group: &str, case: fn(&str, &str) -> Option<Case>) {
    let (_, commands, least) = GROUPS.iter().find(|(name, ..)| *name == group).unwrap();
    let job = job();
    let mut wrong = Vec::new();
    let mut bases: BTreeMap<&str, Outcome> = BTreeMap::new();
    let mut count = 0;
    let flags = all_flags().into_iter();
    for (command, flag) in flags.filter(|(command, _)| commands.contains(&command.as_str())) {
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
    assert!(count >= *least, "{count} flags");
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
