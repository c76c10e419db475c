//! Owns VQ-VAE-2 around its networks: a top level of codes, and a bottom level that depends on the
//! decoded top.

use std::slice;

use candle_core::Tensor;
use candle_nn::var_builder::VarBuilder;

use super::codec::{CodeLevel, Codec, EncodedLevel, lookup_map, quantize_map};
use super::config::{QuantizerConfig, Vqvae2Config};
use super::residual::ResidualQuantizer;
use super::sequential::{Builder, Sequential};
use super::topology::{Io, vqvae2};
use crate::error::{Error, Result};

/// The networks with the quantizers of both levels.
pub(crate) struct Vqvae2 {
    bottom_features: Sequential,
    top_latents: Sequential,
    quantize_t: ResidualQuantizer,
    decoded_top: Sequential,
    bottom_latents: Sequential,
    quantize_b: ResidualQuantizer,
    upsampled_top: Sequential,
    decoder: Sequential,
}

impl Vqvae2 {
    /// Reads the model.
    pub(crate) fn load(
        vb: VarBuilder,
        config: &Vqvae2Config,
        io: Io,
        quantizer: &QuantizerConfig,
    ) -> Result<Vqvae2> {
        let (width, dim) = (config.channels, io.dim);
        let codebook = |name: &str| codebook(&vb, quantizer, name);
        let part = |inputs: usize, emit: &dyn Fn(&mut Builder) -> Result<()>| {
            let mut e = Builder::new(vb.clone(), inputs);
            emit(&mut e)?;
            Ok::<_, Error>(e.finish())
        };
        Ok(Vqvae2 {
            bottom_features: part(io.channels, &|e| vqvae2::bottom_features(e, config))?,
            top_latents: part(width, &|e| vqvae2::top_latents(e, config, io))?,
            quantize_t: codebook("quantize_t")?,
            decoded_top: part(dim, &|e| vqvae2::decoded_top(e, config, io))?,
            bottom_latents: part(dim + width, &|e| vqvae2::bottom_latents(e, io))?,
            quantize_b: codebook("quantize_b")?,
            upsampled_top: part(dim, &|e| vqvae2::upsampled_top(e, io))?,
            decoder: part(2 * dim, &|e| vqvae2::decoder(e, config, io))?,
        })
    }
}

/// The quantizer of a level, whose codebook is stored transposed, `[D, K]`.
pub(crate) fn codebook(
    vb: &VarBuilder,
    quantizer: &QuantizerConfig,
    name: &str,
) -> Result<ResidualQuantizer> {
    let embed = vb.pp(name).get((quantizer.dim, quantizer.codes), "embed")?;
    ResidualQuantizer::new(quantizer, Some(embed.t()?.flatten_all()?.to_vec1()?), None)
}

impl Codec for Vqvae2 {
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        let (batch, _, _, _) = x.dims4()?;
        let features = self.bottom_features.forward(x)?;
        let latents = self.top_latents.forward(&features)?;
        let (_, _, height, width) = latents.dims4()?;
        let top = quantize_map(&self.quantize_t, latents)?;
        let codes = [CodeLevel { codes: &top[0].codes, height, width }];
        let quant_t = lookup_map(&self.quantize_t, batch, &codes, x.device())?;
        let dec_t = self.decoded_top.forward(&quant_t)?;
        let joined = Tensor::cat(&[&dec_t, &features], 1)?;
        let bottom = quantize_map(&self.quantize_b, self.bottom_latents.forward(&joined)?)?;
        Ok(bottom.into_iter().chain(top).collect())
    }

    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        let [bottom, top] = levels else {
            return Err(Error::invalid(format!(
                "{} levels of codes where the model has two: bottom and top",
                levels.len()
            )));
        };
        if [bottom.height, bottom.width] != [2 * top.height, 2 * top.width] {
            return Err(Error::invalid(format!(
                "a bottom grid of {}x{} tokens over a top grid of {}x{}; it must be twice as large",
                bottom.height, bottom.width, top.height, top.width
            )));
        }
        let device = self.decoder.device();
        let quant_t = lookup_map(&self.quantize_t, batch, slice::from_ref(top), device)?;
        let quant_b = lookup_map(&self.quantize_b, batch, slice::from_ref(bottom), device)?;
        let joined = Tensor::cat(&[&self.upsampled_top.forward(&quant_t)?, &quant_b], 1)?;
        Ok(self.decoder.forward(&joined)?)
    }
}
