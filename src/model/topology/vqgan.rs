//! Owns the canonical encoder and decoder (Esser et al. 2021, taming-transformers), which most
//! published tokenizers share, and what some of them do otherwise.

use super::emit::{Emit, ResnetSpec, Shortcut};
use super::geometry::{ConvGeometry, Io, NormSpec};
use crate::error::{Error, Result};
use crate::model::config::{FramesConfig, VqganConfig};

fn block(norm: NormSpec) -> ResnetSpec {
    ResnetSpec { norm, bias: true, shortcut: Shortcut::Input }
}

/// Images to latents.
pub(crate) fn encoder(e: &mut impl Emit, config: &VqganConfig, io: Io) -> Result<()> {
    let spec = block(NormSpec::new(config.norm_groups, config.norm_eps));
    let halvings = config.halvings_of(config.widths.len());
    let stem = ConvGeometry::patches(config.variant.patch.unwrap_or(1));
    e.conv("encoder.conv_in", config.ch, stem)?;
    let mut width = config.ch;
    for (i, &c_out) in config.widths.iter().enumerate() {
        let name = format!("encoder.down.{i}");
        width = c_out;
        stage(e, &name, (width, config.blocks_of(i)), attends(&config.attention, i), spec)?;
        if i < halvings {
            e.conv(&format!("{name}.downsample.conv"), width, ConvGeometry::HALVE_3)?;
        }
    }
    middle(e, "encoder.mid", width, config.mid_attention, spec)?;
    e.norm_silu("encoder.norm_out", spec.norm)?;
    let Some(around) = around(config) else {
        return e.latents("encoder.conv_out", io.dim, ConvGeometry::SAME_3);
    };
    e.conv("encoder.conv_out", config.z_channels, ConvGeometry::SAME_3)?;
    if let Some(frames) = config.variant.frames {
        many_frames_to_one(e, frames, config.z_channels)?;
    }
    e.latents("quant_conv", io.dim, around)
}

/// The convolutions around the quantizer, where there are any.
fn around(config: &VqganConfig) -> Option<ConvGeometry> {
    match config.variant.around.unwrap_or(1) {
        0 => None,
        side => Some(ConvGeometry::same(side)),
    }
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &VqganConfig, io: Io) -> Result<()> {
    let own = config.decoder();
    let norm = NormSpec::new(config.norm_groups, config.norm_eps);
    let spec = block(match own.spatial_norm {
        Some(groups) => NormSpec { groups, by_codes: true, ..norm },
        None => norm,
    });
    let &deepest = own.widths.last().ok_or_else(no_level)?;
    if let Some(frames) = config.variant.frames {
        one_frame_to_many(e, frames, io.dim)?;
        e.keep_codes()?;
    }
    if let Some(around) = around(config) {
        e.conv("post_quant_conv", config.z_channels, around)?;
    }
    if let Some(frames) = config.variant.frames {
        one_frame_to_many(e, frames, config.z_channels)?;
    }
    e.conv("decoder.conv_in", deepest, ConvGeometry::SAME_3)?;
    middle(e, "decoder.mid", deepest, own.mid_attention, spec)?;
    let levels = own.widths.len();
    let first_doubled = levels - config.halvings_of(levels).min(levels);
    for (i, &width) in own.widths.iter().enumerate().rev() {
        let name = format!("decoder.up.{i}");
        stage(e, &name, (width, own.blocks_of(i)), attends(&own.attention, i), spec)?;
        if i >= first_doubled {
            e.upsample(&format!("{name}.upsample.conv"))?;
        }
    }
    e.norm_silu("decoder.norm_out", spec.norm)?;
    let patch = config.variant.patch.unwrap_or(1);
    e.conv("decoder.conv_out", io.channels * patch * patch, ConvGeometry::SAME_3)?;
    (0..patch.ilog2()).try_for_each(|_| e.depth_to_space([2, 2]))
}

/// Emu3's encoder after its last layer for one frame. Of the equal frames that a picture is, each
/// layer makes half as many, which lie side by side as channels; all are equal but for the zeros
/// before the first one. The weights are sums of the published ones over the frames they see.
fn many_frames_to_one(e: &mut impl Emit, frames: FramesConfig, width: usize) -> Result<()> {
    for i in 0..frames.halvings {
        let outputs = width << (frames.halvings - 1 - i);
        e.conv(&format!("encoder.time_conv.{i}"), outputs, ConvGeometry::SAME_3)?;
        e.silu()?;
    }
    residuals(e, "encoder", frames.encoder_blocks)
}

/// Emu3's decoder before its first layer for one frame, of which the first frame alone is a picture;
/// that sees nothing but the first before it, so that one tap of each published weight is left.
fn one_frame_to_many(e: &mut impl Emit, frames: FramesConfig, width: usize) -> Result<()> {
    residuals(e, "decoder", frames.decoder_blocks)?;
    for i in 0..frames.halvings {
        e.conv(&format!("decoder.time_conv.{i}"), width, ConvGeometry::SAME_3)?;
        e.silu()?;
    }
    Ok(())
}

fn residuals(e: &mut impl Emit, side: &str, count: usize) -> Result<()> {
    (0..count).try_for_each(|j| e.affine_resnet(&format!("{side}.time_res_stack.{j}")))
}

fn attends(attention: &[bool], stage: usize) -> bool {
    attention.get(stage).copied().unwrap_or(false)
}

/// Blocks of one resolution, each with attention after it where the stage has it.
fn stage(
    e: &mut impl Emit,
    name: &str,
    (width, blocks): (usize, usize),
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
