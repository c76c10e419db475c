//! Owns the estimate of what a training takes, time and memory, before its first step. Must not
//! know: who is told.

use std::time::{Duration, Instant};

use candle_core::{DType, Tensor, Var};

use crate::error::Result;
use crate::kernels::pooled_bytes;
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::model::tf32::Tf32;
use crate::train::losses::discriminator::at_image;
use crate::train::network::checkpointing::{Sums, Tape, graph_bytes};
use crate::train::quantizer::nearest::search;
use crate::train::settings::codebook::{CodebookMethod, CodebookStart, KMEANS_BATCHES};
use crate::train::trainer::timing::Timing;
use crate::train::trainer::trainer::Trainer;
use crate::util::resident_memory::resident_bytes;

/// What is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// Those that are left.
    pub steps: usize,
    /// Until the end of the training.
    pub remaining: Duration,
    /// Most memory that the process will take, in bytes, without the images read ahead.
    pub memory_bytes: u64,
    /// Most of a GPU's memory, in bytes; None where the processor computes.
    pub device_bytes: Option<u64>,
    /// What the parts take.
    pub(crate) timing: Timing,
}

/// What a graph's backward pass needs on top of the graph: the gradients on their way.
const GRADIENTS_IN_FLIGHT: f64 = 0.25;

/// What a process grows by beside its training: code and tables that come into use after its first
/// step. Measured, see `benches/results/2026-11-train.md`.
const GROWTH: u64 = 9 << 20;

/// Time and bytes of a rehearsal.
struct Rehearsed {
    /// Of the network's way forward alone.
    forward: Duration,
    /// Of the whole step.
    plain: Duration,
    adversarial: Duration,
    /// Per image.
    bytes: f64,
}

/// Bytes of what a training holds beside the graph of a step.
struct Held {
    /// As much as their gradients.
    weights: u64,
    averages: u64,
    codes: u64,
    /// Of LPIPS.
    frozen: u64,
    /// Those that aren't there yet.
    moments: u64,
    /// All that a checkpoint has.
    state: u64,
    /// One to roll back to.
    snapshot: u64,
}

impl Held {
    /// A checkpoint on its way to the disk.
    fn saved(&self) -> u64 {
        self.state + self.snapshot
    }

    /// The larger of a step, whose graph has `graph` bytes, with its gradients, and of a checkpoint.
    fn at_once(&self, graph: u64) -> u64 {
        (graph + self.weights).max(self.saved())
    }

    /// On a GPU: weights, gradients, both moments, averages, codes, LPIPS, and the graph.
    fn on_device(&self, graph: u64) -> u64 {
        4 * self.weights + self.averages + self.codes + self.frozen + graph
    }
}

impl Trainer {
    /// Rehearses on a few black images, which changes nothing, and says what the rest takes with
    /// so many images to train on and held-out ones: the steps, the start of the codebook, the
    /// evaluations of the probe and of the result.
    ///
    /// # Errors
    /// What the rehearsed step fails of: images that the network can't take.
    pub fn cost(&mut self, model: &ModelConfig, trained: usize, held_out: usize) -> Result<Cost> {
        let images = self.rehearsed(model);
        let _tf32 = Tf32::set(self.settings.tf32);
        let (resident, pooled) = (resident_bytes().unwrap_or(0), pooled_bytes());
        let found = self.rehearse(images)?;
        let s = &self.settings;
        let step = found.bytes * s.images_at_once() as f64;
        let kernels = pooled_bytes() - pooled;
        let (held, step) = (self.held(), step as u64);
        let (here, device_bytes) = match s.device.is_cpu() {
            true => (held.moments + held.snapshot + held.at_once(step), None),
            false => (held.snapshot + held.saved(), Some(held.on_device(step))),
        };
        let memory = resident + GROWTH + kernels + here;
        let timing = self.timing(model, &found, images, (trained, held_out))?;
        let done = self.progress.step;
        Ok(Cost {
            steps: s.steps - done,
            remaining: timing.remaining(s, done, self.codes.usage.started()),
            memory_bytes: memory,
            device_bytes,
            timing,
        })
    }

    /// Images of a rehearsal: enough that each thread gets the tiles that kernels work on together.
    fn rehearsed(&self, model: &ModelConfig) -> usize {
        const TILES: usize = 64;
        const TILE: usize = 4;
        let [factor, _] = model.factor();
        let tiles = (self.pixels.side / factor).div_ceil(TILE).pow(2);
        let each = TILES.div_ceil(tiles.max(1));
        (each * rayon::current_num_threads()).min(self.settings.images_at_once())
    }

    /// What the parts of the training take where the rehearsal of `images` took what was `found`.
    fn timing(
        &self,
        model: &ModelConfig,
        found: &Rehearsed,
        images: usize,
        (trained, held_out): (usize, usize),
    ) -> Result<Timing> {
        let s = &self.settings;
        let [factor, _] = model.factor();
        let image_rows = (self.pixels.side / factor).pow(2);
        let search = self.search(model)?;
        let share = s.batch_size as f64 / images as f64;
        let wanted = self.codes.count * s.codebook.kmeans_rows_per_code;
        let rows = wanted.min(KMEANS_BATCHES * s.batch_size * image_rows) as f64;
        let mut start = found.forward.mul_f64(rows / (2 * images * image_rows) as f64);
        if s.codebook.start == CodebookStart::Kmeans && s.codebook.method != CodebookMethod::Simvq {
            start += search.mul_f64(rows * (s.codebook.kmeans_steps + 1) as f64);
        }
        Ok(Timing {
            step: found.plain.mul_f64(share),
            search: search.mul_f64((s.batch_size * image_rows) as f64),
            adversarial: found.adversarial.mul_f64(share),
            start,
            image: found.forward.div_f64(images as f64) + search.mul_f64(image_rows as f64),
            judged: if held_out == 0 { trained } else { held_out }.min(s.evaluation_images_max),
            probed: trained.min(s.watch.images) + held_out.min(s.watch.images),
        })
    }

