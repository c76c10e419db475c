//! Holds the programs of every family against candle and the reference quantizer, both ways.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::emit::Emitter;
use super::host::Host;
use super::program::{Program, Result as Outcome};
use super::tests::{difference, encode, network, reference_latents};
use super::weights::DeviceWeights;
use super::{decoder, encoder};
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::tests::{Maker, images, model, vqgan};
use crate::engine::device::Precision;
use crate::engine::interface::{Encoded, Engine, PixelBatch};
use crate::model::config::*;
use crate::model::{self, Model, load_quantizer};
use crate::weights::store::Weights;

type Tensors = BTreeMap<String, Tensor>;

/// A model of that architecture and quantizer, with weights.
fn made(architecture: Architecture, quantizer: QuantizerConfig) -> (ModelConfig, Tensors) {
    let (config, _) = model(network(), QuantizerRule::L2, 50, 8);
    let config = ModelConfig { architecture, quantizer, ..config };
    let maker = Maker::default();
    model::build(&config, maker.builder()).unwrap();
    (config, maker.weights())
}

/// The bytes that a decoder's program takes of codes.
fn decoder_input(config: &ModelConfig, weights: &Tensors, encoded: &Encoded) -> Vec<u8> {
    let of = |image| encoded.levels.iter().map(move |l| l.codes_of(image, encoded.count));
    let images = 0..encoded.count;
    match &config.architecture {
        Architecture::Vqvae2(_) => {
            images.flat_map(|i| of(i).rev().flatten()).flat_map(|c| c.to_le_bytes()).collect()
        }
        Architecture::Dalle(c) => {
            let columns = &weights["decoder.blocks.input.w"];
            let rows = columns.reshape((c.init, ())).unwrap().t().unwrap();
            let rows = rows.broadcast_add(&weights["decoder.blocks.input.b"]).unwrap();
            let rows = rows.to_vec2::<f32>().unwrap();
            let codes = images.flat_map(|i| of(i).flatten());
            codes.flat_map(|c| &rows[*c as usize]).flat_map(|v| v.to_le_bytes()).collect()
        }
        _ => {
            let vb = Weights::from(weights.clone()).reader().var_builder(&Device::Cpu);
            let quantizer = load_quantizer(config, &vb).unwrap();
            let vectors = |i| quantizer.lookup(&of(i).collect::<Vec<_>>(), encoded.grid()).unwrap();
            images.flat_map(vectors).flat_map(|v| v.to_le_bytes()).collect()
        }
    }
}

/// Latents and codes by a program beside candle's; codes are equal in float32.
fn encoded_as_candle_does(
    (config, packed): (&ModelConfig, &mut DeviceWeights),
    reference: &mut CandleEngine,
    batch: &PixelBatch,
    off_max: f32,
) -> Encoded {
    let encoded = Engine::encode(reference, batch).unwrap();
    let padded = batch.padded(config);
    let got = encode(packed, config, &padded, false);
    let element = packed.precision();
    if !matches!(config.architecture, Architecture::Vqvae2(_)) && encoded.levels.len() == 1 {
        let off = difference(&got.latents, &reference_latents(reference, batch));
        assert!(off < off_max, "{:?} {element}: latents off by {off:.2e}", config.architecture);
    }
    if element == Precision::F32 && !got.codes.is_empty() {
        let levels = std::iter::once(&got.codes).chain(got.more.iter().map(|(codes, _)| codes));
        let want = encoded.levels.iter().map(|level| &level.codes);
        assert!(levels.eq(want), "{:?}: other codes", config.architecture);
    }
    encoded
}

fn pictures(reference: &CandleEngine, encoded: &Encoded) -> Vec<f32> {
    let floats = reference.decode_floats(encoded).unwrap().into_iter().flat_map(|image| {
        let rows = image.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
        rows.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    });
    floats.collect()
}

