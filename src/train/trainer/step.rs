//! Owns one step of a [`Trainer`]: forward, losses, one backward pass, the updates. Must not know:
//! files, threads, where batches come from.
//!
//! The batch goes through in parts of `micro_batch` images, whose gradients are summed in order. In
//! each part the reconstruction is cut from its graph; all losses give their gradient with respect
//! to it, the adaptive weight comes from the last layer alone, and a single pass goes back through
//! last layer, decoder, quantizer, encoder.

use std::cell::Cell;
use std::collections::BTreeMap;

use candle_core::{Tensor, Var};

use crate::error::{Error, Result};
use crate::metrics::psnr_of_mse;
use crate::model::tf32::Tf32;
use crate::train::losses::adversarial::{Adversary, GeneratorLoss};
use crate::train::losses::discriminator::at_image;
use crate::train::losses::schedule::AdversarialPhase;
use crate::train::network::autoencoder::LastLayer;
use crate::train::network::checkpointing::{Stop, Sums, Tape, stoppable, stopped};
use crate::train::network::optimizer::{clip, cosine, global_norm};
use crate::train::network::parameters::Tensors;
use crate::train::network::reductions::{mean_square, mean_squared_difference, sum_by_rows};
use crate::train::quantizer::trainable::{Losses, QuantizeOutput};
use crate::train::trainer::step_report::{AdversarialReport, StepReport};
use crate::train::trainer::trainer::Trainer;

/// Images of a step that go through the network at once.
struct Part<'a> {
    /// `[n, C, H, W]`.
    x: &'a Tensor,
    /// Their share of the batch.
    share: f64,
    phase: AdversarialPhase,
    stop: Stop<'a>,
}

/// What the parts of a step add up to; means over the batch.
#[derive(Default)]
struct Tally {
    reconstruction: f64,
    perceptual: f64,
    commitment: f64,
    code_loss: Option<f64>,
    entropy_loss: Option<f64>,
    squares: f64,
    latent_squares: f64,
    /// The generator's loss, and its weight.
    generator: f64,
    weight: f64,
    /// The weighted generator's loss.
    weighted: f64,
    discriminator: f64,
    /// Of all parts in order; latents and losses are those of the first.
    quantized: Option<QuantizeOutput>,
}

impl Tally {
    /// Notes the losses of a quantizer, and adds them, each times `share`, to `loss`.
    fn add_losses(&mut self, losses: &Losses, share: f64, mut loss: Tensor) -> Result<Tensor> {
        let mut part = |part: &Option<Tensor>| -> Result<Option<f64>> {
            let Some(part) = part else { return Ok(None) };
            loss = (&loss + (part * share)?)?;
            Ok(Some(scalar(part)? * share))
        };
        self.commitment += part(&losses.commitment)?.unwrap_or(0.0);
        let sum = |so_far: Option<f64>, more: Option<f64>| more.map(|v| so_far.unwrap_or(0.0) + v);
        self.code_loss = sum(self.code_loss, part(&losses.codes)?);
        self.entropy_loss = sum(self.entropy_loss, part(&losses.entropy)?);
        Ok(loss)
    }

    /// Notes the generator's loss.
    fn add_generator(&mut self, found: &GeneratorLoss, share: f64) {
        self.generator += found.loss * share;
        self.weight += found.weight * share;
        self.weighted += found.loss * found.weight * share;
    }

    /// Adds the rows and codes of a part.
    fn add_quantized(&mut self, quantized: Option<QuantizeOutput>) {
        match (&mut self.quantized, quantized) {
            (Some(all), Some(more)) => {
                all.rows.extend(more.rows);
                all.indices.extend(more.indices);
            }
            (all, more) => *all = more,
        }
    }

    /// The whole loss.
    fn loss(&self) -> f64 {
        let quantizer = self.code_loss.unwrap_or(0.0) + self.entropy_loss.unwrap_or(0.0);
        self.reconstruction + self.perceptual + self.commitment + quantizer + self.weighted
    }
}

/// The gradients of a step, and what it reports.
struct StepSums<'a> {
    generator: Sums<'a>,
    discriminator: Sums<'a>,
    tally: Tally,
}

impl Trainer {
    /// The whole way of a batch of `[N, H, W, C]` bytes: the losses of its reconstruction, one
    /// update of the weights, one of the codebook, one of the discriminator where it has started.
    ///
    /// # Errors
    /// Bytes that are no images of the model's size and channels.
    pub fn step(&mut self, bytes: &[u8]) -> Result<StepReport> {
        self.step_until(bytes, &|| false)
    }

