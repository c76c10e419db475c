//! Owns MaskGIT-VQ as open-muse published it: no biases inside blocks, average pooling, no
//! attention, no 1x1 around the quantizer; and MaskBit's VQGAN+, the same but for its strided
//! convolutions.

use super::emit::{Emit, Resample, ResnetSpec, Shortcut, resnets};
use super::geometry::{ConvGeometry, Io};
use super::vqgan::no_level;
use crate::error::Result;
use crate::model::config::ResnetConfig;

/// How an encoder halves its maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halving {
    /// The mean of 2x2 pixels.
    Mean,
    /// A strided 3x3 convolution, padded as TensorFlow does: odd sides round up.
    Strided,
}

/// Images to latents.
pub(crate) fn encoder(
    e: &mut impl Emit,
    config: &ResnetConfig,
    halving: Halving,
    io: Io,
) -> Result<()> {
    let (spec, count) = (ResnetSpec::unbiased(config, Shortcut::Output), config.res_blocks);
    e.conv("encoder.conv_in", config.ch, ConvGeometry::SAME_3.unbiased())?;
    let mut width = config.ch;
    for (i, &c_out) in config.widths.iter().enumerate() {
        width = c_out;
        resnets(e, &format!("encoder.down.{i}.block"), count, width, spec)?;
        if i + 1 == config.widths.len() {
            break;
        }
        match halving {
            Halving::Mean => e.resample(Resample::Mean)?,
            Halving::Strided => {
                e.resample(Resample::Even)?;
                e.conv(&format!("encoder.down.{i}.down_conv"), width, ConvGeometry::HALVE_3)?;
            }
        }
    }
    resnets(e, "encoder.mid", count, width, spec)?;
    e.norm_silu("encoder.norm_out", spec.norm)?;
    e.latents("encoder.conv_out", io.dim, ConvGeometry::POINT)
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &ResnetConfig, io: Io) -> Result<()> {
    let (spec, count) = (ResnetSpec::unbiased(config, Shortcut::Output), config.res_blocks);
    let &deepest = config.widths.last().ok_or_else(no_level)?;
    e.conv("decoder.conv_in", deepest, ConvGeometry::SAME_3)?;
    resnets(e, "decoder.mid", count, deepest, spec)?;
    for (i, &width) in config.widths.iter().enumerate().rev() {
        resnets(e, &format!("decoder.up.{i}.block"), count, width, spec)?;
        if i > 0 {
            e.upsample(&format!("decoder.up.{i}.upsample_conv"))?;
        }
    }
    e.norm_silu("decoder.norm_out", spec.norm)?;
    e.conv("decoder.conv_out", io.channels, ConvGeometry::SAME_3)
}
