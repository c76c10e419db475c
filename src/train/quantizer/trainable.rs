//! Owns the one form that all quantizers of the trainer have: latents to what the decoder gets, the
//! losses that come with it, the codes; what is learned and how.

use candle_core::Tensor;

use crate::error::{Error, Result};
use crate::train::network::parameters::{Moved, Named};
use crate::train::network::random::Draws;

/// Who follows work that can take long: told how much of how much is done, an error stops it.
pub(crate) type Follow<'a> = dyn FnMut(usize, usize) -> Result<()> + 'a;

/// What a quantizer made of latents.
pub(crate) struct QuantizeOutput {
    /// What the decoder gets, `[B, D, h, w]`, with a gradient to the latents.
    pub latents: Tensor,
    /// The vectors of the codes, `[B, D, h, w]`, without a gradient; of residual levels their sum.
    pub codes: Tensor,
    /// What is added to the loss.
    pub losses: Losses,
    /// The latents as the codes were chosen for them, `[B h w, D]`: of length one where the rule
    /// wants that. Of residual levels what was left over for each, concatenated by level.
    pub rows: Vec<f32>,
    /// The code of each row; code k of residual level l is `l * K + k`.
    pub indices: Vec<u32>,
}

/// The parts of the loss that a quantizer brings, weighted.
#[derive(Default)]
pub(crate) struct Losses {
    /// beta mean((sg(q) - z)^2): its gradient reaches the encoder.
    pub commitment: Option<Tensor>,
    /// mean((q - sg(z))^2): its gradient reaches the codes.
    pub codes: Option<Tensor>,
    /// Entropy of the codes of each latent, less that of all latents together.
    pub entropy: Option<Tensor>,
}

impl Losses {
    /// `loss` with all of them added.
    #[cfg(test)]
    pub(crate) fn added_to(&self, loss: &Tensor) -> Result<Tensor> {
        let all = [&self.commitment, &self.codes, &self.entropy];
        Ok(all.into_iter().flatten().try_fold(loss.clone(), |sum, part| sum + part)?)
    }

    /// The parts of both added up.
    pub(super) fn plus(self, other: Losses) -> Result<Losses> {
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

/// A quantizer in training.
pub(crate) trait TrainableQuantizer {
    /// Quantizes `[B, D, h, w]`.
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput>;

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
    /// after the optimizer's update.
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