/// Both halves by programs beside candle's.
fn both_halves(config: &ModelConfig, weights: Tensors, size: [usize; 2]) {
    let model = Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap();
    let mut reference = CandleEngine::new(model);
    let family = format!("{:?}", config.architecture);
    let family = family.split('(').next().unwrap();
    encoder::supported(config).unwrap();
    for (element, off_max) in [(Precision::F32, 2e-5), (Precision::Bf16, 0.04)] {
        let mut packed = DeviceWeights::new(weights.clone(), element);
        let batch = images(1, 2, size[0], size[1]);
        let both = (config, &mut packed);
        let encoded = encoded_as_candle_does(both, &mut reference, &batch, off_max);
        let grid = config.quantizer.latents_of(encoded.grid()).unwrap();
        let program = decoder::program(&mut packed, config, 2, [grid.0, grid.1]).unwrap();
        let input = decoder_input(config, &weights, &encoded);
        assert_eq!(input.len(), 2 * program.image_bytes);
        let mut found: Vec<Vec<f32>> = Vec::new();
        // The other order once: kernels of both elements are the same text.
        let orders: &[bool] = if element == Precision::F32 { &[false, true] } else { &[false] };
        for &reverse in orders {
            let mut host = Host::new(&packed, &program);
            host.reverse = reverse;
            host.run(&program, &input);
            let count = 2 * program.grid.0 * program.grid.1 * program.dim;
            found.push(host.result(program.latents, count));
        }
        assert!(found.iter().all(|p| *p == found[0]), "{family} {element}: a missing barrier");
        let off = difference(&found[0], &pictures(&reference, &encoded));
        println!("{family} {element}: pictures off by {off:.2e}");
        assert!(off < off_max, "{family} {element}: pictures off by {off:.2e}");
    }
}

fn l2(codes: usize, dim: usize) -> QuantizerConfig {
    QuantizerConfig::new(QuantizerRule::L2, codes, dim)
}

fn resnet() -> ResnetConfig {
    ResnetConfig {
        ch: 16,
        widths: vec![16, 24],
        res_blocks: 1,
        norm_groups: 8,
        norm_eps: 1e-6,
        parts: Parts::Both,
    }
}

fn hold(architecture: Architecture, quantizer: QuantizerConfig, size: [usize; 2]) {
    let (config, weights) = made(architecture, quantizer);
    both_halves(&config, weights, size);
}

#[test]
fn vqgans_and_their_variants_are_candles_both_ways() {
    hold(Architecture::Vqgan(network()), l2(50, 8), [24, 16]);
    // Patches, and channels that are no multiples of eight between the layers that spread them.
    let small = || vqgan(&[16, 24], 8, 5);
    let variant = VqganVariant { patch: Some(4), ..Default::default() };
    hold(Architecture::Vqgan(VqganConfig { variant, ..small() }), l2(50, 6), [16, 24]);
    // Cosmos: pictures are padded.
    let variant =
        VqganVariant { patch: Some(2), halvings: Some(1), pad: Some(4), ..VqganVariant::default() };
    let fsq = QuantizerConfig {
        levels: vec![8, 5, 5],
        ..QuantizerConfig::new(QuantizerRule::Fsq, 200, 3)
    };
    hold(Architecture::Vqgan(VqganConfig { variant, ..small() }), fsq, [14, 17]);
    // MoVQGAN's decoder, and Emu3's layers over frames.
    let spatial = |c: VqganConfig| VqganDecoderConfig { spatial_norm: Some(4), ..c.decoder() };
    let decoder = Some(spatial(small()));
    hold(Architecture::Vqgan(VqganConfig { decoder, ..small() }), l2(50, 4), [12, 20]);
    let frames = FramesConfig { halvings: 2, encoder_blocks: 1, decoder_blocks: 2 };
    let config = VqganConfig {
        z_channels: 4,
        decoder: Some(spatial(small())),
        variant: VqganVariant { frames: Some(frames), around: Some(3), ..Default::default() },
        ..small()
    };
    hold(Architecture::Vqgan(config), l2(50, 4), [10, 12]);
}

