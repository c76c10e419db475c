//! Owns everything that a step of training changes, between steps and in the checkpoint. Must not
//! know: how a step works, files, threads, where batches come from.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor, Var};

use crate::error::Result;
use crate::metrics::CodeCounts;
use crate::model::config::{ModelConfig, QuantizerConfig};
use crate::train::input::pixels::Pixels;
use crate::train::losses::adversarial::Adversary;
use crate::train::losses::lpips::PerceptualLoss;
use crate::train::network::autoencoder::{Autoencoder, build, encode_plain, encode_until};
use crate::train::network::checkpointing::Stop;
use crate::train::network::optimizer::{AdamW, WeightAverage};
use crate::train::network::parameters::{
    CODEBOOK_NAME, Named, Parameters, QUANTIZER_PREFIX, to_device, to_host,
};
use crate::train::quantizer;
use crate::train::quantizer::layout::rows_of;
use crate::train::quantizer::revival::CodeUse;
use crate::train::quantizer::trainable::TrainableQuantizer;
use crate::train::settings::TrainSettings;
use crate::train::trainer::monitor::MonitorState;
use crate::train::trainer::skips::RecentSkips;
use crate::train::trainer::state::{Counters, FORMAT, Lengths, SNAPSHOT, State};
use crate::util::float_bits::Bits;

/// How far a training is.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    /// Steps done.
    pub step: usize,
    /// Steps skipped since something was not finite.
    pub skipped: u64,
    /// Which of the last steps these were.
    pub recent_skips: RecentSkips,
    /// Codes revived.
    pub revived: u64,
}

/// The codes that are trained.
pub(super) struct Codes {
    /// K, of each residual level.
    pub count: usize,
    /// Residual levels.
    pub depth: usize,
    /// D.
    pub dim: usize,
    /// Which are used, and when dead ones are revived.
    pub usage: CodeUse,
}

/// The network, its optimizer and its quantizer between two steps.
pub struct Trainer {
    pub(super) settings: TrainSettings,
    pub(super) parameters: Parameters,
    /// The variables of `parameters`.
    pub(super) vars: BTreeMap<String, Var>,
    pub(super) network: Autoencoder,
    pub(super) optimizer: AdamW,
    pub(super) average: Option<WeightAverage>,
    pub(super) quantizer: Box<dyn TrainableQuantizer>,
    pub(super) codes: Codes,
    /// None without a discriminator.
    pub(super) adversary: Option<Adversary>,
    /// None without LPIPS.
    pub(super) perceptual: Option<PerceptualLoss>,
    pub(super) monitor: MonitorState,
    /// Weights to roll back to; has no snapshot of its own.
    pub(super) snapshot: Option<Box<State>>,
    pub(super) pixels: Pixels,
    pub(super) progress: Progress,
    /// Of the data, in the units of the network.
    pub(super) variance: f64,
}

impl Trainer {
    /// A fresh start, on the device of the settings. `variance` is that of the data in the units of the
    /// network.
    ///
    /// # Errors
    /// Settings that make no network: an architecture or a quantizer rule that can't be trained,
    /// channels that the groups don't divide, pixels of no one size.
    pub fn new(model: &ModelConfig, settings: &TrainSettings, variance: f64) -> Result<Trainer> {
        let device = settings.device.get();
        let parameters = Parameters::new(device);
        let read = if settings.narrow { DType::BF16 } else { DType::F32 };
        let network = build(model, parameters.builder(read))?;
        let quantizer = quantizer::build(model, settings, &parameters)?;
        parameters.initialize(settings.seed)?;
        let pixels = Pixels::of(model, device)?;
        let [factor, _] = model.factor();
        let step_rows = settings.batch_size * (pixels.side / factor).pow(2);
        let QuantizerConfig { codes: count, dim, depth, .. } = model.quantizer;
        let counts = CodeCounts::of_levels(depth, count);
        let mut usage = CodeUse::new(counts, depth * step_rows, settings.steps, &settings.codebook);
        if !quantizer.wants_start() {
            usage.start(0);
        }
        let vars = parameters.vars();
        let average = (settings.weight_average > 0.0)
            .then(|| WeightAverage::new(settings.weight_average, &vars));
        let adversary = settings.adversarial.as_ref().map(|adversarial| {
            let channels = model.pixels.channels;
            Adversary::new(adversarial, channels, settings.steps, settings.seed, device)
        });
        Ok(Trainer {
            settings: settings.clone(),
            vars,
            parameters,
            network,
            optimizer: AdamW::new(settings.betas, settings.epsilon, settings.weight_decay),
            average: average.transpose()?,
            quantizer,
            codes: Codes { count, depth, dim, usage },
            adversary: adversary.transpose()?,
            perceptual: None,
            monitor: MonitorState::default(),
            snapshot: None,
            pixels,
            progress: Progress::default(),
            variance,
        })
    }

    /// Adds LPIPS to the loss, where there is one.
    pub fn set_perceptual(&mut self, loss: Option<PerceptualLoss>) {
        self.perceptual = loss;
    }

    /// Steps done.
    pub fn step_count(&self) -> usize {
        self.progress.step
    }