    /// The same, given up where `stop` says so: all is as before the step then.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where it was given up.
    pub fn step_until(&mut self, bytes: &[u8], stop: Stop<'_>) -> Result<StepReport> {
        let x = self.images(bytes)?;
        self.step_on(&x, stop)
    }

    /// The same for images `[N, C, H, W]` as the network sees them.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where it was given up; images that the network can't take.
    pub fn step_on(&mut self, x: &Tensor, stop: Stop<'_>) -> Result<StepReport> {
        let _tf32 = Tf32::set(self.settings.tf32);
        // Out of `self` while the rest of it is read.
        let mut adversary = self.adversary.take();
        let report = self.step_with(x, adversary.as_mut(), stop).map_err(stopped(stop));
        self.adversary = adversary;
        report
    }

    fn step_with(
        &mut self,
        x: &Tensor,
        mut adversary: Option<&mut Adversary>,
        stop: Stop<'_>,
    ) -> Result<StepReport> {
        let phase =
            adversary.as_ref().map_or(AdversarialPhase::Off, |a| a.phase(self.progress.step));
        if phase == AdversarialPhase::Off {
            adversary = None;
        }
        let their_vars = adversary.as_ref().map_or_else(BTreeMap::new, |a| a.vars().clone());
        if let Some(adversary) = &mut adversary {
            adversary.begin();
        }
        let mut sums = StepSums {
            generator: Sums::new(&self.vars),
            discriminator: Sums::new(&their_vars),
            tally: Tally::default(),
        };
        let (count, at_once) = (x.dim(0)?, self.settings.images_at_once());
        for first in (0..count).step_by(at_once) {
            let x = &x.narrow(0, first, at_once.min(count - first))?;
            let part = Part { x, share: x.dim(0)? as f64 / count as f64, phase, stop };
            let passed = self.pass(&part, adversary.as_deref_mut(), &mut sums);
            if let Err(error) = passed {
                if let Some(adversary) = adversary {
                    adversary.undo();
                }
                return Err(error);
            }
        }
        let StepSums { generator, discriminator, tally } = sums;
        let (own, theirs) = (generator.named, discriminator.named);
        let mut report = self.update(own, &tally)?;
        if let Some(adversary) = adversary {
            report.adversarial = Some(self.update_adversary(adversary, theirs, &report, &tally)?);
        }
        self.progress.step += 1;
        self.progress.recent_skips.note(self.progress.step, report.skipped, self.settings.steps);
        Ok(report)
    }

    /// Forward and backward pass of a part.
    fn pass(
        &self,
        part: &Part<'_>,
        adversary: Option<&mut Adversary>,
        sums: &mut StepSums<'_>,
    ) -> Result<()> {
        let Part { x, share, stop, .. } = *part;
        let recompute = self.settings.recompute;
        let blocks = stoppable(self.network.encoder_blocks()?, stop);
        let encoder = Tape::record(blocks, x, false, recompute)?;
        sums.tally.latent_squares += mean_square(encoder.output())? * share;
        let z = Var::from_tensor(encoder.output())?;
        // Latents pass as they are until the codes have places.
        let started = self.codes.usage.started();
        let quantized = started.then(|| self.quantizer.forward(&z)).transpose()?;
        let latents =
            quantized.as_ref().map_or_else(|| z.as_tensor().clone(), |q| q.latents.clone());
        let blocks = stoppable(self.network.decoder_blocks()?, stop);
        let decoder = Tape::record(blocks, &latents, true, recompute)?;
        let activation = Var::from_tensor(decoder.output())?;
        let last = self.network.last_layer()?;
        let image = last.forward(&activation)?;
        sums.tally.squares += mean_squared_difference(x, &image)? * share;

        let at = (activation.as_tensor(), last);
        let gradient = self.image_gradient(part, &image, at, adversary, sums)?;
        let mut store = sum_by_rows(&(image * (gradient * share)?)?)?.backward()?;
        sums.generator.take(&mut store)?;
        let upstream = store.remove(&activation).ok_or_else(no_gradient)?.detach();
        drop((store, activation));
        let upstream = decoder.backward(upstream, &mut sums.generator)?.ok_or_else(no_gradient)?;
        let mut loss = sum_by_rows(&(latents * upstream)?)?;
        if let Some(quantized) = &quantized {
            loss = sums.tally.add_losses(&quantized.losses, share, loss)?;
        }
        let mut store = loss.backward()?;
        sums.generator.take(&mut store)?;
        let upstream = store.remove(&z).ok_or_else(no_gradient)?.detach();
        drop((store, loss));
        encoder.backward(upstream, &mut sums.generator)?;
        sums.tally.add_quantized(quantized);
        Ok(())
    }

