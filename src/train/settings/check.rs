//! Owns the refusal of trainings that can't work, before any work.

use crate::error::{Error, Result};
use crate::model::config::{
    Architecture, ModelConfig, Parts, QuantizerConfig, QuantizerRule, VqganConfig, VqvaeConfig,
};
use crate::model::fsq::Fsq;
use crate::train::settings::codebook::{CodebookMethod, Estimator};
use crate::train::settings::ranges::within;
use crate::train::settings::training::{TrainSettings, side};
use crate::util::numbers;

/// Bits of the rule `sign` whose codes' entropy can be trained: it takes 2^bits numbers.
const BITS_MAX: usize = 16;
/// Updates at most, and steps from one thing to the next: beyond any training.
pub(crate) const STEPS_MAX: usize = 1_000_000_000;
/// Images a batch at most, in training and tokenizing.
pub(crate) const BATCH_SIZE_MAX: usize = 1 << 16;
/// Images that a result is judged on, at most.
const IMAGES_MAX: usize = 1_000_000_000;
/// Steps of Lloyd's algorithm at most; it has settled long before.
const KMEANS_STEPS_MAX: usize = 10_000;
/// Latents a code for k-means, at most; a few dozen are taken.
const KMEANS_ROWS_MAX: usize = 1 << 16;
/// Images on one picture, at most.
const PICTURES_MAX: usize = 64;

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::invalid(message))
}

impl TrainSettings {
    /// Refuses what can't work, before any work.
    ///
    /// # Errors
    /// One line that names the setting and what it may be.
    pub fn check(&self, model: &ModelConfig) -> Result<()> {
        check_model(model)?;
        self.augment.check()?;
        self.check_quantizer(model)?;
        self.check_counts()?;
        self.check_ranges()?;
        let side = side(model)?;
        if let Some(adversarial) = &self.adversarial {
            adversarial.check(side)?;
        }
        if let Some(perceptual) = &self.perceptual {
            perceptual.check(side)?;
        }
        self.watch.check()
    }

    fn check_counts(&self) -> Result<()> {
        let positive = [
            ("steps", self.steps),
            ("batch_size", self.batch_size),
            ("evaluation_images_max", self.evaluation_images_max),
            ("checkpoint_every", self.checkpoint_every),
            ("log_every", self.log_every),
            ("codebook.kmeans_rows_per_code", self.codebook.kmeans_rows_per_code),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, v)| *v == 0) {
            return refuse(format!("train.{name} is 0; it must be at least 1"));
        }
        let bounded = [
            ("steps", self.steps, STEPS_MAX),
            ("batch_size", self.batch_size, BATCH_SIZE_MAX),
            ("micro_batch", self.micro_batch, BATCH_SIZE_MAX),
            ("evaluation_images_max", self.evaluation_images_max, IMAGES_MAX),
            ("checkpoint_every", self.checkpoint_every, STEPS_MAX),
            ("log_every", self.log_every, STEPS_MAX),
            ("pictures", self.pictures, PICTURES_MAX),
            ("picture_every", self.picture_every, STEPS_MAX),
            ("codebook.start_after", self.codebook.start_after, STEPS_MAX),
            ("codebook.kmeans_steps", self.codebook.kmeans_steps, KMEANS_STEPS_MAX),
            ("codebook.kmeans_rows_per_code", self.codebook.kmeans_rows_per_code, KMEANS_ROWS_MAX),
            ("codebook.revive_every", self.codebook.revive_every, STEPS_MAX),
        ];
        match bounded.iter().find(|(_, value, max)| value > max) {
            Some((name, value, max)) => {
                refuse(format!("train.{name} is {value}; it must be at most {max}"))
            }
            None => Ok(()),
        }
    }

    fn check_ranges(&self) -> Result<()> {
        let c = &self.codebook;
        let ranges = [
            ("held_out_share", self.held_out_share, 0.0, 0.5),
            ("commitment", self.commitment, 0.0, 1e6),
            ("learning_rate", self.learning_rate, f64::MIN_POSITIVE, 1e3),
            ("learning_rate_floor", self.learning_rate_floor, 0.0, self.learning_rate),
            ("warm_up_share", self.warm_up_share, 0.0, 1.0),
            ("betas.0", self.betas.0, 0.0, 0.999_999_9),
            ("betas.1", self.betas.1, 0.0, 0.999_999_9),
            ("epsilon", self.epsilon, 1e-30, 1.0),
            ("weight_decay", self.weight_decay, 0.0, 1e3),
            ("clip_norm", self.clip_norm, 0.0, f64::MAX),
            ("weight_average", self.weight_average, 0.0, 0.999_999_9),
            ("codebook.decay", c.decay, 0.0, 0.999_999_9),
            ("codebook.epsilon", c.epsilon, 1e-30, 1.0),
            ("codebook.code_weight", c.code_weight, 0.0, 1e6),
            ("codebook.entropy_weight", c.entropy_weight, 0.0, 1e6),
            ("codebook.entropy_temperature", c.signs().1, 1e-6, 1e6),
            ("codebook.revive_until", c.revive_until, 0.0, 1.0),
            ("codebook.rearm_usage", c.rearm_usage, 0.0, 1.0),
        ];
        within("train", &ranges)
    }

    fn check_quantizer(&self, model: &ModelConfig) -> Result<()> {
        let q = &model.quantizer;
        if q.codes < 2 || q.dim == 0 {
            return refuse(format!(
                "model.codes is {} and model.dim {}; they must be at least 2 and 1",
                q.codes, q.dim
            ));
        }
        if q.rule != QuantizerRule::Fsq && !q.levels.is_empty() {
            return refuse("model.quantizer.levels belong to the rule fsq alone".into());
        }
        q.check_depth().map_err(|reason| Error::invalid(format!("model.depth: {reason}")))?;
        if q.depth > 1 && self.codebook.method == CodebookMethod::Simvq {
            return refuse(
                "model.depth: residual levels take train.codebook.method \"ema\" or \"gradient\", \
                 not \"simvq\""
                    .into(),
            );
        }
        match q.rule {
            QuantizerRule::L2 | QuantizerRule::L2Normalised => return Ok(()),
            QuantizerRule::Fsq => check_fsq(q)?,
            QuantizerRule::Sign => check_sign(q, self.codebook.entropy_weight)?,
            rule => {
                return refuse(format!(
                    "training has the quantizer rules l2, l2-normalised, fsq and sign, not \"{rule}\""
                ));
            }
        }
        if self.estimator != Estimator::StraightThrough {
            return refuse(
                "train.estimator: the rules fsq and sign take straight-through only".into(),
            );
        }
        Ok(())
    }
}

