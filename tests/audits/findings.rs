//! Drives `vqtok audit` on a small planted set: near duplicates, leaks, label conflicts, keepers,
//! what is removed, thresholds, exit codes, saved indexes.

use crate::support::*;

use image::{Rgb, RgbImage, imageops};
use serde_json::{Value, json};

/// A VQ-VAE that draws coarse shapes after a few seconds of training.
const RECIPE: &str = r#"
name = "drawn"
description = "for tests of audits"

[model]
channels = 3
codes = 64
dim = 8
architecture = { kind = "vqvae", hidden = 16, downsamples = 2, res_blocks = 1, res_hidden = 8 }

[data]
size = 32

[train]
steps = 250
batch_size = 16
"#;

/// A picture of soft blobs, unlike those of other seeds.
fn blobs(seed: u64) -> RgbImage {
    let mut random = random::Random(seed + 1);
    let numbers: Vec<f32> = (0..84).map(|_| random.below(1 << 20) as f32 / 1048576.0).collect();
    RgbImage::from_fn(48, 48, |x, y| {
        let mut colour = [128.0f32; 3];
        for blob in numbers.chunks(7) {
            let at = |which: usize| blob[which];
            let distance = (x as f32 / 48.0 - at(0)).powi(2) + (y as f32 / 48.0 - at(1)).powi(2);
            let weight = (-distance / (0.004 + 0.03 * at(2))).exp();
            for (channel, value) in colour.iter_mut().enumerate() {
                *value += weight * (300.0 * at(3) - 150.0 + 90.0 * at(4 + channel) - 45.0);
            }
        }
        Rgb(colour.map(|value| value.clamp(0.0, 255.0) as u8))
    })
}

fn save(job: &Job, name: &str, picture: &RgbImage) {
    let path = job.path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    picture.save(path).unwrap();
}

/// 120 pictures under two labels in `a`, copies of some of them in `a` and `b`; blanks in both.
fn planted() -> Job {
    let job = Job::new(0);
    for seed in 0..120 {
        save(&job, &format!("a/{}/{seed:04}.png", ["cat", "dog"][seed as usize % 2]), &blobs(seed));
    }
    for seed in 200..220 {
        save(&job, &format!("b/cat/{seed:04}.png"), &blobs(seed));
    }
    let cropped = imageops::crop_imm(&blobs(4), 1, 5, 42, 42).to_image();
    save(&job, "a/cat/cropped.png", &cropped);
    save(&job, "a/cat/mirrored.png", &imageops::flip_horizontal(&blobs(6)));
    save(&job, "a/dog/turned.png", &imageops::rotate180(&blobs(9)));
    save(&job, "a/dog/larger.png", &imageops::resize(&blobs(11), 96, 96, imageops::Triangle));
    save(&job, "a/dog/of-a-cat.bmp", &blobs(12));
    save(&job, "a/cat/copy.png", &blobs(14));
    save(&job, "b/cat/leak.png", &imageops::flip_horizontal(&blobs(30)));
    save(&job, "b/cat/same.png", &blobs(32));
    for blank in 0..4u8 {
        save(&job, &format!("a/cat/blank-{blank}.png"), &RgbImage::from_pixel(48, 48, Rgb([9; 3])));
        save(&job, &format!("b/cat/blank-{blank}.png"), &RgbImage::from_pixel(48, 48, Rgb([9; 3])));
    }
    std::fs::write(job.path("drawn.toml"), RECIPE).unwrap();
    job.expect(0, "train a --model model --recipe drawn.toml");
    job.expect(0, "tokenize a --model model --out A");
    job.expect(0, "tokenize b --model model --out B");
    job
}

fn found(job: &Job, line: &str) -> Value {
    let line = format!("audit {line} --fail-on none --json found.json --overwrite");
    job.expect(0, &line);
    serde_json::from_slice(&std::fs::read(job.path("found.json")).unwrap()).unwrap()
}

