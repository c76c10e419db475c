//! Sets every setting of every recipe to another value: each changes what a training tells or
//! leaves, or is refused by name. A setting that is new has to have an effect, too.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};
use toml::{Table, Value};

use super::{RECIPES, Recipe};
use crate::data::Take;
use crate::error::Result;
use crate::train::input::images::Images;
use crate::train::{self, Event, Observer};

/// A value by the path to it.
fn at<'a>(value: &'a mut Value, path: &str) -> &'a mut Value {
    path.split('.').fold(value, |value, name| {
        let table = value.as_table_mut().expect("a table on the way");
        table.entry(name).or_insert_with(|| Value::Table(Table::new()))
    })
}

fn set(value: &mut Value, path: &str, text: &str) {
    let line: Table = format!("x = {text}").parse().unwrap();
    *at(value, path) = line["x"].clone();
}

/// Paths of all settings; arrays are one.
fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Table(table) => {
            for (name, value) in table {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &below, found);
            }
        }
        _ => found.push(path.to_string()),
    }
}

/// A recipe that comes with vqtok, its sizes cut so that it trains in a blink.
fn small(name: &str) -> Value {
    // What a run gave is beside a recipe and no setting of it.
    let full = Recipe { expected: None, ..Recipe::load(name).unwrap() };
    let full = full.to_toml().unwrap();
    let mut recipe: Value = full.parse::<Table>().unwrap().into();
    for (path, text) in [
        ("model.codes", "32"),
        ("model.dim", "4"),
        ("data.size", "16"),
        ("train.steps", "12"),
        ("train.batch_size", "4"),
        ("train.checkpoint_every", "5"),
        ("train.log_every", "3"),
        ("train.pictures", "2"),
        ("train.held_out_share", "0.3"),
        ("train.weight_average", "0.9"),
        ("train.codebook.revive_every", "2"),
        ("train.watch.every_share", "0.2"),
        ("train.watch.images", "2"),
        // So that kinds of recipes are left, each of which is gone through once.
        ("train.learning_rate", "1e-3"),
        ("train.betas", "[0.9, 0.95]"),
        ("train.codebook.start_after", "4"),
        ("train.augment.flip", "0.5"),
        ("description", "\"\""),
    ] {
        set(&mut recipe, path, text);
    }
    if at(&mut recipe, "train.micro_batch").as_integer() > Some(0) {
        set(&mut recipe, "train.micro_batch", "2");
    }
    let cut: &[(&str, &str)] = match recipe["model"]["architecture"]["kind"].as_str() {
        Some("vqvae") => &SMALL_VQVAE,
        _ => &SMALL_VQGAN,
    };
    cut.iter().for_each(|(path, text)| set(&mut recipe, path, text));
    recipe
}

const SMALL_VQVAE: [(&str, &str); 3] = [
    ("model.architecture.hidden", "4"),
    ("model.architecture.res_blocks", "1"),
    ("model.architecture.res_hidden", "4"),
];

const SMALL_VQGAN: [(&str, &str); 14] = [
    ("model.architecture.ch", "4"),
    ("model.architecture.widths", "[4, 4]"),
    ("model.architecture.attention", "[false, true]"),
    ("model.architecture.z_channels", "4"),
    ("model.architecture.norm_groups", "2"),
    ("model.architecture.res_blocks", "1"),
    ("train.adversarial.start", "0.3"),
    ("train.adversarial.alone_share", "0.1"),
    ("train.adversarial.ramp_share", "0.2"),
    // More than its tokens use, so that some are dead.
    ("model.codes", "128"),
    ("train.recompute", "true"),
    ("train.adversarial.filters", "2"),
    ("train.adversarial.layers", "1"),
    ("train.adversarial.learning_rate", "1e-3"),
];

/// Other values where half, twice, one more, or the opposite won't do.
const OTHERS: [(&str, &str); 34] = [
    ("model.architecture.kind", "\"nothing\""),
    ("model.architecture.widths", "[8, 4]"),
    ("model.architecture.norm_groups", "1"),
    ("model.architecture.norm_eps", "1e-2"),
    ("model.architecture.hidden", "6"),
    ("model.architecture.ch", "8"),
    ("model.architecture.parts", "\"encoder\""),
    ("model.quantizer.rule", "\"l2-normalised\""),
    ("model.quantizer.levels", "[8, 4]"),
    ("model.channels", "2"),
    ("model.depth", "2"),
    ("data.size", "32"),
    ("data.resize", "\"box\""),
    ("data.alpha", "\"drop\""),
    ("data.orientation", "\"ignore\""),
    ("data.pillow", "13"),
    ("train.loss", "\"mse\""),
    ("train.estimator", "\"rotation\""),
    ("train.warm_up_share", "0.9"),
    ("train.betas", "[0.5, 0.5]"),
    ("train.epsilon", "1e-2"),
    ("train.clip_norm", "1e-3"),
    ("train.evaluation_images_max", "1"),
    ("train.perceptual.weight", "0.0"),
    ("train.codebook.method", "\"gradient\""),
    ("train.codebook.start", "\"random\""),
    ("train.codebook.start_after", "0"),
    ("train.codebook.kmeans_rows_per_code", "1"),
    ("train.codebook.epsilon", "0.5"),
    ("train.adversarial.loss", "\"non-saturating\""),
    ("train.adversarial.cap", "1e-4"),
    ("train.adversarial.alone_share", "0.4"),
    ("train.adversarial.betas", "[0.1, 0.2]"),
    ("train.watch.dead_usage", "1.0"),
];

