//! Drives `vqtok audit` over drawn images: what shows hardly anything, what is odd, how the codebook is
//! used, and which findings an exit code tells. Must not know: how any of it is found.

use crate::support::Job;
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::collections::BTreeMap;

const RECIPE: &str = r#"
name = "small"
description = "for tests"

[model]
channels = 3
codes = 64
dim = 8
architecture = { kind = "vqvae", hidden = 16, downsamples = 2, res_blocks = 1, res_hidden = 8 }

[data]
size = 32

[train]
steps = 300
batch_size = 16

[train.codebook]
start_after = 1
"#;

/// Something with edges, light and shade, and another for every seed; some resemble each other.
fn motley(seed: u32) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| {
        let patch = (x / 4 * 89) ^ (y / 5 * 151) ^ (seed * 37);
        Rgb([patch, patch * 3, x * 7 + seed * 11 + seed / 256 * 40].map(|channel| channel as u8))
    })
}

/// Patches of any colour, of which no two images have the same.
fn patches(seed: u32) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| {
        let parts = [(x / 6, 73_856_093), (y / 7, 19_349_663), (seed, 83_492_791)];
        let mixed = parts.map(|(number, factor): (u32, u32)| number.wrapping_mul(factor));
        let mixed = mixed[0] ^ mixed[1] ^ mixed[2];
        let mixed = (mixed ^ mixed >> 15).wrapping_mul(0x2c1b_3c6d);
        let mixed = (mixed ^ mixed >> 12).wrapping_mul(0x297a_2d39);
        let [red, green, blue, _] = (mixed ^ mixed >> 15).to_be_bytes();
        Rgb([red, green, blue])
    })
}

/// 320 such images of two labels as `images`, and the model of them.
fn job(draw: fn(u32) -> RgbImage) -> Job {
    let job = Job::new(0);
    for label in ["a", "b"] {
        std::fs::create_dir_all(job.path("images").join(label)).unwrap();
    }
    for seed in 0..320 {
        let path = job.path("images").join(["a", "b"][seed % 2]).join(format!("{seed:03}.png"));
        draw(seed as u32).save(path).unwrap();
    }
    std::fs::write(job.path("small.toml"), RECIPE).unwrap();
    job.expect(0, "train images --model model --recipe small.toml");
    job
}

/// The findings of an audit that ends with this code.
fn audit(job: &Job, code: i32, line: &str) -> Value {
    job.expect(code, &format!("audit {line} --json found.json"));
    serde_json::from_slice(&std::fs::read(job.path("found.json")).unwrap()).unwrap()
}

/// By key, why it was listed.
fn reasons(list: &Value) -> BTreeMap<&str, &str> {
    let list = list.as_array().unwrap().iter();
    list.map(|entry| (entry["key"].as_str().unwrap(), entry["reason"].as_str().unwrap())).collect()
}

/// Adds images that show hardly anything, odd ones, and one that is none.
fn odd_images(job: &Job) {
    let save =
        |name: &str, picture: RgbImage| picture.save(job.path("images/a").join(name)).unwrap();
    let one = |shade: u8| RgbImage::from_pixel(32, 32, Rgb([shade; 3]));
    let resized = |seed: u32, width: u32, height: u32| {
        image::imageops::resize(&motley(seed), width, height, image::imageops::FilterType::Triangle)
    };
    save("black.png", one(0));
    save("grey.png", one(120));
    save(
        "dark.png",
        RgbImage::from_fn(32, 32, |x, y| Rgb(motley(500).get_pixel(x, y).0.map(|c| c / 20))),
    );
    save(
        "light.png",
        RgbImage::from_fn(32, 32, |x, y| {
            Rgb(motley(501).get_pixel(x, y).0.map(|c| 255 - (255 - c) / 20))
        }),
    );
    let mut page = one(255);
    image::imageops::replace(&mut page, &resized(502, 6, 6), 5, 20);
    save("page.png", page);
    save("wide.png", resized(503, 400, 40));
    save("large.png", resized(504, 400, 400));
    save("tiny.png", resized(505, 16, 16));
    image::imageops::grayscale(&motley(506)).save(job.path("images/a/shades.png")).unwrap();
    std::fs::write(job.path("images/a/broken.png"), "no picture").unwrap();
}

