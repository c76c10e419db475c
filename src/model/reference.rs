//! Owns a model as candle computes it, made of a configuration and weights: the reference that
//! every engine is held against.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::autoencoder::Autoencoder;
use super::codec::{CodeLevel, Codec, EncodedLevel, QuantizedModel};
use super::config::{Architecture, ModelConfig, QuantizerRule};
use super::dalle::Dalle;
use super::multiscale::Convolution;
use super::residual::ResidualQuantizer;
use super::sizes;
use super::topology::Io;
use super::vqvae2::Vqvae2;
use crate::error::{Error, Result};
use crate::util::settings::FAMILY;
use crate::util::text::{printable, shorten};
use crate::weights::digests::{Digests, Pending};
use crate::weights::store::{Reader, Weights};

/// A loaded model: configuration, network, device.
pub struct Model {
    config: ModelConfig,
    digests: Arc<Pending>,
    codec: Box<dyn Codec>,
    device: Device,
}

impl Model {
    /// Builds the network from `weights` under canonical names.
    ///
    /// # Errors
    /// A weight that is missing, has another shape, or is left over: one that nothing reads means a
    /// wrong map of names.
    pub fn load(
        config: ModelConfig,
        weights: impl Into<Weights>,
        device: &Device,
    ) -> Result<Model> {
        let weights = weights.into();
        Model::with_digests(config, &weights, Arc::new(Pending::of(&weights)), device)
    }

    /// The same where the weights are being hashed already.
    pub(crate) fn with_digests(
        config: ModelConfig,
        weights: &Weights,
        digests: Arc<Pending>,
        device: &Device,
    ) -> Result<Model> {
        let codec = assemble(&config, &weights.reader(), device)?;
        Ok(Model { config, digests, codec, device: device.clone() })
    }

    /// Holds the names and shapes of weights against what the network needs; reads no value.
    ///
    /// # Errors
    /// Where [`Model::load`] would fail for a name or a shape.
    pub fn check(config: &ModelConfig, weights: &Weights) -> Result<()> {
        assemble(config, &weights.shape_only_reader(), &Device::Cpu).map(drop)
    }

    /// Asks `vb` for every weight that the network needs: one that makes them up then has them all.
    ///
    /// # Errors
    /// Those of `vb`; a configuration that makes no network.
    pub fn read(config: &ModelConfig, vb: VarBuilder) -> Result<()> {
        build(config, vb).map(drop)
    }

    /// What it is.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What its weights are called by; waits for them where they are still being hashed.
    ///
    /// # Errors
    /// A weight that can't be read as float32.
    pub fn digests(&self) -> Result<&Digests> {
        self.digests.get()
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// See [`Codec::encode`].
    ///
    /// # Errors
    /// A checkpoint without an encoder; images of other channels, or of a size that the network
    /// can't take.
    pub fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        self.config.require_encoder()?;
        self.codec.encode(x)
    }

    /// See [`Codec::decode`].
    ///
    /// # Errors
    /// A checkpoint without a decoder; levels or codes that the model doesn't have.
    pub fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        self.config.require_decoder()?;
        self.codec.decode(batch, levels)
    }
}

/// The network out of the weights, all of them.
fn assemble(config: &ModelConfig, reader: &Reader, device: &Device) -> Result<Box<dyn Codec>> {
    let codec = build(config, reader.var_builder(device)).map_err(one_line)?;
    let unused = reader.unused();
    if let Some(first) = unused.first() {
        let more = match unused.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        return Err(Error::invalid(format!(
            "a `{}` model has no place for the checkpoint's tensor `{}`{more}; is {FAMILY} right?",
            shorten(&config.family),
            printable(first)
        )));
    }
    Ok(codec)
}

/// What loading a model can fail with, in one line and without candle's wrapping.
fn one_line(error: Error) -> Error {
    match error {
        Error::Tensor(source) => {
            let text = source.to_string();
            Error::invalid(text.lines().next().unwrap_or("unknown tensor error").to_owned())
        }
        other => other,
    }
}

/// The network out of whatever `vb` gives.
pub(crate) fn build(config: &ModelConfig, vb: VarBuilder) -> Result<Box<dyn Codec>> {
    config.quantizer.check_depth().map_err(Error::invalid)?;
    sizes::check(config).map_err(Error::invalid)?;
    let (io, device) = (Io::from(config), vb.device().clone());
    if let Architecture::Vqvae2(c) = &config.architecture {
        if config.quantizer.depth != 1 {
            return Err(Error::invalid("a VQ-VAE-2 has two grids of codes, no residual levels"));
        }
        return Ok(Box::new(Vqvae2::load(vb, c, io, &config.quantizer)?));
    }
    let quantizer = load_quantizer(config, &vb)?;
    Ok(match &config.architecture {
        Architecture::Dalle(c) => Box::new(Dalle::load(vb, c, io, quantizer)?),
        sequence => {
            let net = Autoencoder::load(vb, sequence, io)?;
            Box::new(QuantizedModel { net, quantizer, device })
        }
    })
}

/// The codebook `quantize.embedding.weight`, `[K, D]` for each level, concatenated, and, for
/// gumbel, `quantize.proj`; of several scales, their convolutions `quantize.phi`.
pub(crate) fn load_quantizer(config: &ModelConfig, vb: &VarBuilder) -> Result<ResidualQuantizer> {
    let q = &config.quantizer;
    let vb = vb.pp("quantize");
    let codebook = match q.rule {
        QuantizerRule::Sign
        | QuantizerRule::SignHigh
        | QuantizerRule::Logits
        | QuantizerRule::Fsq
        | QuantizerRule::Exported => None,
        _ => Some(
            vb.get((q.all_codes(), q.code_length()), "embedding.weight")?
                .flatten_all()?
                .to_vec1()?,
        ),
    };
    let projection = match q.rule {
        QuantizerRule::Projection if config.parts().encoder() => {
            let weight = vb.get_unchecked("proj.weight")?;
            let bias: Vec<f32> = vb.get(q.codes, "proj.bias")?.to_vec1()?;
            Some((weight.flatten_all()?.to_vec1()?, bias))
        }
        _ => None,
    };
    let quantizer = ResidualQuantizer::new(q, codebook, projection)?;
    let count = q.scales.as_ref().map_or(0, |scales| scales.convolutions);
    let convolution = |k: usize| {
        let vb = vb.pp("phi").pp(k);
        let weight = vb.get((q.dim, q.dim, 3, 3), "weight")?.flatten_all()?.to_vec1()?;
        Convolution::new(weight, vb.get(q.dim, "bias")?.to_vec1()?)
    };
    quantizer.with_scales((0..count).map(convolution).collect::<Result<_>>()?)
}
