//! Draws the transformers among the models.

use super::model::Random;
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

/// A ViT-VQGAN of any widths.
pub(super) fn vit_vqgan(parts: Parts, r: &mut Random) -> VitVqganConfig {
    let mut transformer = || TransformerConfig {
        dim: r.width(),
        depth: r.among(1, 2),
        heads: r.among(1, 4),
        head_dim: r.among(1, 20),
        mlp_dim: r.width(),
    };
    let (encoder, decoder) = (transformer(), transformer());
    let mut pair = || [r.among(1, 7), r.among(1, 7)];
    VitVqganConfig { patch: pair(), grid: pair(), encoder, decoder, parts }
}

/// A transformer as wide as its heads together.
fn heads(unit: usize, r: &mut Random) -> TransformerConfig {
    let dim = unit * r.among(2, (40 / unit).max(3));
    let heads = (1..=4).rev().find(|heads| dim.is_multiple_of(*heads) && r.one_in(2)).unwrap_or(1);
    TransformerConfig {
        dim,
        depth: r.among(1, 2),
        heads,
        head_dim: dim / heads,
        mlp_dim: r.width(),
    }
}

/// A TiTok, with MaskGIT-VQ's decoder or without.
pub(super) fn titok(parts: Parts, resnets: ResnetConfig, r: &mut Random) -> TitokConfig {
    let pixels = r.one_in(2).then(|| TitokPixels {
        hidden: r.width(),
        codes: r.among(1, 40),
        dim: r.among(1, 20),
        resnets,
    });
    let side = pixels.as_ref().map(|pixels| 1 << (pixels.resnets.widths.len() - 1));
    let patch = side.map_or([r.among(1, 6), r.among(1, 6)], |side| [side; 2]);
    TitokConfig {
        patch,
        grid: [r.among(1, 5), r.among(1, 5)],
        latents: r.among(1, 12),
        encoder: heads(1, r),
        decoder: heads(1, r),
        legacy: r.one_in(2),
        pixels,
        parts,
    }
}

/// A UniTok whose codes, of all books together, have that length.
pub(super) fn unitok(parts: Parts, dim: usize, r: &mut Random) -> UnitokConfig {
    let stages = (0..r.among(1, 2)).map(|_| UnitokStage {
        width: r.width(),
        hidden: r.width(),
        encoder_blocks: r.among(1, 2),
        decoder_blocks: r.among(1, 2),
    });
    let stages = stages.collect();
    UnitokConfig {
        stem: r.width(),
        stages,
        encoder: heads(dim, r),
        decoder: heads(dim, r),
        quant_hidden: r.width(),
        post_quant_hidden: r.width(),
        parts,
    }
}
