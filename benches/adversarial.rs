//! Owns one question: what does a discriminator cost, and what does it give? The same small VQGAN
//! f4 is trained twice on 64 px photos and CIFAR-10, without one and with one from half-way on.
//! Prints the held-out PSNR around its start and at the end, and how sharp the reconstructions are
//! (their gradient energy as a share of the images'); draws one picture: images, without, with.
//!
//! `cargo bench --bench adversarial [-- DIR]` (twenty minutes on two cores; default: a temporary
//! folder, of which the picture stays). Trainings that DIR holds are gone on with, or taken as they
//! are. Reads the photos and the CIFAR-10 archive beside the checkout. The exit code says whether
//! PSNR fell by no more than 1 dB and the reconstructions are sharper.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use image::{Rgb, RgbImage, imageops};
use serde_json::Value;
use vqtok::internals::data::contact_sheet::SheetLayout;
use vqtok::internals::data::source::file;
use vqtok::internals::data::{subsample, walk};

const PHOTOS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/images/photos");
const CIFAR: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/images/small/cifar10-train-jpg.tar.xz");
const CIFAR_IMAGES: usize = 500;
const SIDE: usize = 64;
const PICTURES: usize = 8;
const STEPS: usize = 400;
/// Step after which the discriminator counts.
const START: usize = STEPS / 2;
const FALL_DB_MAX: f64 = 1.0;

const RECIPE: &str = r#"
name = "adversarial-bench"
description = "VQGAN f4, 0.7 million weights, 64 px"

[model]
channels = 3
codes = 512
dim = 8

[model.architecture]
kind = "vqgan"
ch = 32
widths = [32, 32, 64]
res_blocks = 1
attention = [false, false, false]
mid_attention = false
z_channels = 32
norm_groups = 8
norm_eps = 1e-6

[data]
size = 64

[train]
steps = 400
batch_size = 4
learning_rate = 1e-3
loss = "l1"
weight_average = 0.99
held_out_share = 0.06
log_every = 10
checkpoint_every = 100

[train.codebook]
start_after = 40

[train.augment]
flip = 0.5
"#;

const DISCRIMINATOR: &str = r#"
[train.adversarial]
start = 0.5
weight = 0.4
ramp_share = 0.2
filters = 32
learning_rate = 2e-4
"#;

