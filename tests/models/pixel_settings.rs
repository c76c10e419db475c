//! Drives the binary through the settings that decide what an image becomes before the model sees
//! it: orientation, version of Pillow. Must not know: how pixels are made.

use crate::support::*;

use std::path::Path;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use vqtok::internals::tokens::Plan;

const TOKENIZE: &str = "tokenize images --model model";

/// An uncompressed TIFF of RGB pixels whose tag says `orientation`.
fn tiff(image: &image::RgbImage, orientation: u16) -> Vec<u8> {
    let (width, height) = image.dimensions();
    let pixels = image.as_raw();
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((8 + pixels.len() as u32 + 6).to_le_bytes());
    bytes.extend(pixels);
    bytes.extend([8, 0, 8, 0, 8, 0]);
    let bits = 8 + pixels.len() as u32;
    let entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (274, 3, 1, orientation.into()),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, pixels.len() as u32),
    ];
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, kind, count, value) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(u16::to_le_bytes(kind));
        bytes.extend(u32::to_le_bytes(count));
        bytes.extend(u32::to_le_bytes(value));
    }
    bytes.extend([0; 4]);
    bytes
}

/// All rows of the first shard, and its metadata.
fn shard(job: &Job, out: &str) -> (RecordBatch, std::collections::BTreeMap<String, String>) {
    let file = std::fs::File::open(job.path(out).join("tokens/part-00000.parquet")).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let entries = builder.metadata().file_metadata().key_value_metadata().unwrap();
    let metadata =
        entries.iter().map(|e| (e.key.clone(), e.value.clone().unwrap_or_default())).collect();
    let batch = builder.build().unwrap().next().unwrap().unwrap();
    (batch, metadata)
}

fn numbers(batch: &RecordBatch, column: &str) -> Vec<i32> {
    batch.column_by_name(column).unwrap().as_primitive::<Int32Type>().values().to_vec()
}

fn remarks(batch: &RecordBatch) -> Vec<Option<String>> {
    let column = batch.column_by_name("meta_json").unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_string)).collect()
}

