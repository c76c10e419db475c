//! Owns the adversarial side of a training: the discriminator, its optimizer, LeCAM's averages, the
//! weight that the generator's loss has.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use serde::{Deserialize, Serialize};

use super::discriminator::{Discriminator, Lecam, Statistics, adaptive_weight, at_image};
use crate::error::{Error, Result};
use crate::train::losses::schedule::{AdversarialPhase, AdversarialSchedule};
use crate::train::network::autoencoder::LastLayer;
use crate::train::network::optimizer::{AdamW, clip, global_norm};
use crate::train::network::parameters::{Named, Parameters, Tensors, to_device, to_host};
use crate::train::network::random::{fnv1a64, splitmix64};
use crate::train::network::reductions::sum_of_squares;
use crate::train::settings::adversarial::AdversarialSettings;
use crate::util::float_bits::Bits;

/// What of the adversarial side is no tensor, for the checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdversaryCounters {
    /// Updates of the discriminator.
    pub updates: u64,
    /// Updates skipped since its loss or a gradient was not finite.
    pub skipped: u64,
    /// LeCAM's mean logit of real images.
    #[serde(rename = "lecam_real_bits")]
    pub lecam_real: Bits,
    /// LeCAM's mean logit of made images.
    #[serde(rename = "lecam_fake_bits")]
    pub lecam_fake: Bits,
    /// The share of its weight that falls of PSNR have left to the generator's loss.
    #[serde(rename = "trust_bits")]
    pub weight_scale: Bits,
    /// The step from which the generator's loss gains weight.
    pub ramp_from: usize,
}

/// What the discriminator says about a reconstruction.
pub(crate) struct GeneratorLoss {
    /// The generator's loss, unweighted.
    pub loss: f64,
    /// Its weight: adaptive, ramp and weight_scale together.
    pub weight: f64,
    /// The gradient of the reconstruction loss plus `weight` times that of the generator's loss.
    pub gradient: Tensor,
}

/// The discriminator and everything that its steps change.
pub(crate) struct Adversary {
    settings: AdversarialSettings,
    schedule: AdversarialSchedule,
    parameters: Parameters,
    vars: BTreeMap<String, Var>,
    network: Discriminator,
    optimizer: AdamW,
    statistics: Statistics,
    lecam: Lecam,
    weight_scale: f64,
    ramp_from: usize,
    skipped: u64,
    /// LeCAM and statistics as they were before the step, to go back to if it is skipped.
    before: (Lecam, Statistics),
}