fn main() -> ExitCode {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    // cargo passes `--bench`.
    let dir = std::env::args().skip(1).find(|word| !word.starts_with("--"));
    let dir = dir.map_or_else(|| scratch.path().to_path_buf(), PathBuf::from);
    let images = dir.join("images");
    gather(&images);
    let [without, with] = ["without", "with"].map(|name| {
        let recipe =
            if name == "with" { format!("{RECIPE}{DISCRIMINATOR}") } else { RECIPE.into() };
        let model = dir.join(name);
        train(&images, &model, &recipe);
        Run::read(&model)
    });
    println!(
        "| | held-out PSNR at {START} | lowest behind it | at the end | sharpness | rollbacks |"
    );
    println!("|---|---|---|---|---|---|");
    for (name, run) in [("without", &without), ("with", &with)] {
        println!(
            "| {name} | {:.2} dB | {:.2} dB | {:.2} dB | {:.3} | {} |",
            run.at_start, run.lowest_behind, run.last, run.sharpness, run.rollbacks
        );
    }
    let picture = std::env::temp_dir().join("vqtok-adversarial.png");
    rows(&without, &with).save(&picture).expect("the picture");
    println!("images, without, with: {}", picture.display());
    let fell = with.at_start - with.lowest_behind;
    match fell <= FALL_DB_MAX && with.sharpness > without.sharpness {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// The photos, and CIFAR-10's at even distances, under names that every machine gives them.
fn gather(images: &Path) {
    if images.exists() {
        return;
    }
    let archive = tempfile::tempdir().expect("a scratch folder");
    let tar = Command::new("tar").arg("-xJf").arg(CIFAR).arg("-C").arg(archive.path()).status();
    assert!(tar.expect("tar").success(), "tar failed");
    for (from, name, count) in
        [(Path::new(PHOTOS), "photos", usize::MAX / 4), (archive.path(), "cifar", CIFAR_IMAGES)]
    {
        let walked = walk(&[from.to_path_buf()]).expect("a folder of images");
        for found in subsample::evenly(walked, count).expect("images") {
            let bytes = file::read(&found.uri, &Default::default()).expect("an image");
            let path = images.join(name).join(&found.key);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, bytes).expect("a copy");
        }
    }
}

/// Trains `model` unless it stands; goes on with it where it was cut.
fn train(images: &Path, model: &Path, recipe: &str) {
    if model.join("model.safetensors").exists() {
        return;
    }
    let file = model.with_extension("toml");
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(&file, recipe).expect("the recipe");
    let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
    command.arg("train").arg(images).arg("--model").arg(model).arg("--recipe").arg(&file);
    if model.join("state").exists() {
        command.arg("--resume");
    }
    assert!(command.status().expect("the binary starts").success(), "the training failed");
}

/// What a training's own record says of it.
struct Run {
    at_start: f64,
    lowest_behind: f64,
    last: f64,
    sharpness: f64,
    rollbacks: u64,
    /// Held-out images and their reconstructions at the end.
    pictures: [Vec<RgbImage>; 2],
}

impl Run {
    fn read(model: &Path) -> Run {
        let record = std::fs::read_to_string(model.join("training.jsonl")).expect("the record");
        let lines: Vec<Value> =
            record.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let looks: Vec<(usize, f64)> = lines
            .iter()
            .filter_map(|line| {
                Some((line["step"].as_u64()? as usize, line["psnr_held_out"].as_f64()?))
            })
            .collect();
        let behind = looks.iter().filter(|(step, _)| *step > START).map(|(_, psnr)| *psnr);
        let before = looks.iter().rfind(|(step, _)| *step <= START);
        let summary = lines.last().expect("a summary");
        let sheet = model.join(format!("samples/step-{STEPS:06}.png"));
        let sheet = image::open(&sheet).expect("the last picture").to_rgb8();
        Run {
            at_start: before.expect("a look before the start").1,
            lowest_behind: behind.fold(f64::INFINITY, f64::min),
            last: summary["evaluation"]["psnr"].as_f64().expect("a PSNR"),
            sharpness: summary["evaluation"]["sharpness"].as_f64().expect("a sharpness"),
            rollbacks: summary["rollbacks"].as_u64().expect("a count"),
            pictures: [0, 1].map(|row| pictures(&sheet, row)),
        }
    }
}

/// One row of a training's own sheet: the images (0) or their reconstructions (1).
fn pictures(sheet: &RgbImage, row: usize) -> Vec<RgbImage> {
    let side = SIDE as u32;
    let layout = SheetLayout::new(PICTURES, side, side);
    let places = (0..PICTURES).map(|i| layout.places(i)[row]);
    let picture = |place| layout.picture(sheet, place, (side, side));
    places.map(|place| picture(place).expect("a sheet of a training")).collect()
}

/// Images, then what each model makes of them, twice their size.
fn rows(without: &Run, with: &Run) -> RgbImage {
    const TILE: usize = 2 * SIDE + 4;
    let size = ((PICTURES * TILE) as u32, 3 * TILE as u32);
    let mut sheet = RgbImage::from_pixel(size.0, size.1, Rgb([255; 3]));
    let rows = [&without.pictures[0], &without.pictures[1], &with.pictures[1]];
    for (y, row) in rows.into_iter().enumerate() {
        for (x, picture) in row.iter().enumerate() {
            let side = 2 * SIDE as u32;
            let large = imageops::resize(picture, side, side, imageops::FilterType::Nearest);
            imageops::replace(&mut sheet, &large, (x * TILE) as i64, (y * TILE) as i64);
        }
    }
    sheet
}
