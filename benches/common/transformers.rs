//! Owns transformers of the sizes that are published, with random weights: encoders alone.
//! Must not know: what is measured.

use std::collections::BTreeMap;

use candle_core::Tensor;
use serde_json::{Value, json};
use vqtok::internals::model::config::*;

use super::encoder::random_model;

/// The transformers that there are.
pub const NAMES: [&str; 3] = ["vit-vqgan", "titok", "unitok"];

/// The model of a name for pictures of 256 pixels, and the sizes that a peer asks for.
pub fn model(name: &str) -> (ModelConfig, BTreeMap<String, Tensor>, Value) {
    let (architecture, quantizer, blocks) = match name {
        "vit-vqgan" => vit_vqgan(),
        "titok" => titok(),
        "unitok" => unitok(),
        other => panic!("`{other}` is none of {NAMES:?}"),
    };
    let transformer = match &architecture {
        Architecture::VitVqgan(c) => &c.encoder,
        Architecture::Titok(c) => &c.encoder,
        Architecture::Unitok(c) => &c.encoder,
        _ => unreachable!("one of the three"),
    };
    let sizes = json!({
        "depth": transformer.depth,
        "heads": transformer.heads,
        "books": quantizer.books,
        "blocks": blocks,
    });
    let (config, weights) = random_model(architecture, quantizer);
    (config, weights, sizes)
}

fn transformer(dim: usize, depth: usize, heads: usize, mlp_dim: usize) -> TransformerConfig {
    TransformerConfig { dim, depth, heads, head_dim: dim / heads, mlp_dim }
}

fn cosine(codes: usize, dim: usize) -> QuantizerConfig {
    QuantizerConfig::new(QuantizerRule::L2Normalised, codes, dim)
}

/// The small one: 1,024 tokens a picture.
fn vit_vqgan() -> (Architecture, QuantizerConfig, Vec<usize>) {
    let small = transformer(512, 8, 8, 2048);
    let architecture = Architecture::VitVqgan(VitVqganConfig {
        patch: [8, 8],
        grid: [32, 32],
        encoder: small.clone(),
        decoder: small,
        parts: Parts::Encoder,
    });
    (architecture, cosine(8192, 32), Vec::new())
}

/// B-64.
fn titok() -> (Architecture, QuantizerConfig, Vec<usize>) {
    let base = transformer(768, 12, 12, 3072);
    let architecture = Architecture::Titok(TitokConfig {
        patch: [16, 16],
        grid: [16, 16],
        latents: 64,
        encoder: base.clone(),
        decoder: base,
        legacy: false,
        pixels: None,
        parts: Parts::Encoder,
    });
    (architecture, cosine(4096, 12), Vec::new())
}

/// ViTamin-L and eight books.
fn unitok() -> (Architecture, QuantizerConfig, Vec<usize>) {
    let large = transformer(1024, 14, 16, 2048);
    let stage = |width, encoder_blocks| UnitokStage {
        width,
        hidden: 4 * width,
        encoder_blocks,
        decoder_blocks: 1,
    };
    let architecture = Architecture::Unitok(UnitokConfig {
        stem: 160,
        stages: vec![stage(160, 2), stage(320, 4)],
        encoder: large.clone(),
        decoder: large,
        quant_hidden: 64,
        post_quant_hidden: 2048,
        parts: Parts::Encoder,
    });
    (architecture, QuantizerConfig { books: 8, ..cosine(4096, 64) }, vec![2, 4])
}
