//! Owns a decoder as a program: vectors of codes, which the host looks up, or VQ-VAE-2's codes, to floats of
//! pictures, which the host makes bytes.

use super::emit::Emitter;
use super::encoder::{images, network_supported, unsupported};
use super::network::Network;
use super::program::{Program, Result as Outcome};
use super::vqvae2;
use crate::engine::cuda::weights::DeviceWeights;
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig};
use crate::model::topology::{self, Io};

/// Whether codes of a model can be decoded on the GPU, or, in one line, why not.
pub(crate) fn supported(config: &ModelConfig) -> Result<()> {
    let unsupported = |what: &str| Err(unsupported(config, what));
    if !config.parts().decoder() {
        return unsupported("this checkpoint has no decoder");
    }
    network_supported(config)?;
    match &config.architecture {
        Architecture::Vqgan(c)
            if c.decoder().widths.iter().any(|w| !w.is_multiple_of(super::weights::CHANNELS)) =>
        {
            unsupported("the widths of its decoder are no multiples of 8")
        }
        _ => Ok(()),
    }
}

/// The program that decodes so many maps of vectors of `height` x `width`. Its input is float32
/// `[images, height, width, dim]`, or of VQ-VAE-2, whose bottom has that size, the codes (u32) of an image's top and
/// then those of its bottom; its `latents` are float32 pictures, `grid` their size, `dim` their
/// channels.
///
/// # Errors
/// A model that [`supported`] refuses, a missing tensor, a size that is too large.
pub(crate) fn program(
    weights: &mut DeviceWeights,
    config: &ModelConfig,
    count: usize,
    [height, width]: [usize; 2],
) -> Result<Program> {
    supported(config)?;
    let [down, across] = config.factor();
    let usual = images(height * down, width * across).max(count);
    let io = Io::from(config);
    let mut e = Emitter::new(weights, count, usual);
    let (input, (map, channels), image_bytes) = match &config.architecture {
        Architecture::Vqvae2(c) => {
            let (input, picture) = vqvae2::decoder(&mut e, c, io, [height, width])?;
            let tokens = height * width + (height / 2) * (width / 2);
            (input, picture, tokens * 4)
        }
        architecture => {
            let dim = topology::decoder_input(architecture, io);
            let (input, vectors) = e.floats([height, width, dim])?;
            let mut network = Network::new(&mut e, vectors, dim);
            if reads_codes(architecture) {
                network.hold();
            }
            topology::decoder(&mut network, architecture, io)?;
            (input, network.picture(), height * width * dim * 4)
        }
    };
    if channels != io.channels {
        let text = format!("the decoder gives {channels} channels, not {}", io.channels);
        return Err(Error::internal(text));
    }
    let latents = e.widened(map, channels);
    Ok(Program {
        images: count,
        usual,
        image_bytes,
        grid: (map.height, map.width),
        dim: channels,
        commands: e.commands,
        maps: e.maps,
        input,
        latents,
        result: Outcome::Latents,
    })
}

/// Whether layers of a decoder read the codes again.
fn reads_codes(architecture: &Architecture) -> bool {
    match architecture {
        Architecture::Vqgan(c) => c.decoder().spatial_norm.is_some() || c.variant.frames.is_some(),
        Architecture::OpenMagvit2(_) => true,
        _ => false,
    }
}
