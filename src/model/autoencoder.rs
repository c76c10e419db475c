//! Owns a network whose halves are sequences of layers: what the reference engine runs and training
//! differentiates.

use candle_core::{Result as CandleResult, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::codec::Network;
use super::config::Architecture;
use super::sequential::{Block, Builder, LastLayer, Sequential};
use super::topology::{self, Io};
use crate::error::{Error, Result};

/// Both halves of a network, or one.
#[derive(Debug, Clone)]
pub struct Autoencoder {
    encoder: Option<Sequential>,
    decoder: Option<Sequential>,
}

impl Autoencoder {
    /// Reads the halves that the architecture has.
    ///
    /// # Errors
    /// A weight that is missing or has another shape; an architecture that isn't a sequence of
    /// layers.
    pub fn load(vb: VarBuilder, architecture: &Architecture, io: Io) -> Result<Autoencoder> {
        let parts = architecture.parts();
        let encoder = || {
            let mut e = Builder::new(vb.clone(), io.channels);
            topology::encoder(&mut e, architecture, io)?;
            Ok::<_, Error>(e.finish())
        };
        let decoder = || {
            let mut e = Builder::new(vb.clone(), topology::decoder_input(architecture, io));
            topology::decoder(&mut e, architecture, io)?;
            Ok::<_, Error>(e.finish())
        };
        Ok(Autoencoder {
            encoder: parts.encoder().then(encoder).transpose()?,
            decoder: parts.decoder().then(decoder).transpose()?,
        })
    }

    fn encoder(&self) -> Result<&Sequential> {
        self.encoder.as_ref().ok_or_else(|| Error::internal("this network has no encoder"))
    }

    fn decoder(&self) -> Result<&Sequential> {
        self.decoder.as_ref().ok_or_else(|| Error::internal("this network has no decoder"))
    }

    /// Images `[B, C, H, W]` to latents before quantization `[B, D, h, w]`.
    ///
    /// # Errors
    /// Here and below: where it lacks that half.
    pub fn encode(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.encoder()?.forward(images)?)
    }

    /// Quantized latents `[B, D, h, w]` to images `[B, C, H, W]`, not clamped.
    ///
    /// # Errors
    /// Where it lacks the decoder, or the latents have another number of channels.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(self.decoder()?.forward(latents)?)
    }

    /// [`Autoencoder::encode`] in pieces.
    ///
    /// # Errors
    /// Where it lacks the encoder.
    pub fn encoder_blocks(&self) -> Result<Vec<Block<'_>>> {
        Ok(self.encoder()?.blocks())
    }

    /// [`Autoencoder::decode`] in pieces, up to what the last layer sees.
    ///
    /// # Errors
    /// Where it lacks the decoder.
    pub fn decoder_blocks(&self) -> Result<Vec<Block<'_>>> {
        Ok(self.decoder()?.blocks_before_last())
    }

    /// The layer after [`Autoencoder::decoder_blocks`].
    ///
    /// # Errors
    /// Where it lacks the decoder, or that doesn't end with a convolution.
    pub fn last_layer(&self) -> Result<LastLayer<'_>> {
        let last = self.decoder()?.last_layer();
        last.ok_or_else(|| Error::internal("a decoder that doesn't end with a convolution"))
    }
}

impl Network for Autoencoder {
    fn latents(&self, x: &Tensor) -> CandleResult<Option<Tensor>> {
        self.encoder.as_ref().map(|encoder| encoder.forward(x)).transpose()
    }

    fn images(&self, q: &Tensor) -> CandleResult<Option<Tensor>> {
        self.decoder.as_ref().map(|decoder| decoder.forward(q)).transpose()
    }
}
