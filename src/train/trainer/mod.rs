//! Owns everything that a step of training changes, between steps and in the checkpoint; `step` owns
//! the step. Must not know: files, threads, where batches come from.

pub mod cost;
pub(crate) mod finite;
pub mod monitor;
pub mod state;
pub(crate) mod step;

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use super::CODEBOOK_NAME;
use super::quantizer::{self, Moved, PREFIX, Quantized, Quantizer, rows_of};
use super::settings::{Method, TrainSettings, side};
use crate::error::{Error, Result};
use crate::metrics::CodeCounts;
use crate::model::config::{ModelConfig, QuantizerConfig};
use crate::train::input::pixels;
use crate::train::losses::adversarial::Adversary;
use crate::train::losses::lpips::PerceptualLoss;
use crate::train::network::autoencoder::{Autoencoder, build, encode_plain, encode_until};
use crate::train::network::checkpointing::Stop;
use crate::train::network::optimizer::{AdamW, WeightAverage};
use crate::train::network::parameters::{Parameters, flat};
use crate::train::network::random::Draws;
use crate::train::quantizer::ema::Follow;
use crate::train::quantizer::revival::CodeUse;
use crate::train::trainer::finite::RecentSkips;
use crate::train::trainer::state::{Counters, FORMAT, Lengths, SNAPSHOT, State, WatchState};

/// What one step did.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// The whole loss.
    pub loss: f64,
    /// The reconstruction's part.
    pub reconstruction: f64,
    /// LPIPS, weighted; None without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub perceptual: Option<f64>,
    /// The commitment's part; 0 before the codebook starts and where the rule has none.
    pub commitment: f64,
    /// The part of the codes that learn by gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_loss: Option<f64>,
    /// The part of the entropies (LFQ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy_loss: Option<f64>,
    /// The adversarial part; None before the discriminator starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adversarial: Option<AdversarialReport>,
    /// PSNR of the batch before the update, dB, unclamped.
    pub psnr: f64,
    /// Of this update.
    pub learning_rate: f64,
    /// Norm of the whole gradient before clipping.
    pub gradient_norm: f64,
    /// Root mean square length of the latents: a growing one is a warning.
    pub latent_norm: f64,
    /// Codes revived behind this step.
    pub revived: usize,
    /// The loss or a gradient was not finite and nothing was changed.
    pub skipped: bool,
}

/// What one step did about the discriminator.
#[derive(Debug, Clone, Serialize)]
pub struct AdversarialReport {
    /// The generator's loss, unweighted; 0 while the discriminator learns alone.
    pub loss: f64,
    /// Its weight: adaptive, ramp and trust together.
    pub weight: f64,
    /// What falls of PSNR have left of the weight, 1 down to 0.
    pub trust: f64,
    /// The discriminator's loss, LeCAM included.
    pub discriminator: f64,
    /// Norm of its gradient before clipping.
    pub discriminator_norm: f64,
    /// Its loss or gradient was not finite, or the whole step was skipped.
    pub discriminator_skipped: bool,
}

/// The network, its optimizer and its quantizer between two steps.
pub struct Trainer {
    pub(super) settings: TrainSettings,
    pub(super) parameters: Parameters,
    pub(super) vars: BTreeMap<String, Var>,
    pub(super) network: Autoencoder,
    pub(super) optimizer: AdamW,
    pub(super) average: Option<WeightAverage>,
    pub(super) quantizer: Box<dyn Quantizer>,
    /// K, of each residual level.
    pub(super) codes: usize,
    /// Residual levels.
    pub(super) depth: usize,
    /// D.
    pub(super) dim: usize,
    pub(super) code_use: CodeUse,
    /// None without a discriminator.
    pub(super) adversary: Option<Adversary>,
    /// None without LPIPS.
    pub(super) perceptual: Option<PerceptualLoss>,
    /// What the looks remember.
    pub(super) watch: WatchState,
    /// Weights to roll back to; has no snapshot of its own.
    pub(super) snapshot: Option<Box<State>>,
    pub(super) table: [f32; 256],
    /// Black and white.
    pub(super) limits: (f64, f64),
    /// Difference of white and black.
    pub(super) peak: f64,
    pub(super) channels: usize,
    pub(super) side: usize,
    pub(super) step: usize,
    pub(super) skipped: u64,
    pub(super) recent_skips: RecentSkips,
    pub(super) revived: u64,
    pub(super) variance: f64,
}

