//! Owns one step of training and everything that a step changes. Must not know: files, threads,
//! where batches come from.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};
use serde::Serialize;

use super::codebook::{Averages, Codebook, RevivalRule, RevivalSchedule, lookup, nearest, to_rows};
use super::estimator::commitment;
use super::metrics::{CodeCounts, psnr_of_mse};
use super::network::{Autoencoder, build};
use super::optimizer::{AdamW, WeightAverage, clip, cosine, global_norm, gradients};
use super::parameters::{Parameters, flat};
use super::pixels;
use super::random::Draws;
use super::record::Lengths;
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
    /// The commitment's part; 0 before the codebook starts.
    pub commitment: f64,
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

/// The network, its optimizer and its codebook between two steps.
pub struct Trainer {
    settings: TrainSettings,
    parameters: Parameters,
    vars: BTreeMap<String, Var>,
    network: Box<dyn Autoencoder>,
    optimizer: AdamW,
    average: Option<WeightAverage>,
    codebook: Codebook,
    /// None until k-means has placed the codes.
    revival: Option<RevivalSchedule>,
    /// Codes used since the last line of the record.
    window: CodeCounts,
    table: [f32; 256],
    /// Difference of white and black.
    peak: f64,
    channels: usize,
    side: usize,
    /// Steps without use that make a code dead.
    dead_after: u32,
    step: usize,
    skipped: u64,
    revived: u64,
    variance: f64,
}

/// Visits that a code of average frequency should have had before it is called dead.
const VISITS: usize = 8;

/// The latents of a batch and their codes.
struct Quantized {
    rows: Vec<f32>,
    indices: Vec<u32>,
}

impl Trainer {
    /// A fresh start. `variance` is that of the data in the units of the network.
    pub fn new(model: &ModelConfig, settings: &TrainSettings, variance: f64) -> Result<Trainer> {
        let parameters = Parameters::new();
        let network = build(model, parameters.builder(DType::F32, &Device::Cpu))?;
        parameters.initialize(settings.seed)?;
        let (low, high) = pixels::limits(model.pixels.input);
        let c = &settings.codebook;
        let averages = Averages { decay: c.decay, epsilon: c.epsilon };
        let [factor, _] = model.factor();
        let step_rows = settings.batch_size * (side(model)? / factor).pow(2);
        let visits = (VISITS * model.quantizer.codes).div_ceil(step_rows.max(1));
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
            codebook: Codebook::new(model.quantizer.codes, model.quantizer.dim, averages),
            revival: None,
            window: CodeCounts::new(model.quantizer.codes),
            table: model.pixels.input.table(),
            peak: high - low,
            channels: model.pixels.channels,
            side: side(model)?,
            dead_after: visits.max(c.revive_every) as u32,
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

    /// Latents a code that k-means asks for.
    pub fn kmeans_rows_per_code(&self) -> usize {
        self.settings.codebook.kmeans_rows_per_code
    }

    /// Shapes of the weights by name.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.vars.iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect()
    }

    /// Steps skipped since something was not finite.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// Codes revived so far.
    pub fn revived(&self) -> u64 {
        self.revived
    }

    /// Whether k-means has to place the codes before the next step.
    pub fn wants_codebook(&self) -> bool {
        self.revival.is_none() && self.step >= self.settings.codebook_starts_at()
    }

    /// Codes used since the last call.
    pub fn take_window(&mut self) -> CodeCounts {
        let fresh = CodeCounts::new(self.window.counts.len());
        std::mem::replace(&mut self.window, fresh)
    }

    /// Bytes `[N, H, W, C]` as the network sees them.
    pub fn images(&self, bytes: &[u8]) -> Result<Tensor> {
        pixels::to_tensor(bytes, self.channels, self.side, &self.table)
    }

    /// Latents of images as rows, without gradients.
    pub fn latent_rows(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        let z = self.network.encode(&self.images(bytes)?)?;
        self.rows_of(&z)
    }

    fn rows_of(&self, z: &Tensor) -> Result<Vec<f32>> {
        let (_, dim, height, width) = z.dims4()?;
        Ok(to_rows(&flat(z)?, dim, height * width))
    }

    /// Places the codes by k-means over `rows`; a step has `step_rows` of them.
    pub fn start_codebook(&mut self, rows: &[f32], step_rows: usize) {
        let c = &self.settings.codebook;
        let mut draws = Draws::new(self.settings.seed, "k-means", self.step as u64);
        self.codebook.start(rows, step_rows, c.kmeans_steps, &mut draws);
        self.revival = Some(RevivalSchedule::new(self.revival_rule(), self.step as u64));
    }

