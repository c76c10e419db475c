//! Owns an encoder and its quantizer as a program.

use super::books::Search;
use super::emit::Emitter;
use super::network::{Latents, Network};
use super::program::{Level, Program, Result as Outcome};
use super::search::Rule;
use super::vqvae2;
use crate::engine::cuda::weights::{CHANNELS, DeviceWeights};
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, QuantizerConfig, QuantizerRule};
use crate::model::topology::{self, Io};
use crate::nvidia::errors::refused;
use crate::util::settings::DEVICE;
use crate::util::text;

/// Images of a usual run for pictures of that size: a power of four, of at most as many pixels as 64
/// of 256x256 have. It depends neither on the caller's batch nor on memory: libraries choose their
/// ways for this number, and keep to them in runs of fewer images, so that tokens don't depend on the
/// batch.
pub(crate) fn images(height: usize, width: usize) -> usize {
    at_most(((64 << 16) / (height * width).max(1)).clamp(1, 256))
}

/// The largest number of images that is a power of four, up to `count`: what programs are made for.
pub(crate) fn at_most(count: usize) -> usize {
    1 << (count.max(1).ilog2() / 2 * 2)
}

/// Images of the next run where `left` are left and a run takes at most `most`, a power of four: a
/// larger run where more than half of it is used.
pub(crate) fn next_run(left: usize, most: usize) -> usize {
    let below = at_most(left);
    let above = if below == left { below } else { 4 * below };
    if 2 * left > above { above.min(most) } else { below.min(most) }
}

/// Whether images of a model can be encoded on the GPU, or, in one line, why not.
pub(crate) fn supported(config: &ModelConfig) -> Result<()> {
    if !config.parts().encoder() {
        return Err(unsupported(config, "this checkpoint has no encoder"));
    }
    network_supported(config)
}

/// Why a model's half doesn't run there.
pub(super) fn unsupported(config: &ModelConfig, what: &str) -> Error {
    refused(format!("{what} (family `{}`); use {DEVICE} cpu", text::shorten(&config.family)))
}

/// Whether layers of both halves of a network run on the GPU, or, in one line, why not.
pub(super) fn network_supported(config: &ModelConfig) -> Result<()> {
    let unsupported = |what: &str| Err(unsupported(config, what));
    let odd = |ch: usize, widths: &[usize]| {
        !ch.is_multiple_of(CHANNELS) || widths.iter().any(|w| !w.is_multiple_of(CHANNELS))
    };
    match &config.architecture {
        Architecture::Vqvae2(_)
            if config.quantizer.rule != QuantizerRule::L2
                || config.quantizer.normalises_lookup() =>
        {
            unsupported("a VQ-VAE-2 whose codes are normalised doesn't run on the GPU")
        }
        Architecture::Vqgan(c) if odd(c.ch, &c.widths) => {
            unsupported("its widths are no multiples of 8")
        }
        Architecture::Maskgit(c) | Architecture::VqganPlus(c) | Architecture::OpenMagvit2(c)
            if odd(c.ch, &c.widths) =>
        {
            unsupported("its widths are no multiples of 8")
        }
        Architecture::Vqgan(_)
        | Architecture::Vqvae(_)
        | Architecture::Vqvae2(_)
        | Architecture::Maskgit(_)
        | Architecture::VqganPlus(_)
        | Architecture::OpenMagvit2(_)
        | Architecture::Dalle(_) => Ok(()),
        Architecture::VitVqgan(_)
        | Architecture::Titok(_)
        | Architecture::Unitok(_)
        | Architecture::Onnx(_) => unsupported("no such network runs on the GPU yet"),
    }
}

/// The program that encodes `images` pictures of `height` x `width` pixels.
///
/// # Errors
/// A model that [`supported`] refuses, a missing tensor, a size that is too large.
pub(crate) fn program(
    weights: &mut DeviceWeights,
    config: &ModelConfig,
    images: usize,
    size: [usize; 2],
) -> Result<Program> {
    let usual = self::images(size[0], size[1]);
    program_as(weights, config, [images, usual], size)
}