fn check_fsq(q: &QuantizerConfig) -> Result<()> {
    let fsq = Fsq::new(&q.levels)?;
    if (fsq.codes(), fsq.dim()) != (q.codes, q.dim) {
        return refuse(format!(
            "model.codes is {} and model.dim {}; the levels {:?} make {} and {}",
            q.codes,
            q.dim,
            q.levels,
            fsq.codes(),
            fsq.dim()
        ));
    }
    Ok(())
}

fn check_sign(q: &QuantizerConfig, entropy_weight: f64) -> Result<()> {
    if entropy_weight > 0.0 && q.dim > BITS_MAX {
        return refuse(format!(
            "model.dim is {} bits; with train.codebook.entropy_weight above 0, whose loss goes over \
             all codes, at most {BITS_MAX}",
            q.dim
        ));
    }
    if q.dim > 24 || q.codes != 1 << q.dim {
        return refuse(format!(
            "model.codes is {}; {} bits, at most 24, make 2^{1} codes",
            q.codes, q.dim
        ));
    }
    Ok(())
}

fn check_model(model: &ModelConfig) -> Result<()> {
    let side = side(model)?;
    match &model.architecture {
        Architecture::Vqvae(c) if c.downsamples > 8 => {
            return refuse(format!("model.architecture.downsamples is {}, above 8", c.downsamples));
        }
        Architecture::Vqgan(c) if c.widths.is_empty() || c.widths.len() > 9 => {
            return refuse("model.architecture.widths needs 1 to 9 levels".into());
        }
        Architecture::Vqgan(c) if !(1..=9).contains(&c.decoder().widths.len()) => {
            return refuse("model.architecture.decoder.widths needs 1 to 9 levels".into());
        }
        Architecture::Vqgan(c)
            if !c.variant.is_plain()
                || c.decoder().spatial_norm.is_some()
                || !c.decoder().blocks_by_level.is_empty() =>
        {
            return refuse("training has taming's vqgan alone, without `variant`, `spatial_norm` and `blocks_by_level`".into());
        }
        Architecture::Vqvae(_) | Architecture::Vqgan(_) => {}
        _ => return refuse("training has the architectures vqvae and vqgan".into()),
    }
    let [factor, _] = model.factor();
    if side % factor != 0 {
        return refuse(format!(
            "data.size is {side}; it must be a multiple of {factor}, the pixels a token covers"
        ));
    }
    match &model.architecture {
        Architecture::Vqvae(c) => check_vqvae(c)?,
        Architecture::Vqgan(c) => check_vqgan(c)?,
        _ => {}
    }
    if ![1, 3].contains(&model.pixels.channels) {
        return refuse(format!("model.channels is {}, not 1 or 3", model.pixels.channels));
    }
    Ok(())
}

fn check_vqvae(c: &VqvaeConfig) -> Result<()> {
    if c.downsamples == 0 || c.hidden < 2 || !c.hidden.is_multiple_of(2) || c.res_hidden == 0 {
        return refuse(
            "model.architecture: a VQ-VAE needs downsamples >= 1, an even hidden >= 2 and \
             res_hidden >= 1"
                .into(),
        );
    }
    Ok(())
}

fn check_vqgan(c: &VqganConfig) -> Result<()> {
    if c.parts != Parts::Both || c.norm_groups == 0 || c.attention.len() != c.widths.len() {
        return refuse(
            "model.architecture: a VQGAN to be trained needs both parts, norm_groups >= 1 and as \
             many entries in attention as in widths"
                .into(),
        );
    }
    if !(1e-30..=1.0).contains(&c.norm_eps) {
        return refuse(format!(
            "model.architecture.norm_eps is {}; it must be {}",
            numbers::number(c.norm_eps),
            numbers::between(1e-30, 1.0)
        ));
    }
    let mut widths = c.widths.iter().chain([&c.ch]);
    if c.z_channels == 0
        || widths.clone().any(|w| *w == 0)
        || widths.any(|w| w % c.norm_groups != 0)
    {
        return refuse(format!(
            "model.architecture: ch and widths must be multiples of norm_groups ({})",
            c.norm_groups
        ));
    }
    Ok(())
}
