//! Tests what the library says where it refuses: on one line, without anything that a terminal obeys,
//! with the file that it is about, and before anything is written.

use crate::support::*;

use vqtok::{
    Alpha, Decode, DeviceChoice, Error, LabelLevel, Orientation, PillowVersion, PixelSettings,
    Precision, Recipe, Reconstruct, Reject, Repair, ResizeRule, Share, Stage, Tokenize, Tokenizer,
    TokenizerOptions, Train,
};

/// A name that ends a line, clears the screen and takes itself for a setting.
const HOSTILE: &str = "a\n\u{1b}[2J\u{2}size\u{3}";
/// The same for a reader.
const SHOWN: &str = r"a\n\u{1b}[2J\u{2}size\u{3}";

fn said(error: &Error) -> String {
    let flags = error.naming_settings(|name| format!("--{name}"));
    assert!(!flags.contains(char::is_control), "{flags:?}");
    let text = error.to_string();
    assert!(!text.contains(char::is_control), "{text:?}");
    text
}

#[test]
fn what_callers_say_reaches_no_terminal_raw() {
    let same = |error: Error| {
        let text = said(&error);
        assert!(text.contains(SHOWN), "{text}");
    };
    same(Recipe::load(HOSTILE).unwrap_err());
    same(Recipe::parse("name = 3", HOSTILE).unwrap_err());
    same(HOSTILE.parse::<DeviceChoice>().unwrap_err());
    same(HOSTILE.parse::<Precision>().unwrap_err());
    same(Tokenizer::open(HOSTILE).unwrap_err());
    same(vqtok::verify(HOSTILE).unwrap_err());
    for error in [
        HOSTILE.parse::<ResizeRule>().unwrap_err(),
        HOSTILE.parse::<Alpha>().unwrap_err(),
        HOSTILE.parse::<Orientation>().unwrap_err(),
        HOSTILE.parse::<PillowVersion>().unwrap_err(),
        HOSTILE.parse::<LabelLevel>().unwrap_err(),
        format!("{HOSTILE}/2").parse::<Share>().unwrap_err(),
        HOSTILE.parse::<Share>().unwrap_err(),
        Error::invalid(HOSTILE),
        Error::corrupt(HOSTILE, HOSTILE),
    ] {
        said(&error);
    }
    let reject = Reject::new(Stage::Read, HOSTILE).to_string();
    assert_eq!(reject, format!("read: {SHOWN}"));
}

#[test]
fn what_files_say_reaches_no_terminal_raw() {
    let job = Job::new(1).trained();
    let path = job.path("model/config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config["family"] = HOSTILE.into();
    config["provenance"][HOSTILE] = HOSTILE.into();
    std::fs::write(&path, config.to_string()).unwrap();
    let options = TokenizerOptions::new().family("vqtok");
    let text = said(&options.open(job.path("model")).unwrap_err());
    assert!(text.contains(SHOWN) && text.ends_with("leave family out"), "{text}");
    let card = job.expect(0, "inspect model").stdout;
    assert!(!card.contains(|c: char| c.is_control() && c != '\n'), "{card:?}");
    assert!(card.contains(&format!("{SHOWN}, vqvae\n")), "{card}");
    assert!(card.contains(&format!("from: {SHOWN}")), "{card}");
    job.expect(0, "tokenize images --model model --out out");
    let told = job.expect(0, "inspect out").stdout;
    assert!(told.contains(SHOWN) && !told.contains('\u{1b}'), "{told:?}");
}

#[test]
fn recipes_are_regular_files_of_a_text_s_size() {
    let job = Job::new(1);
    let load = |name: &str| said(&Recipe::load(job.path(name).to_str().unwrap()).unwrap_err());
    let pipe = std::process::Command::new("mkfifo").arg(job.path("pipe")).status().unwrap();
    assert!(pipe.success());
    assert!(load("pipe").ends_with("pipe: it is no regular file"));
    std::fs::write(job.path("large.toml"), "#".repeat((1 << 20) + 1)).unwrap();
    assert!(load("large.toml").contains("more than the 1048576 bytes"));
    assert!(load("images").ends_with("it is a folder, where a file is needed"));
    let zeros = said(&Recipe::load("/dev/zero").unwrap_err());
    assert_eq!(zeros, "/dev/zero: it is no regular file");
    let missing = said(&Recipe::load("").unwrap_err());
    assert!(missing.starts_with("recipe '': no such file"), "{missing}");
}

#[test]
fn what_is_wrong_with_a_checkpoint_is_told_with_its_path_once() {
    let job = Job::new(1);
    std::fs::create_dir(job.path("other")).unwrap();
    let zeros = candle_core::Tensor::zeros(3, candle_core::DType::F32, &candle_core::Device::Cpu);
    let tensors = std::collections::HashMap::from([("x.weight", zeros.unwrap())]);
    let file = job.path("other/model.safetensors");
    candle_core::safetensors::save(&tensors, &file).unwrap();
    for path in [job.path("other"), file] {
        let text = said(&Tokenizer::open(&path).unwrap_err());
        let shown = path.display().to_string();
        let told = format!("{shown}: no tokenizer was recognised in the checkpoint");
        assert!(text.starts_with(&told), "{text}");
        assert_eq!(text.matches(&shown).count(), 1, "{text}");
    }
    let done = job.expect(2, "inspect other");
    done.assert_one_line(&["other: no tokenizer was recognised"]);
    let init = job.expect(2, "train images --model m --recipe tiny.toml --init-from other");
    init.assert_one_line(&["other: no tokenizer was recognised"]);
}

#[test]
fn paths_that_are_none_are_refused_and_shown() {
    let job = Job::new(2).trained();
    let images = [job.path("images")];
    let mut tokenizer = Tokenizer::open(job.path("model")).unwrap();
    job.expect(0, "tokenize images --model model --out out");
    let decode = Decode::new(job.path("out"));
    for error in [
        decode.clone().out("").run(&mut tokenizer, &mut ()).unwrap_err(),
        Tokenize::new(&images, "").run(&mut tokenizer, &mut ()).unwrap_err(),
        Reconstruct::new(&images, "").run(&mut tokenizer, &mut ()).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Setting { name: "out", .. }), "{error:?}");
        assert!(said(&error).starts_with("out is an empty path"), "{error}");
    }
    let error = decode.sheet("").run(&mut tokenizer, &mut ()).unwrap_err();
    assert!(said(&error).starts_with("sheet is an empty path"), "{error}");
    let error = Train::new(&images, "").run(&mut ()).unwrap_err();
    assert!(said(&error).starts_with("model is an empty path"), "{error}");
    assert!(said(&Tokenizer::open("").unwrap_err()).starts_with("'': "));
    assert!(said(&vqtok::verify("").unwrap_err()).starts_with("'': "));
}

