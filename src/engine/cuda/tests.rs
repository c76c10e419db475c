//! Holds programs against candle and the reference quantizer: everything but the driver's calls
//! runs here, our kernels on emulated threads, the libraries' products and convolutions as loops.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::host::Host;
use super::program::*;
use super::weights::DeviceWeights;
use super::{decoder, encoder};
use crate::checkpoint::recognise::detect::{DetectOptions, open};
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::tests::{Maker, images, model, vqgan};
use crate::engine::device::Precision;
use crate::engine::interface::{Engine, PixelBatch};
use crate::model::config::*;
use crate::model::{Model, load_quantizer};
use crate::testing::{npz, shared};
use crate::weights::store::Weights;

/// Latents `[rows, dim]`, codes and distances of the first level, and those of further ones.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Encoding {
    pub latents: Vec<f32>,
    pub codes: Vec<u32>,
    pub distances: Vec<f32>,
    pub more: Vec<(Vec<u32>, Vec<f32>)>,
}

pub(super) fn encode(
    packed: &mut DeviceWeights,
    config: &ModelConfig,
    batch: &PixelBatch,
    reverse: bool,
) -> Encoding {
    let size = [batch.height, batch.width];
    let images = [batch.count; 2];
    let program = encoder::program_as(packed, config, images, size).unwrap();
    let mut host = Host::new(packed, &program);
    host.reverse = reverse;
    host.run(&program, &batch.pixels);
    let rows = batch.count * program.grid.0 * program.grid.1;
    let latents = host.result(program.latents, rows * program.dim);
    let mut levels = match &program.result {
        Result::Codes(levels) => levels.iter().map(|level| found(&host, level, batch)).collect(),
        Result::Latents => vec![(vec![], vec![])],
    };
    let (codes, distances) = levels.remove(0);
    Encoding { latents, codes, distances, more: levels }
}

fn found(host: &Host, level: &Level, batch: &PixelBatch) -> (Vec<u32>, Vec<f32>) {
    let count = batch.count * level.grid.0 * level.grid.1;
    let codes = host.result(level.codes, count).iter().map(|v| v.to_bits()).collect();
    (codes, host.result(level.distances, count))
}

