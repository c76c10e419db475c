//! Owns the sizes of UniTok.

use super::geometry::{Geometry, Optional, Shapes, codebook};
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

/// Width of an attention head of the transformers in every published size.
const HEAD: usize = 64;

/// What its shapes tell; K and D are those of all books together.
///
/// # Errors
/// A weight that is missing.
pub(super) fn infer(shapes: &Shapes) -> Result<Geometry> {
    let parts = shapes.parts("encoder.", "decoder.");
    let own = transformer(shapes, if parts.encoder() { "encoder" } else { "decoder" })?;
    let other = |wanted: &str| match parts {
        Parts::Both => transformer(shapes, wanted),
        _ => Ok(own.clone()),
    };
    let hidden = |projection: &str| shapes.axis(&format!("{projection}.mlp.w0.weight"), 0);
    let [quant, post] = match parts {
        Parts::Both => [hidden("quant_proj")?, hidden("post_quant_proj")?],
        Parts::Encoder => [hidden("quant_proj")?; 2],
        Parts::Decoder => [hidden("post_quant_proj")?; 2],
    };
    let config = UnitokConfig {
        stem: match parts.encoder() {
            true => shapes.axis("encoder.patch_embed.backbone.stem.conv1.weight", 0)?,
            false => shapes.axis(&last_up(shapes, "norm1.weight"), 0)?,
        },
        stages: stages(shapes, parts)?,
        encoder: other("encoder")?,
        decoder: other("decoder")?,
        quant_hidden: quant,
        post_quant_hidden: post,
        parts,
    };
    let channels = match parts.encoder() {
        true => shapes.axis("encoder.patch_embed.backbone.stem.conv1.weight", 1)?,
        false => shapes.axis(&last_up(shapes, "conv2.weight"), 0)?,
    };
    let heads = format!("{} of width {HEAD}", config.encoder.heads);
    let optional = vec![Optional { name: "attention heads", keys: &[], default: heads }];
    let geometry = Geometry::new(Architecture::Unitok(config), channels, codebook(shapes)?);
    Ok(Geometry { optional, ..geometry })
}

/// Convolutional stages of the decoder: those between the first and the last doubling.
fn decoder_stages(shapes: &Shapes) -> usize {
    (2..).take_while(|place| shapes.any(&format!("decoder.up_conv{place}.0."))).count()
}

fn last_up(shapes: &Shapes, leaf: &str) -> String {
    format!("decoder.up_conv{}.{leaf}", decoder_stages(shapes) + 2)
}

fn stages(shapes: &Shapes, parts: Parts) -> Result<Vec<UnitokStage>> {
    let of_encoder = |s: usize| format!("encoder.patch_embed.backbone.stages.{s}.");
    let count = match parts.encoder() {
        true => shapes.count("encoder.patch_embed.backbone.stages."),
        false => decoder_stages(shapes),
    };
    let of_decoder = |s: usize| format!("decoder.up_conv{}.", count + 1 - s);
    let stage = |s: usize| {
        let [encoder, decoder] = [of_encoder(s), of_decoder(s)];
        let one = if parts.encoder() { &encoder } else { &decoder };
        let weight = format!("{one}0.conv3_1x1.weight");
        let blocks = [shapes.count(&encoder), shapes.count(&decoder)];
        Ok(UnitokStage {
            width: shapes.axis(&weight, 0)?,
            hidden: shapes.axis(&weight, 1)?,
            encoder_blocks: if parts.encoder() { blocks[0] } else { blocks[1] },
            decoder_blocks: if parts.decoder() { blocks[1] } else { blocks[0] },
        })
    };
    (0..count).map(stage).collect()
}

fn transformer(shapes: &Shapes, side: &str) -> Result<TransformerConfig> {
    let dim = shapes.axis(&format!("{side}.norm.weight"), 0)?;
    if !dim.is_multiple_of(HEAD) {
        return Err(Error::invalid(format!(
            "{dim} channels are no heads of width {HEAD}, as every published size has"
        )));
    }
    Ok(TransformerConfig {
        dim,
        depth: shapes.count(&format!("{side}.blocks.")),
        heads: dim / HEAD,
        head_dim: HEAD,
        mlp_dim: shapes.axis(&format!("{side}.blocks.0.mlp.w0.weight"), 0)?,
    })
}
