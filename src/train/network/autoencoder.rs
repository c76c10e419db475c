//! Owns the choice of the network that is trained, and the pieces that training sees it in. Must
//! not know: losses, codebooks.

use candle_core::{Result as TensorResult, Tensor};
use candle_nn::VarBuilder;

use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig};
use crate::model::conv::{Padding, conv_transpose2d, conv2d};
use crate::model::network::Network;
use crate::model::vqgan::Vqgan;
use crate::model::vqvae::VqVae;
use crate::train::network::checkpointing::{Block, Stop, run, stoppable, stopped};

/// What the loop needs of a network.
pub trait Autoencoder {
    /// Images `[B, C, H, W]` to latents before quantization `[B, D, h, w]`.
    fn encode(&self, images: &Tensor) -> Result<Tensor>;

    /// Quantized latents `[B, D, h, w]` to images `[B, C, H, W]`, not clamped.
    fn decode(&self, latents: &Tensor) -> Result<Tensor>;

    /// [`Autoencoder::encode`] in pieces.
    fn encoder_blocks(&self) -> Result<Vec<Block<'_>>>;

    /// [`Autoencoder::decode`] in pieces, up to what the last layer sees.
    fn decoder_blocks(&self) -> Result<Vec<Block<'_>>>;

    /// The layer behind [`Autoencoder::decoder_blocks`].
    fn last_layer(&self) -> Result<LastLayer<'_>>;
}

/// The layer that makes the image: the adaptive weight is taken at its weight.
#[derive(Clone, Copy)]
pub struct LastLayer<'a> {
    /// The weight.
    pub weight: &'a Tensor,
    /// The bias, `[C]`.
    pub bias: &'a Tensor,
    /// A transposed 4x4 convolution with stride 2 instead of a 3x3 convolution.
    pub transposed: bool,
}

impl LastLayer<'_> {
    /// The last activation `[B, W, h, w]` to images `[B, C, H, W]`.
    pub fn forward(&self, activation: &Tensor) -> TensorResult<Tensor> {
        match self.transposed {
            true => conv_transpose2d(activation, self.weight, Some(self.bias), 2, 1),
            false => conv2d(activation, self.weight, Some(self.bias), 1, Padding::same(1)),
        }
    }
}

impl Autoencoder for VqVae {
    fn encode(&self, images: &Tensor) -> Result<Tensor> {
        Ok(VqVae::encode(self, images)?)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(VqVae::decode(self, latents)?)
    }

    fn encoder_blocks(&self) -> Result<Vec<Block<'_>>> {
        Ok(vec![Box::new(|x| VqVae::encode(self, x))])
    }

    fn decoder_blocks(&self) -> Result<Vec<Block<'_>>> {
        Ok(vec![Box::new(|z| self.last_activation(z))])
    }

    fn last_layer(&self) -> Result<LastLayer<'_>> {
        let (weight, bias) =
            self.last_up().ok_or_else(|| Error::invalid("a VQ-VAE without upsampling"))?;
        Ok(LastLayer { weight, bias, transposed: true })
    }
}

impl Autoencoder for Vqgan {
    fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.latents(images)?.ok_or_else(no_encoder)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.images(latents)?.ok_or_else(no_decoder)
    }

    fn encoder_blocks(&self) -> Result<Vec<Block<'_>>> {
        let encoder = self.encoder.as_ref().ok_or_else(no_encoder)?;
        let quant_conv = self.quant_conv.as_ref().ok_or_else(no_encoder)?;
        let mut blocks: Vec<Block<'_>> = vec![Box::new(|x| encoder.conv_in.forward(x))];
        for (i, level) in encoder.down.iter().enumerate() {
            level.blocks(&mut blocks);
            if let Some(downsample) = encoder.downsample.get(i) {
                blocks.push(Box::new(|x| downsample.forward(x)));
            }
        }
        encoder.mid.blocks(&mut blocks);
        blocks.push(Box::new(|x| {
            let h = encoder.conv_out.forward(&encoder.norm_out.forward(x)?.silu()?)?;
            quant_conv.forward(&h)
        }));
        Ok(blocks)
    }

    fn decoder_blocks(&self) -> Result<Vec<Block<'_>>> {
        let decoder = self.decoder.as_ref().ok_or_else(no_decoder)?;
        let conv = self.post_quant_conv.as_ref().ok_or_else(no_decoder)?;
        let mut blocks: Vec<Block<'_>> =
            vec![Box::new(|z| decoder.conv_in.forward(&conv.forward(z)?))];
        decoder.mid.blocks(&mut blocks);
        for (level, upsample) in decoder.up.iter().zip(&decoder.upsample).rev() {
            level.blocks(&mut blocks);
            if let Some(upsample) = upsample {
                blocks.push(Box::new(|x| upsample.forward(x)));
            }
        }
        blocks.push(Box::new(|x| decoder.norm_out.forward(x)?.silu()));
        Ok(blocks)
    }

    fn last_layer(&self) -> Result<LastLayer<'_>> {
        let conv = &self.decoder.as_ref().ok_or_else(no_decoder)?.conv_out;
        let bias = conv.bias.as_ref().ok_or_else(no_decoder)?;
        Ok(LastLayer { weight: &conv.weight, bias, transposed: false })
    }
}

fn no_encoder() -> Error {
    Error::invalid("a VQGAN without encoder can't be trained")
}

fn no_decoder() -> Error {
    Error::invalid("a VQGAN without decoder can't be trained")
}

/// [`Autoencoder::encode`] without a graph: memory for one block at a time.
pub fn encode_plain(network: &dyn Autoencoder, images: &Tensor) -> Result<Tensor> {
    encode_until(network, images, &|| false)
}

/// The same, given up where `stop` says so.
///
/// # Errors
/// [`Error::Interrupted`] where it was given up.
pub fn encode_until(network: &dyn Autoencoder, images: &Tensor, stop: Stop<'_>) -> Result<Tensor> {
    run(&stoppable(network.encoder_blocks()?, stop), images).map_err(stopped(stop))
}

/// [`Autoencoder::decode`] without a graph.
pub fn decode_plain(network: &dyn Autoencoder, latents: &Tensor) -> Result<Tensor> {
    decode_until(network, latents, &|| false)
}

/// The same, given up where `stop` says so.
///
/// # Errors
/// [`Error::Interrupted`] where it was given up.
pub fn decode_until(network: &dyn Autoencoder, latents: &Tensor, stop: Stop<'_>) -> Result<Tensor> {
    let blocks = stoppable(network.decoder_blocks()?, stop);
    let activation = run(&blocks, latents).map_err(stopped(stop))?;
    Ok(network.last_layer()?.forward(&activation)?.detach())
}

/// Builds the model's network on `vb`.
pub fn build(model: &ModelConfig, vb: VarBuilder<'_>) -> Result<Box<dyn Autoencoder>> {
    let (channels, dim) = (model.pixels.channels, model.quantizer.dim);
    match &model.architecture {
        Architecture::Vqvae(config) => Ok(Box::new(VqVae::new(config, channels, dim, vb)?)),
        Architecture::Vqgan(config) => Ok(Box::new(Vqgan::load(vb, config, dim, channels)?)),
        _ => Err(Error::invalid("training has the architectures vqvae and vqgan")),
    }
}
