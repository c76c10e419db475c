//! Owns the one form that all quantizers of the trainer have: latents to what the decoder gets,
//! the losses that come with it, the codes; what is learned and how. Must not know: networks,
//! optimizers, files.
//!
//! | file | rule of the model | how the codes learn |
//! |---|---|---|
//! | `averages` | `l2`, `l2-normalised` | moving averages of the latents (EMA) |
//! | `gradient` | the same | by gradients of their own loss |
//! | `linear` | the same | a trained linear map of a frozen random table (SimVQ) |
//! | `scalar` | `fsq` | there is no codebook |
//! | `bits` | `sign` | there is none; entropies keep the bits in use (LFQ) |
//! | `residual` | `l2` with a depth | those of `averages` or `gradient`, level behind level |
//!
//! What is trained lies among the network's parameters under [`PREFIX`]: the optimizer, the
//! average of the weights and the checkpoint treat it as any weight. What is not (averages) is
//! the quantizer's own state. Either way the model folder gets one codebook, or none.

#[cfg(test)]
mod run_tests;

pub mod revival;

pub mod estimator;

pub mod ema;

mod averages;
mod finite_scalar;
mod gradient;
mod lookup_free;
mod residual;
mod simvq;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};

use super::settings::{Method, TrainSettings};
use crate::error::{Error, Result};
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::model::quantizer::normalise_rows;
use crate::train::network::parameters::Named;
use crate::train::network::parameters::{Parameters, flat};
use crate::train::network::random::Draws;
use crate::train::quantizer::ema::{Follow, nearest, to_rows};
use crate::train::quantizer::estimator::{Estimator, code_loss, commitment};

pub use crate::train::quantizer::finite_scalar::ScalarCodes;
pub use crate::train::quantizer::lookup_free::{BitCodes, Entropies, entropies};
pub use crate::train::quantizer::simvq::LinearCodes;
pub use averages::EmaCodes;
pub use gradient::GradientCodes;
pub use residual::ResidualCodes;

/// What the names of a quantizer's trained weights begin with.
pub const PREFIX: &str = "quantize.";

/// What a quantizer made of latents.
pub struct Quantized {
    /// What the decoder gets, `[B, D, h, w]`, with a gradient to the latents.
    pub latents: Tensor,
    /// The vectors of the codes, `[B, D, h, w]`, without a gradient; of residual levels their sum.
    pub codes: Tensor,
    /// What is added to the loss.
    pub losses: Losses,
    /// The latents as the codes were chosen for them, `[B h w, D]`: of length one where the rule
    /// wants that. Of residual levels what was left over for each, level behind level.
    pub rows: Vec<f32>,
    /// The code of each row; code k of residual level l is `l * K + k`.
    pub indices: Vec<u32>,
}

/// The parts of the loss that a quantizer brings, weighted.
#[derive(Default)]
pub struct Losses {
    /// beta mean((sg(q) - z)^2): its gradient reaches the encoder.
    pub commitment: Option<Tensor>,
    /// mean((q - sg(z))^2): its gradient reaches the codes.
    pub codes: Option<Tensor>,
    /// Entropy of the codes of each latent, less that of all latents together.
    pub entropy: Option<Tensor>,
}

impl Losses {
    /// `loss` with all of them added.
    pub fn added_to(&self, loss: &Tensor) -> Result<Tensor> {
        let all = [&self.commitment, &self.codes, &self.entropy];
        Ok(all.into_iter().flatten().try_fold(loss.clone(), |sum, part| sum + part)?)
    }

    /// The parts of both added up.
    fn plus(self, other: Losses) -> Result<Losses> {
        let sum = |a: Option<Tensor>, b: Option<Tensor>| -> Result<Option<Tensor>> {
            Ok(match (a, b) {
                (Some(a), Some(b)) => Some((a + b)?),
                (one, None) | (None, one) => one,
            })
        };
        Ok(Losses {
            commitment: sum(self.commitment, other.commitment)?,
            codes: sum(self.codes, other.codes)?,
            entropy: sum(self.entropy, other.entropy)?,
        })
    }
}

