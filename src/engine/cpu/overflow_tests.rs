//! Holds both engines to failing what isn't finite: the image whose latents overflow, the codes whose
//! pixels do, whatever the family and the quantizer's rule; the others of the batch don't notice.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};

use super::CpuEngine;
use super::drawn::model::{Drawn, Family, Random, draw};
use super::tests::{model, vqgan};
use crate::engine::candle::CandleEngine;
use crate::engine::interface::{CodeGrid, Encoded, Engine, PixelBatch};
use crate::kernels::Isa;
use crate::model::Model;
use crate::model::config::*;

/// A whole model of colours with that rule, drawn until chance gives one.
fn drawn(family: Family, rule: QuantizerRule) -> Drawn {
    let fits = |d: &Drawn| {
        let (q, (_, height, width)) = (&d.config.quantizer, d.size);
        d.config.parts() == Parts::Both
            && (q.rule, q.depth, q.decode_normalised) == (rule, 1, false)
            && (q.codes > 1 && d.config.pixels.channels == 3)
            && (height > 3 && width > 3 && d.codes.is_some())
    };
    (0..).map(|seed| draw(family, Random::new(seed))).find(fits).expect("one of many")
}

fn engines(config: &ModelConfig, weights: &BTreeMap<String, Tensor>) -> Vec<Box<dyn Engine>> {
    let model = Model::load(config.clone(), weights.clone(), &Device::Cpu).unwrap();
    let mut all: Vec<Box<dyn Engine>> = vec![Box::new(CandleEngine::new(model))];
    for isa in Isa::available() {
        let engine = CpuEngine::new(config.clone(), weights.clone(), isa).unwrap();
        all.push(Box::new(engine));
    }
    all
}

/// Sets every value of a tensor.
fn fill(weights: &mut BTreeMap<String, Tensor>, name: &str, value: f32) {
    let shape = weights.get(name).unwrap_or_else(|| panic!("no {name}")).shape().clone();
    weights.insert(name.to_owned(), Tensor::full(value, shape, &Device::Cpu).unwrap());
}

/// Pictures of one shade each.
fn flat(shades: &[u8], like: &PixelBatch) -> PixelBatch {
    let area = like.height * like.width * like.channels;
    let pixels = shades.iter().flat_map(|&shade| vec![shade; area]).collect();
    PixelBatch { pixels, count: shades.len(), ..*like }
}

const KINDS: [(Family, QuantizerRule, &str); 13] = [
    (Family::Vqgan, QuantizerRule::L2, "encoder.conv_in.weight"),
    (Family::Vqgan, QuantizerRule::L2Normalised, "encoder.conv_in.weight"),
    (Family::Vqgan, QuantizerRule::Dot, "encoder.conv_in.weight"),
    (Family::Vqgan, QuantizerRule::Projection, "encoder.conv_in.weight"),
    (Family::Vqgan, QuantizerRule::Sign, "encoder.conv_in.weight"),
    (Family::Vqgan, QuantizerRule::Fsq, "encoder.conv_in.weight"),
    (Family::Vqvae, QuantizerRule::L2, "enc.conv1.weight"),
    (Family::Vqvae, QuantizerRule::Sign, "enc.conv1.weight"),
    (Family::Maskgit, QuantizerRule::L2, "encoder.conv_in.weight"),
    (Family::OpenMagvit2, QuantizerRule::Sign, "encoder.conv_in.weight"),
    (Family::Dalle, QuantizerRule::Logits, "encoder.blocks.input.w"),
    (Family::Vqvae2, QuantizerRule::L2, "enc_b.blocks.0.weight"),
    (Family::VitVqgan, QuantizerRule::L2Normalised, "encoder.to_patch_embedding.0.weight"),
];

#[test]
fn an_image_whose_latents_overflow_fails_and_no_other() {
    for (family, rule, first) in KINDS {
        let Drawn { mut config, mut weights, images, .. } = drawn(family, rule);
        // Black is 0, which no weight makes large.
        config.pixels.input = InputRange::Unit;
        fill(&mut weights, first, 3e38);
        let (mixed, black) = (flat(&[0, 255, 0, 200], &images), flat(&[0], &images));
        for mut engine in engines(&config, &weights) {
            let whole = engine.encode(&mixed).unwrap();
            let places: Vec<usize> = whole.failed.iter().map(|(index, _)| *index).collect();
            assert_eq!(places, [1, 3], "{family:?} {rule:?}: {:?}", whole.failed);
            for (_, reason) in &whole.failed {
                assert!(reason.contains("not finite") && !reason.contains('\n'), "{reason}");
            }
            // Whatever the batch.
            let alone = engine.encode(&black).unwrap();
            assert_eq!(alone.failed, []);
            for (level, own) in whole.levels.iter().zip(&alone.levels) {
                let area = own.codes.len();
                assert_eq!(level.codes[..area], own.codes);
                assert_eq!(level.codes[2 * area..][..area], own.codes);
            }
            let white = engine.encode(&flat(&[255], &images)).unwrap();
            assert_eq!(white.failed, [(0, whole.failed[0].1.clone())]);
        }
    }
}

