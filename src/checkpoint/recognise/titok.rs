//! Owns the sizes of TiTok.

use super::geometry::{Geometry, Optional, Shapes, codebook};
use super::published::Published;
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

/// Width of an attention head in every published size.
const HEAD: usize = 64;

/// What its shapes tell; heads are of width 64 in every published size.
///
/// # Errors
/// A weight that is missing, another number of positions than a square has.
pub(super) fn infer(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let parts = shapes.parts("encoder.", "decoder.");
    let side = if parts.encoder() { "encoder" } else { "decoder" };
    let second = shapes.has("decoder.ffn.2.weight");
    // Without a decoder only the configuration tells, whose default that is.
    let legacy = match published.bool("is_legacy")? {
        Some((legacy, _)) => legacy,
        None => second || !parts.decoder(),
    };
    let positions = shapes.axis(&format!("{side}.positional_embedding"), 0)?;
    let across = positions.saturating_sub(1).isqrt();
    if positions < 2 || across * across != positions - 1 {
        return Err(Error::invalid(format!(
            "{positions} positions are no class and a square of patches"
        )));
    }
    let channels = match parts.encoder() {
        true => shapes.axis("encoder.patch_embed.weight", 1)?,
        false if second => shapes.axis("pixel.decoder.conv_out.weight", 0)?,
        false => shapes.axis("decoder.conv_out.weight", 0)?,
    };
    let pixels = (parts.decoder() && second).then(|| pixels(shapes)).transpose()?;
    let patch = match (parts.encoder(), &pixels) {
        (true, _) => shapes.axis("encoder.patch_embed.weight", 2)?,
        (false, Some(pixels)) => 1 << pixels.resnets.widths.len().saturating_sub(1).min(16),
        (false, None) => (shapes.axis("decoder.ffn.0.weight", 0)? / channels).isqrt(),
    };
    let own = transformer(shapes, side)?;
    let other = |wanted: &str| match parts {
        Parts::Both => transformer(shapes, wanted),
        _ => Ok(own.clone()),
    };
    let config = TitokConfig {
        patch: [patch; 2],
        grid: [across; 2],
        latents: shapes.axis(&format!("{side}.latent_token_positional_embedding"), 0)?,
        encoder: other("encoder")?,
        decoder: other("decoder")?,
        legacy,
        pixels,
        parts,
    };
    let pixels_a_side = across.checked_mul(patch).and_then(|side| u32::try_from(side).ok());
    let heads = format!("{} of width {HEAD}", config.encoder.heads);
    let optional = vec![Optional { name: "attention heads", keys: &[], default: heads }];
    let geometry = Geometry::new(Architecture::Titok(config), channels, codebook(shapes)?);
    // The first published ones, which have a second decoder, normalise.
    let normalised = second || !parts.decoder();
    Ok(Geometry { normalised, side: pixels_a_side, optional, ..geometry })
}

fn transformer(shapes: &Shapes, side: &str) -> Result<TransformerConfig> {
    let dim = shapes.axis(&format!("{side}.ln_pre.weight"), 0)?;
    if !dim.is_multiple_of(HEAD) {
        return Err(Error::invalid(format!(
            "{dim} channels are no heads of width {HEAD}, as every published size has"
        )));
    }
    Ok(TransformerConfig {
        dim,
        depth: shapes.count(&format!("{side}.transformer.")),
        heads: dim / HEAD,
        head_dim: HEAD,
        mlp_dim: shapes.axis(&format!("{side}.transformer.0.mlp.c_fc.weight"), 0)?,
    })
}

/// MaskGIT-VQ's decoder.
fn pixels(shapes: &Shapes) -> Result<TitokPixels> {
    let widths = shapes.widths("pixel.decoder.up")?;
    let Some(&ch) = widths.first() else {
        return Err(Error::invalid("the checkpoint has no levels (`pixel_decoder.up.*`)"));
    };
    Ok(TitokPixels {
        hidden: shapes.axis("decoder.ffn.0.weight", 0)?,
        codes: shapes.axis("pixel_quantize.embedding.weight", 0)?,
        dim: shapes.axis("pixel_quantize.embedding.weight", 1)?,
        resnets: ResnetConfig {
            ch,
            res_blocks: shapes.count("pixel.decoder.up.0.block."),
            widths,
            norm_groups: 32,
            norm_eps: 1e-6,
            parts: Parts::Decoder,
        },
    })
}