/// The latents of every image as rows `[h * w, D]`, by candle.
pub(super) fn reference_latents(engine: &CandleEngine, batch: &PixelBatch) -> Vec<f32> {
    let images = engine.latents(batch).unwrap();
    let rows = images.iter().flat_map(|levels| {
        let rows = levels[0].permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        rows.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    rows.collect()
}

/// Largest difference over the largest magnitude.
pub(super) fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(a.iter().all(|v| v.is_finite()), "not every latent was written");
    let largest = b.iter().fold(0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

/// Channels of latents that are no multiple of eight, as latent-diffusion's.
pub(super) fn network() -> VqganConfig {
    let mut config = vqgan(&[16, 24, 72], 8, 5);
    config.attention = vec![false, true, false];
    config
}

#[test]
fn float32_programs_equal_candle_at_any_size() {
    let (config, weights) = model(network(), QuantizerRule::L2, 50, 8);
    let mut reference =
        CandleEngine::new(Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap());
    let mut packed = DeviceWeights::new(weights, Precision::F32);
    for (count, height, width) in [(2, 16, 16), (1, 24, 12), (3, 9, 13), (1, 36, 20)] {
        let batch = images(count as u64, count, height, width);
        let got = encode(&mut packed, &config, &batch, false);
        let off = difference(&got.latents, &reference_latents(&reference, &batch));
        assert!(off < 1e-5, "{count} of {height}x{width}: {off:.2e}");
        let want = Engine::encode(&mut reference, &batch);
        assert_eq!(got.codes, want.unwrap().levels[0].codes, "{count} of {height}x{width}");
    }
}

#[test]
fn bfloat16_programs_stay_within_its_rounding() {
    let (config, weights) = model(network(), QuantizerRule::L2, 50, 8);
    let reference =
        CandleEngine::new(Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap());
    let mut packed = DeviceWeights::new(weights, Precision::Bf16);
    let batch = images(1, 2, 24, 20);
    let got = encode(&mut packed, &config, &batch, false);
    let off = difference(&got.latents, &reference_latents(&reference, &batch));
    println!("bfloat16 latents are off by {off:.2e}");
    // 2^-8 an operation, some twenty of them deep; 1.3e-2 when this was written.
    assert!(off < 0.02, "{off:.2e}");
    let by_library = |command: &Command| matches!(command.work, Work::Convolve(_));
    let program = encoder::program(&mut packed, &config, 1, [24, 20]).unwrap();
    assert!(program.commands.iter().filter(|c| by_library(c)).count() > 15);
}

#[test]
fn threads_in_any_order_and_batches_of_any_size_give_the_same_bits() {
    for element in [Precision::F32, Precision::Bf16] {
        let (config, weights) = model(network(), QuantizerRule::L2, 50, 8);
        let mut packed = DeviceWeights::new(weights, element);
        let batch = images(3, 3, 20, 12);
        let whole = encode(&mut packed, &config, &batch, false);
        assert_eq!(
            encode(&mut packed, &config, &batch, true),
            whole,
            "{element}: a missing barrier"
        );
        let rows = whole.codes.len() / 3;
        for i in 0..3 {
            let one = PixelBatch { pixels: batch.image(i).to_vec(), count: 1, ..batch };
            let alone = encode(&mut packed, &config, &one, false);
            assert_eq!(alone.latents, whole.latents[i * rows * 8..][..rows * 8], "{element}");
            assert_eq!(alone.codes, whole.codes[i * rows..][..rows], "{element}");
        }
    }
}

#[test]
fn every_searched_rule_gives_the_reference_codes_for_its_latents() {
    let small = || VqganConfig { attention: vec![false, false], ..vqgan(&[8, 16], 8, 16) };
    for element in [Precision::F32, Precision::Bf16] {
        for rule in [
            QuantizerRule::L2,
            QuantizerRule::L2Normalised,
            QuantizerRule::Dot,
            QuantizerRule::Projection,
        ] {
            let (config, mut weights) = model(small(), rule, 600, 70);
            if rule == QuantizerRule::Projection {
                let maker = Maker::default();
                let vb = maker.builder().pp("quantize.proj");
                vb.get((600, 70, 1, 1), "weight").unwrap();
                vb.get(600, "bias").unwrap();
                weights.extend(maker.weights());
            }
            // Every code twice, and some close together: ties, and near-ties under rounding.
            let name = "quantize.embedding.weight";
            let mut rows: Vec<f32> = weights[name].flatten_all().unwrap().to_vec1().unwrap();
            rows.copy_within(..300 * 70, 300 * 70);
            (0..70).for_each(|d| rows[7 * 70 + d] = rows[9 * 70 + d] * 1.0001);
            let rows = Tensor::from_vec(rows, (600, 70), &Device::Cpu).unwrap();
            weights.insert(name.to_owned(), rows);

            let mut packed = DeviceWeights::new(weights.clone(), element);
            let got = encode(&mut packed, &config, &images(5, 2, 22, 18), false);
            let vb = Weights::from(weights).reader().var_builder(&Device::Cpu);
            let quantizer = load_quantizer(&config, &vb).unwrap();
            let rows = (1, got.latents.len() / 70);
            let found = quantizer.quantize(got.latents.clone(), 70, rows).unwrap().remove(0);
            let (codes, distances) = found;
            assert_eq!(got.codes, codes, "{element} {rule:?}");
            for (a, b) in got.distances.iter().zip(&distances) {
                let equal = (a - b).abs() <= 1e-6 * b.abs() || a.is_nan() && b.is_nan();
                assert!(equal, "{element} {rule:?}: {a} {b}");
            }
        }
    }
}

#[test]
fn rules_that_the_host_applies_end_at_the_latents() {
    let (config, weights) = model(network(), QuantizerRule::Sign, 256, 8);
    let program =
        encoder::program(&mut DeviceWeights::new(weights, Precision::F32), &config, 1, [16, 16])
            .unwrap();
    assert_eq!(program.result, Result::Latents);
}

#[test]
fn golden_tokens_come_out_of_the_kernels() {
    for (case, family) in [
        ("taming_vq", "taming"),
        ("taming_vq_hparams", "taming"),
        ("taming_ties", "taming"),
        ("ldm_vq_noattn", "latent-diffusion"),
        ("llamagen_vq", "llamagen"),
        ("taming_gumbel", "taming-gumbel"),
        ("ibq_ema", "ibq"),
        ("vqvae2_rosinality", "vqvae2"),
        ("dalle_dvae", "dalle"),
    ] {
        let Some(folder) = shared(&format!("golden/{case}")) else { return };
        let (config, weights) = golden_model(&folder, family);
        let golden = npz(folder.join("golden.npz"));
        let [count, height, width, channels] = golden["images_u8"].shape[..] else { panic!() };
        let pixels = golden["images_u8"].u8();
        let batch = PixelBatch { pixels, count, height, width, channels };
        let got = encode(&mut DeviceWeights::new(weights, Precision::F32), &config, &batch, false);
        let tokens = golden["tokens"].i64();
        let wrong = got.codes.iter().zip(&tokens).filter(|(a, b)| i64::from(**a) != **b).count();
        assert_eq!((got.codes.len(), wrong), (tokens.len(), 0), "{case}");
    }
}

/// The tokens that `tests/cuda` demands of the whole job, whose libraries are stand-ins: as they
/// come out here.
#[test]
fn bfloat16_tokens_are_those_that_are_kept() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cuda/bf16_tokens.json");
    let mut found = BTreeMap::new();
    for (case, family) in [("taming_vq", "taming"), ("ldm_vq_noattn", "latent-diffusion")] {
        let Some(folder) = shared(&format!("golden/{case}")) else { return };
        let (config, weights) = golden_model(&folder, family);
        let golden = npz(folder.join("golden.npz"));
        let [count, height, width, channels] = golden["images_u8"].shape[..] else { panic!() };
        let pixels = golden["images_u8"].u8();
        let batch = PixelBatch { pixels, count, height, width, channels };
        let got = encode(&mut DeviceWeights::new(weights, Precision::Bf16), &config, &batch, false);
        let tokens = golden["tokens"].i64();
        let flipped = got.codes.iter().zip(&tokens).filter(|(a, b)| i64::from(**a) != **b).count();
        println!("{case}: {flipped} of {} flipped", tokens.len());
        assert!(flipped * 8 < tokens.len(), "{case}: {flipped} of {} flipped", tokens.len());
        found.insert(case.to_owned(), got.codes);
    }
    if std::env::var_os("VQTOK_KEEP").is_some() {
        std::fs::write(&path, serde_json::to_string(&found).unwrap() + "\n").unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let kept: BTreeMap<String, Vec<u32>> = serde_json::from_str(&kept).unwrap();
    assert!(found == kept, "other tokens; VQTOK_KEEP=1 keeps them where that is meant");
}

/// The first checkpoint of a case, with its configuration where none was published beside it.
fn golden_model(folder: &Path, family: &str) -> (ModelConfig, BTreeMap<String, Tensor>) {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let is = |endings: &'static [&str]| {
        move |p: &&PathBuf| p.extension().is_some_and(|e| endings.iter().any(|x| e == *x))
    };
    let published = files.iter().any(|p| is(&["yaml", "yml"])(&p));
    let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
    let case: serde_json::Value = serde_json::from_str(&text).unwrap();
    let config = if published { None } else { case.get("config") };
    let options = DetectOptions { family: Some(family), config, ..DetectOptions::default() };
    let file = files.iter().find(is(&["ckpt", "pt", "safetensors"])).unwrap();
    let (config, weights) = open(file, &options).unwrap();
    (config, weights.tensors().unwrap())
}

#[test]
fn the_f16_model_fits_the_device_and_does_the_work_it_should() {
    let mut network = vqgan(&[128, 128, 256, 256, 512], 128, 256);
    network.attention = vec![false, false, false, false, true];
    network.norm_groups = 32;
    network.parts = Parts::Encoder;
    let (config, weights) = model(network, QuantizerRule::L2, 16384, 256);
    let mut packed = DeviceWeights::new(weights, Precision::Bf16);
    let count = encoder::images(256, 256);
    assert_eq!(count, 64);
    let program = encoder::program(&mut packed, &config, count, [256, 256]).unwrap();
    assert_eq!(program.grid, (16, 16));
    let mut operations = 0.0;
    for command in &program.commands {
        match &command.work {
            Work::Launch(launch) => check_launch(launch, &program, &packed),
            Work::Gemm(gemm) => {
                let size = gemm.rows * gemm.columns * gemm.inner * gemm.batch;
                operations += 2.0 * size as f64;
            }
            Work::Convolve(convolve) => operations += convolve.shape.operations(),
        }
    }
    // The 140.6 GFLOP an image of the reference's count, but for `quant_conv` and for the zeros
    // that `conv_in`'s five padded channels are multiplied with.
    let padded = 2.0 * 65536.0 * 128.0 * 9.0 * 5.0;
    let own = 2.0 * 256.0 * 256.0 * 256.0;
    let image = (operations / 64.0 - padded + own) / 1e9;
    assert!((140.5..140.7).contains(&image), "{image}");
    // Six maps of 256x256x128 in bfloat16 at most.
    let map = 64 * 256 * 256 * 128 * 2;
    assert!(program.bytes() < 6 * map, "{} maps", program.bytes() as f64 / map as f64);
}

/// Limits of CUDA's launches, and of buffers.
fn check_launch(launch: &Launch, program: &Program, packed: &DeviceWeights) {
    assert!(launch.grid.iter().all(|blocks| *blocks > 0), "{launch:?}");
    assert!(launch.grid[0] < 1 << 31 && launch.grid[1] < 65536 && launch.grid[2] < 65536);
    assert!(launch.block <= 1024 && KERNELS.contains(&format!("KERNEL {}(", launch.kernel)));
    for argument in &launch.arguments {
        if let Arg::At(place, offset) = *argument {
            let bytes = match place {
                Place::Weight(i) => packed.blobs()[i].len(),
                Place::Map(i) => program.maps[i],
            };
            assert!(offset < bytes && offset % 4 == 0, "{launch:?}");
        }
        if let Arg::Int(value) = argument {
            assert!(*value >= 0, "{launch:?}");
        }
    }
}

#[test]
fn models_that_do_not_fit_are_refused_in_one_line() {
    let (config, weights) = model(vqgan(&[12, 16], 12, 8), QuantizerRule::L2, 20, 8);
    let mut packed = DeviceWeights::new(weights, Precision::F32);
    let text = encoder::program(&mut packed, &config, 1, [8, 8]).unwrap_err().to_string();
    assert!(text.contains("no multiples of 8") && text.contains("use device cpu"), "{text}");
    let mut odd = config;
    odd.architecture = Architecture::VitVqgan(VitVqganConfig {
        patch: [8, 8],
        grid: [2, 2],
        encoder: TransformerConfig { dim: 16, depth: 1, heads: 1, head_dim: 16, mlp_dim: 32 },
        decoder: TransformerConfig { dim: 16, depth: 1, heads: 1, head_dim: 16, mlp_dim: 32 },
        parts: Parts::Both,
    });
    for refused in [encoder::supported(&odd), decoder::supported(&odd)] {
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("no such network runs on the GPU yet"), "{text}");
    }
}
