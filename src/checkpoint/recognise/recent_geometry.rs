//! Owns the sizes of the families from 2024 on.

use super::geometry::{Geometry, Shapes, bits, codebook, image_channels, resnets, vqgan};
use super::published::{LEVELS, Published};
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

/// Cosmos pads pictures to multiples of so many pixels, whatever the factor.
const COSMOS_PAD: usize = 16;

/// Residual blocks of each level, where they aren't as many in all.
fn blocks_by_level(shapes: &Shapes, stem: &str, levels: usize) -> Vec<usize> {
    let blocks: Vec<usize> =
        (0..levels).map(|i| shapes.count(&format!("{stem}.{i}.block."))).collect();
    match blocks.iter().all(|&count| Some(&count) == blocks.first()) {
        true => Vec::new(),
        false => blocks,
    }
}

/// Numbers of a code, from the 1x1 layers around the codes.
fn dim_of(shapes: &Shapes, parts: Parts) -> Result<usize> {
    match parts.encoder() {
        true => shapes.axis("quant_conv.weight", 0),
        false => shapes.axis("post_quant_conv.weight", 1),
    }
}

/// Show-o: blocks by level on both sides, bits as codes.
pub(super) fn show_o(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let mut config = vqgan(shapes, published)?;
    if config.parts.encoder() {
        config.variant.blocks = blocks_by_level(shapes, "encoder.down", config.widths.len());
    }
    if config.parts.decoder() {
        let mut own = config.decoder();
        own.blocks_by_level = blocks_by_level(shapes, "decoder.up", own.widths.len());
        config.decoder =
            (own != VqganConfig { decoder: None, ..config.clone() }.decoder()).then_some(own);
    }
    let bits = bits(dim_of(shapes, config.parts)?);
    Ok(Geometry::new(Architecture::Vqgan(config), image_channels(shapes)?, bits))
}

/// RQ-VAE: a vector for each token, or it is refused.
pub(super) fn rqvae(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let config = vqgan(shapes, published)?;
    let (rows, dim) = codebook(shapes)?;
    let latent = dim_of(shapes, config.parts)?;
    if latent != dim {
        return Err(Error::invalid(format!(
            "codes of {dim} numbers for latents of {latent}: tokens of several latents \
             (`latent_shape` larger than `code_shape`) aren't computed by vqtok"
        )));
    }
    Ok(Geometry::new(Architecture::Vqgan(config), image_channels(shapes)?, (rows, dim)))
}

/// Emu3: layers over frames on both sides.
pub(super) fn emu3(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let mut config = vqgan(shapes, published)?;
    let side = if config.parts.encoder() { "encoder" } else { "decoder" };
    config.variant.frames = Some(FramesConfig {
        halvings: shapes.count(&format!("{side}.time_conv.")),
        encoder_blocks: shapes.count("encoder.time_res_stack."),
        decoder_blocks: shapes.count("decoder.time_res_stack."),
    });
    Ok(Geometry::new(Architecture::Vqgan(config), image_channels(shapes)?, codebook(shapes)?))
}

/// Cosmos: patches, levels that halve nothing, digits.
pub(super) fn cosmos(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let mut config = vqgan(shapes, published)?;
    let levels = match published.list(&[LEVELS])? {
        Some((levels, _)) => levels,
        None => {
            return Err(Error::invalid(
                "the checkpoint has no levels of digits (`quantizer._levels`): a continuous \
                 tokenizer has no codes",
            ));
        }
    };
    let (sampled, count, channels, patch) = match config.parts.encoder() {
        true => {
            let window = shapes.axis("encoder.conv_in.weight", 2)?;
            let channels = shapes.axis("encoder.conv_in.weight", 1)?;
            ("encoder.down.{}.downsample.", config.widths.len(), channels, window / 3)
        }
        false => {
            let outputs = shapes.axis("decoder.conv_out.weight", 0)?;
            let channels = if outputs % 3 == 0 { 3 } else { 1 };
            let side = (outputs / channels).isqrt();
            ("decoder.up.{}.upsample.", config.decoder().widths.len(), channels, side)
        }
    };
    let halves = |level: &usize| shapes.any(&sampled.replace("{}", &level.to_string()));
    let halvings = (0..count).filter(halves).count();
    let variant = &mut config.variant;
    (variant.patch, variant.halvings) = (Some(patch), Some(halvings));
    // Levels without end are refused with their number.
    variant.pad = Some(COSMOS_PAD.max(patch << halvings.min(8)).next_power_of_two());
    let codes = levels.iter().try_fold(1usize, |codes, &level| codes.checked_mul(level));
    let codes = codes.ok_or_else(|| Error::invalid("levels of too many digits"))?;
    let dim = levels.len();
    let geometry = Geometry::new(Architecture::Vqgan(config), channels, (codes, dim));
    Ok(Geometry { levels, ..geometry })
}

/// MaskBit and VQGAN+: as MaskGIT-VQ, with bits or a codebook.
pub(super) fn vqgan_plus(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let config = resnets(shapes, published)?;
    let codes = match shapes.has("quantize.embedding.weight") {
        true => codebook(shapes)?,
        false if config.parts.encoder() => bits(shapes.axis("encoder.conv_out.weight", 0)?),
        false => bits(shapes.axis("decoder.conv_in.weight", 1)?),
    };
    Ok(Geometry::new(Architecture::VqganPlus(config), image_channels(shapes)?, codes))
}
