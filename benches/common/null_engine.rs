//! Owns engines that compute nothing, so that everything around them can be measured. Must not
//! know: what is measured.

#![allow(dead_code)]

use std::collections::VecDeque;

use vqtok::internals::config::Recipe;
use vqtok::internals::engine::{CodeGrid, Decoded, Encoded, Engine, Images, PixelBatch, Submitted};
use vqtok::internals::model::config::ModelConfig;
use vqtok::internals::weights::digests::Digests;
use vqtok::{Error, Result};

/// A recipe whose model has grids of 16x16 tokens, as the f16 model has.
pub const F16_GRIDS: &str = r#"
name = "f16"
description = "for benches"
model = { channels = 3, codes = 16384, dim = 16, architecture = { kind = "vqvae", hidden = 32, downsamples = 4, res_blocks = 1, res_hidden = 16 } }
data = { size = 256 }
train = { steps = 4, batch_size = 4, codebook = { start_after = 1 } }
"#;

/// Every code is 0.
pub struct NullEngine {
    config: ModelConfig,
    digests: Digests,
}

impl NullEngine {
    /// In place of the model of a recipe.
    pub fn of(recipe: &Recipe) -> NullEngine {
        let digest = || "ab".repeat(32);
        let digests = Digests { weights_sha256: digest(), codebook_sha256: digest() };
        NullEngine { config: recipe.model_config(), digests }
    }

    fn encoded(&self, count: usize, grids: &[(usize, usize)]) -> Result<Encoded> {
        let [(height, width)] = grids[..] else {
            return Err(Error::invalid("a model of one level belongs here"));
        };
        let tokens = count * height * width;
        let grid = CodeGrid { codes: vec![0; tokens], distances: vec![0.0; tokens], height, width };
        Ok(Encoded { count, levels: vec![grid], failed: Vec::new() })
    }
}

impl Engine for NullEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn digests(&self) -> Result<&Digests> {
        Ok(&self.digests)
    }

    fn device_kind(&self) -> &'static str {
        "cpu"
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.config.grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let grids = batch.check(&self.config)?;
        self.encoded(batch.count, &grids)
    }

    fn decode(&mut self, _: &Encoded) -> Result<Decoded> {
        Err(Error::invalid("nothing is decoded here"))
    }
}

/// What a card leaves to this machine: images are packed for the upload, two batches are in flight,
/// and codes and distances, as hard to compress as real ones, are taken from what it brings back.
pub struct NullCard {
    engine: NullEngine,
    /// In turns, as long as the largest batch so far.
    uploads: [Vec<u8>; 2],
    /// Random codes and distances.
    results: (Vec<u32>, Vec<f32>),
    queued: VecDeque<(u64, Encoded)>,
    number: u64,
}

impl NullCard {
    /// In place of the model of a recipe, with so many codes.
    pub fn of(recipe: &Recipe, codes: u32) -> NullCard {
        let mut state = 1u32;
        let results: Vec<u32> = std::iter::repeat_with(|| {
            // xorshift32
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state
        })
        .take(1 << 18)
        .collect();
        let distances = results.iter().map(|word| *word as f32 / (1u64 << 31) as f32).collect();
        let codes = results.iter().map(|word| word % codes).collect();
        NullCard {
            engine: NullEngine::of(recipe),
            uploads: Default::default(),
            results: (codes, distances),
            queued: VecDeque::new(),
            number: 0,
        }
    }
}

impl Engine for NullCard {
    fn config(&self) -> &ModelConfig {
        self.engine.config()
    }

    fn digests(&self) -> Result<&Digests> {
        self.engine.digests()
    }

    fn device_kind(&self) -> &'static str {
        "cpu"
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.engine.grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let submitted = self.submit(&batch.images())?;
        self.collect(submitted)
    }

    fn batches_in_flight(&self) -> usize {
        2
    }

    fn submit(&mut self, images: &Images<'_>) -> Result<Submitted> {
        let grids = images.check(self.engine.config())?;
        let upload = &mut self.uploads[self.number as usize % 2];
        upload.resize(upload.len().max(images.each.iter().map(|image| image.len()).sum()), 0);
        let mut at = 0;
        for image in &images.each {
            upload[at..at + image.len()].copy_from_slice(image);
            at += image.len();
        }
        let mut encoded = self.engine.encoded(images.each.len(), &grids)?;
        let level = &mut encoded.levels[0];
        let count = level.codes.len();
        // Other ones for each batch.
        let start = self.number as usize * 4099 % (self.results.0.len() - count);
        level.codes.copy_from_slice(&self.results.0[start..start + count]);
        level.distances.copy_from_slice(&self.results.1[start..start + count]);
        self.number += 1;
        self.queued.push_back((self.number, encoded));
        Ok(Submitted::Queued(self.number))
    }

    fn collect(&mut self, submitted: Submitted) -> Result<Encoded> {
        match (submitted, self.queued.pop_front()) {
            (Submitted::Queued(number), Some((oldest, encoded))) if number == oldest => Ok(encoded),
            _ => Err(Error::invalid("batches are collected in their order")),
        }
    }

    fn decode(&mut self, _: &Encoded) -> Result<Decoded> {
        Err(Error::invalid("nothing is decoded here"))
    }
}
