//! Holds models that were written as ONNX files to the reference code: every convolutional case of
//! ../shared/golden, golden_decoder and golden_families goes through ONNX Runtime, its tokens equal and its
//! pictures within a level, as a rounding at a boundary may take it. Passed over with a line where there
//! is no ONNX Runtime.

use crate::support::cases;
use crate::support::recent;

use std::path::Path;

use cases::{Case, cases, family_word, pixel_batch};
use recent::{cropped, encoded, family_cases};
use vqtok::internals::checkpoint::onnx::write::{Floats, write};
use vqtok::internals::checkpoint::recognise::detect::DetectOptions;
use vqtok::internals::engine::{CodeGrid, Encoded, PixelBatch};
use vqtok::{Codes, Grid, PixelSettings, ResizeRule, RgbImage, Tokenizer, TokenizerOptions};

/// Whether there is a runtime; says so where there is none.
fn runtime() -> bool {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/dynamic");
    match TokenizerOptions::new().check_device_for(model) {
        Ok(()) => true,
        Err(error) if error.to_string().contains("isn't found") => {
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// A case as ONNX files, opened; None for a transformer.
fn converted(case: &Case, floats: Floats) -> Option<Tokenizer> {
    let family = family_word(&case.json);
    let options =
        DetectOptions { family: Some(family), config: case.config(), ..DetectOptions::default() };
    let (dir, file) = (tempfile::tempdir().unwrap(), &case.checkpoints()[0]);
    let out = dir.path().join("onnx");
    let written = write(file, &options, &out, floats);
    if ["vit-vqgan", "titok", "unitok", "var", "infinity"].contains(&family) {
        assert!(written.unwrap_err().to_string().contains("become ONNX"));
        return None;
    }
    written.unwrap_or_else(|e| panic!("{}: {e}", case.name));
    if case.name == "taming_vq" {
        let twice = dir.path().join("twice");
        write(file, &options, &twice, floats).unwrap();
        for entry in std::fs::read_dir(&out).unwrap() {
            let path = entry.unwrap().path();
            let again = twice.join(path.file_name().unwrap());
            assert!(std::fs::read(&path).unwrap() == std::fs::read(again).unwrap());
        }
    }
    // The reference's pictures have their sizes.
    let pixels = PixelSettings::new().resize(ResizeRule::None);
    let opened = TokenizerOptions::new().pixels(pixels).open(&out);
    Some(opened.unwrap_or_else(|e| panic!("{}: {e}", case.name)))
}

/// Tokens of each level that differ from the reference's, and all of them.
fn differing(case: &Case, tokenizer: &mut Tokenizer) -> (usize, usize) {
    let golden = crate::support::npz(case.folder.join("golden.npz"));
    let batch = pixel_batch(&golden["images_u8"]);
    let (width, height) = (batch.width as u32, batch.height as u32);
    let image = |i: usize| RgbImage::from_raw(width, height, batch.image(i).to_vec()).unwrap();
    let images: Vec<RgbImage> = (0..batch.count).map(image).collect();
    let codes = tokenizer.encode(&images).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let (mut differ, mut all) = (0, 0);
    let names = ["tokens", "tokens_top"].into_iter().filter_map(|name| golden.get(name));
    let wanted: Vec<Vec<i64>> = names.flat_map(|tokens| recent::levels(case, tokens)).collect();
    assert_eq!(codes[0].levels.len(), wanted.len(), "{}: levels", case.name);
    for (level, wanted) in wanted.iter().enumerate() {
        let found: Vec<u32> =
            codes.iter().flat_map(|codes| codes.levels[level].codes.clone()).collect();
        assert_eq!(found.len(), wanted.len(), "{}: number of tokens", case.name);
        differ += found.iter().zip(wanted).filter(|(a, b)| i64::from(**a) != **b).count();
        all += wanted.len();
    }
    (differ, all)
}

#[test]
fn every_convolutional_family_gives_the_references_tokens_as_onnx() {
    if !runtime() {
        return;
    }
    let mut seen = 0;
    for case in cases("golden").into_iter().chain(family_cases()) {
        let Some(mut tokenizer) = converted(&case, Floats::F32) else { continue };
        let (differ, all) = differing(&case, &mut tokenizer);
        assert!(all > 0 && differ == 0, "{}: {differ} of {all}", case.name);
        let mut half = converted(&case, Floats::F16).unwrap();
        let (flips, all) = differing(&case, &mut half);
        eprintln!("{:24} {all:5} tokens equal in float32, {flips:3} others in float16", case.name);
        // A share of tokens lies as near to a boundary as float16 is coarse; more is a mistake.
        assert!(flips * 50 <= all, "{}: {flips} of {all} in float16", case.name);
        seen += 1;
    }
    assert!(seen == 0 || seen >= 27, "{seen} cases");
}

#[test]
fn every_convolutional_family_gives_the_references_pictures_as_onnx() {
    if !runtime() {
        return;
    }
    let mut seen = 0;
    for case in cases("golden_decoder") {
        let Some(mut tokenizer) = converted(&case, Floats::F32) else { continue };
        for (file, golden, encoded) in case.decoded(tokenizer.factor()) {
            let made = decoded(&case, &mut tokenizer, &encoded);
            near(&format!("{} {file}", case.name), &made.pixels, &golden["decoded_u8"].u8());
            seen += 1;
        }
    }
    for case in family_cases() {
        let Some(mut tokenizer) = converted(&case, Floats::F32) else { continue };
        let golden = crate::support::npz(case.folder.join("golden.npz"));
        let made = decoded(&case, &mut tokenizer, &encoded(&case, &golden["tokens"]));
        near(&case.name, &cropped(&case, &made), &golden["decoded_u8"].u8());
        seen += 1;
    }
    assert!(seen == 0 || seen >= 27, "{seen} cases");
}

/// The pictures of an engine's codes, all of one size.
fn decoded(case: &Case, tokenizer: &mut Tokenizer, encoded: &Encoded) -> PixelBatch {
    let grid = |level: &CodeGrid, i: usize| {
        let area = level.height * level.width;
        let codes = level.codes[i * area..][..area].to_vec();
        Grid { codes, distances: Vec::new(), height: level.height, width: level.width }
    };
    let image =
        |i: usize| Codes { levels: encoded.levels.iter().map(|level| grid(level, i)).collect() };
    let codes: Vec<Codes> = (0..encoded.count).map(image).collect();
    let made = tokenizer.decode(&codes).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let (width, height) = made[0].dimensions();
    let pixels = made.iter().flat_map(|image| image.as_raw().clone()).collect();
    let (height, width) = (height as usize, width as usize);
    PixelBatch { pixels, count: made.len(), height, width, channels: 3 }
}

/// Pictures that differ by a level at most, and seldom: a rounding at a boundary.
fn near(name: &str, made: &[u8], wanted: &[u8]) {
    assert_eq!(made.len(), wanted.len(), "{name}");
    let far = made.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max();
    let count = made.iter().zip(wanted).filter(|(a, b)| a != b).count();
    eprintln!("{name:44} {count} of {} bytes are others", wanted.len());
    assert!(far <= Some(1) && count * 500 <= wanted.len(), "{name}: {far:?}, {count}");
}