    /// Trainable scalars.
    pub fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// Shapes of the model's weights by name, its codebook's among them.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let own = self.vars.iter().filter(|(name, _)| !name.starts_with(QUANTIZER_PREFIX));
        let mut shapes: BTreeMap<_, _> =
            own.map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
        shapes.insert(
            CODEBOOK_NAME.into(),
            vec![self.codes.depth * self.codes.count, self.codes.dim],
        );
        shapes
    }

    /// All trained weights by name, flat, the quantizer's among them.
    ///
    /// # Errors
    /// A weight that can't be read as float32.
    pub fn weights(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        self.parameters.values()
    }

    /// Begins with these weights instead of random ones.
    ///
    /// # Errors
    /// Weights of another network: a name that is missing or too much, or another size.
    pub fn begin_with(&mut self, weights: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        self.parameters.set_values(weights)?;
        if let Some(average) = &mut self.average {
            average.values = to_device(weights.clone(), self.parameters.device())?;
        }
        Ok(())
    }

    /// Steps skipped since something was not finite.
    pub fn skipped(&self) -> u64 {
        self.progress.skipped
    }

    /// Why nothing is learned any more after the step just done; None where it is.
    pub fn stops(&self) -> Option<String> {
        self.progress.recent_skips.stops(self.progress.step, self.settings.steps)
    }

    /// Updates of the discriminator skipped since something was not finite.
    pub fn discriminator_skipped(&self) -> u64 {
        self.adversary.as_ref().map_or(0, Adversary::skipped)
    }

    /// Bytes `[N, H, W, C]` as the network sees them.
    ///
    /// # Errors
    /// Bytes that are no images of the model's size and channels.
    pub fn images(&self, bytes: &[u8]) -> Result<Tensor> {
        self.pixels.to_tensor(bytes)
    }

    /// Latents of images as rows, without gradients; given up where `stop` says so.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where it was given up; bytes that are no images of the model's size.
    pub fn latent_rows(&self, bytes: &[u8], stop: Stop<'_>) -> Result<Vec<f32>> {
        rows_of(&encode_until(&self.network, &self.images(bytes)?, stop)?)
    }

    /// The codes of images as the quantizer chooses them now, `[N h w]`; of residual levels one
    /// behind the other, code k of level l as `l * K + k`.
    ///
    /// # Errors
    /// Bytes that are no images of the model's size and channels.
    pub fn tokens(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let z = encode_plain(&self.network, &self.images(bytes)?)?;
        Ok(self.quantizer.forward(&z)?.indices)
    }

    /// The weights to save, with the codebook where the model has one: the averages where there
    /// are any.
    ///
    /// # Errors
    /// A weight that can't be read as float32.
    pub fn final_weights(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut weights = match &self.average {
            Some(average) => to_host(&average.values)?,
            None => self.parameters.values()?,
        };
        let codebook = self.quantizer.codebook(&weights)?;
        weights.retain(|name, _| !name.starts_with(QUANTIZER_PREFIX));
        weights.extend(codebook.map(|codes| (CODEBOOK_NAME.to_string(), codes)));
        Ok(weights)
    }

    /// Everything, for a checkpoint.
    ///
    /// # Errors
    /// A weight that can't be read as float32.
    pub fn state(&self, recipe: &serde_json::Value, record: Lengths) -> Result<State> {
        let mut floats = Named::new();
        let mut put = |prefix: &str, values: Named| {
            floats.extend(values.into_iter().map(|(n, values)| (format!("{prefix}{n}"), values)));
        };
        put("weights.", self.parameters.values()?);
        put("moment1.", to_host(&self.optimizer.moment1)?);
        put("moment2.", to_host(&self.optimizer.moment2)?);
        if let Some(average) = &self.average {
            put("average.", to_host(&average.values)?);
        }
        put("codebook.", self.quantizer.state());
        if let Some(adversary) = &self.adversary {
            floats.extend(adversary.floats()?);
        }
        let mut state = State {
            counters: Counters {
                format: FORMAT.into(),
                recipe: recipe.clone(),
                step: self.progress.step,
                updates: self.optimizer.updates,
                average_updates: self.average.as_ref().map_or(0, |a| a.updates),
                skipped: self.progress.skipped,
                recent_skips: self.progress.recent_skips.steps().to_vec(),
                revived: self.progress.revived,
                variance: Bits(self.variance),
                revival: self.codes.usage.schedule(),
                adversary: self.adversary.as_ref().map(Adversary::counters),
                monitor: self.monitor.clone(),
                snapshot: self.snapshot.as_ref().map(|s| Box::new(s.counters.clone())),
                record,
            },
            floats,
            integers: self.codes.usage.state(),
        };
        if let Some(snapshot) = &self.snapshot {
            state.nest(SNAPSHOT, snapshot);
        }
        Ok(state)
    }

    /// Takes back what [`Trainer::state`] gave.
    ///
    /// # Errors
    /// Where the state is of another network.
    pub fn restore(&mut self, state: &State) -> Result<()> {
        let counters = &state.counters;
        self.parameters.set_values(&state.part("weights."))?;
        let here = |prefix: &str| to_device(state.part(prefix), self.parameters.device());
        self.optimizer.moment1 = here("moment1.")?;
        self.optimizer.moment2 = here("moment2.")?;
        self.optimizer.updates = counters.updates;
        if let Some(average) = &mut self.average {
            average.values = here("average.")?;
            average.updates = counters.average_updates;
        }
        if let (Some(adversary), Some(counters)) = (&mut self.adversary, &counters.adversary) {
            adversary.restore(counters, state.counters.step, |prefix| state.part(prefix))?;
        }
        self.monitor = counters.monitor.clone();
        self.snapshot = counters.snapshot.as_ref().map(|counters| {
            let (floats, integers) = state.nested(SNAPSHOT);
            Box::new(State { counters: (**counters).clone(), floats, integers })
        });
        self.quantizer.restore(state.part("codebook."))?;
        self.codes.usage.restore(counters.revival, &state.integers)?;
        self.progress = Progress {
            step: counters.step,
            skipped: counters.skipped,
            recent_skips: RecentSkips::of(counters.recent_skips.clone()),
            revived: counters.revived,
        };
        self.variance = counters.variance.0;
        Ok(())
    }
}