/// The same in the ways that libraries choose for the `usual` number of images.
pub(crate) fn program_as(
    weights: &mut DeviceWeights,
    config: &ModelConfig,
    [images, usual]: [usize; 2],
    [height, width]: [usize; 2],
) -> Result<Program> {
    supported(config)?;
    let mut e = Emitter::new(weights, images, usual);
    let channels = config.pixels.channels;
    let table = config.pixels.input.table();
    let (input, pixels) = e.pixels(&table, [height, width, channels])?;
    let io = Io::from(config);
    let (latents, result) = match &config.architecture {
        Architecture::Vqvae2(c) => {
            let (latents, levels) = vqvae2::encoder(&mut e, c, io, pixels)?;
            (latents, Outcome::Codes(levels))
        }
        architecture => {
            let mut network = Network::new(&mut e, pixels, channels);
            topology::encoder(&mut network, architecture, io)?;
            let latents = network.finish()?;
            (latents, quantized(&mut e, &config.quantizer, latents)?)
        }
    };
    let Latents { place: latents, grid, dim } = latents;
    Ok(Program {
        images,
        usual,
        image_bytes: height * width * channels,
        grid,
        dim,
        commands: e.commands,
        maps: e.maps,
        input,
        latents,
        result,
    })
}

/// What becomes of latents on the device.
fn quantized(
    e: &mut Emitter<'_>,
    quantizer: &QuantizerConfig,
    latents: Latents,
) -> Result<Outcome> {
    let Latents { place, grid, dim } = latents;
    let rows = e.images * grid.0 * grid.1;
    if quantizer.scales.is_some() || quantizer.books > 1 {
        return Ok(Outcome::Latents);
    }
    if quantizer.rule == QuantizerRule::Logits {
        latents.require(quantizer.codes)?;
        let [codes, distances] = e.largest_logit(place, rows, dim);
        return Ok(Outcome::Codes(vec![Level { codes, distances, grid }]));
    }
    let Some((search, rule)) = search(quantizer.rule) else { return Ok(Outcome::Latents) };
    let mut levels = Vec::with_capacity(quantizer.depth);
    for level in 0..quantizer.depth {
        let book = e.weights.book(search, level, quantizer.codes)?;
        latents.require(book.dim)?;
        if search == Search::NearestNormalised {
            e.normalise(place, rows, dim);
        }
        let [codes, distances] = e.search(place, rows, book, rule);
        if level + 1 < quantizer.depth {
            e.subtract(place, codes, rows, book);
        }
        levels.push(Level { codes, distances, grid });
    }
    Ok(Outcome::Codes(levels))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_powers_of_four_of_about_as_many_pixels() {
        let sizes = [[256, 256], [257, 256], [128, 64], [16, 16], [512, 512], [2048, 2048]];
        assert_eq!(sizes.map(|[h, w]| images(h, w)), [64, 16, 256, 256, 16, 1]);
        assert_eq!(images(4096, 4096), 1);
    }

    #[test]
    fn a_batch_goes_in_the_runs_that_waste_least() {
        let runs = |mut left: usize, most: usize| {
            let mut runs = Vec::new();
            while left > 0 {
                runs.push(next_run(left, most));
                left = left.saturating_sub(runs[runs.len() - 1]);
            }
            runs
        };
        assert_eq!(runs(64, 64), [64]);
        assert_eq!(runs(130, 64), [64, 64, 1, 1]);
        assert_eq!(runs(33, 64), [64]);
        assert_eq!(runs(32, 64), [16, 16]);
        assert_eq!(runs(7, 64), [4, 4]);
        assert_eq!(runs(6, 64), [4, 1, 1]);
        assert_eq!(runs(3, 64), [4]);
        assert_eq!(runs(3, 1), [1, 1, 1]);
        assert_eq!(runs(9, 4), [4, 4, 1]);
    }
}