/// Settings whose effect is tested elsewhere: what a list of recipes says; the job of tokenizing, by
/// `tests/commands/settings_tokenizing.rs`; what takes more than a few steps, by the tests of
/// `train::revival` and of `train::watch`.
const ELSEWHERE: [&str; 7] = [
    "description",
    "tokenize.shard_rows",
    "tokenize.on_error",
    "train.codebook.revive_until",
    "train.codebook.rearm_usage",
    "train.watch.fall_db",
    "train.watch.overfitting_db",
];

fn other(path: &str, value: &Value) -> Value {
    if let Some((_, text)) = OTHERS.iter().find(|(of, _)| *of == path) {
        return format!("x = {text}").parse::<Table>().unwrap()["x"].clone();
    }
    match value {
        Value::Boolean(yes) => Value::Boolean(!yes),
        Value::Integer(n) => Value::Integer(n + 1),
        Value::Float(v) if *v == 0.0 => Value::Float(0.5),
        Value::Float(v) => Value::Float(v / 2.0),
        Value::String(text) => Value::String(format!("{text}x")),
        Value::Array(items) => {
            let mut items = items.clone();
            if let Some(item) = items.first_mut() {
                *item = other("", item);
            }
            Value::Array(items)
        }
        _ => panic!("{path} is no setting"),
    }
}

/// What a training tells.
#[derive(Default)]
struct Told(Vec<String>);

impl Observer for Told {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            // Times apart.
            Event::Estimate { memory_bytes, steps, images, parameters, .. } => {
                self.0.push(format!("{memory_bytes} {steps} {images} {parameters}"));
            }
            Event::Step { report, .. } => self.0.push(format!("{report:?}")),
            event => self.0.push(format!("{event:?}")),
        }
    }
}

/// Pictures of all kinds: high and wide, with transparency, and one that lies on its side.
fn draw(folder: &Path) {
    for index in 0..14u32 {
        let (width, height) = (17 + index * 5 % 23, 17 + index * 11 % 23);
        let picture = image::RgbaImage::from_fn(width, height, |x, y| {
            let wave = |a: u32| ((x * a + y * (index + 2) + index * 31) * 7 % 256) as u8;
            image::Rgba([
                wave(3),
                wave(5),
                wave(1 + index % 4),
                [255, 0, 128][(x / 6 % 3) as usize],
            ])
        });
        picture.save(folder.join(format!("{index}.png"))).unwrap();
    }
}

/// In memory where there is such a place: what is written is flushed many times.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What a training by `recipe` tells and leaves; or why it is refused.
fn outcome(recipe: &Value, images: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let recipe = Recipe::parse(&toml::to_string(recipe).unwrap(), "changed")?;
    let temp = scratch();
    let folder = temp.path().join("model");
    let data = Images::list(&[images.to_path_buf()], Take::default(), recipe.preparation())?
        .augmented(recipe.train.augment, recipe.train.seed);
    let mut told = Told::default();
    train::run(&recipe.model_config(), &recipe.train, &data, &folder, false, &mut told)?;
    let mut left = BTreeMap::from([("told".to_string(), told.0.join("\n").into_bytes())]);
    // Not what repeats the settings.
    for entry in walkdir::WalkDir::new(&folder) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(&folder).unwrap().to_string_lossy().into_owned();
        let repeats = ["state/", "training.html", "tensorboard"];
        if entry.file_type().is_file() && !repeats.iter().any(|r| name.starts_with(r)) {
            let digest = Sha256::digest(std::fs::read(entry.path()).unwrap());
            left.insert(name, digest.to_vec());
        }
    }
    Ok(left)
}

#[test]
fn every_setting_of_every_recipe_has_an_effect_or_is_refused_by_name() {
    let temp = scratch();
    draw(temp.path());
    let mut idle = Vec::new();
    let mut tried: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (name, _) in RECIPES {
        let recipe = small(name);
        let mut before = None;
        let mut paths = vec!["model.depth".to_string()];
        leaves(&recipe, "", &mut paths);
        for path in paths.iter().filter(|path| !ELSEWHERE.contains(&path.as_str())) {
            let mut changed = recipe.clone();
            let value = at(&mut changed, path);
            let given = if value.is_table() { Value::Integer(1) } else { value.clone() };
            *value = other(path, &given);
            // The same change of the same kind of recipe needn't be tried again.
            let mut kind = changed.clone();
            set(&mut kind, "name", "\"\"");
            if tried.entry(path.clone()).or_default().contains(&kind) {
                continue;
            }
            tried.entry(path.clone()).or_default().push(kind);
            let before = before.get_or_insert_with(|| {
                outcome(&recipe, temp.path()).unwrap_or_else(|e| panic!("{name}: {e}"))
            });
            let setting = path.rsplit('.').next().unwrap();
            match outcome(&changed, temp.path()) {
                Ok(after) if after == *before => {
                    idle.push(format!("{name}: {path}"));
                }
                Ok(_) => {}
                Err(error) => {
                    let (error, asked) = (error.to_string(), at(&mut changed, path).to_string());
                    let asked = asked.trim_matches('"');
                    if !error.contains(setting) && !error.contains(asked) {
                        idle.push(format!("{name}: {path}: refused as {error}"));
                    }
                }
            }
        }
    }
    assert!(idle.is_empty(), "without an effect and without a word:\n{}", idle.join("\n"));
}
