//! Owns the networks that the benches of encoding share, with random weights: the f16 VQGAN, and any other.
//! Must not know: what is measured.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::{VarBuilder, VarMap};
use vqtok::internals::model::Model;
use vqtok::internals::model::config::*;

/// A number in [-1, 1) for a name and an index (splitmix64).
pub fn random(seed: u64, index: usize) -> f32 {
    let mut x = seed.wrapping_add((index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((x ^ (x >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// Random weights that keep the signal's size, and a codebook of `codes`.
pub fn f16_vqgan(codes: usize, parts: Parts) -> (ModelConfig, BTreeMap<String, Tensor>) {
    let network = VqganConfig {
        ch: 128,
        widths: vec![128, 128, 256, 256, 512],
        res_blocks: 2,
        attention: vec![false, false, false, false, true],
        mid_attention: true,
        z_channels: 256,
        norm_groups: 32,
        norm_eps: 1e-6,
        parts,
        decoder: None,
        variant: Default::default(),
    };
    random_model(Architecture::Vqgan(network), QuantizerConfig::new(QuantizerRule::L2, codes, 256))
}

/// A model of this architecture with random weights that keep the signal's size.
pub fn random_model(
    architecture: Architecture,
    quantizer: QuantizerConfig,
) -> (ModelConfig, BTreeMap<String, Tensor>) {
    let config = ModelConfig {
        format: FORMAT.to_owned(),
        family: "taming".to_owned(),
        architecture,
        quantizer,
        pixels: PixelConfig {
            channels: 3,
            input: InputRange::Taming,
            output: OutputRange::SymmetricTruncate,
        },
        preprocess: PreprocessConfig::new("none", None),
        provenance: BTreeMap::new(),
    };
    let map = VarMap::new();
    let vb = VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu);
    Model::read(&config, vb).expect("a model");
    let mut weights = BTreeMap::new();
    for (name, var) in map.data().lock().expect("the variables").iter() {
        let seed = name.bytes().fold(7u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        let shape = var.shape().clone();
        let fan_in = shape.dims().iter().skip(1).product::<usize>().max(1);
        let norm = name.contains("norm") || name.contains("ln_");
        let (scale, offset) = match shape.dims().len() {
            1 if norm && name.ends_with("weight") => (0.5, 1.0),
            1 => (0.2, 0.0),
            _ if name.starts_with("quantize.") || name.ends_with(".embed") => (2.0, 0.0),
            _ => ((3.0 / fan_in as f32).sqrt(), 0.0),
        };
        let values: Vec<f32> =
            (0..shape.elem_count()).map(|i| random(seed, i) * scale + offset).collect();
        let tensor = Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor");
        weights.insert(name.clone(), tensor);
    }
    (config, weights)
}