impl Trainer {
    /// A fresh start. `variance` is that of the data in the units of the network.
    pub fn new(model: &ModelConfig, settings: &TrainSettings, variance: f64) -> Result<Trainer> {
        let parameters = Parameters::new();
        let network = build(model, parameters.builder(DType::F32, &Device::Cpu))?;
        let quantizer = quantizer::build(model, settings, &parameters)?;
        parameters.initialize(settings.seed)?;
        let (low, high) = pixels::limits(model.pixels.input);
        let [factor, _] = model.factor();
        let step_rows = settings.batch_size * (side(model)? / factor).pow(2);
        let QuantizerConfig { codes, dim, depth, .. } = model.quantizer;
        let counts = CodeCounts::of_levels(depth, codes);
        let mut code_use =
            CodeUse::new(counts, depth * step_rows, settings.steps, &settings.codebook);
        if !quantizer.wants_start() {
            code_use.start(0);
        }
        let average = (settings.weight_average > 0.0).then(|| {
            Ok::<_, Error>(WeightAverage::new(settings.weight_average, parameters.values()?))
        });
        let adversary = settings.adversarial.as_ref().map(|adversarial| {
            Adversary::new(adversarial, model.pixels.channels, settings.steps, settings.seed)
        });
        Ok(Trainer {
            settings: settings.clone(),
            vars: parameters.vars(),
            parameters,
            network,
            optimizer: AdamW::new(settings.betas, settings.epsilon, settings.weight_decay),
            average: average.transpose()?,
            quantizer,
            codes,
            depth,
            dim,
            code_use,
            adversary: adversary.transpose()?,
            perceptual: None,
            watch: WatchState::default(),
            snapshot: None,
            table: model.pixels.input.table(),
            limits: (low, high),
            peak: high - low,
            channels: model.pixels.channels,
            side: side(model)?,
            step: 0,
            skipped: 0,
            recent_skips: RecentSkips::default(),
            revived: 0,
            variance,
        })
    }

    /// Adds LPIPS to the loss, where there is one.
    pub fn set_perceptual(&mut self, loss: Option<PerceptualLoss>) {
        self.perceptual = loss;
    }

    /// Steps done.
    pub fn step_count(&self) -> usize {
        self.step
    }

    /// Trainable scalars.
    pub fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// K, the number of codes of each residual level.
    pub fn codes(&self) -> usize {
        self.codes
    }

    /// How the codes learn.
    pub fn method(&self) -> Method {
        self.settings.codebook.method
    }

    /// D, the length of a latent.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Latents a code that k-means asks for.
    pub fn kmeans_rows_per_code(&self) -> usize {
        self.settings.codebook.kmeans_rows_per_code
    }

