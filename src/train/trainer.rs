//! Owns one step of training and everything that a step changes. Must not know: files, threads,
//! where batches come from.

use std::collections::{BTreeMap, BTreeSet};

use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use super::CODEBOOK_NAME;
use super::metrics::{CodeCounts, psnr_of_mse};
use super::network::{Autoencoder, build};
use super::optimizer::{AdamW, WeightAverage, clip, cosine, global_norm, gradients};
use super::parameters::{Parameters, flat};
use super::pixels;
use super::quantizer::{self, Moved, PREFIX, Quantized, Quantizer, rows_of};
use super::random::Draws;
use super::record::Lengths;
use super::revival::CodeUse;
use super::settings::{TrainSettings, side};
use super::state::{Counters, FORMAT, State};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;

/// What one step did.
#[derive(Debug, Clone, Serialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: usize,
    /// The whole loss.
    pub loss: f64,
    /// The reconstruction's part.
    pub reconstruction: f64,
    /// The commitment's part; 0 before the codebook starts and where the rule has none.
    pub commitment: f64,
    /// The part of the codes that learn by gradients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code_loss: Option<f64>,
    /// The part of the entropies (LFQ).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entropy_loss: Option<f64>,
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

/// The network, its optimizer and its quantizer between two steps.
pub struct Trainer {
    settings: TrainSettings,
    parameters: Parameters,
    vars: BTreeMap<String, Var>,
    network: Box<dyn Autoencoder>,
    optimizer: AdamW,
    average: Option<WeightAverage>,
    quantizer: Box<dyn Quantizer>,
    /// K.
    codes: usize,
    /// D.
    dim: usize,
    code_use: CodeUse,
    table: [f32; 256],
    /// Difference of white and black.
    peak: f64,
    channels: usize,
    side: usize,
    step: usize,
    skipped: u64,
    revived: u64,
    variance: f64,
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
        let (codes, dim) = (model.quantizer.codes, model.quantizer.dim);
        let mut code_use = CodeUse::new(codes, step_rows, settings.steps, &settings.codebook);
        if !quantizer.wants_start() {
            code_use.start(0);
        }
        let average = (settings.weight_average > 0.0).then(|| {
            Ok::<_, Error>(WeightAverage::new(settings.weight_average, parameters.values()?))
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
            dim,
            code_use,
            table: model.pixels.input.table(),
            peak: high - low,
            channels: model.pixels.channels,
            side: side(model)?,
            step: 0,
            skipped: 0,
            revived: 0,
            variance,
        })
    }

    /// Steps done.
    pub fn step_count(&self) -> usize {
        self.step
    }

    /// Trainable scalars.
    pub fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// K, the number of codes.
    pub fn codes(&self) -> usize {
        self.codes
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
        shapes.insert(CODEBOOK_NAME.into(), vec![self.codes, self.dim]);
        shapes
    }

    /// Steps skipped since something was not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
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

    /// Latents of images as rows, without gradients.
    pub fn latent_rows(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        rows_of(&self.network.encode(&self.images(bytes)?)?)
    }

    /// The codes of images as the quantizer chooses them now, `[N h w]`.
    pub fn tokens(&self, bytes: &[u8]) -> Result<Vec<u32>> {
        Ok(self.quantizer.forward(&self.network.encode(&self.images(bytes)?)?)?.indices)
    }

    /// Gives the codes their first places, by the latents `rows`; a step has `step_rows` of them.
    pub fn start_codebook(&mut self, rows: &[f32], step_rows: usize) -> Result<()> {
        let mut draws = Draws::new(self.settings.seed, "k-means", self.step as u64);
        let moved = self.quantizer.start(rows, step_rows, &mut draws)?;
        self.code_use.start(self.step as u64);
        self.settle(&moved)
    }

    /// Puts all codes on `points`, `[K, D]`: the codebook of another model, or any.
    ///
    /// # Errors
    /// Where they are of another size, or the codes have no places of their own (`simvq`, rules
    /// without codebook).
    pub fn place_codes(&mut self, points: &[f32]) -> Result<()> {
        if points.len() != self.codes * self.dim {
            return Err(Error::invalid(format!(
                "{} numbers for {} codes of length {}",
                points.len(),
                self.codes,
                self.dim
            )));
        }
        let moved = self.quantizer.place(&(0..self.codes).collect::<Vec<_>>(), points)?;
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

    /// The whole way of a batch: the loss of its reconstruction, one update of the weights, then
    /// one of the codes.
    pub fn step(&mut self, bytes: &[u8]) -> Result<StepReport> {
        let x = self.images(bytes)?;
        let z = self.network.encode(&x)?;
        let latent_norm = mean_length(&rows_of(&z)?, self.dim);
        // Latents pass as they are until the codes have places.
        let started = self.code_use.started();
        let quantized = started.then(|| self.quantizer.forward(&z)).transpose()?;
        let latents = quantized.as_ref().map_or(&z, |q| &q.latents);
        let reconstruction = self.network.decode(latents)?;
        let loss = self.settings.loss.value(&x, &reconstruction, self.variance)?;
        let mse = super::metrics::mse(&flat(&x)?, &flat(&reconstruction)?);
        let whole = match &quantized {
            Some(quantized) => quantized.losses.added_to(&loss)?,
            None => loss.clone(),
        };
        let part = |of: fn(&quantizer::Losses) -> &Option<Tensor>| {
            quantized.as_ref().and_then(|q| of(&q.losses).as_ref()).map(scalar).transpose()
        };
        let mut store = whole.backward()?;
        let mut gradients = gradients(&mut store, &self.vars)?;
        drop(store);
        let gradient_norm = match self.settings.clip_norm {
            0.0 => global_norm(&gradients),
            limit => clip(&mut gradients, limit),
        };
        let mut report = StepReport {
            step: self.step + 1,
            loss: scalar(&whole)?,
            reconstruction: scalar(&loss)?,
            commitment: part(|l| &l.commitment)?.unwrap_or(0.0),
            code_loss: part(|l| &l.codes)?,
            entropy_loss: part(|l| &l.entropy)?,
            psnr: psnr_of_mse(mse.max(1e-12), self.peak),
            learning_rate: self.learning_rate(),
            gradient_norm,
            latent_norm,
            revived: 0,
            skipped: false,
        };
        if report.loss.is_finite() && gradient_norm.is_finite() {
            self.optimizer.step(&self.vars, &gradients, report.learning_rate)?;
            if let Some(average) = &mut self.average {
                average.update(&self.vars)?;
            }
            if let Some(quantized) = &quantized {
                report.revived = self.update_codes(quantized)?;
            }
        } else {
            report.skipped = true;
            self.skipped += 1;
        }
        self.step += 1;
        Ok(report)
    }

    fn learning_rate(&self) -> f64 {
        let s = &self.settings;
        cosine(self.step, s.steps, s.warm_up_share, s.learning_rate, s.learning_rate_floor)
    }

    /// What the codes learn, then the revival that is due. Returns how many codes were revived.
    fn update_codes(&mut self, quantized: &Quantized) -> Result<usize> {
        self.quantizer.update(quantized);
        self.code_use.note(&quantized.indices);
        if !self.quantizer.places_codes() {
            return Ok(0);
        }
        let now = self.step as u64 + 1;
        let mut dead = self.code_use.due(now);
        if dead.is_empty() {
            return Ok(0);
        }
        // Where a batch has fewer latents than there are dead codes, the rest waits.
        let mut draws = Draws::new(self.settings.seed, "revival", now);
        let places = draws.distinct(dead.len(), quantized.indices.len());
        dead.truncate(places.len());
        let point = |row: &usize| &quantized.rows[row * self.dim..][..self.dim];
        let points: Vec<f32> = places.iter().flat_map(point).copied().collect();
        let moved = self.quantizer.place(&dead, &points)?;
        self.settle(&moved)?;
        self.code_use.revived(&dead);
        self.revived += dead.len() as u64;
        Ok(dead.len())
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

    /// The codes as they are now, `[K, D]`, not those of the averaged weights; None for rules
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
        Ok(State {
            counters: Counters {
                format: FORMAT.into(),
                recipe: recipe.clone(),
                step: self.step,
                updates: self.optimizer.updates,
                average_updates: self.average.as_ref().map_or(0, |a| a.updates),
                skipped: self.skipped,
                revived: self.revived,
                variance_bits: self.variance.to_bits(),
                revival: self.code_use.schedule(),
                record,
            },
            floats,
            integers: self.code_use.state(),
        })
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
        self.quantizer.restore(state.part("codebook."))?;
        self.code_use.restore(counters.revival, &state.integers)?;
        self.step = counters.step;
        self.skipped = counters.skipped;
        self.revived = counters.revived;
        self.variance = f64::from_bits(counters.variance_bits);
        Ok(())
    }

    /// One forward and backward pass over `images` black images that changes nothing: what the
    /// first estimate of the time is made from.
    pub fn rehearse(&self, images: usize) -> Result<()> {
        let x = self.images(&vec![0; images * self.side * self.side * self.channels])?;
        let y = self.network.decode(&self.network.encode(&x)?)?;
        self.settings.loss.value(&x, &y, 1.0)?.backward()?;
        Ok(())
    }
}

fn scalar(tensor: &Tensor) -> Result<f64> {
    Ok(f64::from(tensor.to_scalar::<f32>()?))
}

/// Root mean square length of rows of `dim` numbers.
pub(super) fn mean_length(rows: &[f32], dim: usize) -> f64 {
    let sum: f64 = rows.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    (sum / (rows.len() / dim).max(1) as f64).sqrt()
}