#[test]
fn residual_levels_and_scales_are_candles_both_ways() {
    let small = || Architecture::Vqgan(vqgan(&[16, 24], 8, 5));
    hold(small(), QuantizerConfig { depth: 3, ..l2(20, 6) }, [12, 20]);
    let scales = ScalesConfig {
        grids: vec![vec![[1, 1], [2, 3], [6, 8]]],
        spread: Spread::Bicubic,
        convolutions: 2,
        share: 0.5,
    };
    hold(small(), QuantizerConfig { scales: Some(scales), ..l2(30, 6) }, [12, 16]);
}

#[test]
fn networks_without_norms_are_candles_both_ways() {
    let vqvae = VqvaeConfig { hidden: 20, downsamples: 2, res_blocks: 2, res_hidden: 9 };
    hold(Architecture::Vqvae(vqvae), l2(50, 12), [12, 20]);
    let vqvae2 = Vqvae2Config { channels: 20, res_blocks: 2, res_channels: 9 };
    hold(Architecture::Vqvae2(vqvae2), l2(40, 6), [16, 24]);
    let dalle = DalleConfig { hidden: 12, init: 10, blocks: 1, parts: Parts::Both };
    let logits = QuantizerConfig::new(QuantizerRule::Logits, 300, 300);
    hold(Architecture::Dalle(dalle), logits, [17, 24]);
}

#[test]
fn networks_of_residual_blocks_alone_are_candles_both_ways() {
    hold(Architecture::Maskgit(resnet()), l2(50, 8), [14, 10]);
    // Odd sides round up.
    hold(Architecture::VqganPlus(resnet()), l2(50, 8), [13, 10]);
    let bits = QuantizerConfig::new(QuantizerRule::Sign, 1 << 10, 10);
    hold(Architecture::OpenMagvit2(resnet()), bits, [13, 10]);
}

#[test]
fn the_first_of_the_largest_logits_is_found_and_what_is_not_finite_told() {
    let count = 300;
    let row = |of: &[(usize, f32)]| -> Vec<f32> {
        let mut row: Vec<f32> = (0..count).map(|k| -1.0 - (k % 7) as f32).collect();
        of.iter().for_each(|&(k, value)| row[k] = value);
        row
    };
    let rows = [
        row(&[(299, 2.0), (131, 2.0), (258, 2.0)]),
        row(&[(0, 0.5)]),
        row(&[(77, f32::INFINITY)]),
        row(&[(5, f32::NEG_INFINITY), (6, 1.0)]),
        row(&[(290, f32::NAN), (6, 1.0)]),
    ];
    let mut packed = DeviceWeights::new(Tensors::new(), Precision::F32);
    let mut e = Emitter::new(&mut packed, 1, 1);
    let input = e.acquire(rows.len() * count * 4);
    let [codes, told] = e.largest_logit(input, rows.len(), count);
    let program = Program {
        images: 1,
        usual: 1,
        image_bytes: rows.len() * count * 4,
        grid: (1, rows.len()),
        dim: count,
        commands: e.commands,
        maps: e.maps,
        input,
        latents: input,
        result: Outcome::Latents,
    };
    let mut host = Host::new(&packed, &program);
    let bytes: Vec<u8> = rows.concat().into_iter().flat_map(f32::to_le_bytes).collect();
    for reverse in [false, true] {
        host.reverse = reverse;
        host.run(&program, &bytes);
        let codes: Vec<u32> = host.result(codes, 5).iter().map(|v| v.to_bits()).collect();
        assert_eq!(codes[..2], [131, 0]);
        assert_eq!(codes[3], 6);
        let told = host.result(told, 5);
        assert!(told[..2].iter().all(|t| t.is_nan()), "{told:?}");
        assert!(told[2..].iter().all(|t| *t == f32::INFINITY), "{told:?}");
    }
}
