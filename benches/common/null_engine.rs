//! Owns an engine that computes nothing, so that everything around it can be measured. Must not
//! know: what is measured.

use vqtok::internals::config::Recipe;
use vqtok::internals::engine::{CodeGrid, Decoded, Encoded, Engine, PixelBatch};
use vqtok::internals::model::config::ModelConfig;
use vqtok::internals::weights::digests::Digests;
use vqtok::{Error, Result};

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
        let [(height, width)] = batch.check(&self.config)?[..] else {
            return Err(Error::invalid("a model of one level belongs here"));
        };
        let tokens = batch.count * height * width;
        let grid = CodeGrid { codes: vec![0; tokens], distances: vec![0.0; tokens], height, width };
        Ok(Encoded { count: batch.count, levels: vec![grid], failed: Vec::new() })
    }

    fn decode(&mut self, _: &Encoded) -> Result<Decoded> {
        Err(Error::invalid("nothing is decoded here"))
    }
}
