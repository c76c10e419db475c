//! Owns the judgement of a finished tokenizer: its reconstructions and the use of its codes, over a
//! set of images.

use std::collections::BTreeMap;

use candle_core::{DType, Device};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::metrics::{CodeCounts, LevelUse, gradient_energy, mse, psnr_of_mse, ssim};
use crate::model::config::ModelConfig;
use crate::model::residual::ResidualQuantizer;
use crate::model::{CodeLevel, lookup_map};
use crate::train::input::pixels::Pixels;
use crate::train::network::autoencoder::{
    Autoencoder, build, decode_plain, decode_until, encode_until,
};
use crate::train::network::checkpointing::Stop;
use crate::train::network::parameters::{CODEBOOK_NAME, Parameters, QUANTIZER_PREFIX, flat};
use crate::train::quantizer::layout::rows_of;

/// What was found, over all images together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Images judged.
    pub images: usize,
    /// Mean of the images' PSNR, dB, of reconstructions clamped to the range of pixels.
    pub psnr: f64,
    /// PSNR of the mean squared error of all pixels, dB: never higher than `psnr`.
    pub psnr_of_mean_mse: f64,
    /// Mean of the images' SSIM; None where they are under 11 pixels.
    pub ssim: Option<f64>,
    /// Gradient energy of the reconstructions, of all images together, as a share of that of the
    /// images: below 1 they are blurred.
    #[serde(default)]
    pub sharpness: f64,
    /// Share of the codes that the images use, 0 to 1.
    pub usage: f64,
    /// exp of the entropy of the codes; of several levels their mean.
    pub perplexity: f64,
    /// Both for each residual level, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<LevelUse>,
}

/// A tokenizer ready to be judged.
pub(crate) struct Evaluator {
    network: Autoencoder,
    /// On the host, as it will choose when the model is used.
    quantizer: ResidualQuantizer,
    device: Device,
    pixels: Pixels,
    counts: CodeCounts,
    images: usize,
    psnr: f64,
    squares: f64,
    ssim: Option<f64>,
    /// Gradient energy of images and reconstructions.
    energy: (f64, f64),
}

impl Evaluator {
    /// From weights by name, the codebook among them where the model has one. Codes are chosen as
    /// they will be when the model is used; the network computes on `device`.
    pub(crate) fn new(
        model: &ModelConfig,
        weights: &BTreeMap<String, Vec<f32>>,
        device: &Device,
    ) -> Result<Evaluator> {
        let parameters = Parameters::new(device);
        let network = build(model, parameters.builder(DType::F32))?;
        let mut weights = weights.clone();
        let codebook = weights.remove(CODEBOOK_NAME);
        weights.retain(|name, _| !name.starts_with(QUANTIZER_PREFIX));
        parameters.set_values(&weights)?;
        Ok(Evaluator {
            network,
            quantizer: ResidualQuantizer::new(&model.quantizer, codebook, None)?,
            device: device.clone(),
            pixels: Pixels::of(model, device)?,
            counts: CodeCounts::of_levels(model.quantizer.depth, model.quantizer.codes),
            images: 0,
            psnr: 0.0,
            squares: 0.0,
            ssim: Some(0.0),
            energy: (0.0, 0.0),
        })
    }

