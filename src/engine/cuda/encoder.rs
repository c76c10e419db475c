//! Owns the canonical encoder and its quantizer as a program: which layers in which order.
//! Must not know: how a layer becomes commands, drivers.

use super::emit::{Emitter, Map, Rule, Window};
use super::libraries::refused;
use super::program::{Program, Result as Outcome};
use crate::engine::cuda::weights::{CHANNELS, DeviceWeights, Search};
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, QuantizerRule, VqganConfig};
use crate::util::settings::DEVICE;

/// Images a run for pictures of that size: about as many pixels as 64 of 256x256 have. It doesn't
/// depend on the caller's batch, so that a library which chooses by the batch chooses the same.
pub fn images(height: usize, width: usize) -> usize {
    ((64 << 16) / (height * width).max(1)).clamp(1, 256)
}

/// The canonical encoder's settings, or, in one line, why there is none for the GPU.
pub fn supported(config: &ModelConfig) -> Result<&VqganConfig> {
    let unsupported =
        |what: &str| Err(refused(format!("{what} (family `{}`); use {DEVICE} cpu", config.family)));
    if config.quantizer.depth > 1 {
        return unsupported("residual levels of codes don't run on the GPU");
    }
    match &config.architecture {
        Architecture::Vqgan(c) if !c.parts.encoder() => {
            unsupported("only encoders run on the GPU, and this checkpoint has none")
        }
        Architecture::Vqgan(c)
            if !c.ch.is_multiple_of(CHANNELS)
                || c.widths.iter().any(|w| !w.is_multiple_of(CHANNELS)) =>
        {
            unsupported("its widths are no multiples of 8")
        }
        Architecture::Vqgan(c) => Ok(c),
        _ => unsupported("only the canonical VQGAN encoder runs on the GPU yet"),
    }
}

/// The program that encodes `images` pictures of `height` x `width` pixels.
///
/// # Errors
/// A model that [`supported`] refuses, a missing tensor, a size that is too large.
pub fn program(
    weights: &mut DeviceWeights,
    config: &ModelConfig,
    images: usize,
    [height, width]: [usize; 2],
) -> Result<Program> {
    let network = supported(config)?;
    let mut e = Emitter::new(weights, images, network.norm_groups, network.norm_eps);
    let channels = config.pixels.channels;
    let table = config.pixels.input.table();
    let (input, pixels) = e.pixels(&table, [height, width, channels])?;
    let x = encode(&mut e, network, pixels)?;
    let (latents, dim) = e.conv_to_floats("quant_conv", x)?;
    e.release(x.place);
    let rows = images * x.height * x.width;
    let result = match search(config.quantizer.rule) {
        None => Outcome::Latents,
        Some((search, rule)) => {
            let book = e.weights.book(search)?;
            if book.dim != dim {
                return Err(Error::invalid(format!(
                    "the encoder gives {dim} channels where the quantizer takes {}: this \
                     checkpoint can decode only",
                    book.dim
                )));
            }
            if search == Search::NearestNormalised {
                e.normalise(latents, rows, dim);
            }
            let [codes, distances] = e.search(latents, rows, book, rule);
            Outcome::Codes { codes, distances }
        }
    };
    Ok(Program {
        images,
        image_bytes: height * width * channels,
        grid: (x.height, x.width),
        dim,
        commands: e.commands,
        maps: e.maps,
        input,
        latents,
        result,
    })
}

/// How a rule is searched; None for rules that the host applies.
fn search(rule: QuantizerRule) -> Option<(Search, Rule)> {
    match rule {
        QuantizerRule::L2 => Some((Search::Nearest, Rule::NEAREST)),
        QuantizerRule::L2Normalised => Some((Search::NearestNormalised, Rule::NEAREST)),
        QuantizerRule::Dot => Some((Search::Largest, Rule::LARGEST)),
        QuantizerRule::Projection => Some((Search::Projection, Rule::PROJECTION)),
        _ => None,
    }
}

fn encode(e: &mut Emitter<'_>, config: &VqganConfig, pixels: Map) -> Result<Map> {
    let mut x = replace(e, "encoder.conv_in", pixels, Window::SAME)?;
    for (i, &attention) in config.attention.iter().enumerate() {
        for j in 0..config.res_blocks {
            x = residual(e, &format!("encoder.down.{i}.block.{j}"), x)?;
            if attention {
                x = attend(e, &format!("encoder.down.{i}.attn.{j}"), x)?;
            }
        }
        if i + 1 < config.attention.len() {
            x = replace(e, &format!("encoder.down.{i}.downsample.conv"), x, Window::HALVE)?;
        }
    }
    x = residual(e, "encoder.mid.block_1", x)?;
    if config.mid_attention {
        x = attend(e, "encoder.mid.attn_1", x)?;
    }
    x = residual(e, "encoder.mid.block_2", x)?;
    let normed = e.norm("encoder.norm_out", x, true)?;
    e.release(x.place);
    replace(e, "encoder.conv_out", normed, Window::SAME)
}

/// A convolution whose input nothing reads any more.
fn replace(e: &mut Emitter<'_>, name: &str, x: Map, window: Window) -> Result<Map> {
    let y = e.conv(name, x, window, None)?;
    e.release(x.place);
    Ok(y)
}

/// GroupNorm, SiLU, 3x3, twice, plus the input or a 1x1 of it.
fn residual(e: &mut Emitter<'_>, name: &str, x: Map) -> Result<Map> {
    let h = e.norm(&format!("{name}.norm1"), x, true)?;
    let h = replace(e, &format!("{name}.conv1"), h, Window::SAME)?;
    let normed = e.norm(&format!("{name}.norm2"), h, true)?;
    e.release(h.place);
    let shortcut = format!("{name}.nin_shortcut");
    let skip = match e.weights.has(&format!("{shortcut}.weight")) {
        true => replace(e, &shortcut, x, Window::POINT)?,
        false => x,
    };
    let y = e.conv(&format!("{name}.conv2"), normed, Window::SAME, Some(skip))?;
    e.release(normed.place);
    e.release(skip.place);
    Ok(y)
}

/// Attention over all pixels, plus the input.
fn attend(e: &mut Emitter<'_>, name: &str, x: Map) -> Result<Map> {
    let normed = e.norm(&format!("{name}.norm"), x, false)?;
    let parts = ["q", "k", "v"].map(|part| format!("{name}.{part}"));
    let key = format!("{name}.qkv");
    let packed = e.weights.side_by_side(&key, &parts.each_ref().map(String::as_str))?;
    let qkv = e.convolve(&key, packed, normed, Window::POINT, None)?;
    e.release(normed.place);
    let mixed = e.attend(&format!("{name}.attend"), qkv)?;
    e.release(qkv.place);
    let y = e.conv(&format!("{name}.proj_out"), mixed, Window::POINT, Some(x))?;
    e.release(mixed.place);
    e.release(x.place);
    Ok(y)
}