impl Adversary {
    /// A fresh one on `device` for images of `channels`, in a training of `steps`.
    pub(crate) fn new(
        settings: &AdversarialSettings,
        channels: usize,
        steps: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Adversary> {
        let parameters = Parameters::new(device);
        let vb = parameters.builder(DType::F32);
        let network = Discriminator::new(channels, settings.filters, settings.layers, vb)?;
        parameters.initialize(splitmix64(seed, fnv1a64("discriminator")))?;
        let schedule = AdversarialSchedule::new(settings, steps);
        let lecam = Lecam { real: 0.0, fake: 0.0, decay: settings.lecam_decay };
        Ok(Adversary {
            schedule,
            vars: parameters.vars(),
            parameters,
            network,
            optimizer: AdamW::new(settings.betas, 1e-8, settings.weight_decay),
            statistics: Statistics::default(),
            lecam,
            weight_scale: 1.0,
            ramp_from: schedule.start + schedule.alone,
            skipped: 0,
            before: (lecam, Statistics::default()),
            settings: settings.clone(),
        })
    }

    /// The step at which the discriminator starts.
    pub(crate) fn start(&self) -> usize {
        self.schedule.start
    }

    /// What step `step` (from 0) does.
    pub(crate) fn phase(&self, step: usize) -> AdversarialPhase {
        self.schedule.phase(step, self.ramp_from)
    }

    /// Trainable scalars of the discriminator.
    pub(crate) fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// Updates skipped since something was not finite.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// The share of its weight that falls of PSNR have left to the generator's loss.
    pub(crate) fn weight_scale(&self) -> f64 {
        self.weight_scale
    }

    /// Halves the weight of the generator's loss and starts its ramp again after step `now`.
    /// `weight_scale` and `skipped` are those of before the weights were put back.
    pub(crate) fn reduce_weight(&mut self, weight_scale: f64, skipped: u64, now: usize) {
        self.weight_scale = weight_scale / 2.0;
        self.skipped = skipped;
        self.ramp_from = now;
    }

    /// The discriminator's weights.
    pub(crate) fn vars(&self) -> &BTreeMap<String, Var> {
        &self.vars
    }

    /// Remembers what a skipped step goes back to.
    pub(crate) fn begin(&mut self) {
        self.before = (self.lecam, self.statistics.clone());
    }

    /// The weighted generator's loss of a reconstruction made by `last` from `activation`, on top
    /// of the reconstruction loss whose gradient is `nll`. `ramp` as in [`AdversarialPhase::Both`].
    pub(crate) fn generator_loss(
        &mut self,
        image: &Tensor,
        nll: &Tensor,
        (activation, last): (&Tensor, LastLayer<'_>),
        ramp: f64,
    ) -> Result<GeneratorLoss> {
        let frozen = self.network.frozen();
        let mut statistics = std::mem::take(&mut self.statistics);
        let kind = self.settings.loss;
        let found =
            at_image(image, |image| kind.generator(&frozen.forward(image, &mut statistics)?));
        self.statistics = statistics;
        let (loss, g) = found?;
        let s = &self.settings;
        if !loss.is_finite() || !sum_of_squares(&g)?.is_finite() {
            // A discriminator that overflowed must not stop the generator as well.
            return Ok(GeneratorLoss { loss: 0.0, weight: 0.0, gradient: nll.clone() });
        }
        let scale = s.weight * self.weight_scale * ramp;
        if s.adaptive {
            let cap = s.cap * self.weight_scale * ramp;
            let found = adaptive_weight(activation, last, (nll, &g), scale, cap)?;
            return Ok(GeneratorLoss { loss, weight: found.lambda, gradient: found.gradient });
        }
        Ok(GeneratorLoss { loss, weight: scale, gradient: (nll + (g * scale)?)?.detach() })
    }

    /// The discriminator's own loss on images and their reconstructions, both detached. Its
    /// gradient is that of [`Adversary::vars`].
    pub(crate) fn own_loss(&mut self, real: &Tensor, fake: &Tensor) -> Result<Tensor> {
        let on_real = self.network.forward(&real.detach(), &mut self.statistics)?;
        let on_fake = self.network.forward(&fake.detach(), &mut self.statistics)?;
        let loss = self.settings.loss.discriminator(&on_real, &on_fake)?;
        if self.settings.lecam == 0.0 {
            return Ok(loss);
        }
        let penalty = self.lecam.penalty(&on_real, &on_fake)?;
        Ok((loss + (penalty * self.settings.lecam)?)?)
    }

    /// One update of the discriminator, or none where its loss or a gradient is not finite: then
    /// all is as before [`Adversary::begin`]. `decay` is what the schedule has left of the learning
    /// rates. Returns the norm of the gradient, and whether it was skipped.
    pub(crate) fn update(
        &mut self,
        mut gradients: Tensors,
        loss: f64,
        clip_norm: f64,
        decay: f64,
    ) -> Result<(f64, bool)> {
        let norm = match clip_norm {
            0.0 => global_norm(&gradients)?,
            limit => clip(&mut gradients, limit)?,
        };
        let finite = loss.is_finite() && norm.is_finite();
        if finite {
            let learning_rate = self.settings.learning_rate * decay;
            self.optimizer.step(&self.vars, &gradients, learning_rate)?;
        } else {
            self.undo();
            self.skipped += 1;
        }
        Ok((norm, !finite))
    }

    /// Goes back to [`Adversary::begin`].
    pub(crate) fn undo(&mut self) {
        (self.lecam, self.statistics) = self.before.clone();
    }

    /// Everything that is no tensor.
    pub(crate) fn counters(&self) -> AdversaryCounters {
        AdversaryCounters {
            updates: self.optimizer.updates,
            skipped: self.skipped,
            lecam_real: Bits(self.lecam.real),
            lecam_fake: Bits(self.lecam.fake),
            weight_scale: Bits(self.weight_scale),
            ramp_from: self.ramp_from,
        }
    }

    /// Every tensor, by a name that begins with `adversary.`.
    pub(crate) fn floats(&self) -> Result<Named> {
        let mut floats = Named::new();
        for (part, values) in [
            ("weights", self.parameters.values()?),
            ("moment1", to_host(&self.optimizer.moment1)?),
            ("moment2", to_host(&self.optimizer.moment2)?),
            ("statistics", to_host(&self.statistics.values)?),
        ] {
            for (name, values) in values {
                floats.insert(format!("{TENSOR_PREFIX}{part}.{name}"), values);
            }
        }
        Ok(floats)
    }

    /// Takes back what [`Adversary::counters`] and [`Adversary::floats`] gave after step `step`;
    /// `part` gives the tensors behind a prefix. In a training that was made longer, one that has
    /// begun doesn't wait for its start again.
    ///
    /// # Errors
    /// Where they are of another discriminator.
    pub(crate) fn restore(
        &mut self,
        counters: &AdversaryCounters,
        step: usize,
        part: impl Fn(&str) -> Named,
    ) -> Result<()> {
        let part = |name: &str| part(&format!("{TENSOR_PREFIX}{name}."));
        self.parameters
            .set_values(&part("weights"))
            .map_err(|e| Error::invalid(format!("the checkpoint's discriminator: {e}")))?;
        let here = |name: &str| to_device(part(name), self.parameters.device());
        self.optimizer.moment1 = here("moment1")?;
        self.optimizer.moment2 = here("moment2")?;
        self.optimizer.updates = counters.updates;
        if counters.updates > 0 {
            self.schedule.start = self.schedule.start.min(step);
        }
        self.statistics.values = here("statistics")?;
        self.lecam.real = counters.lecam_real.0;
        self.lecam.fake = counters.lecam_fake.0;
        self.weight_scale = counters.weight_scale.0;
        self.ramp_from = counters.ramp_from;
        self.skipped = counters.skipped;
        self.begin();
        Ok(())
    }
}

/// What the names of all its tensors begin with in a checkpoint.
pub(crate) const TENSOR_PREFIX: &str = "adversary.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::network::checkpointing::Sums;
    use crate::train::network::parameters::flat;
    use crate::train::network::random::unit;

    fn adversary() -> Adversary {
        let settings = AdversarialSettings { filters: 4, layers: 1, ..Default::default() };
        Adversary::new(&settings, 3, 100, 1, &Device::Cpu).unwrap()
    }

    fn images(key: u64, scale: f64) -> Tensor {
        let values: Vec<f32> = (0..2 * 3 * 64).map(|i| unit(key, i)).collect();
        let images = Tensor::from_vec(values, (2, 3, 8, 8), &Device::Cpu).unwrap();
        (images * scale).unwrap()
    }

    fn step(a: &mut Adversary, scale: f64) -> (f64, bool) {
        a.begin();
        let loss = a.own_loss(&images(1, scale), &images(2, scale)).unwrap();
        let named = {
            let mut sums = Sums::new(a.vars());
            sums.take(&mut loss.backward().unwrap()).unwrap();
            sums.named
        };
        let loss = f64::from(loss.to_scalar::<f32>().unwrap());
        a.update(named, loss, 1.0, 1.0).unwrap()
    }

    #[test]
    fn a_step_that_is_not_finite_leaves_no_trace() {
        let mut a = adversary();
        assert!(!step(&mut a, 1.0).1);
        let (counters, floats) = (a.counters(), a.floats().unwrap());
        assert!(floats.keys().any(|k| k == "adversary.statistics.main.3.running_mean"));
        assert!(step(&mut a, f64::NAN).1);
        assert_eq!(a.counters(), AdversaryCounters { skipped: 1, ..counters.clone() });
        assert_eq!(a.floats().unwrap(), floats);
        // And it goes on.
        assert!(!step(&mut a, 1.0).1);
        assert_ne!(a.floats().unwrap(), floats);
        // Back from the counters and tensors of before.
        a.restore(&counters, 0, |prefix| {
            let strip = |(n, v): (&String, &Vec<f32>)| {
                Some((n.strip_prefix(prefix)?.to_string(), v.clone()))
            };
            floats.iter().filter_map(strip).collect()
        })
        .unwrap();
        assert_eq!((a.counters(), a.floats().unwrap()), (counters, floats));
    }

    #[test]
    fn the_generator_hears_no_gradient_of_the_discriminators_weights() {
        let mut a = adversary();
        let weight = Tensor::ones((3, 3, 3, 3), DType::F32, &Device::Cpu).unwrap();
        let bias = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
        let last = LastLayer { weight: &weight, bias: &bias, transposed: false };
        let activation = images(3, 0.1);
        let image = last.forward(&activation).unwrap();
        let nll = image.zeros_like().unwrap();
        // Without a reconstruction loss the adaptive weight is 0, and so is the gradient.
        let generator = a.generator_loss(&image, &nll, (&activation, last), 1.0).unwrap();
        assert_eq!(generator.weight, 0.0);
        assert!(flat(&generator.gradient).unwrap().iter().all(|v| *v == 0.0));
        // Trust and ramp reduce_weight the cap as well.
        let nll = (image.ones_like().unwrap() * 1e3).unwrap();
        let full = a.generator_loss(&image, &nll, (&activation, last), 1.0).unwrap();
        assert_eq!(full.weight, 10.0);
        a.reduce_weight(a.weight_scale(), 0, 7);
        let lowered = a.generator_loss(&image, &nll, (&activation, last), 0.5).unwrap();
        assert_eq!((lowered.weight, a.weight_scale()), (2.5, 0.5));
        assert_eq!(a.counters().ramp_from, 7);
    }
}