    /// Adds a batch of `[N, H, W, C]` bytes; gives the reconstructions, `[N, C, H, W]` from 0 to 1.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<Vec<f32>> {
        self.add_until(bytes, &|| false)
    }

    /// The same, given up where `stop` says so: then nothing is added.
    ///
    /// # Errors
    /// [`crate::Error::Interrupted`] where it was given up.
    pub(crate) fn add_until(&mut self, bytes: &[u8], stop: Stop<'_>) -> Result<Vec<f32>> {
        let x = self.pixels.to_tensor(bytes)?;
        let z = encode_until(&self.network, &x, stop)?;
        let (batch, dim, height, width) = z.dims4()?;
        let found = self.quantizer.quantize(rows_of(&z)?, dim, (height, width))?;
        let levels: Vec<CodeLevel> =
            found.iter().map(|(codes, _)| CodeLevel { codes, height, width }).collect();
        let codes = lookup_map(&self.quantizer, batch, &levels, z.device())?;
        let y = decode_until(&self.network, &codes, stop)?;
        let firsts = (0..).step_by(self.quantizer.config().codes);
        for ((codes, _), first) in found.iter().zip(firsts) {
            self.counts.add(&codes.iter().map(|k| first + k).collect::<Vec<u32>>());
        }
        let (x, y) = (self.to_unit(&flat(&x)?), self.to_unit(&flat(&y)?));
        let Pixels { channels, side, .. } = self.pixels;
        let size = self.pixels.image_size();
        for (x, y) in x.chunks_exact(size).zip(y.chunks_exact(size)) {
            let error = mse(x, y);
            self.images += 1;
            self.squares += error;
            self.psnr += psnr_of_mse(error.max(1e-12), 1.0);
            let energy = |image| gradient_energy(image, channels, side, side);
            self.energy = (self.energy.0 + energy(x), self.energy.1 + energy(y));
            let value = ssim(x, y, channels, side, side, 1.0).ok();
            self.ssim = self.ssim.zip(value).map(|(sum, v)| sum + v);
        }
        Ok(y)
    }

    /// Images added so far.
    pub(crate) fn images(&self) -> usize {
        self.images
    }

    /// Residual levels.
    pub(crate) fn depth(&self) -> usize {
        self.counts.levels
    }

    /// Uses of each code of the first level in all that was added, `[K]`.
    pub(crate) fn uses(&self) -> &[u64] {
        &self.counts.counts[..self.quantizer.config().codes]
    }

    /// The vectors of all codes of the first level as the decoder takes them, `[K, D]`, and D.
    pub(crate) fn vectors(&self) -> Result<(Vec<f32>, usize)> {
        let config = self.quantizer.config();
        let all: Vec<u32> = (0..).take(config.codes).collect();
        let row = (1, all.len());
        Ok((self.quantizer.first_level().lookup(&[&all], row)?, config.dim))
    }

    /// What each of `codes` of the first level looks like: the middle of a field of that code
    /// alone, as wide as the pixels a token covers; `[N, C, f, f]` from 0 to 1.
    pub(crate) fn patches(&self, codes: &[u32], factor: usize) -> Result<Vec<f32>> {
        const FIELD: usize = 3;
        const BATCH: usize = 64;
        let first = self.quantizer.first_level();
        let mut patches = Vec::with_capacity(codes.len() * self.pixels.channels * factor * factor);
        for codes in codes.chunks(BATCH) {
            let indices: Vec<u32> = codes.iter().flat_map(|code| [*code; FIELD * FIELD]).collect();
            let field = [CodeLevel { codes: &indices, height: FIELD, width: FIELD }];
            let latents = lookup_map(&first, codes.len(), &field, &self.device)?;
            let images = decode_plain(&self.network, &latents)?;
            let middle = images.narrow(2, factor, factor)?.narrow(3, factor, factor)?;
            patches.extend(self.to_unit(&flat(&middle.contiguous()?)?));
        }
        Ok(patches)
    }

    /// Floats of the network to [0, 1], clamped.
    fn to_unit(&self, values: &[f32]) -> Vec<f32> {
        let (low, high) = self.pixels.limits;
        let (low, scale) = (low as f32, (1.0 / (high - low)) as f32);
        values.iter().map(|v| ((v - low) * scale).clamp(0.0, 1.0)).collect()
    }

    /// The figures over everything that was added.
    pub(crate) fn finish(self) -> Evaluation {
        let n = self.images.max(1) as f64;
        let levels = self.counts.by_level().into_iter().map(|level| LevelUse {
            usage: rounded(level.usage),
            perplexity: rounded(level.perplexity),
        });
        Evaluation {
            images: self.images,
            psnr: rounded(self.psnr / n),
            psnr_of_mean_mse: rounded(psnr_of_mse((self.squares / n).max(1e-12), 1.0)),
            ssim: self.ssim.map(|sum| rounded(sum / n)),
            sharpness: rounded(self.energy.1 / self.energy.0.max(1e-12)),
            usage: rounded(self.counts.usage()),
            perplexity: rounded(self.counts.perplexity()),
            levels: levels.collect(),
        }
    }
}

/// To six decimals: what the record says is read back as the same number.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
