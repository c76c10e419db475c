//! Owns one question: what does the pipeline cost beside the engine? The same images go through
//! the bare engine (pixels ready in memory) and through the whole job (files to shards),
//! interleaved, and the ratio of the rates is printed.
//!
//! `cargo bench --bench end_to_end -- [FOLDER] [IMAGES] [RECIPE]`
//! (default: the photos beside the checkout, 24 images, vqgan-f16-256 with random weights)

use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;
use vqtok::config::Recipe;
use vqtok::data::prepare::{Preparation, prepare};
use vqtok::data::{sample, source};
use vqtok::engine::{self, PixelBatch};
use vqtok::pipeline;
use vqtok::tokens::{CommitMode, FailureRow, Plan, PlanRow, Receipt};
use vqtok::train::CODEBOOK_NAME;
use vqtok::train::parameters::Parameters;
use vqtok::train::{network, random::unit};

const ROUNDS: usize = 3;

struct Silent;
impl pipeline::Observer for Silent {
    fn image(&mut self, _: Option<&FailureRow>) {}
    fn partition(&mut self, _: &Receipt) {}
}

fn main() -> vqtok::Result<()> {
    // cargo passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/images/photos");
    let folder = words.first().map_or(photos, String::as_str);
    let count = words.get(1).map_or(24, |n| n.parse().expect("a number of images"));
    let recipe = Recipe::load(words.get(2).map_or("vqgan-f16-256", String::as_str))?;
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let model = scratch.path().join("model");
    save_untrained(&recipe, &model)?;
    let mut engine = engine::open(&model, None, engine::DeviceChoice::Cpu)?;
    let preparation = recipe.preparation();
    let found = sample::evenly(source::walk(&[PathBuf::from(folder)])?, count)?;
    let batches = prepared(&found, &preparation, recipe.tokenize.batch_size);

    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let started = Instant::now();
        for batch in &batches {
            engine.encode(batch)?;
        }
        bare.push(found.len() as f64 / started.elapsed().as_secs_f64());
        let out = scratch.path().join(format!("out-{round}"));
        let settings = pipeline::Settings {
            preparation: preparation.clone(),
            batch_size: recipe.tokenize.batch_size,
            on_error: recipe.tokenize.on_error,
            mode: CommitMode::New,
            stop: Arc::new(AtomicBool::new(false)),
        };
        let rows = found.iter().enumerate().map(|(i, f)| {
            let (key, uri, bytes) = (f.key.clone(), f.uri.clone(), f.bytes as i64);
            Ok(PlanRow { ordinal: i as i64, key, uri, bytes })
        });
        let identity = pipeline::identity(engine.as_ref(), &preparation, 4096)?;
        let plan = Plan::create_or_open(&out, &identity, rows, 4096)?;
        let started = Instant::now();
        pipeline::run(&settings, &plan, &[0], engine.as_mut(), &mut Silent)?;
        whole.push(found.len() as f64 / started.elapsed().as_secs_f64());
    }
    bare.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    let (bare, whole) = (bare[ROUNDS / 2], whole[ROUNDS / 2]);
    println!("{} images, {}, {ROUNDS} rounds interleaved, medians", found.len(), recipe.name);
    println!("bare engine  {bare:9.3} images/s");
    println!("pipeline     {whole:9.3} images/s");
    println!("ratio        {:9.3}", whole / bare);
    Ok(())
}

/// The recipe's network with its initial weights and a codebook of random rows.
fn save_untrained(recipe: &Recipe, folder: &std::path::Path) -> vqtok::Result<()> {
    let config = recipe.model_config();
    let parameters = Parameters::new();
    network::build(&config, parameters.builder(DType::F32, &Device::Cpu))?;
    parameters.initialize(1)?;
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, var) in parameters.vars() {
        tensors.insert(name, var.as_detached_tensor());
    }
    let shape = (config.quantizer.codes, config.quantizer.dim);
    let rows: Vec<f32> = (0..shape.0 * shape.1).map(|i| unit(7, i as u64)).collect();
    tensors.insert(CODEBOOK_NAME.into(), Tensor::from_vec(rows, shape, &Device::Cpu)?);
    vqtok::checkpoint::folder::save(folder, &config, &tensors)
}

/// The same batches as the pipeline's, in memory.
fn prepared(found: &[source::Found], how: &Preparation, batch_size: usize) -> Vec<PixelBatch> {
    let images: Vec<_> = found.iter().filter_map(|f| prepare(&f.uri, how).ok()).collect();
    images
        .chunks(batch_size)
        .map(|chunk| PixelBatch {
            pixels: chunk.iter().flat_map(|image| image.pixels.iter().copied()).collect(),
            count: chunk.len(),
            height: chunk[0].height,
            width: chunk[0].width,
            channels: how.channels,
        })
        .collect()
}
