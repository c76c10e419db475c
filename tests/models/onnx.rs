//! Holds tokenizers in ONNX files to what Python's onnxruntime gives for them: every shape of pixels
//! and codes under `tests/data/onnx`, and ../shared/golden_onnx. Where no ONNX Runtime is found the
//! tests of it are passed over with a line; CI names one by ORT_DYLIB_PATH, which then must be there.

use std::path::{Path, PathBuf};

use crate::support::{Job, npz, shared};
use serde_json::Value;
use vqtok::{Codes, OnnxSettings, PixelLayout, RgbImage, Tokenizer, TokenizerOptions};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx").join(name)
}

/// Whether there is a runtime; says so where there is none.
fn runtime() -> bool {
    let found = TokenizerOptions::new().check_device_for(data("dynamic"));
    match found {
        Ok(()) => true,
        Err(error) if error.to_string().contains("isn't found") => {
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(data("expected.json")).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect()
}

/// The pictures that what is expected was made of: four of 16 x 16.
fn pictures(expected: &Value) -> Vec<RgbImage> {
    let bytes: Vec<u8> = numbers(&expected["images"]).iter().map(|&n| n as u8).collect();
    bytes
        .chunks(16 * 16 * 3)
        .map(|some| RgbImage::from_raw(16, 16, some.to_vec()).unwrap())
        .collect()
}

fn tokens(codes: &[Codes], level: usize) -> Vec<Vec<u32>> {
    codes.iter().map(|codes| codes.levels[level].codes.clone()).collect()
}

#[test]
fn every_shape_of_pixels_and_codes_gives_what_onnxruntime_gives_in_python() {
    if !runtime() {
        return;
    }
    let expected = expected();
    let images = pictures(&expected);
    let cases = expected["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 8);
    for (name, case) in cases {
        let mut tokenizer = Tokenizer::open(data(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let levels = case["tokens"].as_array().unwrap();
        assert_eq!((tokenizer.levels(), tokenizer.codes()), (levels.len(), 32), "{name}");
        assert_eq!(tokenizer.factor(), [4, 4], "{name}");
        let codes = tokenizer.encode(&images).unwrap_or_else(|e| panic!("{name}: {e}"));
        for (level, wanted) in levels.iter().enumerate() {
            let wanted: Vec<_> = wanted.as_array().unwrap().iter().map(numbers).collect();
            assert_eq!(tokens(&codes, level), wanted, "{name}, level {level}");
        }
        let side = if name == "coarse" { 2 } else { 4 };
        let last = codes[0].levels.last().unwrap();
        assert_eq!((last.height, last.width), (side, side), "{name}");
        assert_eq!(tokenizer.has_decoder(), case.get("pixels").is_some(), "{name}");
        if let Some(pixels) = case.get("pixels") {
            let made = tokenizer.decode(&codes).unwrap_or_else(|e| panic!("{name}: {e}"));
            for (image, wanted) in made.iter().zip(pixels.as_array().unwrap()) {
                let bytes: Vec<u32> = image.as_raw().iter().map(|&byte| byte.into()).collect();
                assert_eq!(bytes, numbers(wanted), "{name}");
            }
        }
    }
}

#[test]
fn a_custom_tokenizer_of_pytorch_gives_the_same_tokens_and_pixels() {
    let Some(folder) = shared("golden_onnx/vqvae_custom").filter(|_| runtime()) else { return };
    let golden = npz(folder.join("golden.npz"));
    let open = |i: usize| image::open(folder.join(format!("image{i}.png"))).unwrap().to_rgb8();
    let images: Vec<RgbImage> = (0..4).map(open).collect();
    let mut tokenizer = Tokenizer::open(&folder).unwrap();
    let codes = tokenizer.encode(&images).unwrap();
    let found: Vec<i64> = tokens(&codes, 0).concat().into_iter().map(i64::from).collect();
    assert_eq!(found, golden["tokens"].i64());
    let made = tokenizer.decode(&codes).unwrap();
    let floats = golden["decoded"].f32();
    for (image, planes) in made.iter().zip(floats.chunks(3 * 64 * 64)) {
        for (place, &byte) in image.as_raw().iter().enumerate() {
            let wanted = planes[place % 3 * 64 * 64 + place / 3] * 127.5 + 127.5;
            let wanted = wanted.clamp(0.0, 255.0).round();
            assert!((f32::from(byte) - wanted).abs() <= 1.0, "{place}: {byte}, {wanted}");
        }
    }
}

#[test]
fn codes_do_not_depend_on_the_images_beside_it_nor_on_their_sizes() {
    if !runtime() {
        return;
    }
    let images = pictures(&expected());
    // As the exporter fixed it, and as it suits: a lone image takes lanes that nobody else fills.
    for name in ["fixed_batch", "flat_i32"] {
        let mut tokenizer = Tokenizer::open(data(name)).unwrap();
        let together = tokenizer.encode(&[&images[..], &images[..3]].concat()).unwrap();
        for (index, image) in images.iter().enumerate() {
            let alone = tokenizer.encode(std::slice::from_ref(image)).unwrap();
            assert_eq!(tokens(&alone, 0)[0], tokens(&together, 0)[index], "{name}");
        }
        assert_eq!(tokens(&together[4..], 0), tokens(&together[..3], 0), "{name}");
    }
    let mut tokenizer = Tokenizer::open(data("dynamic")).unwrap();
    let grow = |width, height| {
        image::imageops::resize(&images[0], width, height, image::imageops::FilterType::Nearest)
    };
    let sizes = [(16, 16), (32, 16), (30, 21), (16, 64)];
    let codes = tokenizer.encode(&sizes.map(|(w, h)| grow(w, h))).unwrap();
    for ((width, height), codes) in sizes.into_iter().zip(&codes) {
        let grid = (height as usize / 4, width as usize / 4);
        assert_eq!((codes.levels[0].height, codes.levels[0].width), grid, "{width}x{height}");
    }
    let made = tokenizer.decode(&codes).unwrap();
    assert_eq!((made[2].width(), made[2].height()), (28, 20));
    assert!(
        tokenizer
            .encode(&[grow(3, 16)])
            .unwrap_err()
            .to_string()
            .contains("smaller than one token")
    );
}

#[test]
fn one_file_with_what_it_does_not_say_is_the_model_of_its_folder() {
    if !runtime() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, expected) = (dir.path().join("any.onnx"), expected());
    std::fs::copy(data("flat_i32/encoder.onnx"), &file).unwrap();
    let said = OnnxSettings {
        codes: Some(32),
        layout: Some(PixelLayout::Nchw),
        mean: Some(vec![0.0]),
        std: Some(vec![255.0]),
    };
    let pixels = vqtok::PixelSettings::new().size(16).resize(vqtok::ResizeRule::default());
    let options = TokenizerOptions::new().onnx(said).pixels(pixels);
    let codes = options.open(&file).unwrap().encode(&pictures(&expected)).unwrap();
    let wanted: Vec<_> = expected["cases"]["flat_i32"]["tokens"][0]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    assert_eq!(tokens(&codes, 0), wanted);
    // A decoder alone knows its codes by their types.
    std::fs::copy(data("dynamic/decoder.onnx"), &file).unwrap();
    let said = OnnxSettings {
        codes: Some(32),
        mean: Some(vec![0.0]),
        std: Some(vec![255.0]),
        ..OnnxSettings::default()
    };
    let mut decoder = TokenizerOptions::new().onnx(said).open(&file).unwrap();
    let made = decoder.decode(&codes).unwrap();
    let other = &expected["cases"]["dynamic"];
    assert_eq!(other["tokens"][0][0], expected["cases"]["flat_i32"]["tokens"][0][0]);
    let bytes: Vec<u32> = made[0].as_raw().iter().map(|&byte| byte.into()).collect();
    assert_eq!(bytes, numbers(&other["pixels"][0]));
}

/// A grid of eight was tried, of which pictures have 30 pixels: tokens of four, the last of them cut.
#[test]
fn a_decoder_alone_may_make_pictures_that_are_no_multiples_of_their_grids() {
    if !runtime() {
        return;
    }
    let mut decoder = Tokenizer::open(data("odd_decoder")).unwrap();
    assert_eq!(decoder.factor(), [4, 4]);
    for (side, pixels) in [(8, 30), (4, 15), (5, 18)] {
        let codes = (0..side * side).map(|code| code as u32 % 32).collect();
        let grid = vqtok::Grid { codes, distances: Vec::new(), height: side, width: side };
        let made = decoder.decode(&[Codes { levels: vec![grid] }]).unwrap();
        assert_eq!(made[0].dimensions(), (pixels, pixels));
    }
}

#[test]
fn outputs_say_what_the_weights_of_a_file_are_held_in() {
    if !runtime() {
        return;
    }
    let job = Job::new(3).trained();
    for floats in ["f32", "f16"] {
        job.expect(0, &format!("convert model --to onnx --precision {floats} --out {floats}"));
        job.expect(0, &format!("tokenize images --model {floats} --out out-{floats}"));
        let dataset = std::fs::read(job.path(&format!("out-{floats}/dataset.json"))).unwrap();
        let dataset: Value = serde_json::from_slice(&dataset).unwrap();
        assert_eq!(dataset["identity"]["precision"], floats);
        job.expect(0, &format!("verify out-{floats}"));
    }
}

#[test]
fn what_a_network_shows_to_be_wrong_is_refused() {
    if !runtime() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx_refused");
    let open = |name: &str| Tokenizer::open(folder.join(name));
    let refused = |name: &str, word: &str| {
        let said = open(name).err().unwrap_or_else(|| panic!("{name}")).to_string();
        assert!(said.contains(word) && said.lines().count() == 1, "{name}: {said}");
    };
    for name in [
        "over_batch",
        "of_the_first",
        "of_the_first_of_3",
        "of_those_before",
        "by_place",
        "in_training",
    ] {
        refused(name, "other tokens where others are beside it");
    }
    refused("at_random", "other tokens every time");
    refused("endless", "memory");
    // A decoder of another factor gives itself away by its first picture.
    let mut model = open("other_sides").unwrap();
    let codes = model.encode(&pictures(&expected())).unwrap();
    let said = model.decode(&codes).unwrap_err().to_string();
    assert!(said.contains("pictures of 8x16 pixels") && said.contains("takes 16x16 for"), "{said}");
}

#[test]
fn images_that_first_go_through_together_at_a_later_size_are_looked_at_then() {
    if !runtime() {
        return;
    }
    let job = job("dynamic");
    let refused = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx_refused/in_training");
    std::fs::create_dir(job.path("trained")).unwrap();
    std::fs::copy(refused.join("encoder.onnx"), job.path("trained/encoder.onnx")).unwrap();
    let settings = std::fs::read_to_string(refused.join("tokenizer.json")).unwrap();
    // One image of this size goes through at a time, so that none is beside another.
    let settings =
        settings.replace("\"resize\": \"none\"", "\"resize\": \"bicubic\", \"size\": 256");
    std::fs::write(job.path("trained/tokenizer.json"), settings).unwrap();
    job.expect(0, "tokenize images --model trained --out one");
    let several = job.expect(2, "tokenize images --model trained --out out --buckets 64x64,32x96");
    several.assert_one_line(&["trained", "other tokens where others are beside it"]);
}

/// A folder with the pictures of what is expected, and a copy of a model.
fn job(model: &str) -> Job {
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for (index, image) in pictures(&expected()).iter().enumerate() {
        image.save(job.path(&format!("images/{index}.png"))).unwrap();
    }
    std::fs::create_dir(job.path("model")).unwrap();
    for entry in std::fs::read_dir(data(model)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, job.path("model").join(path.file_name().unwrap())).unwrap();
    }
    job
}

#[test]
fn what_the_settings_file_says_wrongly_of_pixels_is_told_with_its_name() {
    if !runtime() {
        return;
    }
    let job = job("dynamic");
    let path = job.path("model/tokenizer.json");
    let mut settings: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for (name, value, word) in [
        ("resize", None, "pass --resize RULE, or write `resize` into its tokenizer.json"),
        ("resize", Some("wobbly"), "the model's tokenizer.json: no resize rule \"wobbly\""),
        ("alpha", Some("pink"), "the model's tokenizer.json: alpha \"pink\""),
        ("orientation", Some("up"), "the model's tokenizer.json: orientation \"up\""),
    ] {
        settings["resize"] = "none".into();
        match value {
            Some(value) => settings[name] = value.into(),
            None => drop(settings.as_object_mut().unwrap().remove(name)),
        }
        std::fs::write(&path, settings.to_string()).unwrap();
        job.expect(2, "tokenize images --model model --out out").assert_one_line(&[word]);
        settings.as_object_mut().unwrap().remove(name);
    }
}

#[test]
fn an_output_is_continued_verified_mended_decoded_and_audited() {
    if !runtime() {
        return;
    }
    let job = job("two_levels");
    const LINE: &str = "tokenize images --model model --out out";
    job.expect(0, LINE);
    job.expect(0, "verify out");
    let whole = job.files("out/tokens");
    std::fs::remove_file(job.path("out/tokens/part-00000.parquet")).unwrap();
    job.expect(0, "repair out --model model");
    assert_eq!(job.files("out/tokens"), whole);
    job.expect(0, "decode out --model model --out decoded");
    assert_eq!(job.files("decoded").len(), 4);
    job.expect(0, "reconstruct images --model model --out sheet.png");
    job.expect(0, "audit out --model model --fail-on none");
    // Anything that the tokens come of makes it another model: what is said, and the bytes.
    let settings = std::fs::read_to_string(job.path("model/tokenizer.json")).unwrap();
    std::fs::write(job.path("model/tokenizer.json"), settings.replace("\"std\": 1", "\"std\": 2"))
        .unwrap();
    job.expect(2, LINE).assert_one_line(&["another model", "onnx with weights"]);
    std::fs::write(job.path("model/tokenizer.json"), settings).unwrap();
    let encoder = std::fs::read(job.path("model/encoder.onnx")).unwrap();
    let named = [&encoder[..], &[0x32, 1, b'x']].concat();
    std::fs::write(job.path("model/encoder.onnx"), named).unwrap();
    job.expect(2, LINE).assert_one_line(&["another model"]);
}
