//! Owns the choice of the network that is trained. Must not know: losses, codebooks.

use candle_core::Tensor;
use candle_nn::VarBuilder;

use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig};
use crate::model::vqgan::Vqgan;
use crate::model::vqvae::VqVae;

/// What the loop needs of a network.
pub trait Autoencoder {
    /// Images `[B, C, H, W]` to latents before quantization `[B, D, h, w]`.
    fn encode(&self, images: &Tensor) -> Result<Tensor>;

    /// Quantized latents `[B, D, h, w]` to images `[B, C, H, W]`, not clamped.
    fn decode(&self, latents: &Tensor) -> Result<Tensor>;
}

impl Autoencoder for VqVae {
    fn encode(&self, images: &Tensor) -> Result<Tensor> {
        Ok(VqVae::encode(self, images)?)
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        Ok(VqVae::decode(self, latents)?)
    }
}

impl Autoencoder for Vqgan {
    fn encode(&self, images: &Tensor) -> Result<Tensor> {
        self.latents(images)?.ok_or_else(|| Error::invalid("a VQGAN without encoder"))
    }

    fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.images(latents)?.ok_or_else(|| Error::invalid("a VQGAN without decoder"))
    }
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