/// The groups of a kind: keys with what they are of the keeper, which comes first.
fn groups(found: &Value, kind: &str) -> Vec<Vec<(String, String)>> {
    let groups = found["duplicates"].as_array().unwrap().iter();
    let mut groups: Vec<Vec<(String, String)>> = groups
        .filter(|group| group["kind"] == kind)
        .map(|group| {
            let members = group["members"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_string();
            members.map(|member| (text(&member["key"]), text(&member["relation"]))).collect()
        })
        .collect();
    groups.sort();
    groups
}

fn pair(keeper: &str, other: &str, relation: &str) -> Vec<(String, String)> {
    vec![(keeper.into(), "same".into()), (other.into(), relation.into())]
}

#[test]
fn what_is_planted_is_found_and_nothing_else() {
    let job = planted();
    near_ones(&job);
    leaks_and_indexes(&job);
    exit_codes_and_lists(&job);
}

fn near_ones(job: &Job) {
    let all = found(job, "A --model model");
    let near = [
        pair("cat/0004.png", "cat/cropped.png", "cropped"),
        pair("cat/0006.png", "cat/mirrored.png", "mirrored"),
        pair("dog/0009.png", "dog/turned.png", "turned"),
        pair("dog/larger.png", "dog/0011.png", "same"),
    ];
    assert_eq!(groups(&all, "near"), near);
    assert_eq!(groups(&all, "exact-file"), [pair("cat/0014.png", "cat/copy.png", "same")]);
    let pixels = groups(&all, "exact-pixels");
    assert_eq!(pixels, [pair("cat/0012.png", "dog/of-a-cat.bmp", "same")]);
    let conflicts = all["duplicates"].as_array().unwrap().iter();
    let conflicts: Vec<_> = conflicts.filter(|group| group["label_conflict"] == true).collect();
    assert_eq!((conflicts.len(), &conflicts[0]["keep"]), (1, &json!("cat/0012.png")));
    let threshold = all["threshold"].as_f64().unwrap();
    assert!((0.78..0.95).contains(&threshold), "{threshold}");
    assert!(all["expected_false_pairs"].as_f64().unwrap() < 1.0);
    let remarks = all["remarks"].to_string();
    assert!(remarks.contains("4 images without contrast"), "{remarks}");
    assert_eq!(all["not_compared"].as_array().unwrap().len(), 4);
    // From 1 on nothing is like another but what is exactly so.
    assert!(groups(&found(job, "A --model model --threshold 1"), "near").is_empty());
    let low = found(job, "A --model model --threshold 0.6");
    assert!(groups(&low, "near").len() >= near.len());
    assert_eq!(low["threshold"], json!(0.6));
    let without = found(job, "A");
    assert!(groups(&without, "near").is_empty() && without["threshold"] == Value::Null);
    for kind in ["exact-file", "exact-pixels"] {
        assert_eq!(groups(&without, kind), groups(&all, kind));
    }
    // Equal files of one colour are one finding, which names each.
    for found in [&all, &without] {
        let low = found["low_information"].as_array().unwrap().iter();
        let keys: Vec<String> = low.map(|low| low["key"].as_str().unwrap().into()).collect();
        assert_eq!(keys, [0, 1, 2, 3].map(|blank| format!("cat/blank-{blank}.png")));
    }
    assert!(without["remarks"].to_string().contains("only exact copies"), "{without}");
}

fn leaks_and_indexes(job: &Job) {
    let leaks = |found: &Value| -> Vec<(String, String, String)> {
        let leaks = found["leaks"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_string();
        leaks
            .map(|leak| ["key", "other_key", "kind"].map(|name| text(&leak[name])).into())
            .collect()
    };
    let expected: [(String, String, String); 2] = [
        ("cat/0032.png".into(), "cat/same.png".into(), "exact-file".into()),
        ("cat/0030.png".into(), "cat/leak.png".into(), "near".into()),
    ];
    let across = found(job, "A --model model --against B");
    assert_eq!(leaks(&across), expected);
    assert_eq!(across["against"], json!(26));
    assert_eq!(leaks(&found(job, "A --against B")), expected[..1]);
    job.expect(0, "audit B --model model --fail-on none --save-index b.parquet");
    let saved = found(job, "A --model model --against b.parquet");
    assert_eq!((leaks(&saved), saved["against"].as_u64()), (expected.to_vec(), Some(22)));
    assert_eq!(saved["duplicates"], across["duplicates"]);
    // A bit has flipped, the end is lost, something came behind it.
    let whole = std::fs::read(job.path("b.parquet")).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    for bytes in [&flipped, &whole[..whole.len() - 9], &[&whole[..], b"more"].concat()] {
        std::fs::write(job.path("bad.parquet"), bytes).unwrap();
        for model in ["", " --model model"] {
            let done = job.run(&format!("audit A{model} --against bad.parquet"));
            assert_eq!(done.code, 2, "{}", done.stderr);
            done.assert_one_line(&["bad.parquet: the saved index is damaged", "--save-index"]);
        }
    }
    // Its own file again, but no other; and only the model that drew it.
    job.expect(0, "audit B --model model --fail-on none --save-index b.parquet");
    std::fs::write(job.path("mine"), "mine").unwrap();
    let done = job.run("audit B --model model --save-index mine");
    done.assert_one_line(&["mine"]);
    let done = job.run("audit B --save-index c.parquet");
    done.assert_one_line(&["--save-index", "--model"]);
    job.expect(0, "train b --model other --recipe tiny.toml");
    job.expect(0, "tokenize a --model other --out other-a");
    let done = job.run("audit other-a --model other --against b.parquet");
    done.assert_one_line(&["b.parquet", "--model", "--force"]);
}

fn exit_codes_and_lists(job: &Job) {
    let exits = [
        ("A --model model", 1),
        ("A --model model --fail-on duplicates", 1),
        ("A --model model --fail-on label-conflicts", 1),
        ("A --model model --against B --fail-on leaks", 1),
        // Of these blobs two are alike by 0.81, as some crops are.
        ("B --model model --fail-on duplicates --threshold 0.9", 0),
        ("B --model model --fail-on duplicates --fail-on low-information", 1),
    ];
    for (line, code) in exits {
        job.expect(code, &format!("audit {line}"));
    }
    let list = |flags: &str| {
        found(job, &format!("A --model model --remove-list gone.txt {flags}"));
        std::fs::read_to_string(job.path("gone.txt")).unwrap()
    };
    for group in found(job, "A --model model")["duplicates"].as_array().unwrap() {
        let members = group["members"].as_array().unwrap();
        let keeper = &members[0];
        assert_eq!((&keeper["key"], &keeper["relation"]), (&group["keep"], &json!("same")));
        let scores: Vec<f64> = members.iter().map(|m| m["score"].as_f64().unwrap()).collect();
        assert!(scores[0] == 1.0 && scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    // Of the cat that is labelled a dog nobody knows which label is right.
    let gone = "cat/copy.png\ncat/cropped.png\ncat/mirrored.png\ndog/0011.png\ndog/turned.png\n";
    assert_eq!(list(""), gone);
    let kept = list("--keep dog/of --keep cat/m");
    let gone = "cat/0006.png\ncat/copy.png\ncat/cropped.png\ndog/0011.png\ndog/turned.png\n";
    assert_eq!(kept, gone);
}

#[test]
fn many_copies_of_one_image_hide_nothing() {
    let job = Job::new(0);
    for seed in 0..90 {
        save(&job, &format!("a/{seed:04}.png"), &blobs(seed));
    }
    for copy in 0..12i32 {
        for seed in [3, 40] {
            let copied = imageops::brighten(&blobs(seed), 7 * copy - 40);
            save(&job, &format!("a/{seed:04}-{copy}.png"), &copied);
        }
    }
    std::fs::write(job.path("drawn.toml"), RECIPE).unwrap();
    job.expect(0, "train a --model model --recipe drawn.toml");
    job.expect(0, "tokenize a --model model --out A");
    let all = found(&job, "A --model model");
    let mut sizes = std::collections::BTreeMap::<String, usize>::new();
    for group in all["duplicates"].as_array().unwrap() {
        for member in group["members"].as_array().unwrap() {
            let name = &member["key"].as_str().unwrap()[..4];
            *sizes.entry(format!("{} {name}", group["kind"])).or_default() += 1;
        }
    }
    let due = [("\"near\" 0003", 13), ("\"near\" 0040", 13)];
    assert_eq!(sizes, due.map(|(name, copies)| (name.to_string(), copies)).into());
}

/// Strips of such a width, of which the model sees the middle alone: two that are equal there, and two
/// files that are equal.
fn strips(job: &Job, folder: &str, width: u32) {
    for (name, middle, ends) in [("a", 1, 10), ("b", 1, 200), ("c", 2, 90), ("d", 2, 90)] {
        let mut strip = RgbImage::from_pixel(width, 48, Rgb([ends; 3]));
        imageops::replace(&mut strip, &blobs(middle), i64::from(width - 48) / 2, 0);
        save(job, &format!("{folder}/{name}.png"), &strip);
    }
}

#[test]
fn copies_in_the_part_that_the_model_saw_are_on_no_list() {
    let job = Job::new(1).trained();
    for (folder, width, list) in [("strips", 144, "d.png\n"), ("wide", 72, "b.png\nd.png\n")] {
        strips(&job, folder, width);
        job.expect(0, &format!("tokenize {folder} --model model --size 48 --out of-{folder}"));
        let line = format!("audit of-{folder} --remove-list {folder}.txt --json {folder}.json");
        let said = job.expect(1, &line).stdout;
        assert_eq!(std::fs::read_to_string(job.path(&format!("{folder}.txt"))).unwrap(), list);
        let told = said.contains("4 images of duplicates: the model saw less than half");
        assert_eq!(told, folder == "strips", "{said}");
        let found: Value =
            serde_json::from_slice(&std::fs::read(job.path(&format!("{folder}.json"))).unwrap())
                .unwrap();
        let kinds: Vec<_> =
            found["duplicates"].as_array().unwrap().iter().map(|group| &group["kind"]).collect();
        assert_eq!(kinds, ["exact-file", "exact-pixels"]);
    }
}
