//! Owns what a training can be told: the `[train]` table of a recipe, its defaults, its checks.
//! Must not know: files, tensors.

pub mod adversarial;
pub(crate) mod idle;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig, Parts, QuantizerRule};
use crate::model::fsq::Fsq;
use crate::train::input::augment::AugmentSettings;
use crate::train::losses::pixel::ReconstructionLoss;
use crate::train::quantizer::estimator::Estimator;
use crate::train::settings::adversarial::{AdversarialSettings, PerceptualSettings, WatchSettings};
use crate::util::numbers;

/// Bits of the rule `sign` whose codes' entropy can be trained: it takes 2^bits numbers.
const BITS_MAX: usize = 16;

/// The `[train]` table. Every field has a default; unknown ones are rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSettings {
    /// Updates of the weights.
    pub steps: usize,
    /// Images an update.
    pub batch_size: usize,
    /// Images that go through the network at once; their gradients are summed over the batch, in
    /// order. 0 = the whole batch. Less memory; with another value the last bits (and with a
    /// discriminator, which normalises over them, more) of the result are others.
    pub micro_batch: usize,
    /// Keeps only the borders of the network's blocks and runs each block again in the backward
    /// pass: about a third more time, much less memory, the same bits.
    pub recompute: bool,
    /// Of weights, data order and codebook.
    pub seed: u64,
    /// Share of the images, chosen by the hash of their keys, that is never trained on and on
    /// which the result is judged; 0 to 0.5. With 0 it is judged on images trained on.
    pub held_out_share: f64,
    /// Images the result is judged on, at most.
    pub evaluation_images_max: usize,

    /// Distance of image and reconstruction.
    pub loss: ReconstructionLoss,
    /// beta, the weight of mean((sg(q) - z)^2).
    pub commitment: f64,
    /// How the decoder's gradient passes the quantizer.
    pub estimator: Estimator,

    /// Highest learning rate.
    pub learning_rate: f64,
    /// Learning rate at the end of the cosine.
    pub learning_rate_floor: f64,
    /// Share of the steps over which the learning rate rises.
    pub warm_up_share: f64,
    /// AdamW's (b1, b2).
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// AdamW's decay; biases and norms are never decayed.
    pub weight_decay: f64,
    /// Limit on the norm of the whole gradient; 0 = none.
    pub clip_norm: f64,
    /// Decay of the average of the weights, which is what is saved; 0 = save the last weights.
    pub weight_average: f64,

    /// The codebook.
    pub codebook: CodebookSettings,
    /// What to begin with.
    pub init: InitSettings,
    /// The discriminator; None = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialSettings>,
    /// LPIPS; None = none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<PerceptualSettings>,
    /// How the training watches itself.
    pub watch: WatchSettings,

    /// Variation of the training images.
    pub augment: AugmentSettings,

    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Steps between lines of the training record.
    pub log_every: usize,
    /// Images on each picture of reconstructions; 0 = no pictures.
    pub pictures: usize,
    /// Steps between pictures; 0 = eight in the whole training. The last step has one always.
    pub picture_every: usize,
}

/// The `[train.codebook]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CodebookSettings {
    /// How the codes learn, for the rules `l2` and `l2-normalised`.
    pub method: Method,
    /// Where the codes begin.
    pub start: Start,
    /// Steps without quantization, before the codes are started. At most a tenth of the steps is
    /// taken. Rules without codebook (`fsq`, `sign`) quantize from the first step on.
    pub start_after: usize,
    /// Steps of Lloyd's algorithm.
    pub kmeans_steps: usize,
    /// Latents a code for k-means (within 16 batches).
    pub kmeans_rows_per_code: usize,
    /// Method `ema`: g of the moving averages.
    pub decay: f64,
    /// Method `ema`: smoothing of the counts.
    pub epsilon: f64,
    /// Methods `gradient` and `simvq`: weight of mean((q - sg(z))^2), which pulls the codes.
    pub code_weight: f64,
    /// Rule `sign`: weight of the entropy of each latent's codes less that of all together; 0 =
    /// neither is computed.
    pub entropy_weight: f64,
    /// Rule `sign`: tau of the probabilities of codes.
    pub entropy_temperature: f64,
    /// First interval between revivals, which doubles while hardly any code is dead; 0 = none. A
    /// code is dead that was not used for as many steps, or for longer where a batch has few
    /// latents for many codes.
    pub revive_every: usize,
    /// Share of the steps behind which there is no scheduled revival.
    pub revive_until: f64,
    /// Recent usage under which codes are revived behind `revive_until` too.
    pub rearm_usage: f64,
}

/// The `[train.init]` table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InitSettings {
    /// A checkpoint to begin with, published or vqtok's own: file or folder. Empty: from scratch.
    pub from: String,
    /// Its family where names and shapes leave a doubt. Empty: detected.
    pub family: String,
    /// Which of several sets of weights in it: the start of their names. Empty: there is one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub weights: String,
}

/// Images on one picture, at most.
const PICTURES_MAX: usize = 64;

impl Default for TrainSettings {
    fn default() -> Self {
        TrainSettings {
            steps: 10_000,
            batch_size: 32,
            micro_batch: 0,
            recompute: false,
            seed: 1,
            held_out_share: 0.02,
            evaluation_images_max: 2_000,
            loss: ReconstructionLoss::MseOverVariance,
            commitment: 0.25,
            estimator: Estimator::StraightThrough,
            learning_rate: 1e-3,
            learning_rate_floor: 0.0,
            warm_up_share: 0.02,
            betas: (0.9, 0.95),
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            weight_average: 0.999,
            codebook: CodebookSettings::default(),
            augment: AugmentSettings::default(),
            init: InitSettings::default(),
            adversarial: None,
            perceptual: None,
            watch: WatchSettings::default(),
            checkpoint_every: 500,
            log_every: 50,
            pictures: 8,
            picture_every: 0,
        }
    }
}