    /// Shapes of the model's weights by name, its codebook's among them.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        let own = self.vars.iter().filter(|(name, _)| !name.starts_with(PREFIX));
        let mut shapes: BTreeMap<_, _> =
            own.map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
        shapes.insert(CODEBOOK_NAME.into(), vec![self.depth * self.codes, self.dim]);
        shapes
    }

    /// All trained weights by name, flat, the quantizer's among them.
    pub fn weights(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        self.parameters.values()
    }

    /// Begins with these weights instead of random ones.
    pub fn begin_with(&mut self, weights: &BTreeMap<String, Vec<f32>>) -> Result<()> {
        self.parameters.set_values(weights)?;
        if let Some(average) = &mut self.average {
            average.values = weights.clone();
        }
        Ok(())
    }

    /// Steps skipped since something was not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Why nothing is learned any more behind the step just done; None where it is.
    pub fn stops(&self) -> Option<String> {
        self.recent_skips.stops(self.step, self.settings.steps)
    }

    /// Updates of the discriminator skipped since something was not finite.
    pub fn discriminator_skipped(&self) -> u64 {
        self.adversary.as_ref().map_or(0, Adversary::skipped)
    }

    /// Codes revived so far.
    pub fn revived(&self) -> u64 {
        self.revived
    }

    /// Whether the codes have to be started before the next step.
    pub fn wants_codebook(&self) -> bool {
        !self.code_use.started() && self.step >= self.settings.codebook_starts_at()
    }

    /// Uses of the codes since the last call; None, and nothing is taken, where they are of too
    /// few steps to speak for the data set.
    pub fn take_window(&mut self) -> Option<CodeCounts> {
        self.code_use.take_window()
    }

    /// Share of the codes used lately.
    pub fn recent_usage(&self) -> f64 {
        self.code_use.recent_usage()
    }

    /// Bytes `[N, H, W, C]` as the network sees them.
    pub fn images(&self, bytes: &[u8]) -> Result<Tensor> {
        pixels::to_tensor(bytes, self.channels, self.side, &self.table)
    }

    /// Latents of images as rows, without gradients; given up where `stop` says so.
    pub fn latent_rows(&self, bytes: &[u8], stop: Stop<'_>) -> Result<Vec<f32>> {
        rows_of(&encode_until(&self.network, &self.images(bytes)?, stop)?)
    }

    /// The codes of images as the quantizer chooses them now, `[N h w]`; of residual levels one
    /// behind the other, code k of level l as `l * K + k`.
    pub fn tokens(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        let z = encode_plain(&self.network, &self.images(bytes)?)?;
        Ok(self.quantizer.forward(&z)?.indices)
    }

    /// Gives the codes their first places, by the latents `rows`; a step has `step_rows` of them.
    ///
    /// # Errors
    /// That of `follow`: then nothing is started, and the next call does the same again.
    pub fn start_codebook(
        &mut self,
        rows: &[f32],
        step_rows: usize,
        follow: &mut Follow<'_>,
    ) -> Result<()> {
        let mut draws = Draws::new(self.settings.seed, "k-means", self.step as u64);
        let moved = self.quantizer.start(rows, step_rows, &mut draws, follow)?;
        self.code_use.start(self.step as u64);
        self.settle(&moved)
    }

    /// Puts all codes on `points`, `[K, D]` for each residual level: the codebook of another model,
    /// or any.
    ///
    /// # Errors
    /// Where they are of another size, or the codes have no places of their own (`simvq`, rules
    /// without codebook).
    pub fn place_codes(&mut self, points: &[f32]) -> Result<()> {
        let codes = self.depth * self.codes;
        if points.len() != codes * self.dim {
            return Err(Error::invalid(format!(
                "{} numbers for {codes} codes of length {}",
                points.len(),
                self.dim
            )));
        }
        let moved = self.quantizer.place(&(0..codes).collect::<Vec<_>>(), points)?;
        if !self.code_use.started() {
            self.code_use.start(self.step as u64);
        }
        self.settle(&moved)
    }

    /// Values were set, not learned: moments and averages of them begin anew.
    fn settle(&mut self, moved: &[Moved]) -> Result<()> {
        for name in moved.iter().map(|m| m.name).collect::<BTreeSet<_>>() {
            let Some(var) = self.vars.get(name) else { continue };
            let now = flat(var)?;
            for moved in moved.iter().filter(|m| m.name == name) {
                self.optimizer.forget(moved);
                if let Some(average) = &mut self.average {
                    average.take_over(moved, &now);
                }
            }
        }
        Ok(())
    }

    /// What the codes learn, then the revival that is due. Returns how many codes were revived.
    pub(super) fn update_codes(&mut self, quantized: &Quantized) -> Result<usize> {
        self.quantizer.update(&quantized.rows, &quantized.indices);
        self.code_use.note(&quantized.indices);
        if !self.quantizer.places_codes() {
            return Ok(0);
        }
        let now = self.step as u64 + 1;
        let dead = self.code_use.due(now);
        if dead.is_empty() {
            return Ok(0);
        }
        let (revived, points) = self.new_places(&dead, quantized, now);
        let moved = self.quantizer.place(&revived, &points)?;
        self.settle(&moved)?;
        self.code_use.revived(&revived);
        self.revived += revived.len() as u64;
        Ok(revived.len())
    }

    /// Which of the dead codes get a new place behind step `now`, and where: each on a latent of
    /// its own level. Where a batch has fewer of these than there are dead codes, the rest waits.
    fn new_places(
        &self,
        dead: &[usize],
        quantized: &Quantized,
        now: u64,
    ) -> (Vec<usize>, Vec<f32>) {
        let mut draws = Draws::new(self.settings.seed, "revival", now);
        let (mut revived, mut points) = (Vec::new(), Vec::new());
        for level in 0..self.depth {
            let own = self.codes * level..self.codes * (level + 1);
            let dead: Vec<usize> = dead.iter().copied().filter(|k| own.contains(k)).collect();
            let rows: Vec<usize> = (0..quantized.indices.len())
                .filter(|row| own.contains(&(quantized.indices[*row] as usize)))
                .collect();
            let places = draws.distinct(dead.len(), rows.len());
            for (code, place) in dead.into_iter().zip(places) {
                revived.push(code);
                points.extend_from_slice(&quantized.rows[rows[place] * self.dim..][..self.dim]);
            }
        }
        (revived, points)
    }

    /// The weights to save, with the codebook where the model has one: the averages where there
    /// are any.
    pub fn final_weights(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        let mut weights = match &self.average {
            Some(average) => average.values.clone(),
            None => self.parameters.values()?,
        };
        let codebook = self.quantizer.codebook(&weights)?;
        weights.retain(|name, _| !name.starts_with(PREFIX));
        weights.extend(codebook.map(|codes| (CODEBOOK_NAME.to_string(), codes)));
        Ok(weights)
    }

    /// The codes as they are now, `[K, D]` for each residual level, not those of the averaged weights; None for rules
    /// without codebook.
    pub fn codebook(&self) -> Result<Option<Vec<f32>>> {
        let own = self.vars.iter().filter(|(name, _)| name.starts_with(PREFIX));
        let own = own.map(|(name, var)| Ok((name.clone(), flat(var)?)));
        self.quantizer.codebook(&own.collect::<Result<_>>()?)
    }

    /// Everything, for a checkpoint.
    pub fn state(&self, recipe: &serde_json::Value, record: Lengths) -> Result<State> {
        let mut floats = BTreeMap::new();
        let mut put = |prefix: &str, values: &BTreeMap<String, Vec<f32>>| {
            for (name, values) in values {
                floats.insert(format!("{prefix}{name}"), values.clone());
            }
        };
        put("weights.", &self.parameters.values()?);
        put("moment1.", &self.optimizer.moment1);
        put("moment2.", &self.optimizer.moment2);
        if let Some(average) = &self.average {
            put("average.", &average.values);
        }
        put("codebook.", &self.quantizer.state());
        if let Some(adversary) = &self.adversary {
            floats.extend(adversary.floats()?);
        }
        let mut state = State {
            counters: Counters {
                format: FORMAT.into(),
                recipe: recipe.clone(),
                step: self.step,
                updates: self.optimizer.updates,
                average_updates: self.average.as_ref().map_or(0, |a| a.updates),
                skipped: self.skipped,
                recent_skips: self.recent_skips.steps().to_vec(),
                revived: self.revived,
                variance_bits: self.variance.to_bits(),
                revival: self.code_use.schedule(),
                adversary: self.adversary.as_ref().map(Adversary::counters),
                watch: self.watch.clone(),
                snapshot: self.snapshot.as_ref().map(|s| Box::new(s.counters.clone())),
                record,
            },
            floats,
            integers: self.code_use.state(),
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
        self.optimizer.moment1 = state.part("moment1.");
        self.optimizer.moment2 = state.part("moment2.");
        self.optimizer.updates = counters.updates;
        if let Some(average) = &mut self.average {
            average.values = state.part("average.");
            average.updates = counters.average_updates;
        }
        if let (Some(adversary), Some(counters)) = (&mut self.adversary, &counters.adversary) {
            adversary.restore(counters, state.counters.step, |prefix| state.part(prefix))?;
        }
        self.watch = counters.watch.clone();
        self.snapshot = counters.snapshot.as_ref().map(|counters| {
            let (floats, integers) = state.nested(SNAPSHOT);
            Box::new(State { counters: (**counters).clone(), floats, integers })
        });
        self.quantizer.restore(state.part("codebook."))?;
        self.code_use.restore(counters.revival, &state.integers)?;
        self.step = counters.step;
        self.skipped = counters.skipped;
        self.recent_skips = RecentSkips::of(counters.recent_skips.clone());
        self.revived = counters.revived;
        self.variance = f64::from_bits(counters.variance_bits);
        Ok(())
    }
}

/// Root mean square length of rows of `dim` numbers.
pub(super) fn mean_length(rows: &[f32], dim: usize) -> f64 {
    let sum: f64 = rows.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    (sum / (rows.len() / dim).max(1) as f64).sqrt()
}