fn dataset(job: &Job, out: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(job.path(out).join("dataset.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A model, and pictures whose file asks to be turned.
fn turned() -> Job {
    let job = Job::new(3).trained();
    let picture = image::imageops::crop_imm(&picture(5), 0, 0, 24, 17).to_image();
    for (folder, orientation) in [("images", 6), ("upright", 1)] {
        let _ = std::fs::remove_dir_all(job.path(folder));
        write(&job.path(folder).join("a.tif"), &tiff(&picture, orientation));
    }
    let clockwise = image::imageops::rotate90(&picture);
    write(&job.path("rotated/a.tif"), &tiff(&clockwise, 1));
    job
}

#[test]
fn an_ignored_orientation_gives_the_tokens_of_the_pixels_as_stored_and_says_so() {
    let job = turned();
    for (images, flags) in
        [("images", ""), ("images", "--orientation ignore"), ("upright", ""), ("rotated", "")]
    {
        let out = format!("{images}{}", flags.replace([' ', '-'], ""));
        job.expect(0, &format!("tokenize {images} --model model --out out-{out} {flags}"));
        job.expect(0, &format!("verify out-{out}"));
    }
    let (applied, applied_says) = shard(&job, "out-images");
    let (ignored, ignored_says) = shard(&job, "out-imagesorientationignore");
    let tokens = |batch: &RecordBatch| batch.column_by_name("tokens").unwrap().clone();
    assert_eq!(&tokens(&applied), &tokens(&shard(&job, "out-rotated").0));
    assert_eq!(&tokens(&ignored), &tokens(&shard(&job, "out-upright").0));
    assert_ne!(&tokens(&ignored), &tokens(&applied));
    // What the file says stands in the rows either way, and whether it was followed as well.
    assert_eq!(
        (numbers(&applied, "orientation"), numbers(&ignored, "orientation")),
        (vec![6], vec![6])
    );
    let size = |batch| (numbers(batch, "image_width")[0], numbers(batch, "image_height")[0]);
    assert_eq!((size(&applied), size(&ignored)), ((17, 24), (24, 17)));
    assert_eq!(remarks(&applied), [None]);
    assert_eq!(remarks(&ignored), [Some(r#"{"orientation":"ignored"}"#.to_string())]);
    assert_eq!(remarks(&shard(&job, "out-upright").0), [None]);
    assert_eq!(
        (&*applied_says["vqtok.orientation"], &*applied_says["vqtok.pillow"]),
        ("apply", "12")
    );
    assert_eq!(ignored_says["vqtok.orientation"], "ignore");
    let recorded = &dataset(&job, "out-imagesorientationignore")["identity"]["preprocessing"];
    assert_eq!((&recorded["orientation"], &recorded["pillow"]), (&"ignore".into(), &12.into()));
}

#[test]
fn another_orientation_or_pillow_on_an_output_is_refused_by_name() {
    let job = turned();
    job.expect(0, &format!("{TOKENIZE} --out out"));
    let refused = |flags: &str, words: &[&str]| {
        job.expect(2, &format!("{TOKENIZE} --out out {flags}")).assert_one_line(words);
    };
    refused("--orientation ignore", &["--orientation apply", "ignore"]);
    refused("--pillow 13", &["--pillow 12", "13"]);
    job.expect(0, &format!("{TOKENIZE} --out out --orientation apply --pillow 12"));
    // What Pillow has no part in takes no version of it.
    for rule in ["taming", "none"] {
        let line = format!("{TOKENIZE} --out other --resize {rule} --pillow 13");
        job.expect(2, &line).assert_one_line(&["pillow 13", rule]);
    }
    assert!(!job.path("other").exists());
    let wrong = job.expect(2, &format!("{TOKENIZE} --out other --pillow 14"));
    assert!(wrong.stderr.contains("12") && wrong.stderr.contains("13"), "{}", wrong.stderr);
    job.expect(2, &format!("{TOKENIZE} --out other --orientation 6"));
}

#[test]
fn pillow_13_makes_tall_pictures_otherwise_and_repair_makes_the_same_again() {
    let job = Job::new(3).trained();
    let tall = image::RgbImage::from_fn(60, 400, |x, y| {
        image::Rgb([(x * 7 + y * 3) as u8, (x * y) as u8, (y * 5 + x) as u8])
    });
    std::fs::remove_dir_all(job.path("images")).unwrap();
    std::fs::create_dir(job.path("images")).unwrap();
    for index in 0..6 {
        let part = image::imageops::crop_imm(&tall, 0, index * 20, 60, 200).to_image();
        part.save(job.path(&format!("images/{index}.png"))).unwrap();
    }
    job.expect(0, &format!("{TOKENIZE} --out twelve"));
    job.expect(0, &format!("{TOKENIZE} --out thirteen --pillow 13"));
    let digest = |out| dataset(&job, out)["identity"]["preprocessing"]["digest"].clone();
    assert_ne!(digest("twelve"), digest("thirteen"));
    let (batch, says) = shard(&job, "thirteen");
    assert_eq!(says["vqtok.pillow"], "13");
    assert_eq!(batch.num_rows(), 6);
    let whole = job.files("thirteen");
    std::fs::remove_file(job.path("thirteen/tokens/part-00000.parquet")).unwrap();
    job.expect(0, "repair thirteen --model model");
    assert!(whole == job.files("thirteen"), "repair made something else");
}

#[test]
fn a_recipes_settings_reach_the_model_and_whoever_tokenizes_with_it() {
    let job = turned();
    let data = "size = 16\nalpha = \"black\"\norientation = \"ignore\"\npillow = 13";
    let recipe = TINY_RECIPE.replace("size = 16", data);
    std::fs::write(job.path("other.toml"), recipe).unwrap();
    job.expect(0, "train images --model other --recipe other.toml");
    job.expect(0, "tokenize images --model other --out out");
    let recorded = dataset(&job, "out")["identity"]["preprocessing"].clone();
    assert_eq!(recorded["alpha"], "black");
    assert_eq!((&recorded["orientation"], &recorded["pillow"]), (&"ignore".into(), &13.into()));
    let card = job.expect(0, "inspect other").stdout;
    for line in ["alpha            black", "orientation      ignore", "pillow           13"] {
        assert!(card.contains(line), "{line}:\n{card}");
    }
    // The one command that trains and tokenizes, and flags above a recipe.
    job.expect(0, "tokenize images --model third --out third-out --recipe other.toml --pillow 12");
    let recorded = &dataset(&job, "third-out")["identity"]["preprocessing"];
    assert_eq!((&recorded["alpha"], &recorded["pillow"]), (&"black".into(), &12.into()));
    // And flags above a model.
    job.expect(0, "tokenize images --model other --out fourth --orientation apply --alpha white");
    let recorded = &dataset(&job, "fourth")["identity"]["preprocessing"];
    assert_eq!((&recorded["alpha"], &recorded["orientation"]), (&"white".into(), &"apply".into()));
    // A rule that Pillow has no part in takes the model's version away with the model's rule.
    job.expect(0, "tokenize images --model other --out fifth --resize taming");
    let misfit = TINY_RECIPE.replace("size = 16", "size = 16\nresize = \"taming\"\npillow = 13");
    std::fs::write(job.path("misfit.toml"), misfit).unwrap();
    job.expect(2, "train images --model m --recipe misfit.toml").assert_one_line(&["pillow 13"]);
}

#[test]
fn an_output_from_before_these_settings_is_continued_byte_for_byte() {
    let job = Job::new(25).trained();
    let line = format!("{TOKENIZE} --shard-rows 10 --out");
    job.expect(0, &format!("{line} now"));
    let now = Plan::open(&job.path("now")).unwrap();
    let mut identity = now.identity().clone();
    (identity.preprocessing.orientation, identity.preprocessing.pillow) = (None, None);
    let plan = |out: &str| {
        Plan::create_or_open(&job.path(out), &identity, now.all_rows().unwrap(), 10).unwrap()
    };
    let old = plan("old");
    job.expect(0, &format!("{line} old --partition 1/2"));
    job.expect(0, &format!("{line} old --orientation apply --pillow 12"));
    job.expect(0, "verify old");
    let (batch, says) = shard(&job, "old");
    assert!(batch.column_by_name("key").unwrap().len() == 10);
    assert_eq!(says["vqtok.identity"], old.identity().canonical());
    assert!(!says.contains_key("vqtok.pillow") && !says.contains_key("vqtok.orientation"));
    let whole = job.files("old");
    std::fs::remove_file(job.path("old/tokens/part-00001.parquet")).unwrap();
    job.expect(0, "repair old --model model");
    assert!(whole == job.files("old"));
    let refused = job.expect(2, &format!("{line} old --orientation ignore"));
    refused.assert_one_line(&["--orientation apply"]);
}