/// Values of a trained weight that were set and not learned: whoever remembers older ones (moments,
/// averages) has to forget them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The weight.
    pub name: &'static str,
    /// Which of its elements.
    pub range: Range<usize>,
}

/// A quantizer in training.
pub trait Quantizer {
    /// Quantizes `[B, D, h, w]`.
    fn forward(&self, z: &Tensor) -> Result<Quantized>;

    /// Whether the codes need latents to be started from. Those that don't quantize from the first
    /// step on.
    fn wants_start(&self) -> bool {
        false
    }

    /// Gives the codes their first places, from latents `[rows, D]`, of which a step has
    /// `step_rows`; `follow` hears how far it is.
    ///
    /// # Errors
    /// That of `follow`: then the codes have to be started again.
    fn start(
        &mut self,
        rows: &[f32],
        step_rows: usize,
        draws: &mut Draws,
        follow: &mut Follow<'_>,
    ) -> Result<Vec<Moved>> {
        let _ = (rows, step_rows, draws, follow);
        Ok(Vec::new())
    }

    /// What the codes learn from a step apart from gradients, from its rows and their codes;
    /// behind the optimizer's update.
    fn update(&mut self, rows: &[f32], indices: &[u32]) {
        let _ = (rows, indices);
    }

    /// Whether a single code can be put somewhere else.
    fn places_codes(&self) -> bool {
        false
    }

    /// Puts these codes on these points, `[codes, D]`, as if they had always been there.
    ///
    /// # Errors
    /// Where codes have no place of their own.
    fn place(&mut self, codes: &[usize], points: &[f32]) -> Result<Vec<Moved>> {
        let _ = (codes, points);
        Err(Error::invalid("the codes of this quantizer can't be placed one by one"))
    }

    /// The codebook that a model with these trained weights has, `[K, D]`, of residual levels one
    /// behind the other; None where the rule needs none.
    fn codebook(&self, weights: &Named) -> Result<Option<Vec<f32>>>;

    /// What belongs into a checkpoint besides the trained weights.
    fn state(&self) -> Named {
        Named::new()
    }

    /// Takes it back.
    ///
    /// # Errors
    /// Where it is another quantizer's.
    fn restore(&mut self, state: Named) -> Result<()> {
        match state.keys().next() {
            Some(name) => Err(Error::invalid(format!("{name} is no state of this quantizer"))),
            None => Ok(()),
        }
    }
}

/// The quantizer of a model. Its trained weights join `parameters`, to be initialized there.
///
/// # Errors
/// A rule that can't be trained.
pub fn build(
    model: &ModelConfig,
    settings: &TrainSettings,
    parameters: &Parameters,
) -> Result<Box<dyn Quantizer>> {
    let q = &model.quantizer;
    let nearest = Nearest {
        codes: q.codes,
        dim: q.dim,
        sphere: q.rule == QuantizerRule::L2Normalised,
        commitment: settings.commitment,
        code_weight: settings.codebook.code_weight,
        estimator: settings.estimator,
    };
    let c = &settings.codebook;
    Ok(match (q.rule, c.method) {
        (QuantizerRule::Fsq, _) => Box::new(ScalarCodes::new(&q.levels)?),
        (QuantizerRule::Sign, _) => Box::new(BitCodes {
            bits: q.dim,
            commitment: settings.commitment,
            entropy_weight: c.entropy_weight,
            temperature: c.entropy_temperature,
        }),
        (QuantizerRule::L2 | QuantizerRule::L2Normalised, Method::Simvq) => {
            let table = crate::train::quantizer::simvq::table(q.codes, q.dim, settings.seed);
            Box::new(LinearCodes::new(nearest, c.start, table, parameters, DType::F32)?)
        }
        (QuantizerRule::L2 | QuantizerRule::L2Normalised, method) => {
            let level = |level| -> Result<Box<dyn Quantizer>> {
                let place = (level, q.depth);
                Ok(match method {
                    Method::Ema => Box::new(EmaCodes::new(nearest, c)),
                    _ => Box::new(GradientCodes::of_level(
                        nearest,
                        place,
                        c,
                        parameters,
                        DType::F32,
                    )?),
                })
            };
            if q.depth == 1 {
                return level(0);
            }
            let levels = (0..q.depth).map(level).collect::<Result<_>>()?;
            Box::new(ResidualCodes::new(nearest, levels))
        }
        (rule, _) => {
            return Err(Error::invalid(format!("the quantizer rule {rule} can't be trained")));
        }
    })
}