#[test]
fn latents_that_no_distance_or_score_can_hold_fail() {
    use QuantizerRule::{Dot, L2, L2Normalised, Projection};
    for (rule, large, fails) in [
        (L2, 1e30, true),
        (L2Normalised, 1e30, false),
        (L2Normalised, 3e38, true),
        (Dot, 1e30, true),
        (Projection, 1e30, false),
        (Projection, 3e38, true),
    ] {
        let (mut config, mut weights) = model(vqgan(&[16, 24], 8, 5), L2, 50, 8);
        config.quantizer.rule = rule;
        if rule == Projection {
            let rows = weights["quantize.embedding.weight"].reshape((50, 8, 1, 1)).unwrap();
            weights.insert("quantize.proj.weight".into(), rows);
            let bias = Tensor::zeros(50, candle_core::DType::F32, &Device::Cpu).unwrap();
            weights.insert("quantize.proj.bias".into(), bias);
        }
        // Whatever comes in, the latents are the bias.
        fill(&mut weights, "quant_conv.weight", 0.0);
        fill(&mut weights, "quant_conv.bias", large);
        let batch = super::tests::images(1, 1, 8, 8);
        for mut engine in engines(&config, &weights) {
            let failed = engine.encode(&batch).unwrap().failed;
            assert_eq!(!failed.is_empty(), fails, "{rule:?} {large}: {failed:?}");
        }
    }
}

#[test]
fn codes_whose_pixels_overflow_fail_and_no_others() {
    for (family, rule, first) in [
        (Family::Vqgan, QuantizerRule::L2, "post_quant_conv.weight"),
        (Family::Vqvae, QuantizerRule::L2, "dec.conv.weight"),
        (Family::Maskgit, QuantizerRule::L2, "decoder.conv_in.weight"),
    ] {
        let Drawn { config, mut weights, .. } = drawn(family, rule);
        fill(&mut weights, first, 3e38);
        // Code 0 is nothing, which no weight makes large; code 1 is ones.
        let (codes, dim) = (config.quantizer.codes, config.quantizer.dim);
        let mut rows = vec![0.0; codes * dim];
        rows[dim..].fill(2.0);
        let book = Tensor::from_vec(rows, (codes, dim), &Device::Cpu).unwrap();
        weights.insert("quantize.embedding.weight".into(), book);
        let grid = |codes: Vec<u32>| Encoded {
            count: codes.len() / 4,
            levels: vec![CodeGrid { codes, distances: vec![], height: 2, width: 2 }],
            failed: vec![],
        };
        for mut engine in engines(&config, &weights) {
            let whole = engine.decode(&grid([[1; 4], [0; 4], [1; 4]].concat())).unwrap();
            let places: Vec<usize> = whole.failed.iter().map(|(index, _)| *index).collect();
            assert_eq!(places, [0, 2], "{family:?}: {:?}", whole.failed);
            assert!(whole.failed[0].1.contains("the decoder overflows"), "{:?}", whole.failed);
            let alone = engine.decode(&grid(vec![0; 4])).unwrap();
            assert_eq!(alone.failed, []);
            assert_eq!(alone.pictures.pixels, whole.pictures.image(1));
        }
    }
}

#[test]
fn a_single_token_is_too_few_for_a_decoder_that_scales_by_their_variance() {
    let Drawn { config, weights, .. } = drawn(Family::OpenMagvit2, QuantizerRule::Sign);
    for mut engine in engines(&config, &weights) {
        for (side, fails) in [(1, true), (2, false)] {
            let codes = (0..side * side).map(|i| i % 2).collect();
            let side = side as usize;
            let levels = vec![CodeGrid { codes, distances: vec![], height: side, width: side }];
            let decoded = engine.decode(&Encoded { count: 1, levels, failed: vec![] }).unwrap();
            assert_eq!(decoded.failed.len(), usize::from(fails));
            if let [(0, reason)] = &decoded.failed[..] {
                assert!(reason.contains("a grid of 1x1 tokens has no variance"), "{reason}");
            }
        }
    }
}
