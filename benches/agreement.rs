//! Owns one question: on how many tokens do our CPU kernels and candle agree, on real photos,
//! through a network whose statistics are a trained one's, and is every other token a near tie?
//!
//! `cargo bench --bench agreement [-- --images DIR] [--count N] [--side PIXELS]` (default: the
//! photos beside the checkout, 500 of them, 256 pixels). The encoder is the f16 VQGAN with random
//! weights; its codebook is placed by k-means over latents of photos, so that the distances between
//! codes, and with them the margins, are those of a trained tokenizer. Ends with an error below
//! 99.99 % or where a differing token's margin is more than the latents' difference explains.

use std::path::PathBuf;

use candle_core::{Device, Tensor};
use vqtok::internals::data::prepare::{Preparation, prepare};
use vqtok::internals::data::resize::rules::ResizeRule;
use vqtok::internals::data::{Alpha, subsample, walk};
use vqtok::internals::engine::candle::CandleEngine;
use vqtok::internals::engine::cpu::{CpuEngine, kernels};
use vqtok::internals::engine::{Engine, PixelBatch};
use vqtok::internals::model::Model;
use vqtok::internals::model::config::Parts;
use vqtok::internals::train::network::random::Draws;
use vqtok::internals::train::quantizer::kmeans::KMeans;

#[path = "common/encoder.rs"]
mod encoder;

const CODES: usize = 1024;
const DIM: usize = 256;
const BATCH: usize = 8;
const AGREEMENT_MIN: f64 = 0.9999;

struct Settings {
    images: PathBuf,
    count: usize,
    side: usize,
}

fn settings() -> Settings {
    let photos = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/images/photos");
    let mut settings = Settings { images: photos.into(), count: 500, side: 256 };
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().expect("a value behind the flag");
        match arg.as_str() {
            "--images" => settings.images = value.into(),
            "--count" => settings.count = value.parse().expect("a number of images"),
            "--side" => settings.side = value.parse().expect("a number of pixels"),
            other => panic!("unknown flag {other}"),
        }
    }
    settings
}

fn main() -> vqtok::Result<()> {
    let settings = settings();
    let batches = photos(&settings)?;
    let isa = kernels::Isa::detect()?;
    let (config, mut weights) = encoder::f16_vqgan(CODES, Parts::Encoder);
    let mut engine = CpuEngine::new(config.clone(), weights.clone(), isa)?;
    let codes = trained_codes(&mut engine, &batches)?;
    let table = Tensor::from_slice(&codes, (CODES, DIM), &Device::Cpu)?;
    weights.insert("quantize.embedding.weight".into(), table);
    let mut own = CpuEngine::new(config.clone(), weights.clone(), isa)?;
    let mut reference = CandleEngine::new(Model::load(config, weights, &Device::Cpu)?);

    let (mut tokens, mut used) = (0usize, vec![false; CODES]);
    let mut differing: Vec<f64> = Vec::new();
    let mut margins: Vec<f64> = Vec::new();
    for batch in &batches {
        let (ours, theirs) = (own.encode(batch)?, reference.encode(batch)?);
        let latents = own.latents(batch)?.expect("a family with kernels of its own").concat();
        let pairs = ours.levels[0].codes.iter().zip(&theirs.levels[0].codes);
        for ((a, b), z) in pairs.zip(latents.chunks_exact(DIM)) {
            tokens += 1;
            used[*a as usize] = true;
            if a != b {
                differing.push(margin(z, &codes, *a as usize, *b as usize));
            } else if tokens % 97 == 0 {
                margins.push(second_best(z, &codes, *a as usize));
            }
        }
    }
    report(tokens, &used, &differing, &mut margins);
    Ok(())
}

fn report(tokens: usize, used: &[bool], differing: &[f64], margins: &mut [f64]) {
    margins.sort_by(f64::total_cmp);
    let agreement = 1.0 - differing.len() as f64 / tokens as f64;
    println!("{tokens} tokens, {} of {CODES} codes used", used.iter().filter(|u| **u).count());
    println!("{} tokens differ: agreement {:.4} %", differing.len(), 100.0 * agreement);
    println!(
        "relative margin of nearest and second nearest code, tokens that agree: median {:.1e}, \
         1st percentile {:.1e}",
        margins[margins.len() / 2],
        margins[margins.len() / 100]
    );
    for margin in differing {
        println!(
            "a differing token: the two codes' distances differ by {margin:.1e} of themselves"
        );
    }
    assert!(agreement >= AGREEMENT_MIN, "agreement below {AGREEMENT_MIN}");
    // Latents differ by some 1e-5 of their size, which moves the difference of two distances by
    // as much; more would be an error of a kernel and no near tie.
    assert!(differing.iter().all(|margin| *margin < 1e-4), "a differing token is no near tie");
}

/// Images as the network sees them, whole batches.
fn photos(settings: &Settings) -> vqtok::Result<Vec<PixelBatch>> {
    let how = Preparation {
        limits: Default::default(),
        alpha: Alpha::White,
        orientation: Default::default(),
        pillow: Default::default(),
        rule: ResizeRule::Bicubic,
        size: Some(settings.side as u32),
        channels: 3,
        views: None,
        buckets: None,
    };
    let found = subsample::evenly(walk(std::slice::from_ref(&settings.images))?, settings.count)?;
    let images: Vec<_> = found.iter().filter_map(|f| prepare(&f.uri, &how).ok()).collect();
    let side = settings.side;
    let batches = images.chunks(BATCH).map(|chunk| PixelBatch {
        pixels: chunk.iter().flat_map(|image| image.pixels.iter().copied()).collect(),
        count: chunk.len(),
        height: side,
        width: side,
        channels: 3,
    });
    Ok(batches.collect())
}

/// K-means over the latents of some of the photos.
fn trained_codes(engine: &mut CpuEngine, batches: &[PixelBatch]) -> vqtok::Result<Vec<f32>> {
    let mut rows = Vec::new();
    for batch in batches.iter().step_by(batches.len().div_ceil(12).max(1)) {
        rows.extend(engine.latents(batch)?.expect("a family with kernels of its own").concat());
    }
    let mut draws = Draws::new(1, "k-means", 0);
    Ok(KMeans::of(&Device::Cpu, &rows, CODES, DIM, 10, &mut draws, &mut |_, _| Ok(()))?.centres)
}

fn distance(z: &[f32], code: &[f32]) -> f64 {
    z.iter().zip(code).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

fn code(codes: &[f32], index: usize) -> &[f32] {
    &codes[index * DIM..][..DIM]
}

/// |d(a) - d(b)| / d(a), in float64.
fn margin(z: &[f32], codes: &[f32], a: usize, b: usize) -> f64 {
    let (a, b) = (distance(z, code(codes, a)), distance(z, code(codes, b)));
    (a - b).abs() / a.max(f64::MIN_POSITIVE)
}

/// Margin of the nearest code and the nearest other one.
fn second_best(z: &[f32], codes: &[f32], best: usize) -> f64 {
    let others = (0..CODES).filter(|k| *k != best).map(|k| margin(z, codes, best, k));
    others.fold(f64::INFINITY, f64::min)
}