    fn revival_rule(&self) -> RevivalRule {
        let c = &self.settings.codebook;
        RevivalRule {
            every: c.revive_every as u64,
            until: (c.revive_until * self.settings.steps as f64) as u64,
            rearm: c.rearm_usage,
        }
    }

    /// The whole way of a batch: the loss of its reconstruction, one update of the weights, then
    /// one of the codebook.
    pub fn step(&mut self, bytes: &[u8]) -> Result<StepReport> {
        let x = self.images(bytes)?;
        let z = self.network.encode(&x)?;
        let rows = self.rows_of(&z)?;
        let latent_norm = mean_length(&rows, self.codebook.dim);
        let (latents, commitment, quantized) = self.quantize(z, rows)?;
        let reconstruction = self.network.decode(&latents)?;
        let loss = self.settings.loss.value(&x, &reconstruction, self.variance)?;
        let mse = super::metrics::mse(&flat(&x)?, &flat(&reconstruction)?);
        let whole = match &commitment {
            Some(commitment) => (&loss + commitment)?,
            None => loss.clone(),
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
            commitment: commitment.as_ref().map_or(Ok(0.0), scalar)?,
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
            report.revived = self.update_codebook(quantized);
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

    /// What the decoder gets, and the commitment; latents as they are before the codebook starts.
    fn quantize(
        &self,
        z: Tensor,
        rows: Vec<f32>,
    ) -> Result<(Tensor, Option<Tensor>, Option<Quantized>)> {
        if self.revival.is_none() {
            return Ok((z, None, None));
        }
        let (_, dim, height, width) = z.dims4()?;
        let (indices, _) = nearest(&rows, &self.codebook.embedding, dim);
        let codes = lookup(&self.codebook.embedding, dim, &indices, height * width);
        let codes = Tensor::from_vec(codes, z.shape(), z.device())?;
        let through = self.settings.estimator.pass(&z, &codes)?;
        let commitment = commitment(&z, &codes, self.settings.commitment)?;
        Ok((through, Some(commitment), Some(Quantized { rows, indices })))
    }

    /// Moving averages, then the revival that is due. Returns how many codes were revived.
    fn update_codebook(&mut self, quantized: Option<Quantized>) -> usize {
        let rule = self.revival_rule();
        let (Some(Quantized { rows, indices }), Some(schedule)) = (quantized, &mut self.revival)
        else {
            return 0;
        };
        self.codebook.update(&rows, &indices);
        self.window.add(&indices);
        let now = self.step as u64 + 1;
        let recent = self.codebook.recent_usage(self.dead_after);
        if !schedule.due(rule, now, recent) {
            return 0;
        }
        let mut draws = Draws::new(self.settings.seed, "revival", now);
        let revived = self.codebook.revive(&rows, self.dead_after, &mut draws);
        self.revived += revived as u64;
        revived
    }

    /// The weights to save: the averages where there are any.
    pub fn final_weights(&self) -> Result<BTreeMap<String, Vec<f32>>> {
        match &self.average {
            Some(average) => Ok(average.values.clone()),
            None => self.parameters.values(),
        }
    }

    /// The codebook.
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
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
        let c = &self.codebook;
        for (name, values) in [("embedding", &c.embedding), ("count", &c.count), ("sum", &c.sum)] {
            floats.insert(format!("codebook.{name}"), values.clone());
        }
        let integers = BTreeMap::from([
            ("codebook.idle".to_string(), c.idle.iter().map(|i| i64::from(*i)).collect()),
            ("codebook.window".into(), self.window.counts.iter().map(|n| *n as i64).collect()),
        ]);
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
                revival: self.revival,
                record,
            },
            floats,
            integers,
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
        let mut book = state.part("codebook.");
        let misfit = || Error::invalid("the checkpoint's codebook is of another size");
        for (name, to) in [
            ("embedding", &mut self.codebook.embedding),
            ("count", &mut self.codebook.count),
            ("sum", &mut self.codebook.sum),
        ] {
            *to = book.remove(name).filter(|v| v.len() == to.len()).ok_or_else(misfit)?;
        }
        let integers = |name: &str, len: usize| {
            state.integers.get(name).filter(|v| v.len() == len).ok_or_else(misfit)
        };
        let codes = self.codebook.codes();
        self.codebook.idle = integers("codebook.idle", codes)?.iter().map(|i| *i as u32).collect();
        self.window.counts =
            integers("codebook.window", codes)?.iter().map(|n| *n as u64).collect();
        self.revival = counters.revival;
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

fn mean_length(rows: &[f32], dim: usize) -> f64 {
    let sum: f64 = rows.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    (sum / (rows.len() / dim).max(1) as f64).sqrt()
}
