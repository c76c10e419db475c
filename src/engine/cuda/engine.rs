//! Owns the engine trait on a GPU: batches cut into the program's images, results put together.
//! Decoding is the CPU engine's.

use std::sync::Arc;

use candle_core::Device as Candle;

use super::device::{Device, Loaded, Mark};
use super::program::{Place, Program, Result as Outcome, Work};
use super::weights::DeviceWeights;
use super::{encoder, libraries};
use crate::engine::cpu::CpuEngine;
use crate::engine::device::Precision;
use crate::engine::interface::{CodeGrid, Decoded, Encoded, Engine, PixelBatch, failed};
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::model::opened::Opened;
use crate::model::residual::ResidualQuantizer;
use crate::model::{finite, load_quantizer};
use crate::util::panics;
use crate::util::settings::DEVICE;
use crate::weights::digests::Digests;

/// The canonical encoder on a GPU.
pub struct CudaEngine {
    config: ModelConfig,
    weights: DeviceWeights,
    device: Device,
    loaded: Option<([usize; 2], Loaded)>,
    /// Halved where the device ran out of memory.
    images_max: usize,
    /// For rules that the program leaves to the host.
    quantizer: ResidualQuantizer,
    /// Decodes.
    cpu: CpuEngine,
}

/// One command of a run, measured.
#[derive(Debug, Clone, PartialEq)]
pub struct StageTime {
    /// The layer.
    pub layer: String,
    /// The kernel, or the library.
    pub backend: &'static str,
    /// Of its definition; 0 for what moves memory.
    pub operations: f64,
    /// On the device, for all images of the run.
    pub seconds: f64,
}

impl CudaEngine {
    /// Of an opened model, on GPU `number`.
    ///
    /// # Errors
    /// Missing libraries, no such GPU, a model that doesn't run on one.
    pub fn open(opened: Opened, number: usize, precision: Precision) -> Result<CudaEngine> {
        libraries::require(precision, libraries::Library::is_present)?;
        opened.digests.get()?;
        let Opened { config, weights, digests } = opened;
        encoder::supported(&config)?;
        let quantizer = load_quantizer(&config, &weights.reader().var_builder(&Candle::Cpu))?;
        let tensors = weights.tensors()?;
        let cpu =
            CpuEngine::with_digests(config.clone(), weights, Arc::new(digests), Isa::detect()?)?;
        let device = caught(|| Device::open(number, precision))?;
        let weights = DeviceWeights::new(tensors, precision);
        Ok(CudaEngine {
            config,
            weights,
            device,
            loaded: None,
            images_max: usize::MAX,
            quantizer,
            cpu,
        })
    }

    /// The GPU's name.
    ///
    /// # Errors
    /// Where the driver doesn't tell it.
    pub fn device_name(&self) -> Result<String> {
        self.device.name()
    }

    /// Runs one batch of grey images and measures every command on the device, and the whole run.
    ///
    /// # Errors
    /// A size that the network can't take or the GPU has no room for; what driver and libraries
    /// refuse.
    pub fn profile(&mut self, height: usize, width: usize) -> Result<(Vec<StageTime>, f64)> {
        self.load([height, width])?;
        let (device, Some((_, loaded))) = (&self.device, &mut self.loaded) else {
            return Err(Error::internal("no program is loaded"));
        };
        let pixels = vec![128; loaded.program.images * loaded.program.image_bytes];
        let mut marks: Vec<Mark> = Vec::new();
        device.run(loaded, &pixels, &mut |_| {
            marks.push(device.mark()?);
            Ok(())
        })?;
        device.wait()?;
        let mut times = Vec::new();
        for (command, pair) in loaded.program.commands.iter().zip(marks.windows(2)) {
            let (backend, operations) = match &command.work {
                Work::Launch(launch) => (launch.kernel, 0.0),
                Work::Convolve(convolve) => ("cuDNN", convolve.shape.operations()),
                Work::Gemm(gemm) => {
                    let size = gemm.rows * gemm.columns * gemm.inner * gemm.batch;
                    ("cuBLAS", 2.0 * size as f64)
                }
            };
            let seconds = pair[0].seconds_to(&pair[1])?;
            times.push(StageTime { layer: command.layer.clone(), backend, operations, seconds });
        }
        let whole = match (marks.first(), marks.last()) {
            (Some(first), Some(last)) => first.seconds_to(last)?,
            _ => 0.0,
        };
        Ok((times, whole))
    }