/// How latents and the codes of a codebook find each other, and what holds them together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nearest {
    /// K.
    pub codes: usize,
    /// D.
    pub dim: usize,
    /// Latents and codes are brought to length one first.
    pub sphere: bool,
    /// beta.
    pub commitment: f64,
    /// Weight of the codes' own loss, where they learn by gradients.
    pub code_weight: f64,
    /// The way of the decoder's gradient.
    pub estimator: Estimator,
}

/// Latents with their codes.
struct Found {
    z: Tensor,
    rows: Vec<f32>,
    indices: Vec<u32>,
}

impl Nearest {
    /// Rows or codes as they are compared.
    fn compared<'a>(&self, rows: &'a [f32]) -> Cow<'a, [f32]> {
        if !self.sphere {
            return Cow::Borrowed(rows);
        }
        let mut rows = rows.to_vec();
        normalise_rows(&mut rows, self.dim);
        Cow::Owned(rows)
    }

    /// A tensor as it is compared, vectors along dimension 1.
    fn compared_tensor(&self, vectors: &Tensor) -> Result<Tensor> {
        if !self.sphere {
            return Ok(vectors.clone());
        }
        // The inference divides by max(length, 1e-12); this is as good and has a gradient at zero.
        let length = (vectors.sqr()?.sum_keepdim(1)? + 1e-24)?.sqrt()?;
        Ok(vectors.broadcast_div(&length)?)
    }

    /// The nearest of `codes` (as compared) for each latent.
    fn find(&self, z: &Tensor, codes: &[f32]) -> Result<Found> {
        let rows = self.compared(&rows_of(z)?).into_owned();
        let (indices, _) = nearest(&rows, codes, self.dim);
        Ok(Found { z: self.compared_tensor(z)?, rows, indices })
    }

    /// `quantized` `[B, D, h, w]` are the codes of `found`; `learns` where they have a gradient.
    fn quantized(&self, found: Found, quantized: &Tensor, learns: bool) -> Result<Quantized> {
        let Found { z, rows, indices } = found;
        let codes = learns.then(|| code_loss(&z, quantized, self.code_weight)).transpose()?;
        let losses = Losses {
            commitment: Some(commitment(&z, quantized, self.commitment)?),
            codes,
            entropy: None,
        };
        let (latents, codes) = (self.estimator.pass(&z, quantized)?, quantized.detach());
        Ok(Quantized { latents, codes, losses, rows, indices })
    }
}

/// Latents `[B, D, h, w]` as rows `[B h w, D]`.
pub fn rows_of(z: &Tensor) -> Result<Vec<f32>> {
    let (_, dim, height, width) = z.dims4()?;
    Ok(to_rows(&flat(z)?, dim, height * width))
}

/// Rows `[B h w, D]` laid out like the latents `z`.
fn like_latents(rows: &Tensor, z: &Tensor) -> Result<Tensor> {
    let (batch, dim, height, width) = z.dims4()?;
    Ok(rows.reshape((batch, height, width, dim))?.permute((0, 3, 1, 2))?.contiguous()?)
}

/// The same from plain values, in the latents' type.
fn laid_out(rows: Vec<f32>, z: &Tensor) -> Result<Tensor> {
    let count = rows.len();
    let rows = Tensor::from_vec(rows, count, &Device::Cpu)?;
    like_latents(&rows.to_dtype(z.dtype())?, z)
}

/// The codes of `indices` from the variable `codes`, laid out like the latents `z`.
fn picked(codes: &Tensor, indices: &[u32], z: &Tensor) -> Result<Tensor> {
    let at = Tensor::from_slice(indices, indices.len(), &Device::Cpu)?;
    like_latents(&codes.index_select(&at, 0)?, z)
}