#[test]
fn images_that_show_hardly_anything_and_odd_ones_are_named() {
    let job = job(motley);
    odd_images(&job);
    // One fails, which the exit code tells.
    job.expect(1, "tokenize images --model model --out tokens --shard-rows 50");
    let found = audit(&job, 1, "tokens --model model");
    let low = reasons(&found["low_information"]);
    let keys = ["a/black.png", "a/dark.png", "a/grey.png", "a/light.png", "a/page.png"];
    assert_eq!(low.keys().copied().collect::<Vec<_>>(), keys, "{low:?}");
    assert!(low["a/grey.png"].ends_with("constant"), "{low:?}");
    let sizes = &found["sizes"];
    let due: BTreeMap<&str, &str> = [("a/large.png", "large"), ("a/wide.png", "wide")].into();
    assert_eq!(reasons(&sizes["odd"]["list"]), due);
    assert_eq!(reasons(&sizes["upscaled"]["list"]), [("a/tiny.png", "upscaled")].into());
    assert_eq!(reasons(&sizes["few_modes"]["list"]), [("a/shades.png", "L")].into());
    assert_eq!((&sizes["modes"]["RGB"], &sizes["modes"]["L"]), (&328.into(), &1.into()));
    let failures = &found["failures"];
    assert_eq!((&failures["count"], &failures["by_stage"]["decode"]), (&1.into(), &1.into()));
    assert_eq!(failures["list"][0]["key"], "a/broken.png");
    let outliers = found["outliers"].as_array().unwrap();
    assert_eq!(outliers.len(), 329 / 4);
    let scores: Vec<f64> = outliers.iter().map(|o| o["score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores[0] > 0.0);
    let blank = ["a/black.png", "a/dark.png", "a/grey.png", "a/light.png"];
    assert!(outliers.iter().all(|outlier| !blank.contains(&outlier["key"].as_str().unwrap())));
    // Without the model there are the codes: what has one or two of them is told.
    let low = audit(&job, 1, "tokens --overwrite");
    let low = reasons(&low["low_information"]);
    assert!(low.contains_key("a/grey.png") && low.len() <= 5, "{low:?}");
    assert!(low.keys().all(|key| keys.contains(key)), "{low:?}");
    codebook(&found["codebook"][0]);
}

/// The use of the codebook by 329 images of 8 x 8 tokens in 7 shards.
fn codebook(level: &Value) {
    assert_eq!((&level["tokens"], &level["codes"]), (&(329 * 64).into(), &64.into()));
    let used = level["used"].as_u64().unwrap();
    assert_eq!(level["dead"].as_u64().unwrap(), 64 - used);
    assert_eq!(level["shared_counters"], false);
    assert_eq!((&level["places"]["height"], &level["places"]["width"]), (&8.into(), &8.into()));
    let entropy = level["places"]["entropy_bits"].as_array().unwrap();
    assert_eq!(entropy.len(), 64);
    assert!(entropy.iter().all(|bits| (0.0..=6.0).contains(&bits.as_f64().unwrap())));
    assert!(level["neighbour_bits"].as_f64().unwrap() > 0.0);
    assert_eq!(level["labels"].as_array().unwrap().len(), 2);
    let shards = level["shards"].as_array().unwrap();
    assert_eq!((shards.len(), &shards[0]["of"][1]), (7, &"part-00000.parquet".into()));
    assert_eq!(shards.iter().map(|shard| shard["rows"].as_u64().unwrap()).sum::<u64>(), 329);
    assert!(level["against"].is_null());
}

#[test]
fn exit_codes_tell_the_kinds_that_are_asked_for() {
    let job = job(patches);
    job.expect(0, "tokenize images --model model --out tokens");
    // A clean set: there is always an oddest image, which is no finding by itself.
    let found = audit(&job, 0, "tokens --model model");
    assert_eq!(
        (found["low_information"].as_array().unwrap().len(), &found["images"]),
        (0, &320.into())
    );
    job.expect(1, "audit tokens --model model --fail-on outliers");
    job.expect(0, "audit tokens --model model --fail-on sizes --fail-on set");
    image::imageops::resize(&patches(900), 16, 16, image::imageops::FilterType::Nearest)
        .save(job.path("images/a/tiny.png"))
        .unwrap();
    job.expect(0, "tokenize images --model model --out more");
    job.expect(0, "audit more --model model");
    job.expect(1, "audit more --model model --fail-on sizes");
}

#[test]
fn other_settings_are_told_by_metadata_and_by_codes() {
    let job = job(motley);
    job.expect(0, "tokenize images --model model --out tokens");
    job.expect(
        0,
        "tokenize images --model model --out other --resize bilinear --orientation ignore",
    );
    std::fs::create_dir_all(job.path("mixed")).unwrap();
    for (number, out) in ["tokens", "tokens", "other"].iter().enumerate().skip(1) {
        let shard = job.path(out).join("tokens/part-00000.parquet");
        std::fs::copy(shard, job.path("mixed").join(format!("{number}.parquet"))).unwrap();
    }
    let said = |found: &Value, about: &str| {
        let remarks = found["remarks"].as_array().unwrap().iter();
        let about = remarks.filter(|remark| remark["about"] == about);
        let said = about.map(|remark| {
            (remark["finding"].as_bool().unwrap(), remark["text"].as_str().unwrap().to_string())
        });
        said.collect::<Vec<_>>()
    };
    let mixed = audit(&job, 1, "mixed --fail-on set");
    let due = "2.parquet: made with other settings than the first shard: orientation, resize";
    assert_eq!(said(&mixed, "settings"), [(true, due.to_string())]);
    // Channels the wrong way round, and images of the same kind.
    for (folder, first, swapped) in [("swapped", 1000, true), ("alike", 320, false)] {
        for seed in first..first + 300 {
            let label = job.path(folder).join(["a", "b"][seed as usize % 2]);
            std::fs::create_dir_all(&label).unwrap();
            let mut picture = motley(seed);
            picture.pixels_mut().filter(|_| swapped).for_each(|pixel| pixel.0.reverse());
            picture.save(label.join(format!("{seed}.png"))).unwrap();
        }
        job.expect(0, &format!("tokenize {folder} --model model --out {folder}-tokens"));
    }
    let swapped = audit(&job, 1, "tokens --against swapped-tokens --fail-on set --overwrite");
    let told = said(&swapped, "against");
    assert!(told[0].0 && told[0].1.contains("used otherwise"), "{told:?}");
    assert!(swapped["codebook"][0]["against"]["z"].as_f64().unwrap() > 5.0);
    let alike = audit(&job, 0, "tokens --against alike-tokens --fail-on set --overwrite");
    assert!(!said(&alike, "against")[0].0, "{:?}", said(&alike, "against"));
}
