//! Owns the canonical encoder and decoder (Esser et al. 2021, taming-transformers), which most
//! published tokenizers share.

use super::emit::{Emit, ResnetSpec, Shortcut};
use super::geometry::{ConvGeometry, Io, NormSpec};
use crate::error::{Error, Result};
use crate::model::config::VqganConfig;

fn block(config: &VqganConfig) -> ResnetSpec {
    let norm = NormSpec { groups: config.norm_groups, eps: config.norm_eps };
    ResnetSpec { norm, bias: true, shortcut: Shortcut::Input }
}

/// Images to latents.
pub(crate) fn encoder(e: &mut impl Emit, config: &VqganConfig, io: Io) -> Result<()> {
    let spec = block(config);
    e.conv("encoder.conv_in", config.ch, ConvGeometry::SAME_3)?;
    let mut width = config.ch;
    for (i, &c_out) in config.widths.iter().enumerate() {
        let name = format!("encoder.down.{i}");
        width = c_out;
        stage(e, &name, width, config.res_blocks, attends(&config.attention, i), spec)?;
        if i + 1 < config.widths.len() {
            e.conv(&format!("{name}.downsample.conv"), width, ConvGeometry::HALVE_3)?;
        }
    }
    middle(e, "encoder.mid", width, config.mid_attention, spec)?;
    e.norm_silu("encoder.norm_out", spec.norm)?;
    e.conv("encoder.conv_out", config.z_channels, ConvGeometry::SAME_3)?;
    e.latents("quant_conv", io.dim, ConvGeometry::POINT)
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &VqganConfig, io: Io) -> Result<()> {
    let (spec, own) = (block(config), config.decoder());
    let &deepest = own.widths.last().ok_or_else(no_level)?;
    e.conv("post_quant_conv", config.z_channels, ConvGeometry::POINT)?;
    e.conv("decoder.conv_in", deepest, ConvGeometry::SAME_3)?;
    middle(e, "decoder.mid", deepest, own.mid_attention, spec)?;
    for (i, &width) in own.widths.iter().enumerate().rev() {
        let name = format!("decoder.up.{i}");
        stage(e, &name, width, own.blocks, attends(&own.attention, i), spec)?;
        if i > 0 {
            e.upsample(&format!("{name}.upsample.conv"))?;
        }
    }
    e.norm_silu("decoder.norm_out", spec.norm)?;
    e.conv("decoder.conv_out", io.channels, ConvGeometry::SAME_3)
}

fn attends(attention: &[bool], stage: usize) -> bool {
    attention.get(stage).copied().unwrap_or(false)
}

/// Blocks of one resolution, each with attention after it where the stage has it.
fn stage(
    e: &mut impl Emit,
    name: &str,
    width: usize,
    blocks: usize,
    attention: bool,
    spec: ResnetSpec,
) -> Result<()> {
    for j in 0..blocks {
        e.resnet(&format!("{name}.block.{j}"), width, spec)?;
        if attention {
            e.attention(&format!("{name}.attn.{j}"), spec.norm)?;
        }
    }
    Ok(())
}

/// Residual block, attention where there is one, residual block.
fn middle(
    e: &mut impl Emit,
    name: &str,
    width: usize,
    attention: bool,
    spec: ResnetSpec,
) -> Result<()> {
    e.resnet(&format!("{name}.block_1"), width, spec)?;
    if attention {
        e.attention(&format!("{name}.attn_1"), spec.norm)?;
    }
    e.resnet(&format!("{name}.block_2"), width, spec)
}

pub(super) fn no_level() -> Error {
    Error::invalid("the decoder needs at least one level")
}
