//! Owns a decoder as a program: vectors of codes, which the host looks up, to floats of pictures, which the
//! host makes bytes.

use super::emit::Emitter;
use super::encoder::{images, network_supported, unsupported};
use super::network::Network;
use super::program::{Program, Result as Outcome};
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
        Architecture::Vqgan(c) if c.decoder().spatial_norm.is_some() => {
            unsupported("norms by codes don't run on the GPU")
        }
        Architecture::Vqgan(c)
            if c.decoder().widths.iter().any(|w| !w.is_multiple_of(super::weights::CHANNELS)) =>
        {
            unsupported("the widths of its decoder are no multiples of 8")
        }
        _ => Ok(()),
    }
}

/// The program that decodes so many maps of vectors of `height` x `width`. Its input is float32
/// `[images, height, width, dim]`; its `latents` are float32 pictures, `grid` their size, `dim` their
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
    let dim = topology::decoder_input(&config.architecture, io);
    let mut e = Emitter::new(weights, count, usual);
    let (input, vectors) = e.floats([height, width, dim])?;
    let mut network = Network::new(&mut e, vectors, dim);
    topology::decoder(&mut network, &config.architecture, io)?;
    let (map, channels) = network.picture();
    if channels != io.channels {
        let text = format!("the decoder gives {channels} channels, not {}", io.channels);
        return Err(Error::internal(text));
    }
    let latents = e.widened(map, channels);
    Ok(Program {
        images: count,
        usual,
        image_bytes: height * width * dim * 4,
        grid: (map.height, map.width),
        dim: channels,
        commands: e.commands,
        maps: e.maps,
        input,
        latents,
        result: Outcome::Latents,
    })
}