impl Default for CodebookSettings {
    fn default() -> Self {
        CodebookSettings {
            method: Method::Ema,
            start: Start::Kmeans,
            start_after: 100,
            kmeans_steps: 10,
            kmeans_rows_per_code: 32,
            decay: 0.99,
            epsilon: 1e-5,
            code_weight: 1.0,
            entropy_weight: 0.1,
            entropy_temperature: 0.01,
            revive_every: 20,
            revive_until: 0.8,
            rearm_usage: 0.5,
        }
    }
}

/// How the codes of a codebook learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Moving averages of the latents that chose them.
    Ema,
    /// Gradients of their distance to these latents.
    Gradient,
    /// Gradients, through a linear map of a frozen random table (SimVQ).
    Simvq,
}

/// Where the codes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// Among the latents: on centres of k-means; with `simvq`, by the latents' mean and covariance.
    Kmeans,
    /// Anywhere: uniform in +-1/K, as the first VQ-VAE; with `simvq`, as any linear layer.
    Random,
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::Input(message))
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
        if self.pictures > PICTURES_MAX {
            return refuse(format!(
                "train.pictures is {}; it must be at most {PICTURES_MAX}",
                self.pictures
            ));
        }
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
            ("codebook.entropy_temperature", c.entropy_temperature, 1e-6, 1e6),
            ("codebook.revive_until", c.revive_until, 0.0, 1.0),
            ("codebook.rearm_usage", c.rearm_usage, 0.0, 1.0),
        ];
        for (name, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return refuse(format!(
                    "train.{name} is {}; it must be {}",
                    numbers::number(value),
                    numbers::between(low, high)
                ));
            }
        }
        let side = side(model)?;
        if let Some(adversarial) = &self.adversarial {
            adversarial.check(side)?;
        }
        if let Some(perceptual) = &self.perceptual {
            perceptual.check(side)?;
        }
        self.watch.check()
    }

    /// Images that go through the network at once.
    pub fn images_at_once(&self) -> usize {
        match self.micro_batch {
            0 => self.batch_size,
            n => n.min(self.batch_size),
        }
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
        if q.depth > 1 && self.codebook.method == Method::Simvq {
            return refuse(
                "model.depth: residual levels take train.codebook.method \"ema\" or \"gradient\", \
                 not \"simvq\""
                    .into(),
            );
        }
        let learned = match q.rule {
            QuantizerRule::L2 | QuantizerRule::L2Normalised => true,
            QuantizerRule::Fsq => {
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
                false
            }
            QuantizerRule::Sign => {
                let entropy = self.codebook.entropy_weight > 0.0;
                if entropy && q.dim > BITS_MAX {
                    return refuse(format!(
                        "model.dim is {} bits; with train.codebook.entropy_weight above 0, whose \
                         loss goes over all codes, at most {BITS_MAX}",
                        q.dim
                    ));
                }
                if q.dim > 24 || q.codes != 1 << q.dim {
                    return refuse(format!(
                        "model.codes is {}; {} bits, at most 24, make 2^{1} codes",
                        q.codes, q.dim
                    ));
                }
                false
            }
            rule => {
                return refuse(format!(
                    "training has the quantizer rules l2, l2-normalised, fsq and sign, not \"{rule}\""
                ));
            }
        };
        if !learned && self.estimator != Estimator::StraightThrough {
            return refuse(
                "train.estimator: the rules fsq and sign take straight-through only".into(),
            );
        }
        Ok(())
    }

    /// The step at which the codes are started.
    pub fn codebook_starts_at(&self) -> usize {
        self.codebook.start_after.min(self.steps / 10)
    }
}

/// Side of the square that training sees, in pixels.
///
/// # Errors
/// Where the model doesn't say one.
pub fn side(model: &ModelConfig) -> Result<usize> {
    match model.preprocess.size {
        Some(size) if size > 0 => Ok(size as usize),
        Some(_) => refuse("data.size is 0; it must be at least 1".into()),
        None => refuse("training needs one image size: set data.size".into()),
    }
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
        Architecture::Vqvae(_) | Architecture::Vqgan(_) => {}
        _ => return refuse("training has the architectures vqvae and vqgan".into()),
    }
    let [factor, _] = model.factor();
    if side % factor != 0 {
        return refuse(format!(
            "data.size is {side}; it must be a multiple of {factor}, the pixels a token covers"
        ));
    }
    if let Architecture::Vqvae(c) = &model.architecture
        && (c.downsamples == 0 || c.hidden < 2 || c.hidden % 2 != 0 || c.res_hidden == 0)
    {
        return refuse(
            "model.architecture: a VQ-VAE needs downsamples >= 1, an even hidden >= 2 and \
             res_hidden >= 1"
                .into(),
        );
    }
    if let Architecture::Vqgan(c) = &model.architecture {
        let widths = c.widths.iter().chain([&c.ch, &c.z_channels]);
        if c.parts != Parts::Both || c.norm_groups == 0 || c.attention.len() != c.widths.len() {
            return refuse(
                "model.architecture: a VQGAN to be trained needs both parts, norm_groups >= 1 and \
                 as many entries in attention as in widths"
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
        if widths.clone().any(|w| *w == 0)
            || c.widths.iter().chain([&c.ch]).any(|w| w % c.norm_groups != 0)
        {
            return refuse(format!(
                "model.architecture: ch and widths must be multiples of norm_groups ({})",
                c.norm_groups
            ));
        }
    }
    if ![1, 3].contains(&model.pixels.channels) {
        return refuse(format!("model.channels is {}, not 1 or 3", model.pixels.channels));
    }
    Ok(())
}
