//! Owns the mathematics of the models in candle: what training differentiates and what the
//! reference engine runs. Must not know: containers of weights, threads, shards.
//!
//! `config` is the language, `pixels` the bytes, `tensor` the values of a checkpoint where they
//! lie, `weights` their names; `blocks` and `vqgan` serve
//! the canonical families, the other families stand beside them.

pub mod blocks;
pub mod config;
pub mod conv;
mod conv_kernels;
pub mod dalle;
pub mod finite;
pub mod fsq;
pub mod gemm;
pub mod maskgit;
pub mod network;
pub mod open_magvit2;
pub mod opened;
pub mod pixels;
pub mod pool;
pub mod quantizer;
pub mod residual;
mod sizes;
pub mod vit_vqgan;
pub mod vqgan;
pub mod vqvae;
pub mod vqvae2;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use candle_nn::var_builder::VarBuilder;

use crate::error::{Error, Result};
use crate::util::settings::FAMILY;
use crate::util::text::printable;
use crate::weights::digests::{Digests, Pending};
use crate::weights::store::{Reader, Weights};
use config::{Architecture, ModelConfig, QuantizerRule};
use network::QuantizedModel;
use residual::ResidualQuantizer;

/// One level of an encoded batch.
#[derive(Debug, Clone)]
pub struct EncodedLevel {
    /// What went into the quantizer, `[B, D, h, w]` (dVAE: the logits); residual levels share what
    /// went into the first.
    pub latents: Tensor,
    /// `[B, h, w]`, row-major.
    pub codes: Vec<u32>,
    /// Squared distances, same order; NaN where the rule has none.
    pub distances: Vec<f32>,
    /// Why the codes mean nothing, in one line, where something on the way to them isn't finite.
    pub unusable: Option<String>,
}

/// One level of codes to decode, `[B, h, w]` row-major.
#[derive(Debug, Clone, Copy)]
pub struct CodeLevel<'a> {
    /// `B * height * width` codes.
    pub codes: &'a [u32],
    /// h, in tokens.
    pub height: usize,
    /// w, in tokens.
    pub width: usize,
}

/// A network with its quantizer.
pub trait Tokenizer: Send + Sync {
    /// Images `[B, C, H, W]`, already in the input range, to levels, the finest first.
    fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>>;

    /// Levels of codes of `batch` images, the finest first, to images `[B, C, H, W]` in the output
    /// range.
    fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor>;
}

/// A loaded model: configuration, network, device.
pub struct Model {
    config: ModelConfig,
    digests: Arc<Pending>,
    tokenizer: Box<dyn Tokenizer>,
    device: Device,
}

impl Model {
    /// Builds the network from `weights` under canonical names. Errors where one is missing, has
    /// another shape, or is left over: a weight that nothing reads means a wrong map of names.
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
        let tokenizer = assemble(&config, &weights.reader(), device)?;
        Ok(Model { config, digests, tokenizer, device: device.clone() })
    }

    /// Errors where [`Model::load`] would for the names or shapes of the weights; reads no value.
    pub fn check(config: &ModelConfig, weights: &Weights) -> Result<()> {
        assemble(config, &weights.shape_only_reader(), &Device::Cpu).map(drop)
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

    /// See [`Tokenizer::encode`].
    pub fn encode(&self, x: &Tensor) -> Result<Vec<EncodedLevel>> {
        if !self.config.parts().encoder() {
            return Err(Error::invalid("this checkpoint has no encoder: it can decode codes only"));
        }
        self.tokenizer.encode(x)
    }

    /// See [`Tokenizer::decode`].
    pub fn decode(&self, batch: usize, levels: &[CodeLevel]) -> Result<Tensor> {
        if !self.config.parts().decoder() {
            return Err(Error::invalid(
                "this checkpoint has no decoder: it can encode images only",
            ));
        }
        self.tokenizer.decode(batch, levels)
    }
}