#[test]
fn a_size_of_no_pixel_is_refused_as_the_model_is_opened() {
    let job = Job::new(1).trained();
    let options = TokenizerOptions::new().pixels(PixelSettings::new().size(0));
    let error = options.open(job.path("model")).unwrap_err();
    assert_eq!(said(&error), "size is at least 1, not 0");
    assert!(matches!(error, Error::Setting { name: "size", .. }), "{error:?}");
}

#[test]
fn another_model_is_told_as_such() {
    let job = Job::new(2).trained();
    job.expect(0, "tokenize images --model model --out out");
    job.expect(0, "train images --model second --recipe tiny.toml --seed 9");
    let mut second = Tokenizer::open(job.path("second")).unwrap();
    let tokenize = Tokenize::new([job.path("images")], job.path("out"));
    let text = said(&tokenize.run(&mut second, &mut ()).unwrap_err());
    assert!(text.contains("was made with another model (vqtok with weights "), "{text}");
    assert!(text.contains("this run has vqtok with weights "), "{text}");
    assert!(text.len() < 400 && text.contains("use another out"), "{text}");
}

#[test]
fn a_folder_in_the_place_of_a_shard_is_for_its_owner_to_move() {
    let job = Job::new(9).trained();
    job.expect(0, "tokenize images --model model --out out --shard-rows 5");
    let shard = job.path("out/tokens/part-00001.parquet");
    std::fs::remove_file(&shard).unwrap();
    std::fs::create_dir(&shard).unwrap();
    let repair = Repair::new(job.path("out")).model(job.path("model"), TokenizerOptions::new());
    let text = said(&repair.run(&mut ()).unwrap_err());
    assert!(text.contains("part-00001.parquet: it is a folder"), "{text}");
    assert!(text.ends_with("move it away, then run `vqtok repair`"), "{text}");
    assert!(job.path("out/dataset.json").exists());
    std::fs::remove_dir(&shard).unwrap();
    assert!(repair.run(&mut ()).unwrap().is_clean());
}

#[test]
fn the_types_of_public_fields_have_public_names() {
    fn sent<T: Send>() {}
    sent::<Tokenizer>();
    fn adversarial(report: &vqtok::StepReport) -> Option<&vqtok::AdversarialReport> {
        report.adversarial.as_ref()
    }
    fn levels(dataset: &vqtok::DatasetSummary) -> &[vqtok::dataset::LevelSummary] {
        &dataset.codebook.levels
    }
    fn limits(preparation: &vqtok::recipe::Preparation) -> &vqtok::recipe::Limits {
        &preparation.limits
    }
    let _ = (adversarial, levels, limits);
}
