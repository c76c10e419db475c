//! Owns what identifies an output: the tokenizer, the preparation and the layout of its shards.

use crate::data::prepare::Preparation;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::tokens::{Identity, LevelLayout, Preprocessing, Scales, TOKENS_MAX, TokenizerId};
use crate::util::settings::SIZE;

/// What an output is made with: engine, preparation and layout; labels are first folders. Equal identities and inputs give
/// equal shards.
///
/// # Errors
/// A size that doesn't suit the model.
pub fn identity(
    engine: &dyn Engine,
    preparation: &Preparation,
    shard_rows: usize,
) -> Result<Identity> {
    let config = engine.config();
    let digests = engine.digests()?;
    let grids = match preparation.size {
        Some(size) => {
            let side = size as usize;
            let grids = engine.grid(side, side).map_err(|reason| {
                Error::setting(SIZE, format!("{size} doesn't suit the model: {reason}"))
            })?;
            grids.into_iter().map(|(h, w)| Some([h as u32, w as u32])).collect()
        }
        None => vec![None; config.levels()],
    };
    Ok(Identity {
        tokenizer: TokenizerId {
            family: config.family.clone(),
            weights_sha256: digests.weights_sha256.clone(),
            codebook_sha256: digests.codebook_sha256.clone(),
            codes: config.quantizer.codes as u64,
            dim: config.quantizer.dim as u64,
            factor: config.factor()[0] as u64,
        },
        preprocessing: preprocessing(preparation),
        label_level: None,
        levels: grids
            .into_iter()
            .enumerate()
            .map(|(index, grid)| LevelLayout {
                residual: index > 0 && config.quantizer.depth > 1,
                book: index > 0 && config.quantizer.books > 1,
                scales: scales(config, grid),
                ..match config.quantizer.values() {
                    1 => LevelLayout::new(config.quantizer.codes as u64, grid),
                    bits => LevelLayout::of_bits(bits as u64, grid),
                }
            })
            .collect(),
        precision: engine.precision_word().into(),
        device: engine.device_kind().into(),
        shard_rows: shard_rows as u64,
        version: env!("CARGO_PKG_VERSION").into(),
    })
}

/// Tokens of a grid at most: a row takes so many values.
pub(crate) fn tokens_max(config: &ModelConfig) -> usize {
    TOKENS_MAX as usize / config.quantizer.values()
}

/// The scales of each grid that rows can have, where codes are of several.
fn scales(config: &ModelConfig, grid: Option<[u32; 2]>) -> Option<Scales> {
    let mut scales = config.quantizer.scales.as_ref()?.by_sequence();
    if let Some([height, width]) = grid {
        scales.retain(|name, _| *name == format!("{height}x{width}"));
    }
    Some(scales)
}

fn preprocessing(preparation: &Preparation) -> Preprocessing {
    Preprocessing {
        buckets: preparation.buckets.as_ref().map(|buckets| buckets.to_string()),
        rule: preparation.rule.to_string(),
        size: preparation.size,
        alpha: preparation.alpha.to_string(),
        orientation: Some(preparation.orientation.to_string()),
        pillow: Some(preparation.pillow.into()),
        views: preparation.views.map(|views| views.to_string()),
        digest: preparation.digest(),
    }
}