/// The network out of the weights, all of them.
fn assemble(config: &ModelConfig, reader: &Reader, device: &Device) -> Result<Box<dyn Tokenizer>> {
    let tokenizer = build(config, reader.var_builder(device)).map_err(one_line)?;
    let unused = reader.unused();
    if let Some(first) = unused.first() {
        let more = match unused.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        return Err(Error::invalid(format!(
            "a `{}` model has no place for the checkpoint's tensor `{}`{more}; is {FAMILY} right?",
            config.family,
            printable(first)
        )));
    }
    Ok(tokenizer)
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
pub(crate) fn build(config: &ModelConfig, vb: VarBuilder) -> Result<Box<dyn Tokenizer>> {
    config.quantizer.check_depth().map_err(Error::invalid)?;
    sizes::check(config).map_err(Error::invalid)?;
    let channels = config.pixels.channels;
    if let Architecture::Vqvae2(c) = &config.architecture {
        if config.quantizer.depth != 1 {
            return Err(Error::invalid("a VQ-VAE-2 has two grids of codes, no residual levels"));
        }
        return Ok(Box::new(vqvae2::Vqvae2::load(vb, c, &config.quantizer, channels)?));
    }
    let quantizer = load_quantizer(config, &vb)?;
    let (dim, device) = (config.quantizer.dim, vb.device().clone());
    Ok(match &config.architecture {
        Architecture::Vqgan(c) => {
            let net = vqgan::Vqgan::load(vb, c, dim, channels)?;
            Box::new(QuantizedModel { net, quantizer, device })
        }
        Architecture::Maskgit(c) => {
            let net = maskgit::Maskgit::load(vb, c, dim, channels)?;
            Box::new(QuantizedModel { net, quantizer, device })
        }
        Architecture::OpenMagvit2(c) => {
            let net = open_magvit2::OpenMagvit2::load(vb, c, dim, channels)?;
            Box::new(QuantizedModel { net, quantizer, device })
        }
        Architecture::VitVqgan(c) => {
            let net = vit_vqgan::VitVqgan::load(vb, c, dim, channels)?;
            Box::new(QuantizedModel { net, quantizer, device })
        }
        Architecture::Vqvae(c) => {
            let net = vqvae::VqVae::new(c, channels, dim, vb)?;
            Box::new(QuantizedModel { net, quantizer, device })
        }
        Architecture::Dalle(c) => Box::new(dalle::Dalle::load(vb, c, channels, quantizer)?),
        // Returned above: its quantizers are its own.
        Architecture::Vqvae2(_) => return Err(Error::invalid("VQ-VAE-2 has no single quantizer")),
    })
}

/// The codebook `quantize.embedding.weight`, `[K, D]` for each level, one behind the other, and, for
/// gumbel, `quantize.proj`.
pub(crate) fn load_quantizer(config: &ModelConfig, vb: &VarBuilder) -> Result<ResidualQuantizer> {
    let q = &config.quantizer;
    let vb = vb.pp("quantize");
    let codebook = match q.rule {
        QuantizerRule::Sign | QuantizerRule::Logits | QuantizerRule::Fsq => None,
        _ => Some(vb.get((q.all_codes(), q.dim), "embedding.weight")?.flatten_all()?.to_vec1()?),
    };
    let projection = match q.rule {
        QuantizerRule::Projection if config.parts().encoder() => {
            let weight = vb.get_unchecked("proj.weight")?;
            let bias: Vec<f32> = vb.get(q.codes, "proj.bias")?.to_vec1()?;
            Some((weight.flatten_all()?.to_vec1()?, bias))
        }
        _ => None,
    };
    ResidualQuantizer::new(q, codebook, projection)
}

/// Quantizes `[B, D, h, w]`, residual level by residual level.
pub(crate) fn quantize_map(
    quantizer: &ResidualQuantizer,
    latents: Tensor,
) -> Result<Vec<EncodedLevel>> {
    let (_, channels, _, _) = latents.dims4()?;
    let rows = latents.permute((0, 2, 3, 1))?.contiguous()?.flatten_all()?.to_vec1::<f32>()?;
    let unusable = quantizer.unusable(&rows, channels);
    let rule = quantizer.config().rule;
    let level = |(codes, distances): (Vec<u32>, Vec<f32>)| EncodedLevel {
        latents: latents.clone(),
        unusable: unusable.clone().or_else(|| finite::distances(rule, &distances)),
        codes,
        distances,
    };
    Ok(quantizer.quantize(rows, channels)?.into_iter().map(level).collect())
}

/// The sum of the vectors of the residual levels' codes, `[B, D, h, w]`.
pub(crate) fn lookup_map(
    quantizer: &ResidualQuantizer,
    batch: usize,
    levels: &[CodeLevel],
    device: &Device,
) -> Result<Tensor> {
    let (height, width) = levels.first().map_or((0, 0), |level| (level.height, level.width));
    for level in levels {
        if level.codes.len() != batch * height * width {
            return Err(Error::invalid(format!(
                "{} codes for {batch} grids of {height}x{width}",
                level.codes.len()
            )));
        }
    }
    let codes: Vec<&[u32]> = levels.iter().map(|level| level.codes).collect();
    let vectors = quantizer.lookup(&codes)?;
    let dim = quantizer.config().dim;
    let rows = Tensor::from_vec(vectors, (batch, height, width, dim), device)?;
    Ok(rows.permute((0, 3, 1, 2))?.contiguous()?)
}