    /// The gradient of all losses at the reconstruction `image`, which the last layer makes of an
    /// activation; that of the discriminator goes into the sums.
    fn image_gradient(
        &self,
        part: &Part<'_>,
        image: &Tensor,
        at: (&Tensor, LastLayer<'_>),
        adversary: Option<&mut Adversary>,
        sums: &mut StepSums<'_>,
    ) -> Result<Tensor> {
        let Part { x, share, phase, .. } = *part;
        let nll = self.nll(x, image, share, &mut sums.tally)?;
        let Some(adversary) = adversary else { return Ok(nll) };
        let gradient = match phase {
            AdversarialPhase::Both(ramp) => {
                let found = adversary.generator_loss(image, &nll, at, ramp)?;
                sums.tally.add_generator(&found, share);
                found.gradient
            }
            _ => nll,
        };
        let own = adversary.own_loss(x, image)?;
        sums.tally.discriminator += scalar(&own)? * share;
        sums.discriminator.take(&mut (own * share)?.backward()?)?;
        Ok(gradient)
    }

    /// The gradient, at the reconstruction, of its distance from the images.
    fn nll(&self, x: &Tensor, image: &Tensor, share: f64, tally: &mut Tally) -> Result<Tensor> {
        let perceptual = Cell::new(0.0);
        let (value, gradient) = at_image(image, |y| {
            let loss = self.settings.loss.value(x, y, self.variance)?;
            let Some(p) = &self.perceptual else { return Ok(loss) };
            let distance = p.distance(x, y)?;
            perceptual.set(scalar(&distance)?);
            Ok((loss + distance)?)
        })?;
        tally.perceptual += perceptual.get() * share;
        tally.reconstruction += (value - perceptual.get()) * share;
        Ok(gradient)
    }

    /// One update of weights and codebook, or none where something is not finite.
    fn update(&mut self, mut gradients: Tensors, tally: &Tally) -> Result<StepReport> {
        let gradient_norm = match self.settings.clip_norm {
            0.0 => global_norm(&gradients)?,
            limit => clip(&mut gradients, limit)?,
        };
        let t = tally;
        let mut report = StepReport {
            step: self.progress.step + 1,
            loss: t.loss(),
            reconstruction: t.reconstruction,
            perceptual: self.perceptual.as_ref().map(|_| t.perceptual),
            commitment: t.commitment,
            code_loss: t.code_loss,
            entropy_loss: t.entropy_loss,
            adversarial: None,
            psnr: psnr_of_mse(t.squares.max(1e-12), self.pixels.peak()),
            learning_rate: self.learning_rate(),
            gradient_norm,
            latent_norm: (t.latent_squares * self.codes.dim as f64).sqrt(),
            revived: 0,
            skipped: false,
        };
        if report.loss.is_finite() && gradient_norm.is_finite() {
            self.optimizer.step(&self.vars, &gradients, report.learning_rate)?;
            if let Some(average) = &mut self.average {
                average.update(&self.vars)?;
            }
            if let Some(quantized) = &tally.quantized {
                report.revived = self.update_codes(quantized)?;
            }
        } else {
            report.skipped = true;
            self.progress.skipped += 1;
        }
        Ok(report)
    }

    /// The discriminator's update, which a skipped step has none of.
    fn update_adversary(
        &self,
        adversary: &mut Adversary,
        gradients: Tensors,
        report: &StepReport,
        tally: &Tally,
    ) -> Result<AdversarialReport> {
        let (norm, skipped) = if report.skipped {
            adversary.undo();
            (global_norm(&gradients)?, true)
        } else {
            let decay = report.learning_rate / self.settings.learning_rate;
            adversary.update(gradients, tally.discriminator, self.settings.clip_norm, decay)?
        };
        Ok(AdversarialReport {
            loss: tally.generator,
            weight: tally.weight,
            weight_scale: adversary.weight_scale(),
            discriminator: tally.discriminator,
            discriminator_norm: norm,
            discriminator_skipped: skipped,
        })
    }

    fn learning_rate(&self) -> f64 {
        let s = &self.settings;
        cosine(self.progress.step, s.steps, s.warm_up_share, s.learning_rate, s.learning_rate_floor)
    }
}

fn no_gradient() -> Error {
    Error::invalid("the reconstruction has no gradient")
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
}

#[cfg(test)]
mod narrow_tests;
#[cfg(test)]
mod tests;
