//! Owns the classic VQ-VAE (van den Oord et al. 2017): strided 4x4 convolutions down, residual
//! blocks, transposed 4x4 convolutions up.
//!
//! `enc.conv{1..n}` are the stride-2 convolutions, `enc.conv{n+1}` the 3x3 after them, `dec.up{1..n}`
//! the way up.

use super::emit::Emit;
use super::geometry::{ConvGeometry, Io};
use crate::error::Result;
use crate::model::config::VqvaeConfig;

/// Images to latents.
pub(crate) fn encoder(e: &mut impl Emit, config: &VqvaeConfig, io: Io) -> Result<()> {
    for i in 0..config.downsamples {
        e.conv(&format!("enc.conv{}", i + 1), width(config, i), ConvGeometry::HALVE_4)?;
        e.relu()?;
    }
    let name = format!("enc.conv{}", config.downsamples + 1);
    e.conv(&name, config.hidden, ConvGeometry::SAME_3)?;
    residuals(e, "enc.res", config)?;
    e.latents("enc.proj", io.dim, ConvGeometry::POINT)
}

/// Looked-up codes to images.
pub(crate) fn decoder(e: &mut impl Emit, config: &VqvaeConfig, io: Io) -> Result<()> {
    let n = config.downsamples;
    e.conv("dec.conv", config.hidden, ConvGeometry::SAME_3)?;
    residuals(e, "dec.res", config)?;
    for i in 1..=n {
        if i > 1 {
            e.relu()?;
        }
        let outputs = if i == n { io.channels } else { width(config, n - 1 - i) };
        e.transposed(&format!("dec.up{i}"), outputs)?;
    }
    Ok(())
}

/// The blocks and the ReLU after the last.
fn residuals(e: &mut impl Emit, name: &str, config: &VqvaeConfig) -> Result<()> {
    for i in 0..config.res_blocks {
        let [conv1, conv2] = ["conv1", "conv2"].map(|part| format!("{name}.{i}.{part}"));
        e.plain_residual([&conv1, &conv2], config.res_hidden)?;
    }
    e.relu()
}

/// Channels after the `i`-th (from 0) stride-2 convolution.
fn width(config: &VqvaeConfig, i: usize) -> usize {
    if i == 0 && config.downsamples > 1 { config.hidden / 2 } else { config.hidden }
}
