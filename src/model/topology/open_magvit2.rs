//! Owns Open-MAGVIT2 (SEED-Voken's improved model): blocks without biases, strided convolutions
//! that round up, a decoder modulated by its codes, depth-to-space.

use super::emit::{Emit, ResnetSpec, Shortcut, resnets};
use super::geometry::{ConvGeometry, Io};
use super::vqgan::no_level;
use crate::error::Result;
use crate::model::config::ResnetConfig;

/// Images to the values whose signs are the bits.
pub(crate) fn encoder(e: &mut impl Emit, config: &ResnetConfig, io: Io) -> Result<()> {
    let (spec, count) = (ResnetSpec::unbiased(config, Shortcut::Input), config.res_blocks);
    e.conv("encoder.conv_in", config.ch, ConvGeometry::SAME_3.unbiased())?;
    let mut width = config.ch;
    for (i, &c_out) in config.widths.iter().enumerate() {
        width = c_out;
        resnets(e, &format!("encoder.down.{i}.block"), count, width, spec)?;
        if i + 1 < config.widths.len() {
            e.conv(&format!("encoder.down.{i}.downsample"), width, ConvGeometry::HALVE_UP_3)?;
        }
    }
    resnets(e, "encoder.mid_block", count, width, spec)?;
    e.norm_silu("encoder.norm_out", spec.norm)?;
    e.latents("encoder.conv_out", io.dim, ConvGeometry::POINT)
}

/// Bits, -1 or 1, to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &ResnetConfig, io: Io) -> Result<()> {
    let (spec, count) = (ResnetSpec::unbiased(config, Shortcut::Input), config.res_blocks);
    let &deepest = config.widths.last().ok_or_else(no_level)?;
    e.conv("decoder.conv_in", deepest, ConvGeometry::SAME_3)?;
    resnets(e, "decoder.mid_block", count, deepest, spec)?;
    for (i, &width) in config.widths.iter().enumerate().rev() {
        e.adaptive_norm(&format!("decoder.adaptive.{i}"), spec.norm)?;
        resnets(e, &format!("decoder.up.{i}.block"), count, width, spec)?;
        if i > 0 {
            let name = format!("decoder.up.{i}.upsample.conv1");
            e.conv(&name, 4 * width, ConvGeometry::SAME_3)?;
            e.depth_to_space([2, 2])?;
        }
    }
    e.norm_silu("decoder.norm_out", spec.norm)?;
    e.conv("decoder.conv_out", io.channels, ConvGeometry::SAME_3)
}
