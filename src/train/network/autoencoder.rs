//! Owns the choice of the network that is trained, and its passes without a graph.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};
pub use crate::model::autoencoder::Autoencoder;
use crate::model::config::{Architecture, ModelConfig};
pub(crate) use crate::model::sequential::LastLayer;
use crate::model::topology::Io;
use crate::train::network::checkpointing::{Stop, run, stoppable, stopped};

/// The encoder without a graph: memory for one block at a time.
pub(crate) fn encode_plain(network: &Autoencoder, images: &Tensor) -> Result<Tensor> {
    encode_until(network, images, &|| false)
}

/// The same, given up where `stop` says so.
///
/// # Errors
/// [`Error::Interrupted`] where it was given up.
pub(crate) fn encode_until(
    network: &Autoencoder,
    images: &Tensor,
    stop: Stop<'_>,
) -> Result<Tensor> {
    run(&stoppable(network.encoder_blocks()?, stop), images).map_err(stopped(stop))
}

/// The decoder without a graph.
pub(crate) fn decode_plain(network: &Autoencoder, latents: &Tensor) -> Result<Tensor> {
    decode_until(network, latents, &|| false)
}

/// The same, given up where `stop` says so.
///
/// # Errors
/// [`Error::Interrupted`] where it was given up.
pub(crate) fn decode_until(
    network: &Autoencoder,
    latents: &Tensor,
    stop: Stop<'_>,
) -> Result<Tensor> {
    let blocks = stoppable(network.decoder_blocks()?, stop);
    let activation = run(&blocks, latents).map_err(stopped(stop))?;
    Ok(network.last_layer()?.forward(&activation)?.detach())
}

/// Builds the model's network on `vb`.
pub(crate) fn build(model: &ModelConfig, vb: VarBuilder<'_>) -> Result<Autoencoder> {
    match &model.architecture {
        Architecture::Vqvae(_) | Architecture::Vqgan(_) => {
            Autoencoder::load(vb, &model.architecture, Io::from(model))
        }
        _ => Err(Error::invalid("training has the architectures vqvae and vqgan")),
    }
}