    /// Makes a program for that size the loaded one; with fewer images where memory lacks.
    fn load(&mut self, size: [usize; 2]) -> Result<()> {
        if self.loaded.as_ref().is_some_and(|(loaded, _)| *loaded == size) {
            return Ok(());
        }
        // Its buffers are freed before others are asked for.
        self.loaded = None;
        let mut images = encoder::images(size[0], size[1]).min(self.images_max);
        loop {
            let program = encoder::program(&mut self.weights, &self.config, images, size)?;
            match self.device.load(&self.weights, program) {
                Ok(loaded) => {
                    self.loaded = Some((size, loaded));
                    return Ok(());
                }
                Err(Error::OutOfMemory(_)) if images > 1 => {
                    images /= 2;
                    self.images_max = images;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn encode_parts(&mut self, batch: &PixelBatch, grid: (usize, usize)) -> Result<Encoded> {
        self.load([batch.height, batch.width])?;
        let Some((_, loaded)) = &mut self.loaded else {
            return Err(Error::internal("no program is loaded"));
        };
        let (height, width) = loaded.program.grid;
        if (height, width) != grid {
            return Err(Error::internal(format!(
                "the network gives a grid of {height}x{width} where {grid:?} was announced"
            )));
        }
        let bytes = loaded.program.image_bytes;
        let rule = self.config.quantizer.rule;
        let mut found = Found::default();
        for pixels in batch.pixels.chunks(loaded.program.images * bytes) {
            self.device.run(loaded, pixels, &mut |_| Ok(()))?;
            found.take(&self.device, loaded, &self.quantizer, rule, pixels.len() / bytes)?;
        }
        let Found { codes, distances, reasons } = found;
        // The device's codes index the codebook when they are read again.
        self.quantizer.check(&[&codes])?;
        let levels = vec![CodeGrid { codes, distances, height, width }];
        Ok(Encoded { count: batch.count, levels, failed: failed(reasons) })
    }

    fn check(&self, batch: &PixelBatch) -> Result<(usize, usize)> {
        let grids = batch.check(&self.config)?;
        grids.first().copied().ok_or_else(|| Error::internal("the model has no grid"))
    }
}

/// What the runs of a batch gave so far.
#[derive(Default)]
struct Found {
    codes: Vec<u32>,
    distances: Vec<f32>,
    /// By image: why it can't be used, if so.
    reasons: Vec<Option<String>>,
}

impl Found {
    /// Adds what the program left on the device for `images` images. Latents that it left to the
    /// host are quantized here.
    fn take(
        &mut self,
        device: &Device,
        loaded: &Loaded,
        quantizer: &ResidualQuantizer,
        rule: QuantizerRule,
        images: usize,
    ) -> Result<()> {
        let Program { dim, grid: (height, width), latents, .. } = loaded.program;
        let area = height * width;
        let rows = images * area;
        let floats = |place: Place, words: usize| -> Result<Vec<f32>> {
            let words = device.read(loaded, place, words)?;
            Ok(words.into_iter().map(f32::from_bits).collect())
        };
        let unusable = |latents: &[f32]| quantizer.unusable(latents, dim);
        match loaded.program.result {
            Outcome::Codes { codes, distances } => {
                self.codes.extend(device.read(loaded, codes, rows)?);
                let distances = floats(distances, rows)?;
                if rule == QuantizerRule::Projection {
                    // Without distances only the latents tell what overflowed.
                    let latents = floats(latents, rows * dim)?;
                    self.reasons.extend(latents.chunks(area * dim).map(unusable));
                } else {
                    let images = distances.chunks(area);
                    self.reasons.extend(images.map(|image| finite::distances(rule, image)));
                }
                self.distances.extend(distances);
            }
            Outcome::Latents => {
                let latents = floats(latents, rows * dim)?;
                self.reasons.extend(latents.chunks(area * dim).map(unusable));
                // One level: `supported` refuses more.
                for (codes, distances) in quantizer.quantize(latents, dim, (height, width))? {
                    self.codes.extend(codes);
                    self.distances.extend(distances);
                }
            }
        }
        Ok(())
    }
}

/// A library that lacks a function makes cudarc panic: an error like any other here. What was in
/// work is not used again, since an error ends the run.
fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::catch(work).unwrap_or_else(|panic| {
        let reason = format!("cuda: {}; use {DEVICE} cpu", panic.replace('\n', " "));
        Err(Error::setting(DEVICE, reason))
    })
}

impl Engine for CudaEngine {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn digests(&self) -> Result<&Digests> {
        self.cpu.digests()
    }

    fn device_kind(&self) -> &'static str {
        "cuda"
    }

    fn precision(&self) -> Precision {
        self.weights.precision()
    }

    fn batch_images(&self, side: Option<usize>) -> usize {
        // Where sizes vary a batch is one of a usual size; what the card can't hold is halved.
        let side = side.unwrap_or(256);
        encoder::images(side, side).min(self.images_max)
    }

    fn grid(&self, height: usize, width: usize) -> Result<Vec<(usize, usize)>, String> {
        self.config.grid(height, width)
    }

    fn encode(&mut self, batch: &PixelBatch) -> Result<Encoded> {
        let grid = self.check(batch)?;
        caught(|| self.encode_parts(batch, grid))
    }

    fn decode(&mut self, codes: &Encoded) -> Result<Decoded> {
        self.cpu.decode(codes)
    }
}
