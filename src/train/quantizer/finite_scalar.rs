//! Owns finite scalar quantization in training: the rounding of [`Fsq`] with a gradient through the
//! bound.

use candle_core::Tensor;

use crate::error::Result;
use crate::model::fsq::{Channel, Fsq};
use crate::train::network::parameters::Named;
use crate::train::quantizer::layout::{laid_out, rows_of};
use crate::train::quantizer::trainable::{Losses, QuantizeOutput, TrainableQuantizer};

/// FSQ: nothing to learn, no losses.
pub(super) struct FsqCodes {
    fsq: Fsq,
}

impl FsqCodes {
    /// `levels` of each channel.
    ///
    /// # Errors
    /// Levels that [`Fsq`] doesn't take.
    pub(super) fn new(levels: &[usize]) -> Result<FsqCodes> {
        Ok(FsqCodes { fsq: Fsq::new(levels)? })
    }

    /// b = tanh(z + shift) half - offset, `[B, D, h, w]`.
    pub(super) fn bounded(&self, z: &Tensor) -> Result<Tensor> {
        let half = self.constant(z, |c| c.half)?;
        let bent = z.broadcast_add(&self.constant(z, |c| c.shift)?)?.tanh()?;
        Ok(bent.broadcast_mul(&half)?.broadcast_sub(&self.constant(z, |c| c.offset)?)?)
    }

    /// One number a channel, `[1, D, 1, 1]` in the type of `z`.
    fn constant(&self, z: &Tensor, of: impl Fn(&Channel) -> f64) -> Result<Tensor> {
        let values: Vec<f64> = self.fsq.channels.iter().map(of).collect();
        let shape = (1, values.len(), 1, 1);
        Ok(Tensor::from_vec(values, shape, z.device())?.to_dtype(z.dtype())?)
    }
}

impl TrainableQuantizer for FsqCodes {
    /// Rounds on the host, as the model will: codes are counted there anyway.
    fn forward(&self, z: &Tensor) -> Result<QuantizeOutput> {
        let rows = rows_of(z)?;
        let n = self.fsq.round(&rows);
        let indices = self.fsq.codes_of(&n);
        let b = self.bounded(z)?;
        let rounded = (&b + (laid_out(n, z)? - b.detach())?)?;
        let latents = rounded.broadcast_div(&self.constant(z, |c| c.middle() as f64)?)?;
        let codes = latents.detach();
        Ok(QuantizeOutput { latents, codes, losses: Losses::default(), rows, indices })
    }

    fn codebook(&self, _: &Named) -> Result<Option<Vec<f32>>> {
        Ok(None)
    }
}
