//! Owns the canonical networks as graphs: which layers, by their canonical names, in which order;
//! `families` has the others.
//! Must not know: how a layer is computed.

use super::families;
use super::kernels::{Isa, Window};
use crate::engine::cpu::graph::builder::Builder;
use crate::engine::cpu::graph::{Before, Graph};
use crate::error::Result;
use crate::model::config::{Architecture, ModelConfig, VqganConfig, VqvaeConfig};
use crate::weights::store::Weights;

/// Encoder and decoder of a model, where its family is one of ours and it has them.
pub fn graphs(
    isa: Isa,
    weights: &Weights,
    config: &ModelConfig,
) -> Result<(Option<Graph>, Option<Graph>)> {
    let (channels, dim) = (config.pixels.channels, config.quantizer.dim);
    let parts = config.parts();
    let (encoder, decoder) = match &config.architecture {
        Architecture::Vqgan(c) => (
            parts.encoder().then(|| vqgan_encoder(isa, weights, c, channels)),
            parts.decoder().then(|| vqgan_decoder(isa, weights, c, dim)),
        ),
        Architecture::Vqvae(c) => (
            Some(vqvae_encoder(isa, weights, c, channels)),
            Some(vqvae_decoder(isa, weights, c, dim)),
        ),
        Architecture::Maskgit(c) => (
            parts.encoder().then(|| families::maskgit_encoder(isa, weights, c, channels)),
            parts.decoder().then(|| families::maskgit_decoder(isa, weights, c, dim)),
        ),
        Architecture::OpenMagvit2(c) => (
            parts.encoder().then(|| families::open_magvit2_encoder(isa, weights, c, channels)),
            parts.decoder().then(|| families::open_magvit2_decoder(isa, weights, c, dim)),
        ),
        Architecture::Dalle(c) => (
            parts.encoder().then(|| families::dalle_encoder(isa, weights, c, channels)),
            parts.decoder().then(|| families::dalle_decoder(isa, weights, c, channels)),
        ),
        // A transformer is candle's; a network with a quantizer in its middle is `two_levels`.
        Architecture::VitVqgan(_) | Architecture::Vqvae2(_) => (None, None),
    };
    Ok((encoder.transpose()?, decoder.transpose()?))
}

/// Pixels in the input range, `[H, W, channels]`, to latents in front of the quantizer.
pub fn vqgan_encoder(
    isa: Isa,
    weights: &Weights,
    config: &VqganConfig,
    channels: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, channels).normed(config);
    let image = b.graph.input();
    let mut x = b.conv_into_new("encoder.conv_in", image, Window::SAME_3, Before::Nothing)?;
    for (i, &attention) in config.attention.iter().enumerate() {
        for j in 0..config.res_blocks {
            x = b.residual(&format!("encoder.down.{i}.block.{j}"), x)?;
            if attention {
                b.attention(&format!("encoder.down.{i}.attn.{j}"), x)?;
            }
        }
        if i + 1 < config.attention.len() {
            let name = format!("encoder.down.{i}.downsample.conv");
            x = b.conv_into_new(&name, x, Window::HALVE_3, Before::Nothing)?;
        }
    }
    x = b.middle("encoder.mid", x, config.mid_attention)?;
    let norm = b.norm("encoder.norm_out")?;
    x = b.conv_into_new("encoder.conv_out", x, Window::SAME_3, Before::NormSilu(norm))?;
    x = b.conv_into_new("quant_conv", x, Window::POINT, Before::Nothing)?;
    Ok(b.graph.finish(x))
}

/// Looked-up codes, `[h, w, dim]`, to pixels in the output range.
pub fn vqgan_decoder(
    isa: Isa,
    weights: &Weights,
    config: &VqganConfig,
    dim: usize,
) -> Result<Graph> {
    let own = config.decoder();
    let mut b = Builder::new(isa, weights, dim).normed(config);
    let codes = b.graph.input();
    let mut x = b.conv_into_new("post_quant_conv", codes, Window::POINT, Before::Nothing)?;
    x = b.conv_into_new("decoder.conv_in", x, Window::SAME_3, Before::Nothing)?;
    x = b.middle("decoder.mid", x, own.mid_attention)?;
    for (i, &attention) in own.attention.iter().enumerate().rev() {
        for j in 0..own.blocks {
            x = b.residual(&format!("decoder.up.{i}.block.{j}"), x)?;
            if attention {
                b.attention(&format!("decoder.up.{i}.attn.{j}"), x)?;
            }
        }
        if i > 0 {
            x = b.upsample(&format!("decoder.up.{i}.upsample.conv"), x)?;
        }
    }
    let norm = b.norm("decoder.norm_out")?;
    x = b.conv_into_new("decoder.conv_out", x, Window::SAME_3, Before::NormSilu(norm))?;
    Ok(b.graph.finish(x))
}

/// Pixels in the input range, `[H, W, channels]`, to latents in front of the quantizer.
pub fn vqvae_encoder(
    isa: Isa,
    weights: &Weights,
    config: &VqvaeConfig,
    channels: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, channels);
    let mut x = b.graph.input();
    let mut before = Before::Nothing;
    for i in 1..=config.downsamples {
        x = b.conv_into_new(&format!("enc.conv{i}"), x, Window::HALVE_4, before)?;
        before = Before::Relu;
    }
    let name = format!("enc.conv{}", config.downsamples + 1);
    x = b.conv_into_new(&name, x, Window::SAME_3, before)?;
    for i in 0..config.res_blocks {
        let conv = |part: &str| format!("enc.res.{i}.{part}");
        b.plain_residual([&conv("conv1"), &conv("conv2")], x)?;
    }
    x = b.conv_into_new("enc.proj", x, Window::POINT, Before::Relu)?;
    Ok(b.graph.finish(x))
}

/// Looked-up codes, `[h, w, dim]`, to pixels in the output range.
pub fn vqvae_decoder(
    isa: Isa,
    weights: &Weights,
    config: &VqvaeConfig,
    dim: usize,
) -> Result<Graph> {
    let mut b = Builder::new(isa, weights, dim);
    let codes = b.graph.input();
    let mut x = b.conv_into_new("dec.conv", codes, Window::SAME_3, Before::Nothing)?;
    for i in 0..config.res_blocks {
        let conv = |part: &str| format!("dec.res.{i}.{part}");
        b.plain_residual([&conv("conv1"), &conv("conv2")], x)?;
    }
    for i in 1..=config.downsamples {
        x = b.transposed(&format!("dec.up{i}"), x, Before::Relu)?;
    }
    Ok(b.graph.finish(x))
}