    /// Time of the search for the codes of one latent, of all levels together; none where there is
    /// no codebook.
    fn search(&self, model: &ModelConfig) -> Result<Duration> {
        const ROWS_A_THREAD: usize = 64;
        if !matches!(model.quantizer.rule, QuantizerRule::L2 | QuantizerRule::L2Normalised) {
            return Ok(Duration::ZERO);
        }
        let rows = ROWS_A_THREAD * rayon::current_num_threads();
        let zeros =
            |count| Tensor::zeros((count, self.codes.dim), DType::F32, self.settings.device.get());
        let (latents, codes) = (zeros(rows)?, zeros(self.codes.count)?);
        let begun = Instant::now();
        search(&latents, &codes)?;
        Ok(begun.elapsed().mul_f64(self.codes.depth as f64 / rows as f64))
    }

    fn held(&self) -> Held {
        let own = 4 * self.parameters.count() as u64;
        let theirs = 4 * self.adversary.as_ref().map_or(0, |a| a.parameter_count()) as u64;
        let averages = if self.average.is_some() { own } else { 0 };
        let codes = self.codes.depth * self.codes.count;
        let codes = 4 * (2 * codes * self.codes.dim + 3 * codes) as u64;
        let state = 3 * own + averages + 3 * theirs + codes;
        Held {
            weights: own + theirs,
            averages,
            codes,
            frozen: self.perceptual.as_ref().map_or(0, |p| p.bytes()),
            moments: if self.optimizer.updates == 0 { 2 * (own + theirs) } else { 0 },
            state,
            snapshot: if self.adversary.is_some() { state } else { 0 },
        }
    }

    fn rehearse(&mut self, images: usize) -> Result<Rehearsed> {
        let begun = Instant::now();
        let x = self.images(&vec![0; images * self.pixels.image_size()])?;
        let recompute = self.settings.recompute;
        let mut sums = Sums::new(&self.vars);
        let encoder = Tape::record(self.network.encoder_blocks()?, &x, false, recompute)?;
        let blocks = self.network.decoder_blocks()?;
        let decoder = Tape::record(blocks, encoder.output(), true, recompute)?;
        let activation = Var::from_tensor(decoder.output())?;
        let image = self.network.last_layer()?.forward(&activation)?;
        // A GPU is told what to do, and does it later.
        let done = || self.settings.device.get().synchronize();
        done()?;
        let forward = begun.elapsed();
        let mut losses = 0;
        let (_, nll) = at_image(&image, |y| {
            let mut loss = self.settings.loss.value(&x, y, 1.0)?;
            if let Some(perceptual) = &self.perceptual {
                loss = (loss + perceptual.distance(&x, y)?)?;
            }
            losses = graph_bytes(&loss);
            Ok(loss)
        })?;
        let mut store = (&image * nll)?.sum_all()?.backward()?;
        let upstream = match store.remove(&activation) {
            Some(gradient) => gradient,
            None => activation.zeros_like()?,
        };
        let z = encoder.output().zeros_like()?;
        let mut held = graph_bytes(&image);
        let mut most = losses;
        // The second run of each block belongs to the question of bytes, not to that of time.
        done()?;
        let pause = Instant::now();
        for tape in [&encoder, &decoder] {
            let (kept, block) = tape.bytes()?;
            held += kept;
            most = most.max(block);
        }
        done()?;
        let paused = pause.elapsed();
        decoder.backward(upstream, &mut sums)?;
        encoder.backward(z, &mut sums)?;
        done()?;
        let plain = begun.elapsed().saturating_sub(paused);

        let (adversarial, discriminator) = self.rehearse_adversary(&x, &image, &activation)?;
        most = most.max(discriminator);
        let all = held + most;
        let in_flight = if recompute { most } else { all } as f64 * GRADIENTS_IN_FLIGHT;
        let bytes = (all as f64 + in_flight) / images as f64;
        Ok(Rehearsed { forward, plain, adversarial, bytes })
    }

    /// Time of the discriminator's part of a step, and the bytes of its graph.
    fn rehearse_adversary(
        &mut self,
        x: &Tensor,
        image: &Tensor,
        activation: &Tensor,
    ) -> Result<(Duration, u64)> {
        let begun = Instant::now();
        let Some(adversary) = &mut self.adversary else { return Ok((Duration::ZERO, 0)) };
        adversary.begin();
        let last = self.network.last_layer()?;
        let none = image.zeros_like()?;
        adversary.generator_loss(image, &none, (activation, last), 1.0)?;
        let own = adversary.own_loss(x, image)?;
        let bytes = graph_bytes(&own);
        own.backward()?;
        x.device().synchronize()?;
        adversary.undo();
        Ok((begun.elapsed(), bytes))
    }
}
