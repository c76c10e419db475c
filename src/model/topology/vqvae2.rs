//! Owns the parts of VQ-VAE-2 (Razavi et al. 2019, as in rosinality/vq-vae-2-pytorch), between
//! which its two quantizers stand: a top level of codes, and a bottom level that depends on the
//! decoded top.

use super::emit::Emit;
use super::geometry::{ConvGeometry, Io};
use crate::error::Result;
use crate::model::config::Vqvae2Config;

/// Images to the features that both levels see, a quarter of the size.
pub(crate) fn bottom_features(e: &mut impl Emit, config: &Vqvae2Config) -> Result<()> {
    e.conv("enc_b.blocks.0", config.channels / 2, ConvGeometry::HALVE_4)?;
    e.relu()?;
    e.conv("enc_b.blocks.2", config.channels, ConvGeometry::HALVE_4)?;
    e.relu()?;
    e.conv("enc_b.blocks.4", config.channels, ConvGeometry::SAME_3)?;
    residuals(e, "enc_b.blocks", 5, config)
}

/// [`bottom_features`] to the top's latents, an eighth of the image's size.
pub(crate) fn top_latents(e: &mut impl Emit, config: &Vqvae2Config, io: Io) -> Result<()> {
    e.conv("enc_t.blocks.0", config.channels / 2, ConvGeometry::HALVE_4)?;
    e.relu()?;
    e.conv("enc_t.blocks.2", config.channels, ConvGeometry::SAME_3)?;
    residuals(e, "enc_t.blocks", 3, config)?;
    e.latents("quantize_conv_t", io.dim, ConvGeometry::POINT)
}

/// The top's code vectors to what the bottom's latents take of them, at the bottom's size.
pub(crate) fn decoded_top(e: &mut impl Emit, config: &Vqvae2Config, io: Io) -> Result<()> {
    e.conv("dec_t.blocks.0", config.channels, ConvGeometry::SAME_3)?;
    residuals(e, "dec_t.blocks", 1, config)?;
    e.transposed(&format!("dec_t.blocks.{}", config.res_blocks + 2), io.dim)
}

/// [`decoded_top`] and [`bottom_features`] side by side, in that order, to the bottom's latents.
pub(crate) fn bottom_latents(e: &mut impl Emit, io: Io) -> Result<()> {
    e.latents("quantize_conv_b", io.dim, ConvGeometry::POINT)
}

/// The top's code vectors to the bottom's size.
pub(crate) fn upsampled_top(e: &mut impl Emit, io: Io) -> Result<()> {
    e.transposed("upsample_t", io.dim)
}

/// [`upsampled_top`] and the bottom's code vectors side by side, in that order, to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &Vqvae2Config, io: Io) -> Result<()> {
    e.conv("dec.blocks.0", config.channels, ConvGeometry::SAME_3)?;
    residuals(e, "dec.blocks", 1, config)?;
    e.transposed(&format!("dec.blocks.{}", config.res_blocks + 2), config.channels / 2)?;
    e.relu()?;
    e.transposed(&format!("dec.blocks.{}", config.res_blocks + 4), io.channels)
}

/// Blocks at indices from `first`, and the ReLU after the last.
fn residuals(e: &mut impl Emit, name: &str, first: usize, config: &Vqvae2Config) -> Result<()> {
    for i in first..first + config.res_blocks {
        let [conv1, conv3] = [1, 3].map(|part| format!("{name}.{i}.conv.{part}"));
        e.plain_residual([&conv1, &conv3], config.res_channels)?;
    }
    e.relu()
}
